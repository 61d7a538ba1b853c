"""Bounds that stop a moving cell."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

Bound = Tensor | float

LOOKS = 1 << 15
"""Cells of a CPU from which asking whether all lie inside costs less than what it saves."""


@functools.cache
def held(bound: float, dtype: torch.dtype) -> float:
    """The bound as cells of this dtype hold it [S]."""
    return float(torch.tensor(bound, dtype=dtype))


def clip_move(
    before: Tensor,  # (...) [S]
    after: Tensor,  # (...) [S]
    low: Bound,  # [S]
    high: Bound,  # [S]
    out: Tensor | None = None,
) -> Tensor:
    """`after`, but never beyond the bounds nor, for a cell outside them, further outside."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        floor = torch.minimum(before, _like(before, low))
        ceiling = torch.maximum(before, _like(before, high))
        return torch.clamp(after, floor, ceiling, out=out)
    low, high = held(low, before.dtype), held(high, before.dtype)  # as cells hold them
    if before.device.type == "cpu" and before.numel() >= LOOKS:
        least, most = torch.stack(before.aminmax()).tolist()
        if least >= low and most <= high:  # no cell lies outside: one pass, not three
            return torch.clamp(after, low, high, out=out)
    return torch.clamp(after, before.clamp(max=low), before.clamp(min=high), out=out)


def within(g: Tensor, low: Bound, high: Bound) -> Tensor:
    """Conductances [S] within the bounds [S]."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return torch.clamp(g, _like(g, low), _like(g, high))
    return g.clamp(low, high)


def _like(g: Tensor, bound: Bound) -> Tensor:
    # a float that passed through float32 would lie beyond the bound of a float64 cell
    return bound.to(g) if isinstance(bound, Tensor) else g.new_tensor(bound)
