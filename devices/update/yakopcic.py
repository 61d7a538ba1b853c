"""The generalised memristor model of Yakopcic: thresholds, and motion that slows near the ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import at_least, between, positive
from devices.part import Window
from devices.update.driven import Driven, Pace


@dataclass(frozen=True)
class Yakopcic(Driven):
    """Memristor with exponential speed beyond two thresholds.

        dx/dt = φ(V) f(x),   x = (g − g_min)/(g_max − g_min)
        φ(V) = A_p (e^V − e^V_p)     V > V_p > 0
              −A_n (e^−V − e^V_n)    V < −V_n < 0,   else 0   (V in volts)
        f(x) = e^{−α_p (x − x_p)} (1 − x)/(1 − x_p)         V > 0, x >= x_p, else 1
               e^{α_n (x + x_n − 1)} x/(1 − x_n)            V < 0, x <= 1 − x_n, else 1

    The source's current a x sinh(b V) is that of a device with g_min = 0, g_max = a b and
    `SinhIV(v0=1/b)`; one amplitude a for both polarities, and its η = 1. Below its thresholds a
    cell does not move at all. `drive` and `pulse` are as in `devices.update.driven`.

    Args:
        v_set: voltage of an up pulse [V], above v_p.
        v_reset: voltage of a down pulse [V], below −v_n.
        width: duration of a pulse [s], > 0.
        sigma_c2c: noise of the time of each pulse, or call of `drive`, relative.
        sigma_d2d: spread of both amplitudes A from cell to cell, relative (clipped at 0).
        a_p: amplitude A_p [1/s], > 0.
        a_n: amplitude A_n [1/s], > 0.
        v_p: positive threshold [V], > 0.
        v_n: size of the negative threshold [V], > 0.
        x_p: state from which potentiation slows, in [0, 1).
        x_n: 1 − x_n is the state below which depression slows, in [0, 1).
        alpha_p: how fast potentiation slows, >= 0.
        alpha_n: how fast depression slows, >= 0.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Yakopcic et al., IEEE Electron Device Lett. 32, 1436 (2011),
    doi:10.1109/LED.2011.2163292; IEEE Trans. Comput.-Aided Des. 32, 1201 (2013),
    doi:10.1109/TCAD.2013.2252057. The defaults of A, V, x and α are those of the authors' SPICE
    file, read in copies of it; pulses are this package's.
    """

    v_set: float = 0.5
    v_reset: float = -0.5
    width: float = 1e-5
    a_p: float = 4000.0
    a_n: float = 4000.0
    v_p: float = 0.16
    v_n: float = 0.15
    x_p: float = 0.3
    x_n: float = 0.5
    alpha_p: float = 1.0
    alpha_n: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, unit in (("a_p", "1/s"), ("a_n", "1/s"), ("v_p", "V"), ("v_n", "V")):
            positive(name, getattr(self, name), unit)
        for name in ("x_p", "x_n"):
            between(name, getattr(self, name), 0, 0.999)
        at_least("alpha_p", self.alpha_p, 0)
        at_least("alpha_n", self.alpha_n, 0)
        if self.v_set <= self.v_p or self.v_reset >= -self.v_n:
            raise ValueError(
                f"v_set must be above v_p and v_reset below -v_n, got v_set={self.v_set!r}, "
                f"v_p={self.v_p!r}, v_reset={self.v_reset!r}, v_n={self.v_n!r}"
            )

    def _threshold(self, v: Tensor) -> Tensor:
        """φ(V) [1/s]."""
        above = (torch.exp(v) - math.exp(self.v_p)).clamp(min=0) * self.a_p
        return above - (torch.exp(-v) - math.exp(self.v_n)).clamp(min=0) * self.a_n

    def _speed(self, window: Window, x: Tensor, v: Tensor, p: Pace) -> Tensor:
        up = torch.exp(-self.alpha_p * (x - self.x_p)) * (1 - x) / (1 - self.x_p)
        down = torch.exp(self.alpha_n * (x + self.x_n - 1)) * x / (1 - self.x_n)
        up = torch.where(x >= self.x_p, up, 1.0)
        down = torch.where(x <= 1 - self.x_n, down, 1.0)
        return self._threshold(v) * torch.where(v > 0, up, down)

    def partial(self, p: Pace, share: Tensor) -> tuple[Tensor, Tensor]:
        """Ratios of φ, whatever the state: nothing at all below the threshold."""
        up, down = (
            self._threshold(share * v) / self._threshold(share.new_tensor(v))
            for v in (self.v_set, self.v_reset)
        )
        return up, down
