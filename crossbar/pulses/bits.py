"""Random bits of lines, and how often those of rows and columns coincide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.pulses import jit
from crossbar.pulses.trains import Drive

BASE = 256
"""Digits by which one product counts three kinds of coincidences, each below it."""


class Bits(NamedTuple):
    """Signed bits of the lines, int8, 0 where a line does not fire."""

    x: Tensor  # (slots, ..., rows)
    d: Tensor  # (slots, ..., cols)
    slots: Tensor  # (slots,) int64 the vector of each slot


def drawn(drives: Sequence[Drive], generator: torch.Generator | None) -> list[Bits]:
    """The trains of the vectors of each drive, those of the first vector first."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for drive in drives:
        vectors, place = drive.op.vectors(drive.x, drive.d), drive.x.device
        x, d = (
            (v * (by * 2**31)).clamp_(1 - 2**31, 2**31 - 1).to(torch.int32)
            for v, by in zip(vectors, (drive.by_x, drive.by_d), strict=True)
        )
        vector = np.arange(len(drive.turns))
        slots = torch.from_numpy(np.repeat(vector, drive.turns)).to(place)
        if len(slots) > len(vector):
            x, d = x.index_select(0, slots), d.index_select(0, slots)
            if drive.length.numel() > len(vector):  # trains of single matrices that end before
                first = drive.turns.cumsum() - drive.turns
                turn = torch.arange(len(slots), device=place)
                turn -= torch.from_numpy(np.repeat(first, drive.turns)).to(place)
                x *= turn.view(-1, *(1,) * (x.dim() - 1)) < drive.length.index_select(0, slots)
        found.append((x, d, slots))
    thresholds = [t for k in (0, 1) for t in (part[k] for part in found)]
    bits = fires(torch.cat([t.flatten() for t in thresholds]), generator)
    each = bits.split([t.numel() for t in thresholds])
    shaped = [b.view(t.shape) for b, t in zip(each, thresholds, strict=True)]
    n = len(found)
    return [Bits(shaped[k], shaped[n + k], found[k][2]) for k in range(n)]


def fires(threshold: Tensor, generator: torch.Generator | None) -> Tensor:
    """Signed bits int8: the sign of a threshold with probability |threshold|/2³¹, else 0."""
    random = torch.empty_like(threshold).random_(generator=generator)  # 0 … 2³¹ − 1
    up, down = random < threshold, random < -threshold
    return up.view(torch.int8).sub_(down.view(torch.int8))


def counted(bits: Bits, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Potentiation and depression counts (..., rows, cols) of all coincidences."""
    up: Tensor | None = None
    down: Tensor | None = None
    for start in range(0, len(bits.x), BASE - 1):
        part = Bits(*(b[start : start + BASE - 1] for b in bits))
        more_up, more_down = digits(packed(part), dtype)
        up = more_up if up is None else up.add_(more_up)
        down = more_down if down is None else down.add_(more_down)
    assert up is not None and down is not None
    return up, down


def hits(bits: Bits, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Flat indices of the weights that are hit, and their counts."""
    if len(bits.x) < BASE:
        total = packed(bits).view(-1)
        at = places(total)
        up, down = digits(total[at], dtype)
        return at, up, down
    up, down = (count.view(-1) for count in counted(bits, dtype))
    at = places(up + down)
    return at, up[at], down[at]


def packed(bits: Bits) -> Tensor:
    """All coincidences (..., rows, cols) of fewer than `BASE` slots, as three digits.

    One product counts them; with negative bits of rows and columns as 256,

        Σ (x⁺ + 256 x⁻)(δ⁺ + 256 δ⁻) = Σ x⁺δ⁺ + 256 Σ (x⁺δ⁻ + x⁻δ⁺) + 256² Σ x⁻δ⁻

    which float32 holds exactly: no digit reaches 256.
    """
    x, d = (torch.where(b < 0, float(BASE), b.float()) for b in (bits.x, bits.d))
    return x.movedim(0, -1) @ d.movedim(0, -2)


def digits(total: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Potentiation and depression counts."""
    if jit.split is not None and total.device.type == "cpu":
        total = total.contiguous()
        up, down = (torch.empty_like(total, dtype=dtype) for _ in range(2))
        jit.split(*(t.view(-1).numpy() for t in (total, up, down)))
        return up, down
    whole = total.to(torch.int32)
    up = (whole >> 8).bitwise_and_(BASE - 1)
    return up.to(dtype), (whole & (BASE - 1)).add_(whole >> 16).to(dtype)


def places(t: Tensor) -> Tensor:
    """Flat indices of what is not zero; NumPy finds it faster."""
    if t.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero((t != 0).numpy()))
    return t.view(-1).nonzero()[:, 0]
