"""Stanford-PKU model of filamentary RRAM: a gap that grows and closes with field and heat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import at_least, positive
from devices.draw import Draw
from devices.part import Window
from devices.update.driven import Driven, Pace

CHARGE = 1.602176634e-19  # [C]
BOLTZMANN = 1.380649e-23  # [J/K]


@dataclass(frozen=True)
class StanfordRRAM(Driven):
    """Tunnelling gap between the tip of a filament and the electrode.

        d gap/dt = −ν₀ e^{−q E_a/kT} sinh(γ a₀ q V/(L k T)),   γ = γ₀ − β (gap/1 nm)³
        I = I₀ e^{−gap/g₀} sinh(V/V₀) = g V₀ sinh(V/V₀),       T = T₀ + R_th |V I|
        γ = 0 where γ |V|/L < F_min

    g_max is the conductance at gap_min, so that gap = gap_min + g₀ ln(g_max/g) and I₀ = g_max V₀
    e^{gap_min/g₀}; the source's 0.2 … 1.7 nm is a window of e^6 = 403. Positive voltage closes the
    gap. Give the device `SinhIV(v0=v_0)`, the same current for reads. The source's random term and
    the temperature's time constant (femtoseconds) are left out. The window must have g_min > 0.
    `drive` and `pulse` are as in `devices.update.driven`.

    Args:
        v_set: voltage of an up pulse [V], > 0.
        v_reset: voltage of a down pulse [V], < 0.
        width: duration of a pulse [s], > 0.
        sigma_c2c: noise of the time of each pulse, or call of `drive`, relative.
        sigma_d2d: spread of ν₀ from cell to cell, relative (clipped at 0).
        velocity: ν₀ [m/s], > 0.
        e_a: activation energy E_a [eV], > 0.
        gamma_0: local field enhancement γ₀, > 0.
        beta: its loss β with the gap, >= 0.
        a_0: hopping distance a₀ [m], > 0.
        oxide: oxide thickness L [m], > 0.
        g_0: decay length g₀ of the current [m], > 0.
        gap_min: gap at g_max [m], >= 0.
        v_0: scale V₀ of the current's voltage [V], > 0.
        r_th: thermal resistance [K/W], >= 0.
        t_0: ambient temperature T₀ [K], > 0.
        f_min: least field that moves the gap [V/m], >= 0.

    Raises:
        TypeError, ValueError: a field out of range; at fabrication g_min = 0 or a gap so wide that
            γ is not positive.

    Source: Guan, Yu & Wong, IEEE Electron Device Lett. 33, 1405 (2012),
    doi:10.1109/LED.2012.2210856; Jiang et al., SISPAD 2014 and the Verilog-A file
    doi:10.4231/D37H1DN48. The defaults are that file's, read in two re-implementations of it;
    pulses are this package's.
    """

    v_set: float = 1.2
    v_reset: float = -1.2
    width: float = 2e-8
    velocity: float = 10.0
    e_a: float = 0.6
    gamma_0: float = 16.0
    beta: float = 0.8
    a_0: float = 0.25e-9
    oxide: float = 12e-9
    g_0: float = 0.25e-9
    gap_min: float = 0.2e-9
    v_0: float = 0.25
    r_th: float = 2.1e3
    t_0: float = 298.0
    f_min: float = 1.4e9

    def __post_init__(self) -> None:
        super().__post_init__()
        units = {
            "velocity": "m/s",
            "e_a": "eV",
            "gamma_0": "",
            "a_0": "m",
            "oxide": "m",
            "g_0": "m",
            "v_0": "V",
            "t_0": "K",
        }
        for name, unit in units.items():
            positive(name, getattr(self, name), unit)
        for name, unit in {"beta": "", "gap_min": "m", "r_th": "K/W", "f_min": "V/m"}.items():
            at_least(name, getattr(self, name), 0, unit)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Pace:
        """Draw the velocity of every cell."""
        if window.g_min <= 0:
            raise ValueError(f"StanfordRRAM needs g_min > 0 S (a gap), got {window.g_min!r}")
        widest = self.gap_min + self._range(window)
        if self.gamma_0 <= self.beta * (widest * 1e9) ** 3:
            raise ValueError(
                f"beta must be below gamma_0/(gap/nm)^3 up to the gap of {widest:.3g} m at g_min, "
                f"got beta={self.beta!r} and gamma_0={self.gamma_0!r}"
            )
        return super().fabricate(window, shape, draw)

    def _range(self, window: Window) -> float:
        """gap(g_min) − gap(g_max) [m]."""
        return self.g_0 * math.log(window.g_max / window.g_min)

    def _state(self, window: Window, g: Tensor, p: Pace) -> Tensor:
        return torch.log(g / window.g_min) / math.log(window.g_max / window.g_min)

    def _conductance(self, window: Window, x: Tensor, p: Pace) -> Tensor:
        return window.g_min * torch.exp(x * math.log(window.g_max / window.g_min))

    def _speed(self, window: Window, x: Tensor, v: Tensor, p: Pace) -> Tensor:
        gap = self.gap_min + (1 - x) * self._range(window)
        gamma = self.gamma_0 - self.beta * (gap * 1e9) ** 3
        gamma = torch.where(gamma * v.abs() / self.oxide < self.f_min, 0.0, gamma)
        current = self._conductance(window, x, p) * self.v_0 * torch.sinh(v / self.v_0)
        thermal = BOLTZMANN / CHARGE * (self.t_0 + self.r_th * (v * current).abs())  # [V]
        pull = torch.sinh(gamma * (self.a_0 / self.oxide) * v / thermal)
        return self.velocity * torch.exp(-self.e_a / thermal) * pull / self._range(window)
