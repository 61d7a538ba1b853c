"""Coincidences visited one by one: cost goes with their number, not with that of the weights."""

from __future__ import annotations

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


def coincidences(bits: Bits) -> Tensor:
    """4 · cell + negative bits of its lines, of every coincidence in the order of the slots.

    Every column bit meets the row bits of its slot. Cost: the bits, and the coincidences.
    """
    rows, cols = bits.x.shape[-1], bits.d.shape[-1]
    x, d = bits.x.view(-1), bits.d.view(-1)
    at_x, at_d = places(x), places(d)
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
