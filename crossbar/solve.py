"""Linear equations: an analog matrix does the work, digital float64 keeps the precision.

Each iteration asks the array for a correction z of the residual r, scaled to the converters:

    refinement     x ← x + z(r),  r ← b − A x           residual falls by ρ(I − A P) an iteration
    gmres          the best x of the span of all z(r) so far (flexible GMRES)

P is what turns r into z: Σ_{k<m} (I − Ã)^k by m − 1 products with the array, or Ã⁻¹ where it
stands in a feedback loop that inverts it. Read noise of relative effect ν makes refinement fall by
√(ρ² + ν²) only; where that is above 1 it diverges, which is said, and the best x is kept. As a
residual may fall at first and grow later, slow refinements are rehearsed until their rate is seen.

Source: Le Gallo et al., Nat. Electron. 1, 246 (2018), doi:10.1038/s41928-018-0054-8; Sun et al.,
PNAS 116, 4123 (2019), doi:10.1073/pnas.1815682116; Saad, SIAM J. Sci. Comput. 14, 461 (1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import positive, whole

PATIENCE = 6
"""Iterations without a new best residual after which a solution is given up."""

AFTER, REHEARSED, SLOW, APART = 5, 24, 0.5, 1.1
"""Where a refinement is slower than `SLOW` an iteration `AFTER` so many, the rate that it ends with
is rehearsed by so many corrections that are not used; above `APART` it diverges, even where its
residual still falls."""

Correction = Callable[[Tensor], Tensor]


class Products(NamedTuple):
    """What digital logic multiplies while an array corrects."""

    digital_mac: float


class Solution(NamedTuple):
    """What was found, the best of all iterations."""

    x: Tensor  # (n,) float64
    residual: float  # |b − A x|/|b|
    residuals: list[float]  # of every iteration, the first is that of x = 0
    verdict: str  # "converged", "radius" or "noise" (diverged by it), "iterations" (ran out),
    # "rounding" (no float64 numbers are nearer)


def solve(
    matrix: Any,  # has shape, weight and @ of `matrix.Matrix`
    b: Tensor,
    exact: Tensor,
    *,
    method: str = "gmres",
    terms: int | None = 8,
    rtol: float = 1e-10,
    most: int = 200,
) -> Solution:
    """x of A x = b; see the module and `Matrix.solve`."""
    n = len(exact)
    if exact.shape != (n, n) or matrix.shape != (n, n):
        raise ValueError(f"only square matrices are solved, got {tuple(exact.shape)}")
    if b.shape != (n,) or b.is_complex():
        raise ValueError(f"b must be real and ({n},), got {tuple(b.shape)} of {b.dtype}")
    if not bool(b.isfinite().all()):
        raise ValueError("b must be finite")
    if method not in ("gmres", "refinement"):
        raise ValueError(f'method must be "gmres" or "refinement", got {method!r}')
    positive("rtol", rtol)
    whole("most", most, 1)
    exact, b = exact.detach().double(), b.detach().double()
    if not bool(exact.isfinite().all()):
        raise ValueError("exact must be finite")
    corrected = correction(matrix, terms)
    with torch.no_grad():
        size = b.abs().amax() if n else b.sum()
        if not float(size):
            return Solution(torch.zeros_like(b), 0.0, [0.0], "converged")
        walk = _refined if method == "refinement" else _flexible
        # of size one: squares of very small or large numbers would leave what floats can hold
        found = walk(exact, b / size, corrected, rtol, most)
        for array in list(arrays(matrix))[:1]:
            if array.probe is not None:
                steps = len(found.residuals) - 1
                array.probe.worked(array, Products(products(method, n, steps)), "forward")
        return found._replace(x=found.x * size)


def arrays(matrix: Any) -> Iterator[Any]:
    """Those that a matrix, or a part of one, is read on."""
    if hasattr(matrix, "probe"):
        yield matrix
        return
    for name in ("matrix", "real", "imag"):
        yield from arrays(getattr(matrix, name)) if hasattr(matrix, name) else ()


def products(method: str, n: int, steps: int) -> float:
    """Digital multiplications of so many iterations on n unknowns.

    Refinement: a residual each. GMRES: A z, the residual, and of k vectors of the base twice a
    product and a difference, and the new x.
    """
    if method == "refinement":
        return float(steps * n * n)
    return float(sum(2 * n * n + 5 * k * n for k in range(1, steps + 1)))


def correction(matrix: Any, terms: int | None) -> Correction:
    """z(r) = Σ_{k<terms} (I − Ã)^k r, or Ã⁻¹ r (None)."""
    if terms is not None:
        whole("terms", terms, 1)

    def scaled(of: Correction) -> Correction:
        def run(r: Tensor) -> Tensor:
            size = float(r.abs().amax())
            return of(r / size) * size if size else r

        return run

    if terms is None:
        for array in arrays(matrix):
            if array.probe is not None:
                array.probe.untold(array, "a feedback loop that inverts a matrix (terms=None)")
        held = matrix.weight.mT.double()
        lu, pivots, singular = torch.linalg.lu_factor_ex(held)
        if int(singular) or not bool(lu.isfinite().all()):
            raise ValueError("the cells hold a singular matrix, which no feedback loop inverts")
        return lambda r: torch.linalg.lu_solve(lu, pivots, r.unsqueeze(-1)).squeeze(-1)
    read = scaled(lambda v: (matrix @ v).double())

    def run(r: Tensor) -> Tensor:
        z = r  # the first product of all: Σ_{k<m} (I − Ã)^k r
        for _ in range(terms - 1):
            z = z + r - read(z)
        return z

    return run


def _refined(a: Tensor, b: Tensor, z: Correction, rtol: float, most: int) -> Solution:
    x, r, size = torch.zeros_like(b), b, float(b.norm())
    best, told = x, [1.0]
    for _ in range(most):
        x = x + z(r)
        r = b - a @ x
        told.append(float(r.norm()) / size)
        if told[-1] < min(told[:-1]):
            best = x
        if told[-1] <= rtol:
            return Solution(best, min(told), told, "converged")
        if _stuck(told) or not math.isfinite(told[-1]):
            return Solution(best, min(told), told, _why(a, b, best, z, _rate(told)))
        if len(told) == AFTER + 1 and told[-1] > SLOW**AFTER:
            rate = _rehearsed(a, r, z)
            if rate > APART:
                return Solution(best, min(told), told, _why(a, b, best, z, rate))
    return Solution(best, min(told), told, "iterations")


def _rehearsed(a: Tensor, r: Tensor, z: Correction) -> float:
    """Rate of r ← r − A z(r) after a while, rescaled so that no number leaves what floats hold."""
    grown = []
    for _ in range(REHEARSED):
        r = r / r.norm()
        r = r - a @ z(r)
        grown.append(float(r.norm()))
    end = grown[REHEARSED // 2 :]
    return math.exp(sum(math.log(max(g, 1e-300)) for g in end) / len(end))


def _stuck(told: list[float]) -> bool:
    return len(told) > PATIENCE and min(told[:-PATIENCE]) <= min(told[-PATIENCE:])


def _rate(told: list[float]) -> float:
    """Of the last residuals, by an iteration."""
    end = [t for t in told[-PATIENCE - 1 :] if math.isfinite(t)]
    return (end[-1] / end[0]) ** (1 / (len(end) - 1)) if len(end) > 1 else math.inf


def _why(a: Tensor, b: Tensor, x: Tensor, z: Correction, rate: float) -> str:
    """What ended it at that rate: two corrections of one residual differ by the noise alone."""
    r = b - a @ x
    rounding = len(b) * torch.finfo(b.dtype).eps * (a.abs() @ x.abs() + b.abs())
    if bool((r.abs() <= rounding).all()):
        return "rounding"
    noise = float((a @ (z(r) - z(r))).norm() / r.norm()) / math.sqrt(2)
    return "noise" if noise**2 > rate**2 / 2 else "radius"


def _flexible(a: Tensor, b: Tensor, z: Correction, rtol: float, most: int) -> Solution:
    """Flexible GMRES: an orthonormal base of residuals, each with its own correction."""
    size = float(b.norm())
    base, corrections = [b / size], []
    h = b.new_zeros(most + 1, most)
    told, x = [1.0], torch.zeros_like(b)
    target = b.new_zeros(most + 1)
    target[0] = size
    for k in range(min(most, len(b))):
        corrections.append(z(base[k]))
        w = a @ corrections[k]
        for _ in range(2):  # twice is enough (Kahan)
            for i, v in enumerate(base):
                part = v @ w
                h[i, k] += part
                w = w - part * v
        h[k + 1, k] = w.norm()
        y = torch.linalg.lstsq(h[: k + 2, : k + 1], target[: k + 2].unsqueeze(-1)).solution
        x = torch.stack(corrections, 1) @ y.squeeze(-1)
        told.append(float((b - a @ x).norm()) / size)
        if told[-1] <= rtol:
            return Solution(x, told[-1], told, "converged")
        if not float(h[k + 1, k]) or _still(told):
            break
        base.append(w / h[k + 1, k])
    done = len(told) > most
    return Solution(x, min(told), told, "iterations" if done else _why(a, b, x, z, _rate(told)))


def _still(told: list[float]) -> bool:
    """GMRES never grows: given up where it has not fallen by a hundredth."""
    return len(told) > PATIENCE and told[-1] > 0.99 * told[-1 - PATIENCE]
