"""Coincidences visited one by one: cost goes with their number, not with that of the weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.pulses.bits import Bits


class Grouped(NamedTuple):
    """Coincidences cell by cell, those of a cell in the order of their slots."""

    at: Tensor  # (cells,) int64 increasing flat indices in the matrix's shape
    count: Tensor  # (cells,) int64, >= 1
    up: Tensor  # (coincidences,) int64, 1 where it potentiates

    def counts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The cells with their potentiation and depression counts."""
        risen = torch.cat([self.up.new_zeros(1), self.up.cumsum(0)])
        end = self.count.cumsum(0)
        up = risen[end].sub_(risen[end - self.count])
        return self.at, up.to(dtype), (self.count - up).to(dtype)


def coincidences(bits: Bits) -> Tensor:
    """4 · cell + negative bits of its lines, of every coincidence in the order of the slots.

    Every column bit meets the row bits of its slot. Cost: the bits, and the coincidences.
    """
    rows, cols = bits.x.shape[-1], bits.d.shape[-1]
    x, d = bits.x.view(-1), bits.d.view(-1)
    at_x, at_d = x.nonzero()[:, 0], d.nonzero()[:, 0]
    # slots of the groups of a convolution count apart
    first = torch.arange(0, x.numel() + 1, rows, device=x.device)
    begin = torch.searchsorted(at_x, first)
    of_d = at_d // cols
    fired = begin.diff()[of_d]
    groups = bits.x.shape[1:-1].numel()
    row = at_x % (rows * groups) * (4 * cols) + (x[at_x] < 0)
    col = (at_d - of_d * cols) * 4 + (d[at_d] < 0)
    start = begin[of_d] - fired.cumsum(0) + fired
    column = torch.arange(len(at_d), device=x.device).repeat_interleave(fired)
    met = torch.arange(len(column), device=x.device).add_(start[column])
    return row[met].add_(col[column])


def grouped(events: Tensor) -> Grouped:
    """Of coincidences in the order of their slots, as `coincidences` gives them."""
    # a stable sort keeps that order within every cell
    cell, order = (events >> 2).sort(stable=True)
    at, count = torch.unique_consecutive(cell, return_counts=True)
    return Grouped(at, count, (events & 1)[order])
