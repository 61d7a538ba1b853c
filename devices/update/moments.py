"""Moments of what pulses of random number do to a cell, exact for affine steps.

A count of mean U and variance V is taken as the binomial that has them, p = 1 − V/U: exact counts
are p = 1, Poisson counts p = 0, more scattered ones the negative binomial of p < 0. Where a pulse
multiplies the distance r to the point it saturates at by 1 + b,

    E r_N = r E(1 + b)^N,      E(1 + b)^N = (1 + p b)^(U/p)

and with noise of c times the step the second moment has b₂ = 2b + b²(1 + c²) in place of b. As
rates of a flow over t in [0, 1], which alone gives these moments exactly and stands for pulses in
random order where both directions are given,

    ρ = ln E(1 + b)^N / b = U L(p b),     L(x) = ln(1 + x)/x
    w = (ln E(1 + b₂)^N − 2 ln E(1 + b)^N)/b² = U e/(1 + p b)² · L(p b² e/(1 + p b)²)

with e = 1 + c² − p; ρ is U and w is V + c²U as b goes to 0. Nothing cancels, in float32 either.
A part of a pulse does that part of its step, never more: exact counts are whole trials and one of
p = F, the fraction that is left of them, and random ones have no less than one trial, p <= U.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

EDGE = -1 + 1e-6
"""Nearest to −1 that a pulse's 1 + p b is followed; what is then left is a millionth of the way."""

SERIES = 6
"""Terms beyond which the series of expm1(B)/B takes longer than the function."""


class Count(NamedTuple):
    """Pulses of one direction, as the trials of a binomial."""

    mean: Tensor  # U
    spread: Tensor | float = 0.0  # V/U
    p: Tensor | float = 1.0  # of one trial
    rest: Tensor | None = None  # F of exact counts; None: none is left

    @staticmethod
    def of(mean: Tensor, variance: Tensor | None) -> Count:
        """The count of these moments; without a variance it is exact."""
        if variance is None:
            return Count(mean, rest=remainders(mean)[0])
        spread = (variance / mean).nan_to_num(1.0, 1.0, 1.0)
        return Count(mean, spread, torch.minimum(1 - spread, mean))

    def trials(self) -> list[tuple[Tensor, Tensor | float]]:
        """Mean and p of the like trials, then of the last."""
        if self.rest is None:
            return [(self.mean, self.p)]
        return [(self.mean - self.rest, self.p), (self.rest, self.rest)]


def rate(b: Tensor, n: Count) -> Tensor:
    """ρ, ln E(1 + b)^N over b."""
    parts = [u * log1p_ratio((p * b).clamp(min=EDGE)) for u, p in n.trials()]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def excess(b: Tensor, n: Count, cycle: float | Tensor) -> Tensor:
    """w, of noise whose variance is `cycle` = c² squared steps a pulse."""
    out = torch.zeros_like(n.mean)
    for u, p in n.trials():
        made = (n.spread + cycle) / (1 + (p * b).clamp(min=EDGE)).square()
        out = torch.addcmul(out, u * made, log1p_ratio(p * b.square() * made))
    return out


def remainders(*means: Tensor) -> list[Tensor | None]:
    """What is left of exact counts of less than a pulse; None: nothing of any."""
    rests = [mean.frac() for mean in means]
    left = [most > 0 for most in largest(*rests)] if rests else []
    return [rest if some else None for rest, some in zip(rests, left, strict=True)]


def log1p_ratio(x: Tensor, largest: float = math.inf) -> Tensor:
    """ln(1 + x)/x, continuous at 0; as a series where |x| <= `largest` makes that exact."""
    if largest**3 / 4 <= torch.finfo(x.dtype).eps:
        return (x * (1 / 3)).sub_(0.5).mul_(x).add_(1)
    return torch.log1p(x).div_(x).nan_to_num_(nan=1.0)


def expm1_ratio(b: Tensor, largest: float = math.inf) -> Tensor:
    """expm1(b)/b, continuous at 0.

    Where |b| <= `largest` is small, a series that leaves 1 + expm1(b) within a few roundings.
    """
    rounding = 4 * torch.finfo(b.dtype).eps
    for last in range(1, SERIES):
        if largest ** (last + 2) <= rounding * math.factorial(last + 2):
            out = b * (1 / math.factorial(last + 1))
            for n in range(last, 1, -1):
                out = out.add_(1 / math.factorial(n)).mul_(b)
            return out.add_(1)
    return (torch.expm1(b) / b).nan_to_num_(nan=1.0, posinf=torch.inf)


def between(x: Tensor, y: Tensor) -> Tensor:
    """(e^x − e^y)/(x − y), the mean of e over the way from one exponent to the other."""
    return torch.exp(torch.maximum(x, y)) * expm1_ratio(-(x - y).abs())


def carried(start: Tensor, end: Tensor, z: Tensor) -> Tensor:
    """∫₀¹ q(t) e^{z (1−t)} dt for q going exponentially from `start` to `end`, both >= 0.

    It is the logarithmic mean of `end` and `start`·e^z.
    """
    tiny = torch.finfo(start.dtype).tiny
    apart = torch.log((end + tiny) / (start + tiny)) - z
    return torch.maximum(end, start * torch.exp(z)) * expm1_ratio(-apart.abs())


def largest(*tensors: Tensor) -> list[float]:
    """Largest magnitude of each, 0 of nothing; the host waits once for all of them."""
    ends: list[Tensor] = []
    for t in tensors:
        ends += t.aminmax() if t.dim() and t.numel() else [t if t.numel() else t.new_zeros(())] * 2
    numbers = torch.stack(ends).tolist()
    return [max(-low, high) for low, high in zip(numbers[::2], numbers[1::2], strict=True)]
