"""Numbers that the host asks of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def numbers(asked: Sequence[Sequence[Tensor]]) -> list[list[Any]]:
    """Of groups of tensors, float64 arrays of their shapes.

    The host waits once for all of them, once more for each further device.
    """
    found: list[list[Any]] = [[] for _ in asked]
    for device in {group[0].device for group in asked}:
        own = [k for k, group in enumerate(asked) if group[0].device == device]
        if device.type == "cpu":  # where nobody waits, and calls cost more than their numbers
            for k in own:
                found[k] = [np.asarray(_plain(t).numpy(), np.float64) for t in asked[k]]
            continue
        tensors = [t for k in own for t in asked[k]]
        told = torch.cat([t.detach().reshape(-1) for t in tensors]).double().cpu().numpy()
        begin = 0
        for k in own:
            for t in asked[k]:
                end = begin + t.numel()
                found[k].append(told[begin:end].reshape(t.shape))
                begin = end
    return found


def _plain(t: Tensor) -> Tensor:
    """As NumPy can hold it."""
    t = t.detach()
    return t.double() if t.dtype in (torch.float16, torch.bfloat16) else t
