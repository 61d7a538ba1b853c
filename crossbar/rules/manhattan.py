"""The sign of the gradient alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossbar.rules.rule import Job, Load, Rule, Work, gathered, rounded, signed
from crossbar.streams import Streams
from devices._check import at_least


@dataclass(frozen=True)
class Manhattan(Rule):
    """W ← W − lr sign(Σ δᵀx): pulses of one size for every weight and step (sign SGD).

    lr/g pulses in the mean, g the weight change of one; what is no whole number is pulsed with its
    probability. The signs of a step's gradient are all that travels to the array.

    Args:
        threshold: |Σ x δ| up to which a weight is left alone, >= 0.

    Source: Schiffmann, Joost & Werner, University of Koblenz (1994) (Manhattan rule); Zamanidoost,
    Bayat, Strukov & Kataeva, IEEE WISP 2015, doi:10.1109/WISP.2015.7139170 (memristive hardware).
    """

    threshold: float = 0.0

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0)

    def work(self, load: Load) -> Work:
        """The gradient, its sign and a drawn number for each weight."""
        return Work(load.products, 2 * load.weights)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        for (*_, array), _, gradient, lr in gathered(jobs):
            sign = gradient.sign() * (gradient.abs() > self.threshold)
            array.pulse(signed(-sign * rounded((lr / array.granularity).expand_as(sign), array)))
