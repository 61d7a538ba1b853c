"""Integration of one state variable of every cell, each with steps of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOST = 200
"""Steps after which a state that still moves is left where it is (it slides along a threshold)."""

# The pair of Dormand & Prince: its stages, the last of them the fifth-order step, and the error's
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def integrate(speed: Callable[[Tensor], Tensor], x: Tensor, tolerance: float) -> Tensor:
    """States in 0 … 1 after dx/dt = speed(x) for unit time; they stop at the ends.

    Dormand & Prince's fifth-order pair with the step of every cell chosen for its own error. A cell
    is done early where it stands still: at an end that its speed presses it against, or as close to
    a point of rest as the tolerance.

    Args:
        speed: of states in 0 … 1, elementwise; never asked beyond.
        x: float64 states in 0 … 1.
        tolerance: error allowed in one step.

    Source: Dormand & Prince, J. Comput. Appl. Math. 6, 19 (1980), doi:10.1016/0771-050X(80)90013-3.
    """

    def at(y: Tensor) -> Tensor:
        return speed(y.clamp(0, 1))

    def still(y: Tensor, now: Tensor, turn: Tensor, past: Tensor) -> Tensor:
        """At rest: turn/past is the slope of the speed, which falls over the way ahead."""
        resting = (turn * past <= 0) & (now.abs() * past.abs() <= tolerance * turn.abs())
        return (now == 0) | resting | ((y <= 0) & (now <= 0)) | ((y >= 1) & (now >= 0))

    first = at(x)
    h = (0.1 / first.abs().clamp(min=1e-30)).clamp(max=1.0)
    probe = (x + h * first).clamp(0, 1)
    turn, past = at(probe) - first, probe - x
    h = h / (turn.abs() / first.abs().clamp(min=1e-30)).clamp(min=1.0)
    left = torch.where(still(x, first, turn, past), 0.0, torch.ones_like(x))
    h = torch.minimum(h, left)
    for _ in range(MOST):
        if not bool((left > 0).any()):
            break
        slopes = [first]
        for stage in STAGES:
            moved = x
            for a, k in zip(stage, slopes, strict=True):
                if a:
                    moved = torch.addcmul(moved, h, k, value=a)
            slopes.append(at(moved))
        error = torch.zeros_like(x)
        for e, k in zip(ERROR, slopes, strict=True):
            if e:
                error = torch.add(error, k, alpha=e)
        error = error.mul_(h).abs_()
        taken = error <= tolerance
        moved, now = moved.clamp(0, 1), slopes[-1]
        done = taken & still(moved, now, now - first, moved - x)
        x, first = torch.where(taken, moved, x), torch.where(taken, now, first)
        left = torch.where(done, 0.0, torch.where(taken, left - h, left)).clamp_(min=0)
        growth = (0.9 * (tolerance / error.clamp_(min=1e-30)) ** 0.2).clamp_(0.2, 8.0)
        h = torch.minimum(h * growth, left)
    return x
