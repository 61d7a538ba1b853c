"""One cell a weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.layout import Column, Layout
from crossbar.mappings.base import Mapping
from devices import Device, Pulses


@dataclass(frozen=True)
class SingleCell(Mapping):
    """One cell, g = mid + ΔG W/(2 w_max); the middle is taken off digitally.

        W/w_max = 2 place − 1,   y = w_max (2 Σ v place − Σ v)

    The digital term is the sum of the encoded input times a constant that does not drift with the
    cells: a drift common to all cells is an error here, where a pair cancels it.
    """

    def layout(self, device: Device) -> Layout:
        """One unbalanced converter."""
        return Layout((Column((1,), 2.0),), -1.0, linear=((0.5, 0.5),))

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(1, ..., rows, cols)."""
        return (0.5 + w / 2).unsqueeze(0)

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """The cell takes all of them."""
        return (pulses,)

    @property
    def gain(self) -> float:
        """One step of a window that counts 2 w_max."""
        return 2.0


@dataclass(frozen=True)
class OffsetColumn(SingleCell):
    """One cell a weight and one reference column a tile, at mid-window, subtracted by all.

        W/w_max = 2 (place − 1/2),   i_j = Σ v g_j − Σ v g_ref

    The reference column is made of cells as all others are, one a row and tile, that are written to
    the middle and never pulsed nor half-selected: a drift common to all cells cancels. Its read
    noise has its exact size in each output, but is drawn for each, where the columns of a tile
    would share it. With wires it is an array of its own, one column wide; with a current–voltage
    law it stays nominal.
    """

    def layout(self, device: Device) -> Layout:
        """One balanced converter."""
        column = Column((1,), 2.0, shared=0.5)
        return Layout((column,), linear=((0.5, 0.0),))


@dataclass(frozen=True)
class Line(SingleCell):
    """Cells of a reference column.

    Args:
        place: in the window, that all are written to.
    """

    place: float = 0.5

    def layout(self, device: Device) -> Layout:
        """As they are."""
        return Layout((Column((1,)),))

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(1, ..., rows, cols)."""
        return torch.full_like(w, self.place).unsqueeze(0)
