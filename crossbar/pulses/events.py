"""Coincidences visited one by one: cost goes with their number, not with that of the weights.

With Numba (extra `fast`) a compiled loop walks the rows, else coincidences are listed and sorted;
both find the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.host import numbers
from crossbar.pulses import jit
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


Hit = tuple[Tensor, Tensor, Tensor]
"""Flat indices of the weights that are hit, increasing, and their counts of both directions."""


def hit(parts: Sequence[Bits], dtype: torch.dtype) -> list[Hit]:
    """Of the cells of several matrices."""
    if compiled(parts):
        *found, _, ends, cuts = _struck(parts, dtype, None)
    else:
        events, ends = coincidences(parts)
        found = [*grouped(events).counts(dtype)]
        cuts = [len(found[0])]
        if len(parts) > 1:  # the host waits
            cuts = torch.searchsorted(found[0], found[0].new_tensor(ends)).tolist()
    begins = zip([0, *ends], [0, *cuts], cuts, strict=False)
    at, up, down = found
    return [(at[a:b] - start if start else at[a:b], up[a:b], down[a:b]) for start, a, b in begins]


def in_order(bits: Bits) -> Grouped:
    """Of one matrix."""
    if not compiled([bits]):
        return grouped(coincidences([bits])[0])
    at, up, down, order, *_ = _struck([bits], torch.int64, torch.int64)
    assert order is not None
    return Grouped(at, up.add_(down), order)


def compiled(parts: Sequence[Bits]) -> bool:
    """Whether the loop serves them."""
    return jit.struck is not None and parts[0].x.device.type == "cpu"


def _struck(
    parts: Sequence[Bits], dtype: torch.dtype, order: torch.dtype | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, list[int], list[int]]:
    """Places, counts, and, if asked for, the coincidences in their order.

    Then the ends of matrices, in cells and in places.
    """
    groups: list[tuple[Any, Any, int]] = []
    ends: list[int] = []
    cuts: list[int] = []
    most = events = end = 0
    assert jit.struck is not None
    for bits in parts:
        x, d = (b.flatten(1, -2) if b.dim() > 2 else b.unsqueeze(1) for b in (bits.x, bits.d))
        cells = x.shape[2] * d.shape[2]
        fired = [b.count_nonzero(-1).double() for b in (x, d)]
        for k, met in enumerate((fired[0] * fired[1]).sum(0).numpy()):
            rows, columns = x[:, k].T.contiguous(), d[:, k].contiguous()
            groups.append((rows.numpy(), columns.numpy(), end))
            most, events, end = most + min(cells, int(met)), events + int(met), end + cells
        ends.append(end)
    like = parts[0].x
    at, up, down = (like.new_empty(most, dtype=t) for t in (torch.int64, dtype, dtype))
    found = None if order is None else like.new_empty(events, dtype=order)
    into = [None if t is None else t.numpy() for t in (at, up, down, found)]
    begin = done = 0
    for rows, columns, cell in groups:
        if cell == ends[len(cuts)]:
            cuts.append(begin)
        begin, done = jit.struck(rows, columns, *into, begin, done, cell)
    cuts.append(begin)
    return at[:begin], up[:begin], down[:begin], found, ends, cuts


def coincidences(parts: Sequence[Bits]) -> tuple[Tensor, list[int]]:
    """4 · cell + negative bits of its lines, of every coincidence in the order of the slots.

    Every column bit meets the row bits of its slot. Cells of several matrices count on, from each
    to the next; their ends are returned too. Cost: the bits, and the coincidences.
    """
    x, d = (torch.cat([bits[k].flatten() for bits in parts]) for k in (0, 1))
    each = [[b.count_nonzero(-1) for b in bits[:2]] for bits in parts]
    told = [[rows.sum(), columns.sum(), (rows * columns).sum()] for rows, columns in each]
    sums = zip(*numbers([torch.stack(counts) for counts in told]), strict=True)
    n_x, n_d, events = (int(sum(each)) for each in sums)
    at_x, at_d = places(x, n_x), places(d, n_d)
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
    column = torch.arange(n_d, device=x.device).repeat_interleave(fired, output_size=events)
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
