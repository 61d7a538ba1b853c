"""Weight decay and momentum, where hardware could keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.pulsed import Pulsed
from crossbar.rules.rule import (
    Job,
    Load,
    Rule,
    Slot,
    Work,
    every_line,
    gathered,
    like,
    rounded,
    signed,
)
from crossbar.streams import Streams
from devices._check import at_least, between, instance


@dataclass(frozen=True)
class WeightDecay(Rule):
    """Another rule's update, then W ← W − lr decay W by pulses: no memory is kept.

    After every step all lines of the array are read one-hot through its forward periphery, and
    each weight is given lr decay W/g pulses towards zero, whole ones in the mean.

    Args:
        decay: in the units of `torch.optim.SGD`'s weight_decay, >= 0.
        rule: what is done first.

    Source: Krogh & Hertz, NIPS 1991 (weight decay); the pulses are those of `Pulsed`.
    """

    decay: float
    rule: Rule = field(default_factory=Pulsed)

    def __post_init__(self) -> None:
        at_least("decay", self.decay, 0)
        instance("rule", self.rule, Rule, optional=False)

    def slots(self) -> tuple[Slot, ...]:
        """As the rule's."""
        return self.rule.slots()

    def gains(self, leaf: Any) -> tuple[float, ...]:
        """As the rule's."""
        return self.rule.gains(leaf)

    def check(self, chip: Chip) -> None:
        """As the rule's."""
        self.rule.check(chip)

    def reads(self, vectors: int, lines: int) -> float:
        """All lines once a step, beside the rule's."""
        return self.rule.reads(vectors, lines) + lines

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Any:
        """As the rule's."""
        return self.rule.fabricate(shape, matrices)

    def work(self, load: Load) -> Work:
        """The rule's; each read is scaled and rounded."""
        return self.rule.work(load) + Work(optimiser_op=2 * load.weights)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        arrays = {job.matrices[-1]: job.lr for job in jobs}
        decays = {
            a: rounded(-lr * self.decay * every_line(a) / a.granularity, a)
            for a, lr in arrays.items()
        }
        self.rule.update(jobs, streams=streams)
        for array, n in decays.items():
            array.pulse(signed(n))


class Velocity(NamedTuple):
    """v of every weight."""

    v: Tensor  # (..., rows, cols)


@dataclass(frozen=True)
class Momentum(Rule):
    """v ← momentum v + Σ δᵀx in digital memory; W ← W − lr v by whole pulses in the mean.

    Args:
        momentum: in [0, 1].

    Source: Polyak, USSR Comput. Math. 4, 1 (1964); `torch.optim.SGD`'s form.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        between("momentum", self.momentum, 0, 1)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Velocity:
        """At rest."""
        return Velocity(like(matrices[-1], shape))

    def work(self, load: Load) -> Work:
        """The gradient; v is read, scaled, added to, rounded and written, 4 bytes a weight."""
        return Work(load.products, 4 * load.weights, 8 * load.weights)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        for (*_, array), (v,), gradient, lr in gathered(jobs):
            v.mul_(self.momentum).add_(gradient)
            array.pulse(signed(rounded(-lr * v / array.granularity, array)))


@dataclass(frozen=True)
class ArrayMomentum(Rule):
    """The velocity on a second array: V ← momentum V − unit Σ δᵀx, W ← W + lr V/unit.

    V is pulsed by every vector; after each step all its lines are read one-hot, W is given
    lr V/(unit g) and V (momentum − 1) V/g_V pulses, whole ones in the mean. Whatever V's cells do
    beside (their own pull to a symmetry point) acts on W as a gradient does.

    Args:
        momentum: in [0, 1].
        unit: weight on V that stands for a gradient of one, > 0.
        scheme: how x and δ become pulses on V.
        fast: the chip of V; None: that of W.

    Source: Polyak, USSR Comput. Math. 4, 1 (1964); the second array is that of `TikiTakaV1`.
    """

    momentum: float = 0.9
    unit: float = 0.01
    scheme: Scheme = field(default_factory=ExactBits)
    fast: Chip | None = None

    def __post_init__(self) -> None:
        between("momentum", self.momentum, 0, 1)
        at_least("unit", self.unit, 0)
        instance("scheme", self.scheme, Scheme, optional=False)
        instance("fast", self.fast, Chip)

    def slots(self) -> tuple[Slot, ...]:
        """V, which reads of the weight do not see, and W."""
        return Slot(0.0, self.fast), Slot()

    def reads(self, vectors: int, lines: int) -> float:
        """All lines of V once a step."""
        return lines

    def work(self, load: Load) -> Work:
        """Peaks; two reads of V are scaled and rounded."""
        return Work(optimiser_op=load.lines + 4 * load.weights)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        rates = {}
        for job in jobs:
            velocity, array = job.matrices
            if (velocity, array) not in rates:  # it decays before the step's gradient is added
                seen = every_line(velocity) * (self.momentum - 1)
                velocity.pulse(signed(rounded(seen / velocity.granularity, velocity)))
            rates[velocity, array] = job.lr
            job.onto(velocity, self.unit, self.scheme)
        for (velocity, array), lr in rates.items():
            n = every_line(velocity) * (lr / self.unit) / array.granularity
            array.pulse(signed(rounded(n, array)))
