"""Linear ion drift: the memristor of HP, with the window functions that keep it inside its film."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import positive, whole
from devices.draw import Draw
from devices.part import Window
from devices.update.driven import Driven, Pace

WINDOWS = ("none", "joglekar", "biolek", "prodromakis")


@dataclass(frozen=True)
class IonDrift(Driven):
    """Doped region of a film that grows with the charge through it.

        dx/dt = (µ R_on/D²) I f(x) = (µ/D²) V f(x) R_on/R(x)
        R(x) = R_on x + R_off (1 − x),   R_on = 1/g_max, R_off = 1/g_min,   x = 0 … 1
        f(x) = 1                                                 none
               1 − (2x − 1)^2p                                   Joglekar
               1 − x^2p (V > 0),  1 − (1 − x)^2p (V < 0)         Biolek
               1 − ((x − ½)² + ¾)^p                              Prodromakis

    x is the doped part of the film, 1 in the conducting state; positive voltage potentiates. With
    Joglekar's and Prodromakis's windows a cell that is exactly at an end, as a new one is, never
    leaves it. There is no threshold: a read moves the cell. The window must have g_min > 0.
    `drive` and `pulse` are as in `devices.update.driven`.

    Args:
        v_set: voltage of an up pulse [V], > 0.
        v_reset: voltage of a down pulse [V], < 0.
        width: duration of a pulse [s], > 0.
        sigma_c2c: noise of the time of each pulse, or call of `drive`, relative.
        sigma_d2d: spread of the mobility from cell to cell, relative (clipped at 0).
        mobility: µ of the dopants [m²/(V s)], > 0.
        thickness: D of the film [m], > 0.
        boundary: window function: "none", "joglekar", "biolek" or "prodromakis".
        p: its order, in [1, 20].

    Raises:
        TypeError, ValueError: a field out of range; at fabrication g_min = 0.

    Source: Strukov et al., Nature 453, 80 (2008), doi:10.1038/nature06932 (µ = 1e−14 m²/(V s),
    D = 10 nm); Joglekar & Wolf, Eur. J. Phys. 30, 661 (2009), doi:10.1088/0143-0807/30/4/001;
    Biolek et al., Radioengineering 18, 210 (2009); Prodromakis et al., IEEE Trans. Electron Devices
    58, 3099 (2011), doi:10.1109/TED.2011.2158004.
    """

    width: float = 1e-3
    mobility: float = 1e-14
    thickness: float = 10e-9
    boundary: str = "biolek"
    p: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("mobility", self.mobility, "m^2/(V s)")
        positive("thickness", self.thickness, "m")
        if self.boundary not in WINDOWS:
            raise ValueError(f"boundary must be one of {WINDOWS}, got {self.boundary!r}")
        whole("p", self.p, 1, 20)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Pace:
        """Draw the mobility of every cell."""
        if window.g_min <= 0:
            raise ValueError(f"IonDrift needs g_min > 0 S (a finite R_off), got {window.g_min!r}")
        return super().fabricate(window, shape, draw)

    def _state(self, window: Window, g: Tensor, p: Pace) -> Tensor:
        off = 1 / window.g_min
        return (off - 1 / g) / (off - 1 / window.g_max)

    def _conductance(self, window: Window, x: Tensor, p: Pace) -> Tensor:
        off = 1 / window.g_min
        return 1 / (off - (off - 1 / window.g_max) * x)

    def _speed(self, window: Window, x: Tensor, v: Tensor, p: Pace) -> Tensor:
        drift = self.mobility / self.thickness**2 * v
        return drift * self._conductance(window, x, p) / window.g_max * self._inside(x, v)

    def _inside(self, x: Tensor, v: Tensor) -> Tensor:
        """The window function."""
        if self.boundary == "joglekar":
            return 1 - (2 * x - 1) ** (2 * self.p)
        if self.boundary == "biolek":
            return 1 - torch.where(v > 0, x, 1 - x) ** (2 * self.p)
        if self.boundary == "prodromakis":
            return 1 - ((x - 0.5) ** 2 + 0.75) ** self.p
        return torch.ones_like(x)

    def partial(self, p: Pace, share: Tensor) -> tuple[Tensor, Tensor]:
        """Drift is linear in the voltage."""
        return share, share
