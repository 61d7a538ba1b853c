"""Two-state cells that switch by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, between
from devices.draw import Draw
from devices.part import Pulses, Update, Window
from devices.update.moments import Count, largest, rate
from devices.update.rounds import limit, rounds


class Levels(NamedTuple):
    """The two conductances of every cell, and how readily it switches."""

    off: Tensor  # (..., rows, cols) or () [S]
    on: Tensor  # (..., rows, cols) or () [S]
    up: Tensor  # (..., rows, cols) or () probability of switching on, of an up pulse
    down: Tensor


@dataclass(frozen=True)
class StochasticSwitch(Update):
    """A cell is on or off; every pulse switches it with a probability.

        P(off → on per up pulse) = p_up,   P(on → off per down pulse) = p_down

    The chance to be on is a soft-bounds law, P ← P + p_up (1 − P) or P ← P − p_down P, whose mean
    over any counts is that of `devices.update.closed`: (1 − p_up)^U of the off cells stay off after
    U up pulses, E(1 − p_up)^N of them after a random number. A cell that was programmed between its
    levels counts as on above the middle, and keeps its conductance until it switches.

    Args:
        p_up: switching probability of an up pulse, in (0, 1].
        p_down: switching probability of a down pulse, in (0, 1].
        sigma_p: spread of ln(1 − p) from cell to cell, relative (normal, clipped at 0).
        sigma_levels: spread of both levels from cell to cell, relative to the window; levels stay
            inside it.

    Raises:
        ValueError: a field out of range.

    Source: Suri et al., IEEE Trans. Electron Devices 60, 2402 (2013),
    doi:10.1109/TED.2013.2263000 (binary CBRAM synapses).
    """

    p_up: float = 0.1
    p_down: float = 0.1
    sigma_p: float = 0.0
    sigma_levels: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p_up", "p_down"):
            between(name, getattr(self, name), 0, 1)
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be in (0, 1], got 0: a cell that never switches")
        at_least("sigma_p", self.sigma_p, 0)
        at_least("sigma_levels", self.sigma_levels, 0)

    def step(self, window: Window) -> float:
        """Mean change of a cell that can still switch [S]."""
        return window.span * (self.p_up + self.p_down) / 2

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Levels:
        """Draw levels and switching rates of every cell."""

        def off_level(end: float, side: int) -> Tensor:
            away = (draw.factor(shape, self.sigma_levels) - 1).abs()
            return end + side * window.span * away.clamp(max=0.45)

        chances = (
            -torch.expm1(
                draw.factor(shape, self.sigma_p).clamp(min=0) * math.log1p(-min(p, 1 - 1e-12))
            )
            for p in (self.p_up, self.p_down)
        )
        return Levels(off_level(window.g_min, 1), off_level(window.g_max, -1), *chances)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Levels,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Levels]:
        """One draw per cell, whatever the counts; pulse by pulse where they switch readily."""

        def one(g: Tensor, rising: Tensor) -> Tensor:
            u, on = draw.to(torch.float64).uniform(g.shape), _is_on(g, p)
            g = torch.where(rising & ~on & (u < p.up), p.on, g)
            return torch.where(~rising & on & (u < p.down), p.off, g)

        if max(largest(p.up, p.down)) <= limit(pulses):
            return _at_once(g, p, pulses, draw), p
        return rounds(one, lambda g, given: _at_once(g, p, given, draw), g, pulses, draw), p


def _is_on(g: Tensor, p: Levels) -> Tensor:
    return g > (p.off + p.on) / 2


def _at_once(g: Tensor, p: Levels, pulses: Pulses, draw: Draw) -> Tensor:
    """The cells after any counts, by the mean of their chance."""
    on = _is_on(g, p)
    counts = Count.of(pulses.up, pulses.up_var), Count.of(pulses.down, pulses.down_var)
    up, down = (
        rate(-own, n) * own for own, n in zip((p.up.to(g), p.down.to(g)), counts, strict=True)
    )
    settled = up / (up + down).clamp(min=1e-30)
    chance = settled + (on.to(g.dtype) - settled) * torch.exp(-up - down)
    u = draw.to(torch.float64).uniform(g.shape)
    # a cell that left its state and came back is at its level, not where it was programmed
    kept = torch.where(on, u < torch.exp(-down), u >= -torch.expm1(-up))
    return torch.where(kept, g, torch.where(u < chance, p.on, p.off))
