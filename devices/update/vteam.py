"""VTEAM: a memristor whose state moves when the voltage exceeds a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, finite, positive, whole
from devices.draw import Draw
from devices.part import Pulses, Update, Window
from devices.update.flow import flow_pulse

FARTHEST = 20.0
"""A state driven for longer than this many full sweeps is at its end."""


class Thresholds(NamedTuple):
    """Rates and thresholds of every cell."""

    k_on: Tensor  # (..., rows, cols) or () [1/s]
    k_off: Tensor  # [1/s]
    v_on: Tensor  # [V] > 0
    v_off: Tensor  # [V] < 0


@dataclass(frozen=True)
class VTEAM(Update):
    """Threshold-type voltage-driven memristor.

        dx/dt = +k_on (v/v_on − 1)^α_on f(x)       v > v_on > 0
        dx/dt = −k_off (v/v_off − 1)^α_off f(x)    v < v_off < 0,   else 0
        R(x) = R_off + (R_on − R_off) x,   R_on = 1/g_max, R_off = 1/g_min,   x = 0 … 1
        f(x) = 1 − x^2p (v > 0), 1 − (1 − x)^2p (v < 0)   with a window (Biolek), else 1

    x is 1 in the conducting state and positive voltage potentiates, so the source's w (0 at on) and
    sign of v are both reversed here, and its k [m/s] are divided by the thickness. `drive` holds a
    voltage for any time: exact without a window, by fourth-order Runge–Kutta steps of at most
    1/(8 p) of a sweep with one. `pulse` is `drive` with the write pulse; many pulses follow
    `devices.update.flow` in x. The window must have g_min > 0.

    Args:
        k_on: rate of potentiation [1/s], > 0.
        k_off: rate of depression [1/s], > 0.
        v_on: potentiation threshold [V], > 0.
        v_off: depression threshold [V], < 0.
        alpha_on: exponent, > 0.
        alpha_off: exponent, > 0.
        p: order of Biolek's window; None for none.
        v_set: voltage of an up pulse [V], above v_on.
        v_reset: voltage of a down pulse [V], below v_off.
        width: duration of a pulse [s], > 0.
        sigma_c2c: noise of the rate, one draw per pulse or per call of `drive`, relative.
        sigma_d2d: spread of both rates from cell to cell, relative (clipped at 0).
        sigma_v: spread of both thresholds from cell to cell, relative (never below a twentieth).

    Raises:
        ValueError, TypeError: a field out of range; at fabrication g_min = 0.

    Source: Kvatinsky et al., IEEE Trans. Circuits Syst. II 62, 786 (2015),
    doi:10.1109/TCSII.2015.2433536; window of Biolek et al., Radioengineering 18, 210 (2009).
    """

    k_on: float = 1e5
    k_off: float = 1e5
    v_on: float = 0.5
    v_off: float = -0.5
    alpha_on: float = 3.0
    alpha_off: float = 3.0
    p: int | None = None
    v_set: float = 1.0
    v_reset: float = -1.0
    width: float = 1e-7
    sigma_c2c: float = 0.0
    sigma_d2d: float = 0.0
    sigma_v: float = 0.0

    def __post_init__(self) -> None:
        for name, unit in (("k_on", "1/s"), ("k_off", "1/s"), ("v_on", "V"), ("width", "s")):
            positive(name, getattr(self, name), unit)
        positive("-v_off", -self.v_off, "V")
        positive("alpha_on", self.alpha_on)
        positive("alpha_off", self.alpha_off)
        if self.p is not None:
            whole("p", self.p, 1, 20)
        for name in ("sigma_c2c", "sigma_d2d", "sigma_v"):
            at_least(name, getattr(self, name), 0)
        for name in ("v_set", "v_reset"):
            finite(name, getattr(self, name))
        if self.v_set <= self.v_on or self.v_reset >= self.v_off:
            raise ValueError(
                f"v_set must be above v_on and v_reset below v_off, got v_set={self.v_set!r}, "
                f"v_on={self.v_on!r}, v_reset={self.v_reset!r}, v_off={self.v_off!r}"
            )

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Thresholds:
        """Draw rates and thresholds of every cell."""
        if window.g_min <= 0:
            raise ValueError(f"VTEAM needs g_min > 0 S (a finite R_off), got {window.g_min!r}")

        def spread(sigma: float, low: float) -> Tensor:
            return draw.factor(shape, sigma).clamp(min=low)

        return Thresholds(
            spread(self.sigma_d2d, 0.0) * self.k_on,
            spread(self.sigma_d2d, 0.0) * self.k_off,
            spread(self.sigma_v, 0.05) * self.v_on,
            spread(self.sigma_v, 0.05) * self.v_off,
        )

    def step(self, window: Window) -> float:
        """Mean conductance change of one pulse from mid-window, of both directions [S]."""
        g = torch.tensor([(window.g_min + window.g_max) / 2], dtype=torch.float64)
        nominal = (self.k_on, self.k_off, self.v_on, self.v_off)
        p = Thresholds(*(g.new_tensor(value) for value in nominal))
        x = _state(window, g)
        up, down = (
            _conductance(window, x + self._sweep(x, self._rate(p, g.new_tensor(v)) * self.width))
            for v in (self.v_set, self.v_reset)
        )
        return float(up - down) / 2

    def _rate(self, p: Thresholds, v: Tensor) -> Tensor:
        """Speed of x under the voltage, without its window [1/s]."""
        above = (v / p.v_on - 1).clamp(min=0) ** self.alpha_on * p.k_on
        below = (v / p.v_off - 1).clamp(min=0) ** self.alpha_off * p.k_off
        return above - below

    def _sweep(self, x: Tensor, way: Tensor) -> Tensor:
        """Change of the state that is driven by `way` full sweeps, not yet clipped to 0 … 1."""
        way = way.clamp(-FARTHEST, FARTHEST)
        if self.p is None:
            return way
        order = 2 * self.p
        rising = way > 0

        def slope(y: Tensor) -> Tensor:
            return way * (1 - torch.where(rising, y, 1 - y).clamp(0, 1) ** order)

        steps = max(1, math.ceil(float(way.abs().max()) * 8 * self.p)) if way.numel() else 1
        y = x
        for _ in range(steps):
            k1 = slope(y)
            k2 = slope(y + k1 / (2 * steps))
            k3 = slope(y + k2 / (2 * steps))
            k4 = slope(y + k3 / steps)
            y = y + (k1 + 2 * k2 + 2 * k3 + k4) / (6 * steps)
        return y - x

    def drive(
        self,
        window: Window,
        g: Tensor,
        p: Thresholds,
        v: Tensor,
        dt: float,
        draw: Draw,
    ) -> tuple[Tensor, Thresholds]:
        """The state after v for dt; below both thresholds it does not move at all."""
        rate = self._rate(p, v.to(g.dtype)).expand_as(g)
        way = rate * dt
        if self.sigma_c2c:
            way = way * (1 + self.sigma_c2c * draw.normal(g.shape)).clamp(min=0)
        x = _state(window, g)
        moved = _conductance(window, x + self._sweep(x, way))
        return torch.where(rate == 0, g, moved), p

    def partial(self, p: Thresholds, share: Tensor) -> tuple[Tensor, Tensor]:
        """Ratios of the rates, whatever the state: nothing at all below the threshold."""
        share = share.to(p.v_on.dtype)
        up = self._rate(p, share * self.v_set) / self._rate(p, share.new_tensor(self.v_set))
        down = self._rate(p, share * self.v_reset) / self._rate(p, share.new_tensor(self.v_reset))
        # a cell that not even the whole pulse moves
        return up.nan_to_num(0.0, posinf=0.0), down.nan_to_num(0.0, posinf=0.0)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Thresholds,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Thresholds]:
        """Write pulses of v_set and v_reset."""
        up = self._rate(p, g.new_tensor(self.v_set)) * self.width
        down = self._rate(p, g.new_tensor(self.v_reset)) * self.width
        x = _state(window, g)
        moved = flow_pulse(
            lambda y: self._sweep(y, up.expand_as(y)),
            lambda y: self._sweep(y, down.expand_as(y)),
            x,
            pulses,
            draw,
            nominal=float((up - down).mean()) / 2,
            low=0.0,
            high=1.0,
            cycle=self.sigma_c2c,
        )
        return torch.where(moved == x, g, _conductance(window, moved)), p


def _state(window: Window, g: Tensor) -> Tensor:
    """x of a conductance, 1 in the conducting state."""
    off = 1 / window.g_min
    return ((off - 1 / g.clamp(window.g_min, window.g_max)) / (off - 1 / window.g_max)).clamp(0, 1)


def _conductance(window: Window, x: Tensor) -> Tensor:
    """Conductance of a state, clipped to 0 … 1 [S]."""
    off = 1 / window.g_min
    return 1 / (off + (1 / window.g_max - off) * x.clamp(0, 1))
