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


class Levels(NamedTuple):
    """The two conductances of every cell, and how readily it switches."""

    off: Tensor  # (..., rows, cols) or () [S]
    on: Tensor  # (..., rows, cols) or () [S]
    hazard_up: Tensor  # (..., rows, cols) or () −log(1 − p) per pulse
    hazard_down: Tensor


@dataclass(frozen=True)
class StochasticSwitch(Update):
    """A cell is on or off; every pulse switches it with a probability.

        P(off → on per up pulse) = p_up,   P(on → off per down pulse) = p_down

    U up pulses leave an off cell off with (1 − p_up)^U; evenly interleaved with D down pulses the
    cell is the two-state chain of the rates κ↑ = −U ln(1 − p_up), κ↓ = −D ln(1 − p_down):

        P(on) = π + (s − π) e^{−(κ↑ + κ↓)},   π = κ↑/(κ↑ + κ↓)

    exact for pulses of one direction. A cell that was programmed between its levels counts as on
    above the middle, and keeps its conductance until it switches.

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

        hazards = (
            draw.factor(shape, self.sigma_p).clamp(min=0) * -math.log1p(-min(p, 1 - 1e-12))
            for p in (self.p_up, self.p_down)
        )
        return Levels(off_level(window.g_min, 1), off_level(window.g_max, -1), *hazards)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Levels,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Levels]:
        """One draw per cell, whatever the counts."""
        pulses = pulses.to(g.dtype)
        rates = []
        for count, var, hazard in (
            (pulses.up, pulses.up_var, p.hazard_up),
            (pulses.down, pulses.down_var, p.hazard_down),
        ):
            # E[e^{−κN}] = exp(−κ mean + κ² var/2), never a gain
            seen = count if var is None else (count - hazard * var / 2).clamp(min=0)
            rates.append(seen * hazard)
        up, down = rates
        total = up + down
        settled = torch.where(total > 0, up / total.clamp(min=1e-30), 0.0)
        on = g > (p.off + p.on) / 2
        chance = settled + (on.to(g.dtype) - settled) * torch.exp(-total)
        drawn = draw.to(torch.float64).uniform(g.shape)
        now = torch.where(total > 0, drawn < chance, on)
        return torch.where(now == on, g, torch.where(now, p.on, p.off)), p
