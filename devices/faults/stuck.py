"""Stuck-at faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import between
from devices.draw import Draw
from devices.part import Faults, Window


class StuckLeaf(NamedTuple):
    """Where each cell is stuck."""

    at: Tensor  # (..., rows, cols) [S], NaN for a healthy cell


@dataclass(frozen=True)
class StuckAt(Faults):
    """Cells stuck at the off (g_min) or on (g_max) conductance or anywhere between, at random.

    One uniform number per cell decides, so that a larger probability only adds faults to the same
    chip.

    Args:
        p_off: probability that a cell is stuck at g_min, in [0, 1].
        p_on: probability that a cell is stuck at g_max, in [0, 1].
        p_any: probability that a cell is stuck at a conductance drawn evenly from the window, in
            [0, 1]; the sum of all three is at most 1.

    Raises:
        ValueError: a probability out of range.

    Source: Chen et al., IEEE Trans. Comput. 64, 180 (2015), doi:10.1109/TC.2014.12 (stuck-at-0
    and stuck-at-1 faults of RRAM arrays).
    """

    p_off: float = 0.0
    p_on: float = 0.0
    p_any: float = 0.0

    def __post_init__(self) -> None:
        between("p_off", self.p_off, 0, 1)
        between("p_on", self.p_on, 0, 1)
        between("p_any", self.p_any, 0, 1)
        between("p_off + p_on + p_any", self.p_off + self.p_on + self.p_any, 0, 1)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> StuckLeaf:
        """Draw which cells are stuck, and where."""
        u = draw.to(torch.float32).uniform(shape)
        at = torch.full(shape, torch.nan, dtype=draw.dtype, device=draw.device)
        at = at.masked_fill_(u < self.p_off, window.g_min)
        at = at.masked_fill_(u >= 1 - self.p_on, window.g_max)
        if self.p_any:
            drawn = draw.to(torch.float32).uniform(shape)
            place = window.g_min + window.span * drawn.to(draw.dtype)
            anywhere = (u >= self.p_off) & (u < self.p_off + self.p_any)
            at = torch.where(anywhere, place, at)
        return StuckLeaf(at)

    def stuck(self, p: StuckLeaf) -> Tensor:
        """Conductance at which each cell is stuck [S], NaN for a healthy cell."""
        return p.at
