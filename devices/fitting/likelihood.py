"""Noise taken apart: a linear-Gaussian model of what reads do around the fitted curve.

    d ← F d + w,                 w ~ N(0, σ_p² n v²) of the step, or N(0, σ_a² n) of the window
    x ← e^{−max(n,1)/τ} x + …    coloured read noise of variance σ_x²
    u ← F u + n v (c ± e)        steps of the trace: c both ways alike, e up against down
    read = curve + d + x + u + σ_r ε

F is what a departure becomes along the curve, v the velocity there. The precision of d and x is
banded, so that one Cholesky factorisation gives the likelihood of all reads, without a loop, and of
many levels of noise at once; c and e, two numbers a trace, come on top by Woodbury's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_banded

from devices.fitting.shooting import EFFECTS, Shot
from devices.fitting.traces import Array, Index, Mask

START = 1.0  # variance of a cell's place at the start of a trace, in units of x: any
CYCLES = 4  # of a cell from which on their drift is estimated
SHOT_ROWS = 2000
"""Rows that the likelihood of noise uses at most."""


@dataclass(frozen=True, eq=False)
class Around:
    """What the likelihood needs of a fitted curve."""

    r: Array  # (rows,) read − curve, NaN where there is no read
    n: Array  # (rows,) pulses since the row before
    v: Array  # (rows,) velocity, signed by direction
    f: Array  # (rows,) what a departure before is now
    first: Mask  # (rows,)
    up: Mask
    jacobian: Array  # (reads, parameters)
    traces: int
    additive: bool
    pulses: float  # in an ordinary ramp
    reads: Mask  # (reads of the fit,) those used here
    order: Array  # (traces,) cycles since the middle one of the cell
    cell: Index  # (traces,) ascending
    own: Array  # (reads, effects) what cells have of their own; no columns for one cell


def around(shot: Shot, *, additive: bool = False) -> Around:
    """The rows of a fit; of many, whole traces at random."""
    t = shot.traces
    keep = np.arange(t.size)
    if len(t.y) > SHOT_ROWS:
        order = np.random.default_rng(1).permutation(t.size)
        rows = np.cumsum(np.bincount(t.trace, minlength=t.size)[order])
        keep = np.sort(order[: max(1, int((rows <= SHOT_ROWS).sum()))])
    chosen = np.isin(t.trace, keep)
    up, n, m = t.up, t.n, shot.mean
    law, own = shot.family, shot.cell
    x, factor, size = m, np.ones(len(m)), np.ones(len(m))
    if own is not None:
        low, high = own[t.cell, 2][t.trace], own[t.cell, 3][t.trace]
        size = 1 + high - low
        x = (m - low) / size
        factor = np.exp(own[t.cell[t.trace], np.where(up, 0, 1)])
    speed = np.where(up, law.speed(shot.theta, x, True), law.speed(shot.theta, x, False)) * size
    worth = law.worth(shot.theta, t)
    factor = factor if worth is None else factor * worth
    before = np.r_[x[:1], x[:-1]]
    was = (
        np.where(up, law.speed(shot.theta, before, True), law.speed(shot.theta, before, False))
        * size
    )
    f = np.where(n > 0, speed / np.maximum(was, 1e-9), 1.0)
    f = np.clip(f, 0.0, 20.0)
    if law.name == "AbruptReset":
        f[(n > 0) & ~up] = 0.0
    if shot.walls is not None:  # at a hard end a departure is gone
        ends = shot.walls[t.cell[t.trace]]
        at = np.where(up, m >= ends[:, 1] - 1e-9, m <= ends[:, 0] + 1e-9) & (n > 0)
        f[at], speed = 0.0, np.where(at, 1e-6, speed)
    first = np.zeros(len(m), dtype=bool)
    first[t.first] = True
    seen = t.seen
    r = np.where(seen, t.y - m, np.nan)
    jac = shot.jacobian[: int(seen.sum())][chosen[seen]]
    p = len(shot.theta)
    # every cell's column is 0 in the reads of others
    effects = jac[:, p:].reshape(len(jac), -1, EFFECTS).sum(1)
    ramps = np.bincount(t.ramp, weights=n)
    rank = np.array([np.sum(t.cell[:k] == c) for k, c in enumerate(t.cell)], dtype=np.float64)
    middle = np.bincount(t.cell, rank)[t.cell] / np.bincount(t.cell)[t.cell]
    return Around(
        r[chosen],
        n[chosen],
        (speed * factor * np.where(up, 1, -1))[chosen],
        f[chosen],
        first[chosen],
        up[chosen],
        jac[:, :p],
        len(keep),
        additive,
        float(np.median(ramps[ramps > 0])),
        chosen[seen],
        (rank - middle)[keep],
        t.cell[keep],
        effects[:, np.abs(effects).max(axis=0, initial=0.0) > 1e-9],
    )


class Levels(NamedTuple):
    """Standard deviations: read, colour in units of x, the others relative; τ in pulses."""

    read: float
    pulse: float
    colour: float
    tau: float
    cycle: float
    tilt: float


class Likelihood:
    """Restricted log-likelihood of the reads around a curve, of many levels of noise at once."""

    def __init__(self, at: Around) -> None:
        self.at = at
        self.rows = np.nonzero(np.isfinite(at.r))[0]
        self.trace = (np.cumsum(at.first) - 1)[self.rows]
        self.begin = np.searchsorted(self.trace, np.arange(at.traces))
        self.cells = np.searchsorted(at.cell, np.unique(at.cell))  # first trace of each
        x = at.jacobian
        x = x[:, np.abs(x).max(axis=0, initial=0.0) > 1e-9]
        x = x / (np.linalg.norm(x, axis=0) + 1e-300) if x.size else x
        # what a step that is larger in a whole trace, or up alone, makes of its reads
        drive = at.n * at.v
        push = np.column_stack([drive, drive * np.where(at.up, 1.0, -1.0)])
        back = np.vstack([np.ones(len(at.r)), np.r_[-at.f[1:] * ~at.first[1:], 0.0]])
        self.push = solve_banded((1, 0), back, push * ~at.first[:, None])[self.rows]
        self.drifts = float(np.ptp(at.order)) >= CYCLES - 1
        drift = self.push[:, :1] * at.order[self.trace, None]
        # the last of what is estimated with the noise: a step that changes with every cycle
        x = np.column_stack([x, drift]) if self.drifts else x
        self.fixed = 1 + x.shape[1]
        self.data = np.column_stack([at.r[self.rows], x, at.own, self.push])

    def _band(self, s: Array, diffuse: float) -> tuple[Array, Array]:
        """Precision of the states (d, x) of all rows without reads, and its log determinants.

        One set of levels after the other: (4, sets · rows · 2) and (sets,).
        """
        at, sets, rows = self.at, len(s), len(self.at.r)
        read, pulse, colour, tau = (s[:, k, None] for k in range(4))
        n = np.maximum(at.n, 1)
        if at.additive:
            size = np.ones(rows)
        else:
            # of n pulses each is damped by those that follow it
            back = np.abs(at.v) / np.maximum(at.f, 1e-3) ** ((n - 1) / (2 * n))
            size = np.minimum(back, 10 * np.abs(at.v) + 1e-12)
        phi = np.exp(-n / tau)
        w = np.empty((sets, rows, 2))
        w[..., 0] = pulse**2 * at.n * size**2
        w[..., 0] += 1e-6 * (read**2 + 1e-14) * np.maximum(at.n, 1e-3)
        w[..., 1] = colour**2 * (1 - phi**2) + 1e-16
        w[:, at.first, 0] = diffuse
        w[:, at.first, 1] = colour**2 + 1e-16
        w = 1 / w
        link = np.stack(np.broadcast_arrays(at.f, phi), axis=-1)  # of a row to the one before
        link[:, at.first] = 0.0
        band = np.zeros((4, sets, rows, 2))
        band[0] = w
        band[0, :, :-1] += (w * link**2)[:, 1:]
        band[2, :, :-1] = -(w * link)[:, 1:]
        return band.reshape(4, -1), np.log(w).sum((1, 2))

    def _solved(self, band: Array, sets: int, variance: Array, data: Array) -> tuple[Array, Array]:
        """Σ₀⁻¹ of the columns of `data` (sets, reads, columns), and log det of the precision."""
        rows = len(self.at.r)
        at = (np.arange(sets)[:, None] * rows + self.rows).ravel() * 2
        weight = np.repeat(1 / variance, len(self.rows))
        band[0, at] += weight
        band[0, at + 1] += weight
        band[1, at] += weight
        factor = cholesky_banded(band, lower=True, check_finite=False)
        rhs = np.zeros((band.shape[1], data.shape[1]))
        own = np.tile(data, (sets, 1)) * weight[:, None]
        rhs[at] = rhs[at + 1] = own
        solved = cho_solve_banded((factor, True), rhs, check_finite=False)
        out = own - (solved[at] + solved[at + 1]) * weight[:, None]
        log = 2 * np.log(factor[0]).reshape(sets, -1).sum(1)
        return out.reshape(sets, len(self.rows), -1), log

    def _gram(self, s: Array) -> tuple[Array, Array]:
        """Products of the data under Σ⁻¹ for every set of levels, and log det Σ.

        Raises:
            LinAlgError: a precision that is not positive in rounding.
        """
        # sets that differ in c and e alone have one band
        own, of = np.unique(s[:, :4], axis=0, return_inverse=True)
        variance = own[:, 0] ** 2 + 1e-14
        band, prior = self._band(own, START)
        weighted, log = self._solved(band, len(own), variance, self.data)
        columns, fixed = self.data.shape[1] - 2, self.fixed
        gram = (self.data[:, :fixed].T @ weighted[..., :fixed])[of]
        log = (log - prior + len(self.rows) * np.log(variance))[of]
        sums = self._sums(slice(columns, None), weighted, self.begin)[of] * s[:, None, 4:, None]
        inner = sums[..., columns:] * s[:, None, None, 4:] + np.eye(2)
        cross = sums[..., :columns]
        less = np.linalg.solve(inner, cross)
        gram = gram - np.einsum("stkc,stkd->scd", cross[..., :fixed], less[..., :fixed])
        # a determinant is 1 at least, but for rounding
        log = log + np.log(np.maximum(np.linalg.det(inner), 1.0)).sum(1)
        if columns > fixed:
            rows = self.begin[self.cells]
            sums = self._sums(slice(fixed, columns), weighted[..., :columns], rows)[of]
            back = np.einsum("stkc,stkd->stcd", cross[..., fixed:], less)
            sums = sums - np.add.reduceat(back, self.cells, axis=1)
            inner = sums[..., fixed:] + np.eye(columns - fixed)  # of a spread of 1, or any
            less = np.linalg.solve(inner, sums[..., :fixed])
            gram = gram - np.einsum("stkc,stkd->scd", sums[..., :fixed], less)
            log = log + np.log(np.maximum(np.linalg.det(inner), 1.0)).sum(1)
        return (gram + gram.transpose(0, 2, 1)) / 2, log

    def _sums(self, own: slice, weighted: Array, begin: Index) -> Array:
        """Products of some columns with all, of traces or cells that begin there."""
        products = self.data[:, own, None] * weighted[:, :, None, :]
        return np.asarray(np.add.reduceat(products, begin, axis=1))

    def __call__(self, s: Array) -> Array:
        """Log-likelihoods of `Levels` (sets, 6); −1e30 where numbers fail."""
        try:
            gram, log = self._gram(s)
            x = gram[:, 1:, 1:]
            x = x + 1e-12 * np.trace(x, axis1=1, axis2=2)[:, None, None] * np.eye(x.shape[1])
            root = np.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            return np.full(len(s), -1e30)
        score = np.linalg.solve(root, gram[:, 1:, :1])[..., 0]
        log = log + 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
        value = -0.5 * (log + gram[:, 0, 0] - (score**2).sum(1))
        return np.where(np.isfinite(value), value, -1e30)

    def drift(self, s: Levels) -> tuple[float, float]:
        """Relative change of the step with every cycle by generalised least squares, its s.e."""
        gram, _ = self._gram(np.array([s]))
        inverse = np.linalg.pinv(gram[0, 1:, 1:])
        return float(inverse[-1] @ gram[0, 1:, 0]), float(inverse[-1, -1]) ** 0.5

    def spread(self, s: Levels, rows_of: Array, known: float) -> Array:
        """Σ Aᵀ of a matrix of row vectors A (k, reads): their covariance is A Σ Aᵀ."""
        band, _ = self._band(np.array([s]), known)
        size = len(self.at.r)
        rhs = np.zeros((2 * size, len(rows_of)))
        rhs[2 * self.rows] = rhs[2 * self.rows + 1] = rows_of.T
        factor = cholesky_banded(band, lower=True, check_finite=False)
        solved = cho_solve_banded((factor, True), rhs, check_finite=False)
        out = solved[2 * self.rows] + solved[2 * self.rows + 1] + s.read**2 * rows_of.T
        for column, level in ((0, s.cycle), (1, s.tilt)):
            own = np.add.reduceat(self.push[:, column, None] * rows_of.T, self.begin, axis=0)
            out += level**2 * self.push[:, column, None] * own[self.trace]
        return np.asarray(out)
