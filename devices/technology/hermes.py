"""Phase-change memory of the IBM HERMES project chip: programming error, drift and read noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import positive, whole
from devices.curve import Polynomial
from devices.part import Window
from devices.read.state import FlickerNoise
from devices.retention.state import RedrawnDrift
from devices.write.state import NormalWrite


class Branches(NamedTuple):
    """clip(a ln x + b, low, high) below the split, a polynomial from it on."""

    split: float
    a: float
    b: float
    low: float
    high: float
    above: Polynomial

    def at(self, x: Tensor) -> Tensor:
        """The fit at every x > 0."""
        below = (self.a * torch.log(x) + self.b).clamp(self.low, self.high)
        return torch.where(x < self.split, below, self.above(x))


class Fit(NamedTuple):
    """What was characterised for one number of devices in a cell."""

    g_max: float  # [S]
    t0: float  # [s]
    error: Polynomial  # [µS]
    spread: Branches  # of the drift exponent
    q: Branches  # of the 1/f noise


NU = Branches(0.0945, -0.0387, -0.0182, 0.072, 0.13, Polynomial((0.0736, -0.0126, -0.0436)))
"""Mean drift exponent, for either number of devices."""

FITS = {
    1: Fit(
        10.35e-6,
        200.0,
        Polynomial((0.15781817, 2.32443916, -2.16310839, 0.68841818)),
        Branches(0.3039, -0.0120, -0.0023, 0.0124, 0.04, Polynomial((0.0104, 0.0116, -0.0165))),
        Branches(
            *(0.1591, -0.0078, 0.0038, 0.0179, 0.04),
            Polynomial((0.0088, 0.0768, -0.1352, 0.0664)),
        ),
    ),
    2: Fit(
        20.7e-6,
        300.0,
        Polynomial((0.16603222, 4.71806468, -8.48101252, 4.68961419)),
        Branches(0.3055, -0.0117, -0.0057, 0.0091, 0.04, Polynomial((0.0073, 0.0093, -0.0118))),
        Branches(
            *(0.16, -0.0117, -0.0069, 0.015, 0.04),
            Polynomial((0.0123, 0.0211, -0.0280, 0.0069)),
        ),
    ),
}


def _relative(window: Window, g: Tensor) -> Tensor:
    return (g / window.g_max).clamp(min=1e-7)


@dataclass(frozen=True)
class HermesWrite(NormalWrite):
    """Error of programmed HERMES cells of one or two devices.

        σ [µS] = (c₀ + c₁ x + c₂ x² + c₃ x³) · g_max/g_ref,   x = target/g_max
        one device:   c = 0.15782, 2.32444, −2.16311, 0.68842,  g_ref = 10.35 µS
        two devices:  c = 0.16603, 4.71806, −8.48101, 4.68961,  g_ref = 20.7 µS

    Two devices are programmed one after the other, the second making up for the first (most
    significant first). Characterised for g_max up to g_ref; other windows are scaled.

    Args:
        devices: phase-change devices in a cell, 1 or 2.

    Raises:
        TypeError, ValueError: another number.

    Source: Le Gallo et al., Nat. Electron. 6, 680 (2023), doi:10.1038/s41928-023-01010-1 (chip);
    Vasilopoulos et al., IEEE Trans. Electron Devices (2023), IEEE Xplore 10281389 (two devices);
    coefficients as in aihwkit's HermesNoiseModel, arXiv:2104.02184.
    """

    devices: int = 2

    def __post_init__(self) -> None:
        whole("devices", self.devices, 1, 2)

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        fit = FITS[self.devices]
        return fit.error(target / window.g_max).clamp(min=0) * (1e-6 * window.g_max / fit.g_max)


@dataclass(frozen=True)
class HermesDrift(RedrawnDrift):
    """Drift of HERMES cells of one or two devices.

        g(t) = g(0) ((t + t0)/t0)^−ν,   ν = |N(μ, σ)| drawn anew whenever the cell is rewritten,
        x = g/g_max,   t0 = 200 s (one device), 300 s (two)
        μ = clip(−0.0387 ln x − 0.0182, 0.072, 0.13)      x < 0.0945, else
            −0.0436 x² − 0.0126 x + 0.0736
        one:  σ = clip(−0.0120 ln x − 0.0023, 0.0124, 0.04)  x < 0.3039, else
                  −0.0165 x² + 0.0116 x + 0.0104
        two:  σ = clip(−0.0117 ln x − 0.0057, 0.0091, 0.04)  x < 0.3055, else
                  −0.0118 x² + 0.0093 x + 0.0073

    Two devices drift as if they held the same conductance, a simplification of the fit's authors.

    Args:
        devices: phase-change devices in a cell, 1 or 2.

    Raises:
        TypeError, ValueError: another number.

    Source: as `HermesWrite`.
    """

    devices: int = 2

    def __post_init__(self) -> None:
        whole("devices", self.devices, 1, 2)

    @property
    def t0(self) -> float:
        """Time of the reference read after programming [s]."""
        return FITS[self.devices].t0

    def _moments(self, window: Window, g: Tensor) -> tuple[Tensor, Tensor]:
        x = _relative(window, g)
        return NU.at(x), FITS[self.devices].spread.at(x)


@dataclass(frozen=True)
class HermesRead(FlickerNoise):
    """1/f noise of HERMES cells of one or two devices.

        σ = g(t) Q √ln((t + t0 + t_read)/(2 t_read)),   x = g_prog/g_max
        one:  Q = clip(−0.0078 ln x + 0.0038, 0.0179, 0.04)  x < 0.1591, else
                  0.0664 x³ − 0.1352 x² + 0.0768 x + 0.0088
        two:  Q = clip(−0.0117 ln x − 0.0069, 0.015, 0.04)   x < 0.16, else
                  0.0069 x³ − 0.0280 x² + 0.0211 x + 0.0123

    t0 as in `HermesDrift`. Successive reads are taken as independent.

    Args:
        devices: phase-change devices in a cell, 1 or 2.
        t_read: duration of a read [s], > 0.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: as `HermesWrite`.
    """

    devices: int = 2
    t_read: float = 512e-9

    def __post_init__(self) -> None:
        whole("devices", self.devices, 1, 2)
        positive("t_read", self.t_read, "s")

    @property
    def t0(self) -> float:
        """Time of the reference read after programming [s]."""
        return FITS[self.devices].t0

    def _q(self, window: Window, g: Tensor) -> Tensor:
        return FITS[self.devices].q.at(_relative(window, g)).clamp(min=0)
