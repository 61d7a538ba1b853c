"""Residual learning over several arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.rule import Job, Load, Rule, Slot, Work, clock
from crossbar.streams import Streams
from devices import ConstantStep
from devices._check import instance, positive, whole


class Turn(NamedTuple):
    """Steps taken."""

    clock: Tensor  # () int64


@dataclass(frozen=True)
class Residual(Rule):
    """W = Σ_k γ^k W_k, one array trained after another: each learns what the coarser ones left.

    Array k takes `Pulsed` steps at the rate lr/γ^k on the gradient of the sum, for `every` steps,
    while the others rest; the last one goes on. With a constant step Δ least squares ends at the
    RMS γ^(K−1) Δ/√6.

    Args:
        arrays: K >= 1.
        gamma: γ in (0, 1). The window w_max of an array must hold a step of the one before,
            γ w_max >= Δ, and twice that where steps shrink towards a bound: refused otherwise.
        every: steps of an array, >= 1.
        scheme: how x and δ become pulses.

    Source: Li et al., "In-memory Training on Analog Devices with Limited Conductance States via
    Multi-tile Residual Learning", arXiv:2510.02516.
    """

    arrays: int = 3
    gamma: float = 0.1
    every: int = 1000
    scheme: Scheme = field(default_factory=ExactBits)

    def __post_init__(self) -> None:
        whole("arrays", self.arrays, 1)
        positive("gamma", self.gamma)
        if self.gamma >= 1:
            raise ValueError(f"gamma must be below 1, got {self.gamma!r}")
        whole("every", self.every, 1)
        instance("scheme", self.scheme, Scheme, optional=False)

    def slots(self) -> tuple[Slot, ...]:
        """The finest first: the coarsest holds the weight."""
        return tuple(Slot(self.gamma**k) for k in reversed(range(self.arrays)))

    def check(self, chip: Chip) -> None:
        """See `Rule`; and γ w_max >= Δ."""
        super().check(chip)
        update, window = chip.device.update, chip.device.window
        assert update is not None
        need = update.step(window) / window.span * chip.mapping.gain  # Δ/w_max
        need *= 1 if isinstance(update, ConstantStep) else 2
        if self.arrays > 1 and self.gamma < need:
            raise ValueError(
                f"gamma={self.gamma!r} is too small for these devices: one array must hold a step "
                f"of the one before (two, where steps shrink towards a bound), gamma >= {need:.3g}"
            )

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Turn:
        """The coarsest begins."""
        return Turn(clock(matrices[-1]))

    def work(self, load: Load) -> Work:
        """The largest of each x and δ are looked for."""
        return Work(optimiser_op=load.lines)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        turns: dict[Matrix, Job] = {}
        for job in jobs:
            turns[job.matrices[-1]] = job
            k = min(int(job.leaf.clock) // self.every, self.arrays - 1)
            job.onto(job.matrices[-1 - k], job.lr / self.gamma**k, self.scheme)
        for job in turns.values():
            job.leaf.clock.add_(1)
