"""Base of the memristors that are an equation of motion of one state variable under a voltage."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, finite, positive
from devices.draw import Draw
from devices.part import Pulses, Update, Window
from devices.update.integrate import integrate
from devices.update.rounds import drawn_counts

DRIVEN, PULSED = 1e-9, 1e-6
"""Error allowed in one step of the integration, as a part of the range of x."""

MOST_HALVES = 20
"""Parts a long mixed train is cut into, each half of what is left, so that noise fades in it."""


class Pace(NamedTuple):
    """How fast every cell moves, relative to the nominal one."""

    rate: Tensor  # (..., rows, cols) or ()


@dataclass(frozen=True)
class Driven(Update):
    """A cell whose state x in 0 … 1 moves with a speed dx/dt that its voltage and x decide.

    `drive` integrates it over a held voltage. `pulse` holds v_set and v_reset for `width`; many
    pulses are the integral of their evenly interleaved speeds, exact for pulses of one direction. A
    pulse's time is noisy: log-normal of mean 1 and standard deviation σ_c2c, one draw per pulse
    or call of `drive`. Counts that travel as moments are drawn (`devices.update.rounds`).

    A law states `_speed`, and `_state` and `_conductance` where x is not linear in g.
    """

    v_set: float = 1.0
    v_reset: float = -1.0
    width: float = 1e-6
    sigma_c2c: float = 0.0
    sigma_d2d: float = 0.0

    def __post_init__(self) -> None:
        positive("v_set", self.v_set, "V")
        finite("v_reset", self.v_reset)
        positive("-v_reset", -self.v_reset, "V")
        positive("width", self.width, "s")
        at_least("sigma_c2c", self.sigma_c2c, 0)
        at_least("sigma_d2d", self.sigma_d2d, 0)

    @abstractmethod
    def _speed(
        self,
        window: Window,
        x: Tensor,  # (..., rows, cols) in 0 … 1
        v: Tensor,  # (..., rows, cols) or () [V]
        p: Any,
    ) -> Tensor:
        """dx/dt of a cell of the nominal pace [1/s]."""

    def _state(self, window: Window, g: Tensor, p: Any) -> Tensor:
        """x of a conductance inside the window."""
        return (g - window.g_min) / window.span

    def _conductance(self, window: Window, x: Tensor, p: Any) -> Tensor:
        """Conductance of a state [S]."""
        return window.g_min + x * window.span

    def _nominal(self) -> Any:
        """The leaf of a cell as it is meant to be."""
        return Pace(torch.ones((), dtype=torch.float64))

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Any:
        """Draw the pace of every cell."""
        return Pace(draw.factor(shape, self.sigma_d2d).clamp(min=0))

    def step(self, window: Window) -> float:
        """Mean conductance change of one pulse from mid-window, of both directions [S]."""
        return _step(self, window)

    def _flow(self, window: Window, v: Tensor, p: Any) -> Callable[[Tensor], Tensor]:
        """dx/dt [1/s] as a function of x while v (..., rows, cols) or () [V] is held."""
        return lambda x: self._speed(window, x, v, p)

    def _moved(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        rate: Tensor,
        speed: Callable[[Tensor], Tensor],
        tolerance: float,
    ) -> Tensor:
        """Conductance after moving with speed(x)·rate for unit time; where x stays, g stays."""
        x = self._state(window, g.double().clamp(window.g_min, window.g_max), p).clamp(0, 1)
        rate = rate.double()
        moved = integrate(lambda y: speed(y) * rate, x, tolerance)
        return torch.where(moved == x, g, self._conductance(window, moved, p).to(g.dtype))

    def drive(
        self, window: Window, g: Tensor, p: Any, v: Tensor, dt: float, draw: Draw
    ) -> tuple[Tensor, Any]:
        """The state after v was held for dt."""
        rate = p.rate * dt
        if self.sigma_c2c:
            rate = rate * _random(g.new_ones(()), self.sigma_c2c**2, draw.normal(g.shape))
        flow = self._flow(window, v.double().expand_as(g), p)
        return self._moved(window, g, p, rate, flow, DRIVEN), p

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Pulses of v_set and v_reset for their width, evenly interleaved."""
        if not g.numel():
            return g, p
        up, down = pulses.up, pulses.down
        if pulses.up_var is not None or pulses.down_var is not None:
            up, down, rest = drawn_counts(pulses, draw)
            up, down = up + rest.up, down + rest.down
        parts = 1
        if self.sigma_c2c and bool(((up > 0) & (down > 0)).any()):
            parts = min(MOST_HALVES, 1 + int((up + down).max()).bit_length())
        left = 1.0
        for k in range(parts):
            share = left if k == parts - 1 else left / 2
            left -= share
            rising, falling = (self._time(n * share, draw) for n in (up, down))
            speed = self._mix(window, rising.double(), falling.double(), p)
            g = self._moved(window, g, p, p.rate, speed, PULSED)
        return g, p

    def _mix(self, window: Window, up: Tensor, down: Tensor, p: Any) -> Callable[[Tensor], Tensor]:
        """Speed of x under so many pulses of each direction in unit time."""
        flows = [
            (n, self._flow(window, n.new_tensor(v), p))
            for n, v in ((up, self.v_set), (down, self.v_reset))
            if bool((n > 0).any())
        ]

        def speed(x: Tensor) -> Tensor:
            out = torch.zeros_like(x)
            for n, flow in flows:
                out = out + n * (flow(x) * self.width)
            return out

        return speed

    def _time(self, count: Tensor, draw: Draw) -> Tensor:
        """How long so many pulses last, in widths."""
        if not self.sigma_c2c:
            return count
        return _random(count, self.sigma_c2c**2 * count, draw.normal(count.shape))


@functools.lru_cache(maxsize=64)
def _step(law: Driven, window: Window) -> float:
    """`Driven.step`, which every update asks for."""
    middle = torch.tensor([(window.g_min + window.g_max) / 2], dtype=torch.float64)
    one, p = torch.ones_like(middle), law._nominal()
    up, down = (
        law._moved(window, middle, p, one, law._mix(window, *given, p), DRIVEN)
        for given in ((one, 0 * one), (0 * one, one))
    )
    return float(up - down) / 2


def _random(mean: Tensor, var: Tensor | float, z: Tensor) -> Tensor:
    """Log-normal of this mean and variance, from standard normals; zero where the mean is."""
    ratio = torch.as_tensor(var, dtype=mean.dtype) / mean.square().clamp(min=1e-30)
    log_var = torch.log1p(ratio)
    return mean * torch.exp(log_var.sqrt() * z.to(mean.dtype) - log_var / 2)
