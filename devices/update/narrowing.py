"""Windows that narrow with use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, between, positive
from devices.draw import Draw
from devices.part import Pulses, Window
from devices.update.around import Around

NARROWEST = 0.49
"""Most of the window that either end can lose."""


class Used(NamedTuple):
    """The law's own leaf, the pulses each cell has had, and those it stands without a loss."""

    law: Any
    pulses: Tensor  # (..., rows, cols) float64
    onset: Tensor  # (..., rows, cols) float64


@dataclass(frozen=True)
class NarrowingWindow(Around):
    """Another update law whose window closes from both ends as the pulses add up.

        g_low = g_min + w ΔG,   g_high = g_max − w ΔG
        w = min(0.49, loss log10(n/n₀)) for n > n₀, else 0,   log10 n₀ ~ N(log10 pulses, σ)

    linear in the logarithm of the pulse count n, both polarities alike. Pulses clip at the narrowed
    window; a cell left outside it stays until a pulse brings it in. The law's steps do not change.
    Waveforms (`drive`) are not counted as pulses.

    Args:
        law: how the cell responds.
        pulses: median number n₀ of pulses before the window narrows, > 0.
        loss: part of the window that each end loses per decade beyond it, in [0, 0.49].
        sigma_log10: spread of log10 n₀ from cell to cell, >= 0.

    Raises:
        TypeError, ValueError: a field out of range or no update law.

    Source: Chen et al., IEEE Trans. Electron Devices 59, 3243 (2012), doi:10.1109/TED.2012.2218607
    (windows of HfO2 RRAM close gradually before failure); the straight line in log n and the
    default loss are this package's, not a fit.
    """

    pulses: float = 1e5
    loss: float = 0.1
    sigma_log10: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("pulses", self.pulses)
        between("loss", self.loss, 0, NARROWEST)
        at_least("sigma_log10", self.sigma_log10, 0)

    def _inner(self, p: Used) -> Any:
        return p.law

    def _outer(self, p: Used, law: Any) -> Used:
        return p._replace(law=law)

    def bounds(self, window: Window, p: Used) -> tuple[Tensor | float, Tensor | float]:
        """The law's, narrowed [S]."""
        low, high = self.law.bounds(window, p.law)
        lost = self.loss * torch.log10((p.pulses / p.onset).clamp(min=1.0))
        lost = lost.clamp(max=NARROWEST) * window.span
        return low + lost, high - lost

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Used:
        """Cells of the law, with their own onsets."""
        law = self.law.fabricate(window, shape, draw)
        drawn = draw.to(torch.float32).normal(shape).double()
        onset = 10 ** (math.log10(self.pulses) + self.sigma_log10 * drawn)
        return Used(law, torch.zeros_like(onset), onset)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Used,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Used]:
        """The law's move; the device clips it to the narrowed bounds."""
        moved, now = super().pulse(window, g, p, pulses, draw, at)
        given = pulses.up.double() + pulses.down.double()
        return moved, now._replace(pulses=p.pulses + given)
