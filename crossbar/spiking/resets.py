"""What a spike does to the membrane that fired it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from devices._check import finite


class Reset(ABC):
    """What a spike does to the membrane."""

    @abstractmethod
    def after(self, v: Tensor, s: Tensor, theta: Tensor | float) -> Tensor:
        """The membrane after the spikes s of this step."""

    @abstractmethod
    def later(
        self, charge: Callable[[Tensor], Tensor], v: Tensor, r: Tensor, theta: Tensor | float
    ) -> Tensor:
        """The charged membrane where the spikes r of the step before reset it only now."""


@dataclass(frozen=True)
class Subtract(Reset):
    """Soft reset: v ← v − θ, what is above threshold stays."""

    def after(self, v: Tensor, s: Tensor, theta: Tensor | float) -> Tensor:
        """See the class."""
        return v - s * theta

    def later(
        self, charge: Callable[[Tensor], Tensor], v: Tensor, r: Tensor, theta: Tensor | float
    ) -> Tensor:
        """From the old membrane, which then decays as a whole: β v + x − r θ."""
        return charge(v) - r * theta


@dataclass(frozen=True)
class To(Reset):
    """Hard reset: v ← `value`.

    Args:
        value: the membrane after a spike.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        finite("value", self.value)

    def after(self, v: Tensor, s: Tensor, theta: Tensor | float) -> Tensor:
        """See the class."""
        kept = (1 - s) * v
        return kept + s * self.value if self.value else kept

    def later(
        self, charge: Callable[[Tensor], Tensor], v: Tensor, r: Tensor, theta: Tensor | float
    ) -> Tensor:
        """Before the leak: β (1 − r) v + x, not (1 − r)(β v + x)."""
        return charge(self.after(v, r, theta))
