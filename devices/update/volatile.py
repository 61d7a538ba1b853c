"""Short-term memory: a cell that a voltage excites and that forgets by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, positive
from devices.draw import Draw
from devices.part import Pulses, Update, Window
from devices.update.affine import Affine, affine_pulse


class Excitable(NamedTuple):
    """Time constant and excitability of every cell."""

    tau: Tensor  # (..., rows, cols) or () [s]
    rate: Tensor  # (..., rows, cols) or () [1/s] λ


@dataclass(frozen=True)
class VolatileStep(Update):
    """A volatile memristor driven by its voltage and relaxing with a time constant.

        dx/dt = λ sinh(η v) − x/τ,   x = (g − g_min)/(g_max − g_min) in 0 … 1
        x(dt) = x_∞ + (x − x_∞) e^{−dt/τ},   x_∞ = λ τ sinh(η v)

    `drive` is this solution, exact for a held voltage, relaxation during the drive included; give
    the device the retention `Leak(tau, rest=0)` for the time between drives. `pulse` is `drive`
    with ±v_write for `width`, in the closed form of `devices.update.closed`. λ is given by the
    height x_∞ that v_write would reach (`reach` > 1: it saturates).

    Args:
        tau: time constant [s], > 0.
        eta: voltage sensitivity η [1/V], > 0.
        reach: λ τ sinh(η v_write), > 0.
        v_write: voltage of an up pulse, its negative that of a down pulse [V], > 0.
        width: duration of a pulse [s], > 0.
        sigma_c2c: noise of each pulse, relative to the actual step; one draw per call of `drive`.
        sigma_d2d: spread of λ from cell to cell, relative (clipped at 0).
        sigma_tau: spread of τ from cell to cell, relative (never below a twentieth).

    Raises:
        ValueError: a field out of range.

    Source: Chang, Jo & Lu, ACS Nano 5, 7669 (2011), doi:10.1021/nn202983n; Du et al., Nat. Commun.
    8:2204 (2017), doi:10.1038/s41467-017-02337-y (WOx, τ about 50 ms).
    """

    tau: float = 0.05
    eta: float = 4.0
    reach: float = 2.0
    v_write: float = 1.5
    width: float = 1e-3
    sigma_c2c: float = 0.0
    sigma_d2d: float = 0.0
    sigma_tau: float = 0.0

    def __post_init__(self) -> None:
        units = {"tau": "s", "eta": "1/V", "reach": "", "v_write": "V", "width": "s"}
        for name, unit in units.items():
            positive(name, getattr(self, name), unit)
        for name in ("sigma_c2c", "sigma_d2d", "sigma_tau"):
            at_least(name, getattr(self, name), 0)

    def step(self, window: Window) -> float:
        """Mean size of an up and a down pulse at mid-window [S]."""
        return window.span * self.reach * -math.expm1(-self.width / self.tau)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Excitable:
        """Draw time constant and excitability of every cell."""
        tau = draw.factor(shape, self.sigma_tau).clamp(min=0.05) * self.tau
        excited = draw.factor(shape, self.sigma_d2d).clamp(min=0)
        rate = excited * (self.reach / (self.tau * math.sinh(self.eta * self.v_write)))
        return Excitable(tau, rate)

    def drive(
        self,
        window: Window,
        g: Tensor,
        p: Excitable,
        v: Tensor,
        dt: float,
        draw: Draw,
    ) -> tuple[Tensor, Excitable]:
        """Excitation by v and relaxation over dt."""
        height = p.rate * p.tau * torch.sinh(self.eta * v.to(g.dtype)) * window.span
        move = (window.g_min + height - g) * -torch.expm1(-dt / p.tau)
        if self.sigma_c2c:
            move = move * (1 + self.sigma_c2c * draw.normal(g.shape))
        return (g + move).clamp(max=torch.finfo(g.dtype).max), p

    def partial(self, p: Excitable, share: Tensor) -> tuple[Tensor, Tensor]:
        """Ratio of the excitations; what the cell forgets meanwhile is left to the retention."""
        part = torch.sinh(self.eta * self.v_write * share) / math.sinh(self.eta * self.v_write)
        return part, part

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Excitable,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Excitable]:
        """Write pulses in the closed form of the affine law."""
        lost = -torch.expm1(-self.width / p.tau)
        height = p.rate * (lost * p.tau * (math.sinh(self.eta * self.v_write) * window.span))
        write = Affine.of(None, (height, -lost), (-height, -lost))
        low, high = self.bounds(window, p)
        moved = affine_pulse(
            g,
            write,
            pulses,
            draw,
            low=low,
            high=high,
            sigma_c2c=self.sigma_c2c,
            at=(window.g_min, window.g_min),
            jump=2 * self.step(window) / window.span,
        )
        return moved, p
