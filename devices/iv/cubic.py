"""Polynomial current–voltage curves."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from devices._check import finite
from devices.part import IV


@dataclass(frozen=True)
class CubicIV(IV):
    """Cubic current whose shape is the same for every cell.

        I = g (V + a V² + b V³)

    so that g is the conductance at low voltage; b > a²/3 keeps the current increasing everywhere.

    Args:
        a: asymmetry [1/V].
        b: curvature [1/V²], above a²/3 (b = a = 0 is ohmic).

    Raises:
        ValueError: a current that would fall with the voltage.

    Source: third-order expansion of I(V), as in CrossSim 3's cubic devices, doi:10.2172/1869509.
    """

    a: float = 0.0
    b: float = 0.5

    def __post_init__(self) -> None:
        finite("a", self.a)
        finite("b", self.b)
        if not (self.b > self.a**2 / 3 or self.a == self.b == 0):
            raise ValueError(
                f"b must be > a**2/3 = {self.a**2 / 3:g} 1/V^2, else current falls with voltage; "
                f"got a={self.a!r}, b={self.b!r}"
            )

    def current(self, g: Tensor, v: Tensor) -> Tensor:
        """Current [A]."""
        return g * v * (1 + v * (self.a + self.b * v))

    def spice(self, g: str, v: str) -> str:
        """The same current as an expression of a SPICE B source."""
        return f"{g}*{v}*(1+{v}*({self.a!r}+{self.b!r}*{v}))"
