"""Conjugate gradients on the cell voltages.

With S = √g the circuit u = u₀ − R g u becomes (1 + S R S) w = S u₀, u = u₀ − R S w: symmetric, with
all eigenvalues >= 1 and the largest about 1 + κ, so plain CG needs some 15 √(1 + κ) steps for full
precision. R is a pair of cumulative sums, so a step is a few passes over the array, whatever the
conductances of each sample. r = 0 and g = 0 need no care.
(Hestenes & Stiefel, J. Res. NBS 49, 409 (1952), doi:10.6028/jres.049.044.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossbar.wires.lines import Mesh
from crossbar.wires.settings import NotConverged


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over one array, kept as (..., 1, 1)."""
    return (a * b).sum((-2, -1), keepdim=True)


def system(
    wires: Mesh,
    root: Tensor,  # (..., rows, cols) S = √conductance
    b: Tensor,  # (..., rows, cols)
    tolerance: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    """w of (1 + S R S) w = b, and the Euclidean residual of each sample relative to b.

    Stops when every sample is below `tolerance`, or after max_steps; whether that is good enough
    is for the caller to say.
    """
    tiny = torch.finfo(b.dtype).tiny
    w = torch.zeros_like(b)
    r, p = b.clone(), b.clone()
    rr = dot(r, r)
    goal = tolerance**2 * rr
    for _ in range(max_steps):
        busy = rr > goal
        if not bool(busy.any()):
            break
        q = p + root * wires.drop(root * p)
        # a sample that has converged takes steps of zero length
        alpha = torch.where(busy, rr / dot(p, q).clamp_min(tiny), 0.0)
        w = w + alpha * p
        r = r - alpha * q
        new = torch.where(busy, dot(r, r), rr)
        p = r + (new / rr.clamp_min(tiny)) * p
        rr = new
    true = b - w - root * wires.drop(root * w)
    return w, (dot(true, true) / dot(b, b).clamp_min(tiny)).sqrt()


def solve(
    wires: Mesh, g: Tensor, u0: Tensor, tolerance: float, max_steps: int, slack: float, hint: str
) -> tuple[Tensor, Tensor]:
    """Cell voltages [V] and currents [A] for conductances g and open-circuit cell voltages u0.

    g (..., rows, cols) [S] broadcasts to u0 (..., rows, cols) [V]; for the rest see `system`.
    Rounding of the true residual adds to the recursive one that is watched: `slack` times the
    tolerance is good enough, else NotConverged gives the `hint`.
    """
    root = g.sqrt()
    w, residual = system(wires, root, root * u0, tolerance, max_steps)
    worst, wanted = float(residual.max()) if residual.numel() else 0.0, slack * tolerance
    if not worst <= wanted:
        raise NotConverged(
            f"residual {worst:.1e} after {max_steps} steps, wanted {wanted:.1e} {hint}"
        )
    i = root * w
    return u0 - wires.drop(i), i
