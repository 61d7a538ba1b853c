"""Coincidences visited one by one: cost goes with their number, not with that of the weights.

The host does it, wherever the matrix is: bits cross once, the weights that are hit cross back. With
Numba (extra `fast`) a compiled loop walks the rows, else coincidences are listed and sorted; both
find the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.pulses import jit
from crossbar.pulses.bits import Bits


class Grouped(NamedTuple):
    """Coincidences cell by cell, those of a cell in the order of their slots."""

    at: Tensor  # (cells,) int64 increasing flat indices in the matrix's shape
    n: Tensor  # (cells,) int64 coincidences of each, >= 1
    up: Tensor  # (coincidences,) int64, 1 where it potentiates


Hit = tuple[Tensor, Tensor, Tensor]
"""Flat indices of the weights that are hit, increasing, and their counts of both directions."""


def hit(parts: Sequence[Bits], dtype: torch.dtype) -> list[Hit]:
    """Of the cells of several matrices; the host waits once for the bits of all."""
    found = []
    for bits, host in zip(parts, _here(parts), strict=True):
        if jit.struck is None:
            counts = [torch.from_numpy(t) for t in tallied(coincidences(host))]
        else:
            counts = _struck(host, dtype, None)[:3]
        place = bits.x.device
        up, down = (t.to(place, dtype) for t in counts[1:])
        found.append((counts[0].to(place), up, down))
    return found


def in_order(bits: Bits) -> Grouped:
    """Of one matrix."""
    (host,) = _here([bits])
    if jit.struck is None:
        found = grouped(coincidences(host))
    else:
        at, up, down, order = _struck(host, torch.int64, torch.int64)
        found = Grouped(at, up.add_(down), order)
    return Grouped(*(t.to(bits.x.device) for t in found))


def _here(parts: Sequence[Bits]) -> list[Bits]:
    """The same bits on the host."""
    if parts[0].x.device.type == "cpu":
        return list(parts)
    lines = [b for bits in parts for b in bits[:2]]
    flat = torch.cat([b.reshape(-1) for b in lines]).cpu()
    sizes = [b.numel() for b in lines]
    here = [t.view(b.shape) for t, b in zip(flat.split(sizes), lines, strict=True)]
    return [Bits(x, d, bits.slots) for x, d, bits in zip(here[::2], here[1::2], parts, strict=True)]


def _struck(bits: Bits, dtype: torch.dtype, order: torch.dtype | None) -> list[Any]:
    """Places, counts, and, if asked for, the coincidences in their order, by the compiled loop."""
    assert jit.struck is not None and jit.met is not None
    x, d = (b.numpy().reshape(len(b), -1, b.shape[-1]) for b in bits[:2])
    cells = x.shape[2] * d.shape[2]
    pairs = ((x[:, k].T, d[:, k]) for k in range(x.shape[1]))
    lines = [tuple(map(np.ascontiguousarray, pair)) for pair in pairs]
    met = [jit.met(*pair) for pair in lines]
    kinds = (torch.int64, dtype, dtype)
    most = sum(min(cells, events) for events in met)
    found = [torch.empty(most, dtype=kind) for kind in kinds]
    events = None if order is None else torch.empty(sum(met), dtype=order)
    into = [None if t is None else t.numpy() for t in (*found, events)]
    begin = done = 0
    for k, pair in enumerate(lines):
        begin, done = jit.struck(*pair, *into, begin, done, k * cells)
    return [*(t[:begin] for t in found), events]


def coincidences(bits: Bits) -> Any:
    """4 · cell + negative bits of its lines, of every coincidence in the order of the slots.

    Every column bit meets the row bits of its slot; int64. Cost: the bits, and the coincidences.
    """
    x, d = (b.reshape(-1, b.shape[-1]).numpy() for b in bits[:2])  # groups of a slot apart
    (*lead, rows), cols = bits.x.shape[1:], bits.d.shape[-1]
    at_x, at_d = np.flatnonzero(x != 0), np.flatnonzero(d != 0)
    slot_x, slot_d = at_x // rows, at_d // cols
    fired = np.bincount(slot_x, minlength=len(x))
    cell = (at_x - slot_x * rows) * (4 * cols) + (x.reshape(-1)[at_x] < 0)
    if lead:
        cell += slot_x % math.prod(lead) * (4 * rows * cols)
    column = (at_d - slot_d * cols) * 4 + (d.reshape(-1)[at_d] < 0)
    each = fired[slot_d]
    start = (fired.cumsum() - fired)[slot_d] - (each.cumsum() - each)
    met = np.repeat(start, each)
    met += np.arange(len(met))
    return cell[met] + np.repeat(column, each)


def tallied(events: Any) -> tuple[Any, Any, Any]:
    """Weights that are hit, and their counts, of coincidences as `coincidences` gives them."""
    wide = not len(events) or events.max() >= 2**31
    keys = np.sort(events if wide else events.astype(np.int32))  # half the bytes, half the time
    at = keys >> 2
    begin = np.flatnonzero(np.diff(at, prepend=-1))
    n = np.diff(begin, append=len(at))
    up = np.add.reduceat(keys & 1, begin) if len(at) else n
    return at[begin].astype(np.int64), up, n - up


def grouped(events: Any) -> Grouped:
    """Of coincidences in the order of their slots, as `coincidences` gives them."""
    # their place in that order is a part of what is sorted: no second array need be moved along
    bits = max(len(events) - 1, 1).bit_length() + 1
    keys = np.sort(((events >> 2) << bits) + np.arange(0, 2 * len(events), 2) + (events & 1))
    at, n = np.unique(keys >> bits, return_counts=True)
    return Grouped(*(torch.from_numpy(t) for t in (at, n, keys & 1)))
