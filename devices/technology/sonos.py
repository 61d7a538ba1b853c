"""SONOS charge-trap memory: spread of programmed currents and read noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import positive
from devices.part import Read, Window
from devices.write.state import NormalWrite


def _saturating(g: Tensor, v_read: float, amplitude: float, scale: float) -> Tensor:
    """amplitude (1 − e^{−I/scale})/v_read of the current I = g v_read, currents in nA [S]."""
    return -torch.expm1(-g * (v_read * 1e9 / scale)) * (amplitude * 1e-9 / v_read)


@dataclass(frozen=True)
class SONOSWrite(NormalWrite):
    """Spread of programmed cell currents, zero for a cell that is off.

        σ_I [nA] = 19.89 (1 − e^{−I/176.3}),   I = g v_read in nA

    right after programming, 128,000 cells of a 40 nm process, I up to 1600 nA.

    Args:
        v_read: voltage at which the published currents count as conductances [V], > 0. The
            publication gives currents; 0.1 V is this package's assumption.

    Raises:
        ValueError: v_read not positive.

    Source: Agrawal et al., IEDM 2022, IEEE Xplore 10019564; fit as in CrossSim 3's SONOS device,
    doi:10.2172/1869509.
    """

    v_read: float = 0.1

    def __post_init__(self) -> None:
        positive("v_read", self.v_read, "V")

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        return _saturating(target, self.v_read, 19.89, 176.3)


@dataclass(frozen=True)
class SONOSRead(Read):
    """Read noise of SONOS cells, drawn at every read.

        σ_I [nA] = 12.58 (1 − e^{−I/215.4}),   I = g v_read in nA

    Args:
        v_read: voltage at which the published currents count as conductances [V], > 0.

    Raises:
        ValueError: v_read not positive.

    Source: as `SONOSWrite`.
    """

    v_read: float = 0.1

    def __post_init__(self) -> None:
        positive("v_read", self.v_read, "V")

    def std(self, window: Window, g: Tensor, p: Any, age: Tensor) -> Tensor:
        """Per cell [S]."""
        return _saturating(g, self.v_read, 12.58, 215.4)
