"""Foundry RRAM of the NeuRRAM chip: error of programmed conductances."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from devices.curve import Polynomial
from devices.part import Window
from devices.write.state import NormalWrite

G_REF = 40e-6
"""Full conductance of the measured cells [S]."""

COEFFICIENTS = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    86400.0: (0.701, 22.086, -50.773, 47.095, -16.458),
    172800.0: (0.782, 20.274, -43.507, 37.062, -11.934),
}
"""c₀ … c₄ [µS] at the three published times after programming [s]."""


@dataclass(frozen=True)
class WanWrite(NormalWrite):
    """Error of write-verified RRAM at a published time after programming.

        σ [µS] = Σ cₖ xᵏ · (g_max/40 µS),   x = target/g_max,   k = 0 … 4

    The relaxation up to that time is part of the error; only the three published times exist. Two
    digitisations of the source's figure differ by 15 % at mid-range and more at the ends, where
    this polynomial is the less certain one. Negative values between its roots count as zero.

    Args:
        after: time after programming [s]: 1, 86400 (one day) or 172800 (two days).

    Raises:
        ValueError: another time.

    Source: Wan et al., Nature 608, 504 (2022), doi:10.1038/s41586-022-04992-8, Extended Data;
    coefficients as in aihwkit's ReRamWan2022NoiseModel, arXiv:2104.02184, here rescaled to g_max.
    """

    after: float = 1.0

    def __post_init__(self) -> None:
        if self.after not in COEFFICIENTS:
            raise ValueError(f"after must be one of {sorted(COEFFICIENTS)} s, got {self.after!r}")

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        sigma = Polynomial(COEFFICIENTS[self.after])(target / window.g_max)
        return sigma.clamp(min=0) * (1e-6 * window.g_max / G_REF)
