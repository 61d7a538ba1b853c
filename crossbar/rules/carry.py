"""Several significances: a fine array that is pulsed, and a coarse one that takes its carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.rule import Job, Load, Rule, Slot, Work, clock, every_line, signed
from crossbar.streams import Streams
from devices._check import flag, instance, positive, whole


class Carried(NamedTuple):
    """Steps taken, and the sign with which the fine array counts."""

    clock: Tensor  # () int64
    polarity: Tensor  # () ±1


@dataclass(frozen=True)
class PeriodicCarry(Rule):
    """W = h + l/F: pulses go to the fine array l; every `every` steps h takes whole ones from it.

    Where |l|/F >= Δ/2, Δ the step of h, h is given n = round(l/(F Δ)) pulses and is read back; l is
    written F times lower by what h really moved: the sum stays as it was, to what reads and the
    device's write error leave.

    Args:
        factor: F > 1.
        every: steps between two carries, >= 1.
        invert: whether l counts with the other sign after every carry, and is written anew (W =
            h ± l/F): what pulls its cells one way then pulls W to and fro (polarity inversion).
        scheme: how x and δ become pulses on l.
        fast: the chip of l; None: that of h. A leaky capacitor (3T1C) beside PCM, say.

    Source: Agarwal et al., VLSI Technology 2017, doi:10.23919/VLSIT.2017.7998164 (periodic carry);
    Ambrogio et al., Nature 558, 60 (2018), doi:10.1038/s41586-018-0180-5 (polarity inversion).
    """

    factor: float = 4.0
    every: int = 10
    invert: bool = False
    scheme: Scheme = field(default_factory=ExactBits)
    fast: Chip | None = None

    def __post_init__(self) -> None:
        positive("factor", self.factor)
        whole("every", self.every, 1)
        flag("invert", self.invert)
        instance("scheme", self.scheme, Scheme, optional=False)
        instance("fast", self.fast, Chip)

    def slots(self) -> tuple[Slot, ...]:
        """l and h."""
        return Slot(1 / self.factor, self.fast), Slot()

    def gains(self, leaf: Any) -> tuple[float, ...]:
        """l with its polarity."""
        sign = float(leaf.polarity) if self.invert and leaf is not None else 1.0
        return sign / self.factor, 1.0

    def reads(self, vectors: int, lines: int) -> float:
        """All lines of l once, those of h twice, every so many steps."""
        return 3 * lines / self.every

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Carried:
        """Nothing to carry."""
        steps = clock(matrices[-1])
        return Carried(steps, steps + 1)

    def work(self, load: Load) -> Work:
        """Peaks; every so many steps three numbers of each weight, read, compared and written."""
        return Work(optimiser_op=load.lines + 6 * load.weights / self.every)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        begun: dict[Matrix, Job] = {}
        for job in jobs:
            d = job.d * float(job.leaf.polarity) if self.invert else job.d
            job.onto(job.matrices[0], job.lr * self.factor, self.scheme, d)
            begun[job.matrices[-1]] = job
        for job in begun.values():
            job.leaf.clock.add_(1)
            if int(job.leaf.clock) % self.every == 0:
                self.carry(job.matrices[0], job.matrices[1], job.leaf)

    def carry(self, fine: Matrix, coarse: Matrix, leaf: Carried) -> None:
        """See the class."""
        sign = float(leaf.polarity) if self.invert else 1.0
        low, before = every_line(fine), every_line(coarse)
        coarse.pulse(signed((sign * low / (self.factor * coarse.granularity)).round()))
        moved = (every_line(coarse) - before) * self.factor
        if self.invert:
            leaf.polarity.neg_()
            fine.program(sign * moved - low)
        else:
            fine.program(low - moved, mask=moved != 0)
