"""Noise taken apart: a linear-Gaussian model of what reads do around the fitted curve.

    d ← F d + n v (c ± e) + w,   w ~ N(0, σ_p² n v²) of the step, or N(0, σ_a² n) of the window
    x ← e^{−max(n,1)/τ} x + …    coloured read noise of variance σ_x²
    c, e constant in a trace     step of the trace, both ways alike and up against down
    read = curve + d + x + σ_r ε

F is what a departure becomes along the curve, v the velocity there. The precision of all states is
banded, so that one Cholesky factorisation gives the likelihood of all reads, without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from devices.fitting.shooting import Shot
from devices.fitting.traces import Array, Mask

START = 25.0  # variance of a cell's place at the start of a trace, in units of x: any
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
    jac = shot.jacobian[: int(seen.sum()), : len(shot.theta)][chosen[seen]]
    ramps = np.bincount(t.ramp, weights=n)
    return Around(
        r[chosen],
        n[chosen],
        (speed * factor * np.where(up, 1, -1))[chosen],
        f[chosen],
        first[chosen],
        up[chosen],
        jac,
        len(keep),
        additive,
        float(np.median(ramps[ramps > 0])),
        chosen[seen],
    )


@dataclass(frozen=True)
class Levels:
    """Standard deviations: read, colour in units of x, the others relative; τ in pulses."""

    read: float
    pulse: float
    colour: float
    tau: float
    cycle: float
    tilt: float


class Likelihood:
    """Restricted log-likelihood of the reads around a curve for any levels of noise."""

    def __init__(self, at: Around) -> None:
        self.at = at
        self.seen = np.isfinite(at.r)
        self.y = at.r[self.seen]
        x = at.jacobian
        keep = np.abs(x).max(axis=0, initial=0.0) > 1e-9
        x = x[:, keep]
        self.x = x / (np.linalg.norm(x, axis=0) + 1e-300) if x.size else x
        self.columns = keep

    def system(self, s: Levels, diffuse: float = START) -> tuple[Array, float, float]:
        """Banded precision of the states without reads, the white variance, log det."""
        at, floor = self.at, s.read**2 + 1e-14
        size = self.states(s)
        rows = len(at.r)
        n, moved = at.n, at.n > 0
        if at.additive:
            pulse = s.pulse**2 * n
        else:
            # of n pulses each is damped by those that follow it
            back = np.abs(at.v) / np.maximum(at.f, 1e-3) ** (
                (n - 1) / (2 * np.maximum(n, 1)) * (n > 1)
            )
            pulse = s.pulse**2 * n * np.minimum(back, 10 * np.abs(at.v) + 1e-12) ** 2
        w = [pulse + 1e-6 * floor * np.maximum(n, 1e-3)]
        link: list[tuple[int, int, Array]] = [(0, 0, at.f)]
        begin = [diffuse]
        k = 1
        if s.colour > 0:
            phi = np.exp(-np.maximum(n, 1) / s.tau)
            w.append(s.colour**2 * (1 - phi**2) + 1e-16)
            link.append((k, k, phi))
            begin.append(s.colour**2)
            k += 1
        drive = n * at.v
        for level, sign in ((s.cycle, np.ones(rows)), (s.tilt, np.where(at.up, 1.0, -1.0))):
            if level > 0:
                w.append(np.full(rows, 1e-6 * level**2))
                link += [(k, k, np.ones(rows)), (0, k, drive * sign * moved)]
                begin.append(level**2)
                k += 1
        return self._banded(size, w, link, begin, rows)

    def _banded(
        self,
        size: int,
        w: list[Array],
        link: list[tuple[int, int, Array]],
        begin: list[float],
        rows: int,
    ) -> tuple[Array, float, float]:
        first = self.at.first
        band = np.zeros((2 * size, rows * size))
        later = np.nonzero(~first)[0]
        start = np.nonzero(first)[0]
        log = 0.0
        for i in range(size):
            weight = 1 / w[i][later]
            band[0, later * size + i] += weight
            band[0, start * size + i] += 1 / begin[i]
            log += float(np.log(weight).sum()) - len(start) * float(np.log(begin[i]))
            terms = [(j, a[later]) for k, j, a in link if k == i]
            for j, a in terms:  # below: row (later, i), column (later − 1, j)
                band[size + i - j, (later - 1) * size + j] -= weight * a
                for j2, a2 in terms:
                    if j2 >= j:
                        band[j2 - j, (later - 1) * size + j] += weight * a * a2
        return band, log, float(size)

    def states(self, s: Levels) -> int:
        """Numbers that the model keeps of a row."""
        return 1 + (s.colour > 0) + (s.cycle > 0) + (s.tilt > 0)

    def __call__(self, s: Levels) -> float:
        """Log-likelihood; −1e30 where the numbers fail."""
        band, log, _ = self.system(s)
        size, variance = self.states(s), s.read**2 + 1e-14
        rows = np.nonzero(self.seen)[0]
        band[0, rows * size] += 1 / variance
        if s.colour > 0:
            band[0, rows * size + 1] += 1 / variance
            band[1, rows * size] += 1 / variance
        try:
            factor = cholesky_banded(band, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return -1e30
        data = np.column_stack([self.y, self.x]) / variance
        rhs = np.zeros((band.shape[1], data.shape[1]))
        rhs[rows * size] = data
        if s.colour > 0:
            rhs[rows * size + 1] = data
        solved = cho_solve_banded((factor, True), rhs, check_finite=False)
        fitted = solved[rows * size] + (solved[rows * size + 1] if s.colour > 0 else 0)
        weighted = data - fitted / variance  # Σ⁻¹ [y, X]
        logdet = 2 * float(np.log(factor[0]).sum()) - log + len(rows) * np.log(variance)
        quad = float(self.y @ weighted[:, 0])
        if self.x.size:
            inner = self.x.T @ weighted[:, 1:]
            inner = (inner + inner.T) / 2 + 1e-12 * np.eye(len(inner)) * np.trace(inner)
            score = self.x.T @ weighted[:, 0]
            try:
                root = np.linalg.cholesky(inner)
            except np.linalg.LinAlgError:
                return -1e30
            quad -= float(np.sum(np.linalg.solve(root, score) ** 2))
            logdet += 2 * float(np.log(np.diag(root)).sum())
        value = -0.5 * (logdet + quad)
        return value if np.isfinite(value) else -1e30

    def spread(self, s: Levels, rows_of: Array, known: float) -> Array:
        """Σ Aᵀ of a matrix of row vectors A (k, reads): their covariance is A Σ Aᵀ."""
        band, _, _ = self.system(s, diffuse=known)
        size = self.states(s)
        rows = np.nonzero(self.seen)[0]
        rhs = np.zeros((band.shape[1], len(rows_of)))
        rhs[rows * size] = rows_of.T
        if s.colour > 0:
            rhs[rows * size + 1] = rows_of.T
        factor = cholesky_banded(band, lower=True, check_finite=False)
        solved = cho_solve_banded((factor, True), rhs, check_finite=False)
        out = solved[rows * size] + (solved[rows * size + 1] if s.colour > 0 else 0)
        return np.asarray(out + s.read**2 * rows_of.T)
