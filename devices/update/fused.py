"""The closed form of `devices.update.closed` in one pass over the cells, by Numba (extra `fast`).

Same equations, float32, one loop instead of some forty passes: a third of the time. It serves cells
whose pulses are fine (|b| <= `FINE`) and bend little (|B| <= `NEAR`); logarithm and exponential are
series there, exact to float32. Without Numba, in float64 and on other devices the torch path does
the same; the two differ by roundings and, to first order in b, in the noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from devices.blocks import BLOCK
from devices.draw import Draw
from devices.part import Pulses
from devices.update import jit
from devices.update.closed import FINE, NEAR

if TYPE_CHECKING:
    from devices.update.affine import Affine
    from devices.update.clip import Bound

LEAST = 256
"""Cells from which one loop is faster than the passes, calls included."""

TOGETHER = BLOCK if jit.near is None else 1 << 19
"""Cells of an array that an affine law takes at once: one loop leaves no temporaries behind."""


def fits(g: Tensor, pulses: Pulses, size: float) -> bool:
    """Whether the loop serves these cells."""
    if jit.near is None or g.dtype != torch.float32 or g.device.type != "cpu" or g.numel() < LEAST:
        return False
    if size > FINE or g.requires_grad:
        return False
    return size * float(sum(t.numpy().max() for t in (pulses.up, pulses.down))) <= NEAR


def near(
    g: Tensor,
    k: Affine,
    at: tuple[Bound, Bound],
    pulses: Pulses,
    draw: Draw,
    cycle: float,
    add: float,  # [S²]
) -> Tensor:
    """Conductances [S] after the pulses, as `devices.update.closed.moved` gives them."""
    assert jit.near is not None
    up, down, up_var, down_var, z = pulses
    counted = up_var is not None and z is None
    normal = draw.normal(g.shape) if cycle or add or counted else None
    out = torch.empty_like(g, memory_format=torch.contiguous_format)
    lines = (k.a_up, k.a_down, k.b_up, k.b_down, *at)
    counts = (up, down, up_var, down_var, None if up_var is None else z)
    jit.near(
        _flat(g),
        _flat(1.0 if k.k is None else k.k),
        *(_flat(0.0 if t is None else t) for t in lines),
        *(None if t is None else _flat(t.expand_as(g)) for t in counts),
        None if normal is None else _flat(normal),
        _flat(cycle),
        _flat(add),
        _flat(out),
    )
    return out


def _flat(t: Tensor | float) -> Any:
    """A number for what is alike, a contiguous array for what differs."""
    if not isinstance(t, Tensor):
        return np.float32(t)
    return t.detach().contiguous().view(-1).numpy() if t.dim() else np.float32(t.detach().numpy())
