"""Phase-change memory as programmed for inference: writing error and drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import positive
from devices.draw import Draw
from devices.gaussian_write import erring
from devices.part import Retention, Window, Write
from devices.power_law import Exponent, drift


@dataclass(frozen=True)
class PCMWrite(Write):
    """State-dependent error of iteratively programmed phase-change cells.

        g = target + σ(target) N(0, 1),
        σ [µS] = (0.26348 + 1.9650 x − 1.1731 x²) · (g_max/25 µS),   x = target/g_max

    The error strikes both devices of a pair, a target of zero too.

    Source: Nandakumar et al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852; Joshi et al., Nat.
    Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9.
    """

    def program(self, window: Window, target: Tensor, draw: Draw) -> Tensor:
        """One programming of every cell [S], unclipped."""
        x = target / window.g_max
        sigma = (0.26348 + x * (1.9650 - 1.1731 * x)).clamp(min=0) * (window.g_max / 25)
        return erring(target, sigma, draw)


@dataclass(frozen=True)
class PCMDrift(Retention):
    """Phase-change drift whose exponent depends on the state that was programmed.

        g(t) = g(0) ((t + t0)/t0)^−ν,   ν = |N(μ, σ)| drawn anew whenever the cell is rewritten,
        μ = clip(−0.0155 ln x + 0.0244, 0.049, 0.1),   σ = clip(−0.0125 ln x − 0.0059, 0.008, 0.045)
        x = g/g_max

    Args:
        t0: time of the reference read after programming [s], > 0.

    Raises:
        ValueError: t0 not positive.

    Source: Nandakumar et al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852; Joshi et al., Nat.
    Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9.
    """

    t0: float = 20.0

    ages = True

    def __post_init__(self) -> None:
        positive("t0", self.t0, "s")

    def _draw(self, window: Window, g: Tensor, draw: Draw) -> Tensor:
        log_x = torch.log((g / window.g_max).clamp(min=1e-7))
        mean = (-0.0155 * log_x + 0.0244).clamp_(0.049, 0.1)
        std = (-0.0125 * log_x - 0.0059).clamp_(0.008, 0.045)
        return torch.addcmul(mean, std, draw.normal(g.shape)).abs_()

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Exponent:
        """Exponents of cells fresh at g_min."""
        g = torch.full(shape, window.g_min, dtype=draw.dtype, device=draw.device)
        return Exponent(self._draw(window, g, draw))

    def written(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        mask: Tensor,
        draw: Draw,
    ) -> Exponent:
        """Redraw the exponent of every rewritten cell for the state it now holds."""
        return Exponent(torch.where(mask, self._draw(window, g, draw), p.nu))

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
        """Drift by dt at the temperature of the published data (room temperature)."""
        return drift(g, p.nu, age, dt, self.t0), p
