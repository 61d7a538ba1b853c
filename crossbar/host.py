"""Numbers that the host asks of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def numbers(asked: Sequence[Tensor]) -> list[list[float]]:
    """Of 1-D tensors; the host waits once for all of them, once more for each further device."""
    found: list[list[float]] = [[] for _ in asked]
    for device in {t.device for t in asked}:
        own = [k for k, t in enumerate(asked) if t.device == device]
        told = torch.cat([asked[k].double() for k in own]).tolist()
        for k in own:
            found[k], told = told[: len(asked[k])], told[len(asked[k]) :]
    return found
