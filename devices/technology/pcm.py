"""Phase-change memory as programmed for inference: writing error and drift."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import positive
from devices.part import Window
from devices.retention.state import RedrawnDrift
from devices.write.state import NormalWrite


@dataclass(frozen=True)
class PCMWrite(NormalWrite):
    """State-dependent error of iteratively programmed phase-change cells.

        g = target + σ(target) N(0, 1),
        σ [µS] = (0.26348 + 1.9650 x − 1.1731 x²) · (g_max/25 µS),   x = target/g_max

    The error strikes both devices of a pair, a target of zero too.

    Source: Nandakumar et al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852; Joshi et al., Nat.
    Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9.
    """

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        x = target / window.g_max
        return (0.26348 + x * (1.9650 - 1.1731 * x)).clamp(min=0) * (window.g_max / 25)


@dataclass(frozen=True)
class PCMDrift(RedrawnDrift):
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

    def __post_init__(self) -> None:
        positive("t0", self.t0, "s")

    def _moments(self, window: Window, g: Tensor) -> tuple[Tensor, Tensor]:
        log_x = torch.log((g / window.g_max).clamp(min=1e-7))
        mean = (-0.0155 * log_x + 0.0244).clamp_(0.049, 0.1)
        return mean, (-0.0125 * log_x - 0.0059).clamp_(0.008, 0.045)
