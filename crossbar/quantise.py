"""Uniform quantisation."""

from __future__ import annotations

import torch
from torch import Tensor

from devices._check import positive, whole


def levels(bits: int, *, signed: bool = True) -> int:
    """Number of steps from 0 to full scale: 2^(b−1) − 1 signed mid-tread, 2^b − 1 unsigned."""
    return (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1


def quantize(
    x: Tensor,
    bits: int,
    full_scale: float | Tensor = 1.0,
    *,
    signed: bool = True,
    dither: Tensor | None = None,
) -> Tensor:
    """`x` rounded to the nearest code of a `bits`-bit converter and clipped to ±full_scale.

    Signed codes are 2^b − 1 mid-tread levels from −full_scale to +full_scale (zero is a code),
    unsigned ones 2^b levels from 0; one bit is {−1, +1} or {0, 1} times full scale.

    Args:
        x: values, any shape.
        bits: 1 to 24.
        full_scale: largest magnitude, > 0, broadcastable to x.
        signed: whether codes are symmetric about zero.
        dither: uniform numbers in [−0.5, 0.5) of x's shape for stochastic rounding; None rounds
            to the nearest code.

    Raises:
        TypeError, ValueError: bits or full_scale out of range.
    """
    whole("bits", bits, 1, 24)
    if not isinstance(full_scale, Tensor):
        positive("full_scale", full_scale)
    if signed and bits == 1:
        ones = torch.ones_like(x)
        return torch.where(x < 0, -ones, torch.where(x >= 0, ones, x)) * full_scale  # NaN stays
    n = levels(bits, signed=signed)
    step = full_scale / n
    code = x / step if isinstance(step, Tensor) else x * (n / full_scale)
    code = (code if dither is None else code + dither).round_()
    return code.clamp(-n if signed else 0, n).mul_(step)


def balanced(length: int, limit: int | None) -> list[tuple[int, int]]:
    """[start, stop) of the fewest parts of `length` none longer than `limit`, sizes within one."""
    if limit is None or length <= limit:
        return [(0, length)]
    parts = -(-length // limit)
    cuts = [i * length // parts for i in range(parts + 1)]
    return list(zip(cuts[:-1], cuts[1:], strict=True))
