"""Cells that are set gradually and reset all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import at_least
from devices.draw import Draw
from devices.part import Pulses, Window, whole_counts
from devices.update.around import Around


@dataclass(frozen=True)
class AbruptReset(Around):
    """One-sided switching: another law for potentiation, and a RESET that erases in one pulse.

        up:    as `law`
        down:  g ← g_min + σ (g_max − g_min) |N(0, 1)|

    Phase-change memory crystallises a little with every SET pulse and melts as a whole at a RESET.
    As every RESET forgets what was before, (U, D) pulses evenly interleaved are one RESET followed
    by the SET pulses after the last one: U/2D of them, rounded by chance, as the phase of the two
    trains is unknown. Needs whole counts.

    Args:
        law: gradual potentiation.
        sigma: how far above g_min a RESET leaves the cell, relative to the window, >= 0.

    Raises:
        TypeError, ValueError: a field out of range, no update law; fractional counts when pulsed.

    Source: Burr et al., IEEE Trans. Electron Devices 62, 3498 (2015), doi:10.1109/TED.2015.2439635;
    Nandakumar et al., Front. Neurosci. 14:406 (2020), doi:10.3389/fnins.2020.00406.
    """

    sigma: float = 0.0

    whole = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("sigma", self.sigma, 0)

    def bounds(self, window: Window, p: Any) -> tuple[Tensor | float, Tensor | float]:
        """From g_min to the upper bound of the law [S]."""
        low, high = self.law.bounds(window, p)
        if isinstance(low, Tensor):
            low = low.clamp(max=window.g_min)
        return low, high

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """A RESET where there was one, then the SET pulses that follow it."""
        up, down = whole_counts(self, pulses)
        reset = down > 0
        phase = draw.to(up.dtype).uniform(g.shape)
        up = torch.where(reset, (up / (2 * down).clamp(min=1) + phase).floor(), up)
        low = torch.full_like(g, window.g_min)
        if self.sigma:
            low = low + self.sigma * window.span * draw.normal(g.shape).abs()
        start = torch.where(reset, low, g)
        return self.law.pulse(window, start, p, Pulses(up, torch.zeros_like(up)), draw, at)
