"""Power-law conductance drift."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, finite, positive
from devices.draw import Draw
from devices.part import Retention, Window


class Exponent(NamedTuple):
    """Drift exponent of every cell."""

    nu: Tensor  # (..., rows, cols) or ()


def drift(g: Tensor, nu: Tensor, age: Tensor, dt: float, t0: float) -> Tensor:
    """g · ((age + dt + t0)/(age + t0))^−ν, in float64 time so that no step is ever lost."""
    ratio = torch.log1p(dt / (age + t0)).to(g.dtype)
    return g * torch.exp(-nu * ratio)


class PowerDrift(Retention):
    """Drift by a power of time, whichever way a cell came to its exponent."""

    ages = True

    @property
    @abstractmethod
    def t0(self) -> float:
        """Reference time after writing [s]."""

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Exponent,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Exponent]:
        """Drift by dt; the published exponent is that of its own temperature."""
        return drift(g, p.nu, age, dt, self.t0), p


@dataclass(frozen=True)
class PowerLawDrift(PowerDrift):
    """Conductance falls as a power of the time since the cell was written.

        g(t) = g(0) ((t + t0)/t0)^−ν

    with its own exponent for every cell, ν (1 + σ N(0, 1)) clipped at 0. Drifts of two periods
    compose to the drift of their sum.

    Args:
        nu: mean drift exponent.
        sigma_d2d: spread of ν from cell to cell, relative, >= 0.
        t0: reference time after writing at which g(0) was taken [s], > 0.

    Raises:
        ValueError: a field out of range.

    Source: Le Gallo et al., Adv. Electron. Mater. 4, 1700627 (2018), doi:10.1002/aelm.201700627.
    """

    nu: float
    sigma_d2d: float = 0.0
    t0: float = 20.0

    def __post_init__(self) -> None:
        finite("nu", self.nu)
        at_least("sigma_d2d", self.sigma_d2d, 0)
        positive("t0", self.t0, "s")

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Exponent:
        """Draw the exponent of every cell."""
        nu = torch.full((), self.nu, dtype=draw.dtype, device=draw.device)
        if self.sigma_d2d:
            nu = nu * draw.factor(shape, self.sigma_d2d).clamp_(min=0)
        return Exponent(nu)
