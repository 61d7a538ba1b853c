"""Mixed precision: gradients gathered digitally, whole pulses written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from crossbar.matrix import Matrix
from crossbar.rules.rule import Job, Rule, like
from crossbar.streams import Streams
from devices import Pulses
from devices._check import whole


class Gathered(NamedTuple):
    """χ of every weight, and the steps taken."""

    chi: Tensor  # (..., rows, cols) in units of W
    clock: Tensor  # () int64


@dataclass(frozen=True)
class MixedPrecision(Rule):
    """χ ← χ − lr Σ δᵀx in digital memory; every `every` steps n = trunc(χ/g) pulses are written.

    χ keeps the remainder, χ ← χ − n g, g the weight change of one pulse (`granularity`).

    Args:
        every: steps between two writes, >= 1.

    Source: Nandakumar et al., Front. Neurosci. 14:406 (2020), doi:10.3389/fnins.2020.00406.
    """

    every: int = 1

    def __post_init__(self) -> None:
        whole("every", self.every, 1)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Gathered:
        """Nothing gathered yet."""
        chi = like(matrices[-1], shape)
        return Gathered(chi, chi.new_zeros((), dtype=chi.long().dtype))

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        weights = {}
        for job in jobs:  # several of one weight that was read several times
            chi = job.leaf.chi
            gradient = job.op.outer(job.x.to(chi.dtype), job.d.to(chi.dtype))
            part = job.region.of(chi)
            gradient = gradient.mT if job.region.transposed else gradient
            part.sub_(gradient.reshape(part.shape), alpha=job.lr)
            weights[job.matrices[-1]] = job.leaf
        for array, (chi, clock) in weights.items():
            clock.add_(1)
            if int(clock) % self.every == 0:
                counts = (chi / array.granularity).trunc()
                chi.sub_(counts * array.granularity)
                array.pulse(Pulses(counts.clamp(min=0), (-counts).clamp(min=0)))
