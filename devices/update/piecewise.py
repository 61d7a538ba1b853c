"""Tabulated steps, interpolated linearly between measured conductances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import finite
from devices.part import Window
from devices.update.curved import Curved, CurvedStep
from devices.update.flow import Step


@dataclass(frozen=True)
class PiecewiseStep(CurvedStep):
    """Steps read from a table over the window, linear between its nodes.

        s↑ = dg_min (1 + u/2) f↑(x),   s↓ = dg_min (1 − u/2) f↓(x)
        x = (g − g_low)/(g_high − g_low)

    with f given at equally spaced x from 0 to 1 and held constant beyond. One pulse is exact, many
    follow `devices.update.curved`, whose bound holds where a node's kink changes the step by less
    than a fifth over one step.

    Args:
        dg_min: unit of the tables [S], > 0; `step` gives the mean of both tables over the window.
        up_down: imbalance u applied on top of the tables, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.
        up: at least two factors >= 0, not all zero, of the potentiation step from g_min to g_max.
        down: the same of the depression step, again listed from g_min to g_max.

    Raises:
        TypeError, ValueError: a field out of range, a table too short, negative or all zero.

    Source: Rasch et al., AICAS 2021, arXiv:2104.02184 (PiecewiseStepDevice).
    """

    up: tuple[float, ...] = (1.0, 1.0)
    down: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("up", "down"):
            table = getattr(self, name)
            if not isinstance(table, tuple) or len(table) < 2:
                raise TypeError(f"{name} must be a tuple of at least 2 factors, got {table!r}")
            if any(finite(f"{name}[{i}]", f) < 0 for i, f in enumerate(table)) or not any(table):
                raise ValueError(f"{name} must be factors >= 0, not all zero, got {table!r}")

    def step(self, window: Window) -> float:
        """Mean step over the window and both directions [S]."""
        up, down = (sum(t) - (t[0] + t[-1]) / 2 for t in (self.up, self.down))
        up, down = up / (len(self.up) - 1), down / (len(self.down) - 1)
        u = self.up_down / 2
        return self.dg_min * (up * (1 + u) + down * (1 - u)) / 2

    def _steps(self, window: Window, p: Curved) -> tuple[Step, Step]:
        low = window.g_min if p.low is None else p.low
        high = window.g_max if p.high is None else p.high
        span = high - low

        def up(g: Tensor) -> Tensor:
            return p.up * interpolate(self.up, (g - low) / span)

        def down(g: Tensor) -> Tensor:
            return -p.down * interpolate(self.down, (g - low) / span)

        return up, down


def interpolate(table: tuple[float, ...], x: Tensor) -> Tensor:
    """Linear interpolation of equally spaced values over x in [0, 1], constant beyond."""
    values = torch.tensor(table, dtype=x.dtype, device=x.device)
    at = x.clamp(0, 1) * (len(table) - 1)
    left = at.floor().clamp(max=len(table) - 2)
    index = left.long()
    return torch.lerp(values[index], values[index + 1], at - left)
