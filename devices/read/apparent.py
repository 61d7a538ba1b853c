"""Write noise that reads see and later pulses do not: apparent against persistent conductance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, instance
from devices.draw import Draw
from devices.part import Read, Window


class Offset(NamedTuple):
    """Deviation every cell was left with by its last write, and the leaf of the other noise."""

    offset: Tensor  # (..., rows, cols) [S]
    other: Any


@dataclass(frozen=True)
class ApparentWriteNoise(Read):
    """Each write leaves the cell with a visible deviation that the next write forgets.

        g_apparent = g_persistent + σ (g_max − g_min) N(0, 1),   drawn anew at every write

    Pulses act on the persistent conductance, which is the cell's state here; reads see the apparent
    one, never below zero. Until the next write the deviation stays the same, unlike read noise.

    Args:
        sigma: standard deviation relative to the window, >= 0. aihwkit's write_noise_std times
            dw_min divided by its weight range.
        other: another read noise on top; None for none.

    Raises:
        ValueError, TypeError: a field out of range or no read part.

    Source: Rasch et al., AICAS 2021, arXiv:2104.02184 (write_noise_std of its ReRAM presets, fitted
    to Gong et al., Nat. Commun. 9:2102 (2018), doi:10.1038/s41467-018-04485-1).
    """

    sigma: float
    other: Read | None = None

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)
        instance("other", self.other, Read)

    @property
    def ages(self) -> bool:  # type: ignore[override]
        """Whether the other part needs the age of every single cell."""
        return self.other is not None and self.other.ages

    def _draw(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Tensor:
        return draw.normal(shape) * (self.sigma * window.span)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Offset:
        """Cells as their last write left them."""
        other = None
        if self.other is not None:
            other = self.other.fabricate(window, shape, draw)
        return Offset(self._draw(window, shape, draw), other)

    def written(
        self,
        window: Window,
        g: Tensor,
        p: Offset,
        mask: Tensor,
        draw: Draw,
    ) -> Offset:
        """A new deviation for every cell that was written."""
        other = p.other
        if self.other is not None:
            other = self.other.written(window, g, p.other, mask, draw)
        return Offset(torch.where(mask, self._draw(window, g.shape, draw), p.offset), other)

    def std(self, window: Window, g: Tensor, p: Offset, age: Tensor) -> Tensor:
        """White noise of the other part, else zero [S]."""
        if self.other is None:
            return g.new_zeros(())
        return self.other.std(window, g, p.other, age)

    def shift(self, window: Window, g: Tensor, p: Offset) -> Tensor:
        """The deviation, with the slow noise of the other part [S]."""
        shift = p.offset.to(g.dtype)
        if self.other is not None:
            slow = self.other.shift(window, g, p.other)
            shift = shift if slow is None else shift + slow
        return torch.maximum(shift, -g)

    def step(self, window: Window, p: Offset, dt: float, draw: Draw) -> Offset:
        """Time moves the other part only."""
        if self.other is None:
            return p
        return p._replace(other=self.other.step(window, p.other, dt, draw))
