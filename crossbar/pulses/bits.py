"""Random bits of lines, and how often those of rows and columns coincide."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.pulses.trains import Drive

BASE = 256
"""Digits by which one product counts three kinds of coincidences, each below it."""


class Bits(NamedTuple):
    """Signed bits of the lines, int8, 0 where a line does not fire."""

    x: Tensor  # (slots, ..., rows)
    d: Tensor  # (slots, ..., cols)
    slots: Tensor  # (slots,) int64 the vector of each slot


def drawn(drive: Drive, generator: torch.Generator | None) -> Bits:
    """The trains of all vectors, those of the first first."""
    xs, ds = drive.op.vectors(drive.x, drive.d)
    length = drive.length.flatten().long()
    slots = torch.arange(len(length), device=length.device)
    if drive.slots > len(length):
        slots = slots.repeat_interleave(length, output_size=drive.slots)
    lines = xs * drive.by_x, ds * drive.by_d
    return Bits(*(_bits(p, slots, drive.slots, generator) for p in lines), slots)


def _bits(p: Tensor, slots: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Signed bits int8 (n, ...), one with probability |p| in each slot of a vector.

    A random word of 32 bits fires up to the threshold: the probability is rounded to 2⁻³².
    """
    last = (p.abs().double() * 2**32).sub_(2**31 + 1).clamp_(-(2**31), 2**31 - 1)
    last, sign = last.to(torch.int32), p.sign().to(torch.int8)
    if n > len(p):
        last, sign = last.index_select(0, slots), sign.index_select(0, slots)
    words = torch.empty(-(-last.numel() // 2), dtype=torch.int64, device=p.device)
    words.random_(-(2**63), None, generator=generator)
    random = words.view(torch.int32)[: last.numel()].view(last.shape)
    return (random <= last).view(torch.int8).mul_(sign)


def counted(bits: Bits, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Potentiation and depression counts (..., rows, cols) of all coincidences.

    One product counts both: with the negative bits of rows and columns as 256,

        Σ (x⁺ + 256 x⁻)(δ⁺ + 256 δ⁻) = Σ x⁺δ⁺ + 256 Σ (x⁺δ⁻ + x⁻δ⁺) + 256² Σ x⁻δ⁻

    whose three digits are exact in float32 as long as no more than 255 slots are added up.
    """
    up: Tensor | None = None
    down: Tensor | None = None
    for start in range(0, len(bits.x), BASE - 1):
        x, d = (b[start : start + BASE - 1] for b in (bits.x, bits.d))
        total = _digits(x).movedim(0, -1) @ _digits(d).movedim(0, -2)
        more_up, more_down = digits(total.to(torch.int32))
        up = more_up if up is None else up.add_(more_up)
        down = more_down if down is None else down.add_(more_down)
    assert up is not None and down is not None
    return up.to(dtype), down.to(dtype)


def _digits(bits: Tensor) -> Tensor:
    """1 for a positive bit, `BASE` for a negative one."""
    return torch.where(bits < 0, float(BASE), bits.float())


def digits(total: Tensor) -> tuple[Tensor, Tensor]:
    """Potentiation and depression counts of the digits of `counted`, int32."""
    up = (total >> 8) & (BASE - 1)
    return up, (total & (BASE - 1)).add_(total >> 16)
