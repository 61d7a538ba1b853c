"""Shared by the tests of rules: aihwkit 1.2's devices, and trains without a random number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import crossbar as xb
from devices import Device, SoftBounds, Update

F64 = torch.float64


@dataclass(frozen=True)
class Lopsided(Update):
    """up = g(1 − v/1), down = g(1 + v/.7), v = (G − G_min)·1.8/ΔG − .8, within its own bounds."""

    g: float = 0.0503

    def step(self, window):
        return self.g * window.span / 1.8

    def bounds(self, window, p):
        return window.g_min + window.span * 0.1 / 1.8, window.g_max

    def pulse(self, window, g, p, pulses, draw, at=None):
        v = (g - window.g_min) * (1.8 / window.span) - 0.8
        assert not bool(((pulses.up > 0) & (pulses.down > 0)).any()), "the order would matter"
        v = 1 - (1 - v) * (1 - self.g) ** pulses.up
        v = -0.7 + (0.7 + v) * (1 - self.g / 0.7) ** pulses.down
        return (v + 0.8) * (window.span / 1.8) + window.g_min, p


def reference(w_max: float = 1.0) -> xb.Differential:
    """A cell against an ideal reference: what aihwkit's signed weight stands for."""
    return xb.Differential(route=xb.Reference(), w_max=w_max)


# A: steps .0503, bounds +1 and −.7, begins at its reference .1. C: soft bounds ±1, step .02.
FAST = xb.Chip(Device(1e-6, 19e-6, update=Lopsided()), mapping=reference(0.9))
SLOW = xb.Chip(Device(1e-6, 21e-6, update=SoftBounds(0.2e-6)), mapping=reference())


def layer(rule: xb.Rule, chip: xb.Chip = SLOW, n_in: int = 3, n_out: int = 2) -> Any:
    """A linear layer at weight zero."""
    linear = nn.Linear(n_in, n_out, bias=False).double()
    nn.init.zeros_(linear.weight)
    return xb.convert(linear, chip, mode=xb.InSitu(rule=rule), seed=0)


def given(model: Any, optimiser: Any, x: Tensor, d: Tensor) -> None:
    """One step on inputs x (n, in) and errors δ (n, out)."""
    optimiser.zero_grad()
    (model(x) * d).sum().backward()
    optimiser.step()


def signs(t: int) -> tuple[list[float], list[float]]:
    """The t-th x and δ, all ±1, of the known answers of two-array rules."""
    x = [1.0 if (t * (7 * j + 5) + t // 5) % 11 < 6 else -1.0 for j in range(3)]
    if t % 7 < 4:
        return x, [-x[0], x[1]]
    return x, [1.0 if (t * (5 * i + 3) + t // 3) % 13 < 7 else -1.0 for i in range(2)]


def run(rule: xb.Rule, n: int, batch: int = 1, n_in: int = 3, n_out: int = 2) -> Any:
    """The layer after n vectors at rate .1, `batch` a step, and C at every 200th."""
    model = layer(rule, n_in=n_in, n_out=n_out)
    optimiser, told = xb.InSituSGD(model, 0.1), {}
    for start in range(0, n, batch):
        xs, ds = zip(*(signs(t) for t in range(start, start + batch)), strict=True)
        given(model, optimiser, torch.tensor(xs, dtype=F64), torch.tensor(ds, dtype=F64))
        if (start + batch) % 200 == 0:
            told[start + batch] = model.analog["weight"].matrix.weight.mT.clone()
    return model, told


def every_rule() -> list[xb.Rule]:
    """One of every rule that can be imported, livelier than its defaults."""
    lively: dict[type, dict[str, Any]] = {
        xb.WeightDecay: {"decay": 0.1},
        xb.TikiTaka: {"transfer_lr": 30.0},
        xb.ChoppedTikiTaka: {"transfer_lr": 30.0, "chop": 0.5},
        xb.AGAD: {"transfer_lr": 30.0, "chop": 0.5},
        xb.TrackedTikiTaka: {"transfer_lr": 30.0, "chop": 0.5},
        xb.PeriodicCarry: {"every": 2, "invert": True},
        xb.Residual: {"arrays": 2, "gamma": 0.5, "every": 3},
        xb.LowRank: {"every": 2},
        xb.ArrayMomentum: {"unit": 0.1},
    }
    found: list[type[xb.Rule]] = []
    waiting = [xb.Rule]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found += [k for k in below if k.__module__.startswith("crossbar.")]
    return [kind(**lively.get(kind, {})) for kind in sorted(found, key=lambda k: k.__name__)]
