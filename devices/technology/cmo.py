"""CMO/HfOx RRAM: programming error and read noise (its relaxation is `LogRelaxation`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import positive
from devices.part import Read, Window
from devices.write.state import NormalWrite

COEFFICIENTS = {0.2: (0.00081107, 0.00106879), 2.0: (0.0112185, 0.0112903)}
"""Offset [µS] and slope of the error for each acceptance range [%]."""


@dataclass(frozen=True)
class CMOWrite(NormalWrite):
    """Error left by closed-loop programming to within an acceptance range.

        σ [µS] = 0.00081107 + 0.00106879 g   (0.2 % acceptance),
        σ [µS] = 0.0112185 + 0.0112903 g     (2 % acceptance),   g = target in µS

    Valid for 9 … 88.2 µS.

    Args:
        acceptance: acceptance range of the programming loop [%], 0.2 or 2.

    Raises:
        ValueError: another range.

    Source: Falcone et al., arXiv:2502.04524 (2025); coefficients as in aihwkit's
    ReRamCMONoiseModel.
    """

    acceptance: float = 2.0

    def __post_init__(self) -> None:
        if self.acceptance not in COEFFICIENTS:
            raise ValueError(
                f"acceptance must be one of {sorted(COEFFICIENTS)} %, got {self.acceptance!r}"
            )

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        offset, slope = COEFFICIENTS[self.acceptance]
        return slope * target + offset * 1e-6


@dataclass(frozen=True)
class CMORead(Read):
    """Read noise that grows with the logarithm of time and of the conductance.

        σ [µS] = 0.0277316 log₁₀(g) √ln((t + t_read)/(2 t_read)),   g in µS, zero below 1 µS

    Valid for 9 … 88.2 µS; reads earlier than t_read after writing are taken at t_read.

    Args:
        t_read: duration of a read [s], > 0.

    Raises:
        ValueError: t_read not positive.

    Source: Falcone et al., arXiv:2502.04524 (2025); coefficients as in aihwkit's
    ReRamCMONoiseModel.
    """

    t_read: float = 1e-6

    ages = True

    def __post_init__(self) -> None:
        positive("t_read", self.t_read, "s")

    def std(self, window: Window, g: Tensor, p: Any, age: Tensor) -> Tensor:
        """Per cell [S]."""
        decades = torch.log((age.clamp(min=self.t_read) + self.t_read) / (2 * self.t_read))
        amplitude = 0.0277316e-6 * torch.log10(g * 1e6).clamp(min=0)
        return amplitude * decades.sqrt().to(g.dtype)
