"""Pulses of coarse cells, one after another: random counts are drawn and put in random order.

Where one pulse crosses a good part of the way to its bound, what a cell ends at depends on the
order of its pulses and is nowhere near a normal distribution: no mean and variance say it. The last
pulses decide, so that a call costs at most `ROUNDS` of them whatever the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses
from devices.update.moments import log1p_ratio

ROUNDS = 64
"""Last pulses that are given one by one: 3e-5 of what was before them is left."""

COARSE = 0.15
"""Part of the way to its bound above which random pulses of a cell are given one by one."""

EXACT = 0.25
"""The same of exact counts: finer ones are evenly interleaved."""

SPLIT = 128.0
"""Parts of a uniform number that is made two: the second is the place within one of them."""

MANY = 1e6
"""Trials of which a part more or less is nothing."""

UNDERFLOW = -600.0
"""Logarithm of the chance of no pulse at all below which a count is as good as normal."""


def limit(pulses: Pulses) -> float:
    """Part of the way to its bound above which these pulses of a cell are given one by one."""
    return EXACT if pulses.up_var is None else COARSE


def rounds(
    one: Callable[[Tensor, Tensor], Tensor],
    many: Callable[[Tensor, Pulses], Tensor],
    g: Tensor,  # (...) [S]
    pulses: Pulses,
    draw: Draw,
) -> Tensor:
    """Conductances [S] after the pulses, the last of them singly and in random order.

    Args:
        one: conductances after one pulse each, up where told, else down.
        many: conductances after exact counts, for those before the last and for parts of a pulse.
        g: conductances.
        pulses: counts or their moments, in the cells' dtype.
        draw: of the counts, their order and whatever the two functions draw.
    """
    up, down, rest = drawn_counts(pulses, draw)
    mixed = bool(((up > 0) & (down > 0)).any())
    turns = []
    for _ in range(min(int((up + down).max()), ROUNDS) if g.numel() else 0):
        left = up + down
        rising = up > 0
        if mixed:
            rising = draw.uniform(g.shape) * left < up
        given = left > 0
        up, down = up - (rising & given).to(up), down - (given & ~rising).to(down)
        turns.append((rising, given))
    if bool((up + down > 0).any()):
        g = many(g, Pulses(up, down))
    for rising, given in turns:
        g = torch.where(given, one(g, rising), g)
    if bool((rest.up + rest.down > 0).any()):
        g = torch.where(rest.up + rest.down > 0, many(g, rest), g)
    return g


def drawn_counts(pulses: Pulses, draw: Draw) -> tuple[Tensor, Tensor, Pulses]:
    """Whole counts as drawn from their moments, and what is left of them of less than a trial."""
    up, down, up_var, down_var, z = pulses
    counts: list[Tensor] = []
    rests: list[tuple[Tensor, Tensor | None]] = []
    shared = None if up_var is None and down_var is None else z
    one, other = _pair(shared, up, draw) if up_var is not None or down_var is not None else (up, up)
    for mean, variance, u in ((up, up_var, one), (down, down_var, other)):
        if variance is None:
            counts.append(mean.floor())
            rests.append((mean.frac(), None))
            continue
        part = mean * (1 - mean) > variance * (1 + 1e-4)  # less scattered than any whole count
        counts.append(torch.where(part, 0.0, _drawn(mean.double(), variance.double(), u).to(mean)))
        rests.append((torch.where(part, mean, 0.0), torch.where(part, variance, 0.0)))
    (first, first_var), (second, second_var) = rests
    return counts[0], counts[1], Pulses(first, second, first_var, second_var, z)


def _pair(z: Tensor | None, like: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Two independent uniform numbers, of a shared normal where there is one.

    The larger goes to up pulses where z > 0: exchanging the directions and the sign of z, as the
    device across a pair does, exchanges the two.
    """
    if z is None:
        double = draw.to(torch.float64)
        return double.uniform(like.shape), double.uniform(like.shape)
    size = torch.erf(z.double().abs() / math.sqrt(2))
    first, second = size, (size * SPLIT).frac()
    high, low = torch.maximum(first, second), torch.minimum(first, second)
    return torch.where(z > 0, high, low), torch.where(z > 0, low, high)


def _drawn(mean: Tensor, variance: Tensor, u: Tensor) -> Tensor:
    """The count at the quantile u: binomial trials and, as they are not whole, one of its own.

    w = ⌊U/p⌋ trials of q and one of F = U − w q have mean and variance where (w + w²) q² −
    2 w U q + V − U + U² = 0. The number of the w comes of Panjer's recursion of its chances, which
    is that of Poisson and negative binomial counts too; the place of u within its chance decides
    the last trial.
    """
    p = 1 - variance / mean
    trials = (mean / p + 1e-6).floor().clamp(min=1)
    few = (p > 0) & (trials < MANY)
    root = (mean * trials).square() - trials * (1 + trials) * (variance - mean + mean.square())
    q = (mean * trials + root.clamp(min=0).sqrt()) / (trials * (1 + trials))
    p = torch.where(few, q, p).nan_to_num(0.0, 0.0, 0.0).clamp(max=1 - 1e-9)
    like = torch.where(few, trials * p, mean)  # mean of the trials alike
    none = -like * log1p_ratio(-p)  # ln P(0)
    normal = (mean + variance.sqrt() * torch.special.ndtri(u)).round().clamp(min=0)
    counted = none > UNDERFLOW
    chance = torch.where(counted, none.exp(), 1.0)
    below, count = chance, torch.zeros_like(mean)
    most = float((mean + 40 * variance.sqrt()).masked_fill(~counted, 0).max()) + 40
    k = 0
    while k < most and bool((more := below < u).any()):
        k += 1
        chance = torch.where(more, chance * (((like + p) / k - p) / (1 - p)).clamp(min=0), chance)
        count, below = count + more, torch.where(more, below + chance, below)
    last = below - u < (mean - like) * chance
    return torch.where(counted, count + last.to(count), normal)
