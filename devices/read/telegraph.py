"""Random telegraph noise: single traps that switch a cell between two conductances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, between, positive
from devices.draw import Draw
from devices.part import Read, Window


class Traps(NamedTuple):
    """One two-state trap per cell; an amplitude of zero is a cell without one."""

    high: Tensor  # (..., rows, cols) bool, the trap is empty and the conductance high
    amplitude: Tensor  # (..., rows, cols) step of the conductance relative to it
    tau_high: Tensor  # (..., rows, cols) [s]
    tau_low: Tensor  # (..., rows, cols) [s]


@dataclass(frozen=True)
class TelegraphRead(Read):
    """A trap per cell captures and emits one charge: two levels, exponential dwell times.

        g_read = g (1 + a (s − p)),   s ∈ {0, 1},   p = τ_high/(τ_high + τ_low) its mean,
        P(s = 1 after dt) = p + (s − p) e^{−dt (1/τ_high + 1/τ_low)}

    so that the noise has zero mean and, averaged over many cells of spread τ, a 1/f spectrum. The
    step is exact for any dt. White noise of the read circuit can be added with `white`.

    Args:
        amplitude: median step a of the cells that have a trap, relative to g, in [0, 1].
        tau_high: median dwell time in the high state [s], > 0.
        tau_low: median dwell time in the low state [s], > 0.
        share: part of the cells that have a trap, in [0, 1].
        sigma_amplitude: spread of ln a (a clipped to 1), >= 0.
        sigma_tau: spread of ln τ, the same for both times of a cell, >= 0.
        white: white read noise relative to the window, >= 0.

    Raises:
        ValueError: a field out of range.

    Source: Ielmini, Nardi & Cagli, Appl. Phys. Lett. 96, 053503 (2010), doi:10.1063/1.3304167;
    Machlup, J. Appl. Phys. 25, 341 (1954), doi:10.1063/1.1721637 (the two-state process).
    """

    amplitude: float = 0.1
    tau_high: float = 1e-3
    tau_low: float = 1e-3
    share: float = 1.0
    sigma_amplitude: float = 0.0
    sigma_tau: float = 0.0
    white: float = 0.0

    def __post_init__(self) -> None:
        between("amplitude", self.amplitude, 0, 1)
        positive("tau_high", self.tau_high, "s")
        positive("tau_low", self.tau_low, "s")
        between("share", self.share, 0, 1)
        for name in ("sigma_amplitude", "sigma_tau", "white"):
            at_least(name, getattr(self, name), 0)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Traps:
        """Draw which cells have a trap, its size, its times and its present state."""

        def normal(sigma: float) -> Tensor:
            drawn = draw.to(torch.float32).normal(shape)
            return torch.exp(drawn.to(draw.dtype) * sigma)

        def uniform() -> Tensor:
            return draw.to(torch.float32).uniform(shape)

        amplitude = (self.amplitude * normal(self.sigma_amplitude)).clamp(max=1)
        amplitude = torch.where(uniform() < self.share, amplitude, 0.0)
        stretch = normal(self.sigma_tau)
        high = uniform() < self.tau_high / (self.tau_high + self.tau_low)
        return Traps(high, amplitude, self.tau_high * stretch, self.tau_low * stretch)

    def std(self, window: Window, g: Tensor, p: Traps, age: Tensor) -> Tensor:
        """0-dim: the white part [S]."""
        return g.new_full((), self.white * window.span)

    def shift(self, window: Window, g: Tensor, p: Traps) -> Tensor:
        """Present deviation from the mean of the two levels [S]."""
        mean = self.tau_high / (self.tau_high + self.tau_low)
        return g * p.amplitude * (p.high.to(g.dtype) - mean)

    def step(self, window: Window, p: Traps, dt: float, draw: Draw) -> Traps:
        """Capture and emission over dt."""
        mean = self.tau_high / (self.tau_high + self.tau_low)
        rate = 1 / p.tau_high + 1 / p.tau_low
        chance = mean + (p.high.to(rate.dtype) - mean) * torch.exp(-dt * rate)
        drawn = draw.to(torch.float64).uniform(rate.shape)
        return p._replace(high=drawn < chance if math.isfinite(dt) else drawn < mean)
