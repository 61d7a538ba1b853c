"""Magnetic tunnel junctions: switching by thermal activation, and resistance against voltage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, positive
from devices.draw import Draw
from devices.part import IV, Pulses, Update, Window
from devices.update.moments import Count, rate

STEEPEST = 80.0
"""Largest exponent; a junction driven further switches for certain."""


class Barrier(NamedTuple):
    """Energy barrier of every cell, in units of the thermal energy."""

    delta: Tensor  # (..., rows, cols) or ()


@dataclass(frozen=True)
class MTJSwitch(Update):
    """Two-state junction that a voltage switches by chance.

        P(V, t) = 1 − exp(−t/τ),   τ = τ₀ e^{Δ (1 − V/V_c)}

    with V towards the other state: a positive voltage switches antiparallel (g_min) to parallel
    (g_max). `drive` lets both ways happen, the one against the voltage with V < 0, so that a cell
    left at 0 V flips back and forth with τ₀ e^Δ; pulses only the one they are for. Many pulses,
    evenly interleaved, are the two-state chain of their rates, exact for one direction. Random
    counts of mean U and variance V are taken as binomial, E[(1 − P)^N] = exp(U/p ln(1 − p P)) with
    p = 1 − V/U. A cell programmed between its states counts as parallel above the middle and keeps
    its conductance until it switches. Valid below V_c, where switching is thermally activated.

    Args:
        delta: Δ, barrier over thermal energy, > 0.
        tau_0: attempt time τ₀ [s], > 0.
        v_c_up: critical voltage V_c from antiparallel to parallel [V], > 0.
        v_c_down: size of that from parallel to antiparallel [V], > 0.
        v_set: voltage of an up pulse [V], > 0.
        v_reset: voltage of a down pulse [V], < 0.
        width: duration of a pulse [s], > 0.
        sigma_delta: spread of Δ from cell to cell, relative (never below a twentieth).

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Koch, Katine & Sun, Phys. Rev. Lett. 92, 088302 (2004),
    doi:10.1103/PhysRevLett.92.088302 (in the current; a constant resistance makes it the voltage).
    The defaults are round numbers of the field (Δ = 60, τ₀ = 1 ns), not those of one device.
    """

    delta: float = 60.0
    tau_0: float = 1e-9
    v_c_up: float = 0.5
    v_c_down: float = 0.5
    v_set: float = 0.46
    v_reset: float = -0.46
    width: float = 1e-8
    sigma_delta: float = 0.0

    def __post_init__(self) -> None:
        positive("delta", self.delta)
        for name, unit in (("tau_0", "s"), ("v_c_up", "V"), ("v_c_down", "V"), ("v_set", "V")):
            positive(name, getattr(self, name), unit)
        positive("-v_reset", -self.v_reset, "V")
        positive("width", self.width, "s")
        at_least("sigma_delta", self.sigma_delta, 0)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Barrier:
        """Draw the barrier of every cell."""
        return Barrier(draw.factor(shape, self.sigma_delta).clamp(min=0.05) * self.delta)

    def step(self, window: Window) -> float:
        """Mean change of a nominal cell that can still switch [S]."""
        delta = torch.tensor(self.delta, dtype=torch.float64)
        up = self._hazard(delta, delta.new_tensor(self.v_set / self.v_c_up), self.width)
        down = self._hazard(delta, delta.new_tensor(-self.v_reset / self.v_c_down), self.width)
        return window.span * float(-torch.expm1(-up) - torch.expm1(-down)) / 2

    def _hazard(self, delta: Tensor, share: Tensor, dt: float) -> Tensor:
        """t/τ at a share V/V_c."""
        exponent = (-delta.double() * (1 - share.double())).clamp(max=STEEPEST)
        return torch.exp(exponent + math.log(dt / self.tau_0))

    def drive(
        self, window: Window, g: Tensor, p: Barrier, v: Tensor, dt: float, draw: Draw
    ) -> tuple[Tensor, Barrier]:
        """Switching while v is held for dt, both ways."""
        up = self._hazard(p.delta, v / self.v_c_up, dt)
        down = self._hazard(p.delta, -v / self.v_c_down, dt)
        return self._switched(window, g, up.expand_as(g), down.expand_as(g), draw), p

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Barrier,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Barrier]:
        """One draw per cell, whatever the counts."""
        up, down = (
            _rate(count.double(), var, self._hazard(p.delta, p.delta.new_tensor(v), self.width))
            for count, var, v in (
                (pulses.up, pulses.up_var, self.v_set / self.v_c_up),
                (pulses.down, pulses.down_var, -self.v_reset / self.v_c_down),
            )
        )
        return self._switched(window, g, up, down, draw), p

    def _switched(self, window: Window, g: Tensor, up: Tensor, down: Tensor, draw: Draw) -> Tensor:
        """Conductances after the two-state chain of these integrated rates."""
        total = up + down
        settled = torch.where(total > 0, up / total.clamp(min=1e-300), 0.0)
        on = g > (window.g_min + window.g_max) / 2
        chance = settled + (on.double() - settled) * torch.exp(-total)
        now = torch.where(total > 0, draw.to(torch.float64).uniform(g.shape) < chance, on)
        level = torch.where(now, window.g_max, window.g_min).to(g.dtype)
        return torch.where(now == on, g, level)


def _rate(mean: Tensor, var: Tensor | None, hazard: Tensor) -> Tensor:
    """−ln of the mean chance to survive so many pulses."""
    if var is None:
        return mean * hazard
    by_pulse = -torch.expm1(-hazard)
    return by_pulse * rate(-by_pulse, Count.of(mean, var.double()))


@dataclass(frozen=True)
class TMRIV(IV):
    """Tunnel magnetoresistance that falls with the voltage.

        R(V) = R_P (1 + TMR₀/(1 + (V/V_h)²)),   R_P = 1/g_p,   TMR₀ = g_p/g − 1

    so that g is the conductance at low voltage; a parallel cell (g = g_p) is ohmic. Valid for
    g < 3 g_p, beyond which the current would fall with the voltage.

    Args:
        g_p: conductance of the parallel state, g_max of the device [S], > 0.
        v_h: voltage at which half of the TMR is left [V], > 0.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: the usual compact model of STT-MRAM, e.g. Zhang et al., IEEE Trans. Electron Devices 59,
    819 (2012), doi:10.1109/TED.2011.2178416, with V_h = 0.5 V; not confirmed in the paper's text.
    """

    g_p: float = 100e-6
    v_h: float = 0.5

    def __post_init__(self) -> None:
        positive("g_p", self.g_p, "S")
        positive("v_h", self.v_h, "V")

    def current(self, g: Tensor, v: Tensor) -> Tensor:
        """Current [A]."""
        square = (v / self.v_h) ** 2
        return v * g * (self.g_p * (1 + square) / (g * square + self.g_p))

    def spice(self, g: str, v: str) -> str:
        """The same current as an expression of a SPICE B source."""
        square = f"(({v})/{self.v_h!r})**2"
        return f"({v})*({g})*{self.g_p!r}*(1+{square})/(({g})*{square}+{self.g_p!r})"
