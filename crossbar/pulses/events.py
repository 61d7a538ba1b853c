"""Coincidences visited one by one: cost goes with their number, not with that of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.pulses.bits import Bits, places


class Grouped(NamedTuple):
    """Coincidences cell by cell, those of a cell in the order of their slots."""

    at: Tensor  # (cells,) int64 increasing flat indices in the matrix's shape
    n: Tensor  # (cells,) int64 coincidences of each, >= 1
    up: Tensor  # (coincidences,) int64, 1 where it potentiates

    def counts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The cells with their potentiation and depression counts."""
        risen = torch.cat([self.up.new_zeros(1), self.up.cumsum(0)])
        end = self.n.cumsum(0)
        up = risen[end].sub_(risen[end - self.n])
        return self.at, up.to(dtype), (self.n - up).to(dtype)


def coincidences(parts: Sequence[Bits]) -> tuple[Tensor, list[int]]:
    """4 · cell + negative bits of its lines, of every coincidence in the order of the slots.

    Every column bit meets the row bits of its slot. Cells of several matrices count on, from each
    to the next; their ends are returned too. Cost: the bits, and the coincidences.
    """
    x, d = (torch.cat([bits[k].flatten() for bits in parts]) for k in (0, 1))
    at_x, at_d = places(x), places(d)
    # slots of the groups of a convolution count apart: where the lines of each begin among all
    # bits, how many columns a row has, and its first cell
    first_x, first_d, width, cell = [], [], [], []
    begin_x = begin_d = end = 0
    ends = []
    for bits in parts:
        *lead, rows = bits.x.shape[1:]
        cols, groups = bits.d.shape[-1], math.prod(lead)
        slot = np.arange(len(bits.x) * groups)
        first_x.append(begin_x + slot * rows)
        first_d.append(begin_d + slot * cols)
        width.append(np.full(len(slot), cols))
        cell.append(end + slot % groups * (rows * cols))
        begin_x, begin_d = begin_x + bits.x.numel(), begin_d + bits.d.numel()
        end += groups * rows * cols
        ends.append(end)
    starts, of_cols, wide = (
        torch.from_numpy(np.concatenate(t)).to(x.device) for t in (first_x, first_d, width)
    )
    base = torch.from_numpy(np.concatenate(cell)).to(x.device) - starts * wide
    slot_x = torch.searchsorted(starts, at_x, right=True).sub_(1)
    slot_d = torch.searchsorted(of_cols, at_d, right=True).sub_(1)
    begin = torch.searchsorted(at_x, starts)
    fired = torch.diff(begin, append=begin.new_full((1,), len(at_x)))[slot_d]
    row = (at_x * wide[slot_x] + base[slot_x]) * 4 + (x[at_x] < 0)
    col = (at_d - of_cols[slot_d]) * 4 + (d[at_d] < 0)
    start = begin[slot_d] - fired.cumsum(0) + fired
    column = torch.arange(len(at_d), device=x.device).repeat_interleave(fired)
    met = torch.arange(len(column), device=x.device).add_(start[column])
    return row[met].add_(col[column]), ends


def grouped(events: Tensor) -> Grouped:
    """Of coincidences in the order of their slots, as `coincidences` gives them."""
    # their place in that order is a part of what is sorted: no second array need be moved along
    bits = max(len(events) - 1, 1).bit_length() + 1
    turn = torch.arange(0, 2 * len(events), 2, device=events.device)
    keys = sorted_(((events >> 2) << bits) + turn + (events & 1))
    at, n = torch.unique_consecutive(keys >> bits, return_counts=True)
    return Grouped(at, n, keys & 1)


def sorted_(keys: Tensor) -> Tensor:
    """Increasing; NumPy sorts numbers alone faster."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy()))
    return keys.sort().values
