"""Charge that leaks away, and conductance that wanders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, between, positive
from devices.draw import Draw
from devices.part import Retention, Window


class Lifetime(NamedTuple):
    """Time constant of every cell."""

    tau: Tensor  # (..., rows, cols) or () [s]


@dataclass(frozen=True)
class Leak(Retention):
    """Exponential return to a resting conductance, with the noise that keeps it spread.

        dg = −(g − g_rest)/τ dt + σ ΔG √(2/τ) dW   (Ornstein–Uhlenbeck, stepped exactly)
        g(dt) = g_rest + (g − g_rest) e^{−dt/τ} + σ ΔG √(1 − e^{−2dt/τ}) N(0, 1)

    A capacitor (volatile analog memory) or an electrochemical cell whose charge leaks through its
    access device. Periods compose exactly as long as no cell reaches zero.

    Args:
        tau: time constant [s], > 0.
        rest: resting point as a part of the window, 0 (g_min) to 1 (g_max).
        sigma_d2d: spread of τ from cell to cell, relative (never below a twentieth of τ).
        sigma: stationary standard deviation about the rest, relative to the window, >= 0.

    Raises:
        ValueError: a field out of range.

    Source: Li et al., VLSI Technology 2018, doi:10.1109/VLSIT.2018.8510648 (capacitor cell);
    Uhlenbeck & Ornstein, Phys. Rev. 36, 823 (1930), doi:10.1103/PhysRev.36.823.
    """

    tau: float = 1.0
    rest: float = 0.5
    sigma_d2d: float = 0.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        positive("tau", self.tau, "s")
        between("rest", self.rest, 0, 1)
        at_least("sigma_d2d", self.sigma_d2d, 0)
        at_least("sigma", self.sigma, 0)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Lifetime:
        """Draw the time constant of every cell."""
        spread = draw.factor(shape, self.sigma_d2d)
        return Lifetime(spread.clamp_(min=0.05).mul_(self.tau))

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Lifetime,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Lifetime]:
        """The exact step of the process, whatever dt."""
        rest = window.g_min + self.rest * window.span
        lost = -torch.expm1(-dt / p.tau)
        out = g - (g - rest) * lost
        if self.sigma:
            std = self.sigma * window.span * (lost * (2 - lost)).sqrt()
            out = out + std * draw.normal(g.shape)
        return out.clamp(min=0), p


@dataclass(frozen=True)
class Diffusion(Retention):
    """Random walk of the conductance between the walls of the window.

        dg = σ ΔG dW,   reflected at g_min and g_max (a cell beyond a wall is reflected where it is)

    A reflected walk is the free one folded at its walls, so any dt is exact and periods compose.

    Args:
        sigma: standard deviation after one second, relative to the window [1/√s], >= 0.

    Raises:
        ValueError: sigma negative or not finite.

    Source: aihwkit's diffusion process, Rasch et al., arXiv:2104.02184; the folded walk: Feller, An
    Introduction to Probability Theory and Its Applications II, ch. X.5.
    """

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Any]:
        """The exact step of the walk, whatever dt."""
        if dt == 0:
            return g, p
        low, high = g.clamp(max=window.g_min), g.clamp(min=window.g_max)
        drawn = draw.normal(g.shape)
        free = (g - low + self.sigma * window.span * dt**0.5 * drawn) / (high - low)
        around = torch.remainder(free, 2.0)
        return low + (high - low) * torch.minimum(around, 2 - around), p
