"""Roots of functions of every cell at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOST = 60
"""Evaluations; a bracket is halved at least every other one."""

CLOSE = 1e-13
"""Width of a bracket, relative to what it began with, that counts as found."""


def root(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where f, which rises, crosses 0 between `low` and `high`; the nearer end where it does not.

    Chandrupatla's method: inverse quadratic interpolation where three points allow it, else
    bisection, for every element by itself.

    Args:
        f: elementwise, of float64 tensors of one shape.
        low: (...) lower ends.
        high: (...) upper ends.

    Source: Chandrupatla, Adv. Eng. Software 28, 145 (1997), doi:10.1016/S0965-9978(96)00051-8.
    """
    a, b = high, low
    fa, fb = f(a), f(b)
    ends = torch.where(fb >= 0, b, a)
    inside = (fb < 0) & (fa > 0)
    c, fc = b, fb
    wide = (high - low).abs()
    t = torch.full_like(a, 0.5)
    for _ in range(MOST):
        x = a + t * (b - a)
        fx = f(x)
        same = fx.sign() == fa.sign()
        c, fc = torch.where(same, a, b), torch.where(same, fa, fb)
        b, fb = torch.where(same, b, a), torch.where(same, fb, fa)
        a, fa = x, fx
        span = (b - a).abs()
        if not bool((inside & (fa != 0) & (span > CLOSE * wide)).any()):
            break
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        quadratic = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        step = fa / (fb - fa) * fc / (fb - fc)
        step = step + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        least = 0.5 * CLOSE * wide / span.clamp(min=1e-300)
        t = torch.where(quadratic & step.isfinite(), step, 0.5)
        t = t.clamp(min=0).maximum(least).minimum(1 - least)
        t = torch.where(least > 0.5, 0.5, t)
    best = torch.where(fa.abs() < fb.abs(), a, b)
    return torch.where(inside, best, ends)
