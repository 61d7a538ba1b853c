"""Shared by the tests of update laws: one pulse after another, by the device itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices import Device, Pulses, Update

WINDOW = (1e-6, 51e-6)  # [S]


@dataclass(frozen=True)
class Base(Update):
    """The simplest law that keeps the contract."""

    dg: float = 0.5e-6

    def step(self, window):
        return self.dg

    def pulse(self, window, g, p, pulses, draw, at=None):
        return g + self.dg * (pulses.up - pulses.down).to(g.dtype), p


def start(law: Update, at: float, n: int, *, seed: int = 0, window: tuple[float, float] = WINDOW):
    """n float64 cells of a law at the fraction `at` of the window, with a generator."""
    device = Device(*window, update=law)
    generator = torch.Generator().manual_seed(seed)
    state = device.fabricate((n,), generator=generator, dtype=torch.float64)
    g = torch.full((n,), window[0] + at * (window[1] - window[0]), dtype=torch.float64)
    return device, state._replace(g=g), generator


def counts(n: int, up: float, down: float, *, poisson: bool = False) -> Pulses:
    """The same mean counts for n cells, exact or as Poisson moments."""
    mean = [torch.full((n,), float(c), dtype=torch.float64) for c in (up, down)]
    return Pulses(*mean, *(mean if poisson else (None, None)))


def one_by_one(device: Device, state, up: Tensor, down: Tensor, generator) -> Tensor:
    """Conductances after whole counts given singly, in random order."""
    up, down = up.clone(), down.clone()
    while bool(((left := up + down) > 0).any()):
        draw = torch.rand(up.shape, generator=generator, dtype=up.dtype)
        rising = (draw * left < up).to(up.dtype) * (left > 0)
        falling = (left > 0).to(up.dtype) - rising
        state = device.pulse(state, Pulses(rising, falling), generator=generator)
        up, down = up - rising, down - falling
    return state.g


def same_moments(many: Tensor, single: Tensor, origin: float, *, step: float = 0.0) -> None:
    """Mean change within 1 % or a tenth of a `step`, std within 10 %, beyond 4 standard errors."""
    n = single.numel()
    mean, std = (single - origin).mean(), single.std()
    error = 4 * std * (2 / n) ** 0.5
    assert (many - origin).mean().sub(mean).abs() <= 0.01 * mean.abs() + 0.1 * step + error
    assert many.std().sub(std).abs() <= 0.10 * std + error / 2**0.5
