"""Power-law drift whose exponent depends on the state that was programmed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import positive
from devices.curve import Curve, at, check_curve
from devices.draw import Draw
from devices.part import Window
from devices.retention.power_law import Exponent, PowerDrift
from devices.write.state import relative


class RedrawnDrift(PowerDrift):
    """Power-law drift with an exponent drawn anew, for the state written, at every write."""

    @abstractmethod
    def _moments(self, window: Window, g: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the exponent of cells written to g."""

    def _draw(self, window: Window, g: Tensor, draw: Draw) -> Tensor:
        mean, std = self._moments(window, g)
        return torch.addcmul(mean, std, draw.normal(g.shape)).abs_()

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Exponent:
        """Exponents of cells fresh at g_min."""
        g = torch.full(shape, window.g_min, dtype=draw.dtype, device=draw.device)
        return Exponent(self._draw(window, g, draw))

    def written(self, window: Window, g: Tensor, p: Any, mask: Tensor, draw: Draw) -> Exponent:
        """Redraw the exponent of every rewritten cell for the state it now holds."""
        return Exponent(torch.where(mask, self._draw(window, g, draw), p.nu))


@dataclass(frozen=True)
class StateDrift(RedrawnDrift):
    """Drift with the exponent that was measured for every state.

        g(t) = g(0) ((t + t0)/t0)^−ν,   ν = |N(ν(x), σ(x))| drawn anew whenever the cell is
        rewritten, x = (g(0) − g_min)/(g_max − g_min)

    Args:
        nu: mean exponent ν as a number, a `Polynomial`, a `Table` or a callable of x (see
            `devices.Curve`).
        sigma: its standard deviation (absolute), likewise; where a curve is negative, none.
        t0: time of the reference read after programming [s], > 0.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Nandakumar et al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852, with a ν(x) of one's
    own.
    """

    nu: Curve = 0.05
    sigma: Curve = 0.0
    t0: float = 20.0

    def __post_init__(self) -> None:
        check_curve("nu", self.nu)
        check_curve("sigma", self.sigma, 0)
        positive("t0", self.t0, "s")

    def _moments(self, window: Window, g: Tensor) -> tuple[Tensor, Tensor]:
        x = relative(window, g)
        return at(self.nu, x), at(self.sigma, x).clamp(min=0)
