"""Exponential current–voltage curves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import positive
from devices.part import IV

STRAIGHT = 80.0
"""Voltage over v₀ beyond which the current is a straight line."""


@dataclass(frozen=True)
class SinhIV(IV):
    """Hyperbolic-sine current of tunnelling or hopping conduction.

        I = g v₀ sinh(V/v₀)

    so that g is the conductance at low voltage. Valid where the cell is not written, |V| < about
    1 V; beyond |V| = 80 v₀, where it would leave float32, the current goes on along its tangent.

    Args:
        v0: voltage over which the current becomes exponential [V], > 0.

    Raises:
        ValueError: v0 not positive.

    Source: Pickett et al., J. Appl. Phys. 106, 074508 (2009), doi:10.1063/1.3236506; Guan, Yu &
    Wong, IEEE Electron Device Lett. 33, 1405 (2012), doi:10.1109/LED.2012.2210856.
    """

    v0: float = 0.25

    def __post_init__(self) -> None:
        positive("v0", self.v0, "V")

    def current(self, g: Tensor, v: Tensor) -> Tensor:
        """Current [A]."""
        x = v / self.v0
        held = x.clamp(-STRAIGHT, STRAIGHT)
        return g * (self.v0 * (torch.sinh(held) + torch.cosh(held) * (x - held)))

    def spice(self, g: str, v: str) -> str:
        """The same current as an expression of a SPICE B source."""
        return f"{g}*{self.v0!r}*sinh({v}/{self.v0!r})"
