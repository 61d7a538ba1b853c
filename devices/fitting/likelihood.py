"""Noise taken apart: a linear-Gaussian model of what reads do around the fitted curve.

    d ← F d + w,                 w ~ N(0, σ_p² n v²) of the step, or N(0, σ_a² n) of the window
    x ← e^{−max(n,1)/τ} x + …    coloured read noise of variance σ_x²
    u ← F u + n v (c ± e)        steps of the trace: c both ways alike, e up against down
    read = curve + d + x + u + σ_r ε

F is what a departure becomes along the curve, v the velocity there; c and e are of a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_banded

from devices.fitting.shooting import EFFECTS, Shot
from devices.fitting.traces import Array, Index, Mask

START = 1.0  # variance of a cell's place at the start of a trace, in units of x: any
CYCLES = 4  # of a cell from which on their drift is estimated
SHOT_ROWS = 2000
"""Rows that the likelihood of noise uses at most."""

LONG = 400
"""Rows that are one normal vector at most."""

KINDS = ("read", "pulse", "colour", "cycle", "tilt")
"""The kinds of noise in the order of their derivatives, which that by log τ follows."""


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


class Value(NamedTuple):
    """Loss of levels, with its derivatives by σ² of every kind in `KINDS` and by log τ."""

    loss: float  # − log-likelihood
    slope: Array
    bends: Array  # second derivatives: the mean of those seen and those expected
    drift: tuple[float, float]  # relative change of the step with every cycle, its s.e.


class Likelihood:
    """Restricted likelihood of the reads around a curve.

    Reads of one trace are one normal vector; of a trace of more than `LONG` its parts, each of a
    place of its own. Covariances are a sum of the kinds' own, made once. What cells and parameters
    make of the reads is eliminated from the normal equations.
    """

    def __init__(self, at: Around) -> None:
        self.at = at
        rows = np.arange(len(at.r))
        trace = np.cumsum(at.first) - 1
        # blocks: (blocks, LONG at most), filled up with rows that hold nothing
        place = rows - np.nonzero(at.first)[0][trace]
        length = np.bincount(trace)[trace]
        part = place * -(-length // LONG) // length
        begin = np.nonzero(np.r_[True, (np.diff(trace) != 0) | (np.diff(part) != 0)])[0]
        block = np.searchsorted(begin, rows, side="right") - 1
        width = int(np.bincount(block).max())
        self.spot = block, rows - begin[block]

        def blocks(values: Array) -> Array:
            out = np.zeros((len(begin), width, *values.shape[1:]))
            out[self.spot] = values
            return out

        # what a step that is larger in a whole trace, or up alone, makes of its reads
        drive = at.n * at.v
        push = np.column_stack([drive, drive * np.where(at.up, 1.0, -1.0)])
        push = solve_banded((1, 0), self.back(at.f), push * ~at.first[:, None])
        self.push = push
        seen = np.isfinite(at.r)
        x = np.zeros((len(rows), at.jacobian.shape[1]))
        x[seen] = at.jacobian
        x = x[:, np.abs(x).max(axis=0, initial=0.0) > 1e-9]
        x = x / (np.linalg.norm(x, axis=0) + 1e-300)
        self.drifts = float(np.ptp(at.order)) >= CYCLES - 1
        if self.drifts:  # estimated with the noise: a step that changes with every cycle
            x = np.column_stack([x, push[:, 0] * at.order[trace]])
        own = np.zeros((len(rows), at.own.shape[1]))
        own[seen] = at.own
        self.fixed = 1 + x.shape[1]
        hold = seen[:, None]
        self.data = blocks(np.column_stack([np.nan_to_num(at.r), x, own]) * hold)
        cell = at.cell[trace[begin]]
        self.cells = np.searchsorted(cell, np.unique(cell))  # first block of each
        # what a departure at one row is at later ones
        f = blocks(at.f)
        phi = np.zeros((len(begin), width, width))
        phi[:, 0, 0] = 1.0
        for k in range(1, width):
            phi[:, k] = f[:, k, None] * phi[:, k - 1]
            phi[:, k, k] = 1.0
        phi *= blocks(hold.astype(float))
        moved = blocks(at.n * self.scatter())
        moved[:, 0] = 0.0
        begun = phi[:, :, 0]
        seen_ = blocks(seen.astype(float))
        count = np.cumsum(blocks(np.maximum(at.n, 1)), axis=1)
        self.gap = np.abs(count[:, :, None] - count[:, None])
        self.gap[~((seen_[:, :, None] * seen_[:, None]) > 0)] = np.inf  # no colour between them
        self.still = START * begun[:, :, None] * begun[:, None]
        self.still += np.eye(width) * (1 - seen_)[:, None]
        self.white = np.eye(width) * seen_[:, None]
        self.pulsed = phi * moved[:, None] @ phi.mT
        self.ways = blocks(push * hold)

    def back(self, link: Array) -> Array:
        """The band of a recursion over the rows of traces, u ← link · u."""
        return np.vstack([np.ones(len(link)), np.r_[-link[1:] * ~self.at.first[1:], 0.0]])

    def scatter(self) -> Array:
        """Variance of a place after one pulse, of pulse noise 1."""
        at = self.at
        if at.additive:
            return np.ones(len(at.r))
        # of n pulses each is damped by those that follow it
        n = np.maximum(at.n, 1)
        damped = np.abs(at.v) / np.maximum(at.f, 1e-3) ** ((n - 1) / (2 * n))
        return np.minimum(damped, 10 * np.abs(at.v) + 1e-12) ** 2

    def __call__(self, s: Levels) -> Value:
        """The loss of levels.

        Raises:
            LinAlgError: a covariance that is not positive in rounding.
        """
        colour = np.exp(-self.gap / s.tau)
        slower = s.colour**2 / s.tau * np.where(np.isfinite(self.gap), self.gap, 0.0) * colour
        ways = self.ways * [s.cycle, s.tilt]
        total = self.still + s.read**2 * self.white + s.pulse**2 * self.pulsed
        total += s.colour**2 * colour + ways @ ways.mT
        root = np.linalg.cholesky(total)
        log = 2 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
        root = inverse_root(np.asarray(root, dtype=np.float64))
        inverse = root.mT @ root
        weighted = inverse @ self.data
        gram, less, held = self._eliminated(self.data.mT @ weighted, self.fixed)
        log += float(np.linalg.slogdet(held)[1].sum())
        x = gram[1:, 1:]
        x = x + 1e-12 * np.trace(x) * np.eye(len(x))
        log += float(np.linalg.slogdet(x)[1])
        over = np.linalg.inv(x)
        best = over @ gram[1:, 0]
        # of every cell what its columns add up to in the residuals
        out = np.r_[1.0, -best]
        mix = np.concatenate([np.tile(out, (len(less), 1)), -less @ out], axis=1)
        of = np.repeat(np.arange(len(less)), np.diff(np.r_[self.cells, len(self.data)]))
        rest = weighted @ mix[of][:, :, None]  # P r
        # of every kind: tr Σ⁻¹V, V P r, and (Σ⁻¹D)ᵀ V Σ⁻¹D of the columns D
        parts = [
            (float(np.sum(inverse * unit)), unit @ rest, weighted.mT @ (unit @ weighted))
            for unit in (self.white, self.pulsed, colour)
        ]
        for k in range(2):
            way = self.ways[..., k : k + 1]
            seen = weighted.mT @ way
            trace = float(np.sum(way * (inverse @ way)))
            parts.append((trace, way * (way.mT @ rest), seen * seen.mT))
        unit = slower
        parts.append((float(np.sum(inverse * unit)), unit @ rest, weighted.mT @ (unit @ weighted)))
        slope = np.zeros(len(parts))
        free = np.linalg.inv(held)
        back = np.concatenate([np.tile(np.eye(self.fixed), (len(less), 1, 1)), -less], axis=1)
        for k, (trace, drawn, products) in enumerate(parts):
            own = np.add.reduceat(products, self.cells, axis=0)
            slope[k] = trace - np.sum(rest * drawn)
            slope[k] -= np.sum(free * own[:, self.fixed :, self.fixed :])
            slope[k] -= np.sum(over * (back.mT @ own @ back).sum(0)[1:, 1:])
        # P between what every kind makes of the residuals
        moved = np.concatenate([drawn for _, drawn, _ in parts], axis=-1)
        wide = np.concatenate([moved, self.data[..., 1:]], axis=-1)
        k = len(parts)
        between = self._eliminated(wide.mT @ (inverse @ wide), k + self.fixed - 1)[0]
        bends = between[:k, :k] - between[:k, k:] @ over @ between[k:, :k]
        value = (log + float(gram[0, 0] - gram[0, 1:] @ best)) / 2
        drift = (float(best[-1]), float(over[-1, -1]) ** 0.5) if self.drifts else (0.0, 0.0)
        return Value(value, slope / 2, bends / 2, drift)

    def _eliminated(self, gram: Array, p: int) -> tuple[Array, Array, Array]:
        """Normal equations without what cells have of their own, of a spread of 1, or any.

        With what the others make of it, and the equations of it, of every cell.
        """
        sums = np.add.reduceat(gram, self.cells, axis=0)
        held = sums[:, p:, p:] + np.eye(sums.shape[1] - p)
        less = np.asarray(np.linalg.solve(held, sums[:, p:, :p]))
        out: Array = (sums[:, :p, :p] - sums[:, :p, p:] @ less).sum(0)
        return out, less, held

    def spread(self, s: Levels, rows_of: Array, known: float) -> Array:
        """A Σ Aᵀ of a matrix of row vectors A (k, reads), the places of starts known that well."""
        at = self.at
        a = np.zeros((len(at.r), len(rows_of)))
        a[np.isfinite(at.r)] = rows_of.T
        fade = np.exp(-np.maximum(at.n, 1) / s.tau)
        place = np.where(at.first, known, s.pulse**2 * at.n * self.scatter())
        slow = s.colour**2 * np.where(at.first, 1.0, 1 - fade**2)
        out = s.read**2 * a.T @ a
        for link, variance in ((at.f, place), (fade, slow)):
            # what a departure at a row adds up to in later ones
            band = np.vstack([np.r_[0.0, -link[1:] * ~at.first[1:]], np.ones(len(link))])
            added = solve_banded((0, 1), band, a)
            out += added.T @ (variance[:, None] * added)
        first = np.nonzero(at.first)[0]
        for column, level in ((0, s.cycle), (1, s.tilt)):
            own = np.add.reduceat(self.push[:, column, None] * a, first, axis=0)
            out += level**2 * own.T @ own
        return np.asarray(out)


def inverse_root(root: Array) -> Array:
    """Inverses of triangular matrices, in halves: products are faster than solutions."""
    n = root.shape[-1]
    if n <= 8:
        return np.asarray(np.linalg.inv(root))
    half = n // 2
    out = np.zeros_like(root)
    out[:, :half, :half] = upper = inverse_root(root[:, :half, :half])
    out[:, half:, half:] = lower = inverse_root(root[:, half:, half:])
    out[:, half:, :half] = -lower @ (root[:, half:, :half] @ upper)
    return out
