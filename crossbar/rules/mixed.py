"""Mixed precision: gradients gathered digitally, whole pulses written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from crossbar.matrix import Matrix
from crossbar.rules.rule import Job, Load, Rule, Work, clock, like, signed, train
from crossbar.streams import Streams
from devices._check import whole


class Gathered(NamedTuple):
    """χ of every weight, and the steps taken."""

    chi: Tensor  # (..., rows, cols) in units of W
    clock: Tensor  # () int64


@dataclass(frozen=True)
class MixedPrecision(Rule):
    """χ ← χ − lr Σ δᵀx in digital memory; every `every` steps n = trunc(χ/g) pulses are written.

    χ keeps the remainder, χ ← χ − n g, g the weight change of one pulse (`granularity`). What a
    batch has gathered is written with the first vector of the next one, that vector included. An
    output's cells share a train of max|n| slots, at most `bl`, in each of which a cell is pulsed
    with the probability |n|/max|n|: its count is binomial, and beyond `bl` pulses are lost.

    Args:
        every: steps between two writes, >= 1.
        bl: longest train of a write, >= 1.

    Source: Nandakumar et al., Front. Neurosci. 14:406 (2020), doi:10.3389/fnins.2020.00406;
    aihwkit 1.2's MixedPrecisionCompound.
    """

    every: int = 1
    bl: int = 31

    def __post_init__(self) -> None:
        whole("every", self.every, 1)
        whole("bl", self.bl, 1)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Gathered:
        """Nothing gathered yet."""
        return Gathered(like(matrices[-1], shape), clock(matrices[-1]))

    def work(self, load: Load) -> Work:
        """The gradient; χ is read, added to, compared, lowered and written, 4 bytes a weight."""
        return Work(load.products, 4 * load.weights, 8 * load.weights)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        begun = set()
        for job in jobs:  # several of one weight that was read several times
            array, (chi, steps) = job.matrices[-1], job.leaf
            part, x, d = job.region.of(chi), job.x.to(chi.dtype), job.d.to(chi.dtype)
            gathered = [job.op.outer(x, d)]
            if array not in begun:
                begun.add(array)
                if int(steps) and int(steps) % self.every == 0:
                    first = job.op.first(x, d)
                    gathered = [first, gathered[0].sub_(first)]
                steps.add_(1)
            for k, g in enumerate(gathered, 1):
                part.sub_((g.mT if job.region.transposed else g).reshape(part.shape), alpha=job.lr)
                if k < len(gathered):
                    self.write(array, chi)

    def write(self, array: Matrix, chi: Tensor) -> None:
        """Whole pulses of what has been gathered."""
        counts = (chi / array.granularity).trunc_()
        if not bool(counts.any()):
            return
        chi.sub_(counts * array.granularity)
        array.pulse(signed(train(counts, self.bl, -2, array)))
