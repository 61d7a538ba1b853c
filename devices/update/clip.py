"""Bounds that stop a moving cell."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

Bound = Tensor | float


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
        floor = torch.minimum(before, torch.as_tensor(low).to(before))
        ceiling = torch.maximum(before, torch.as_tensor(high).to(before))
        return torch.clamp(after, floor, ceiling, out=out)
    low, high = held(low, before.dtype), held(high, before.dtype)  # as cells hold them
    least, most = torch.stack(before.aminmax()).tolist() if before.numel() else (low, high)
    if least >= low and most <= high:
        return torch.clamp(after, low, high, out=out)  # no cell lies outside: one pass, not three
    return torch.clamp(after, before.clamp(max=low), before.clamp(min=high), out=out)
