"""Noise taken apart: a linear-Gaussian model of what reads do around the fitted curve.

    d ← F d + n v (c ± e) + w,   w ~ N(0, σ_p² n v²) of the step, or N(0, σ_a² n) of the window
    x ← e^{−max(n,1)/τ} x + …    coloured read noise of variance σ_x²
    c, e constant in a trace     step of the trace, both ways alike and up against down
    read = curve + d + x + σ_r ε

F is what a departure becomes along the curve, v the velocity there. The precision of all states is
banded, so that one Cholesky factorisation gives the likelihood of all reads, without a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.optimize import minimize

from devices.fitting.shooting import Shot
from devices.fitting.traces import Array, Index, Mask

PARTS = ("read", "pulse", "colour", "cycle", "tilt")
DROP = 1.9207  # half the 95 % point of chi-square with one degree of freedom
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


@dataclass(frozen=True)
class Part:
    """One noise with its 95 % interval, in the unit of `Levels`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Noise:
    """What the reads say of every kind of noise."""

    levels: Levels
    parts: dict[str, Part]
    left: tuple[str, ...]  # of what these data cannot tell apart
    log_likelihood: float
    averages: tuple[tuple[float, Levels], ...]  # weight and levels along the pulse noise's profile


def taken_apart(
    shot: Shot,
    *,
    additive: bool = False,
    bind: tuple[float, float] | None = None,
    coloured: bool = True,
    intervals: bool = True,
) -> Noise:
    """The noise of the reads around a curve by restricted maximum likelihood.

    Args:
        shot: the fitted law.
        additive: whether a pulse's noise is relative to the window instead of its step.
        bind: range of the read noise, where the law misfits.
        coloured: whether read noise may have a memory.
        intervals: whether profile likelihoods give intervals.
    """
    at = around(shot, additive=additive)
    model = Likelihood(at)
    r, ramp_of = at.r, np.cumsum(at.first)
    jump = np.diff(r)[(np.diff(ramp_of) == 0) & np.isfinite(np.diff(r))]
    total = float(np.nanstd(r)) + 1e-9
    rough = float(1.4826 * np.median(np.abs(jump - np.median(jump))) if len(jump) else total) + 1e-9
    step = np.sqrt(at.n) * (np.abs(at.v) if not at.additive else 1.0)
    typical = float(np.median(step[at.n > 0])) + 1e-12
    drift = np.bincount(ramp_of, weights=np.abs(at.n * at.v) * (np.nan_to_num(at.f) > 0))
    reach = float(np.median(drift[drift > 0])) + 1e-12
    several = at.traces >= 3
    both = several and len(np.unique(ramp_of[at.up & (at.n > 0)])) > 2
    both = both and bool(np.isin(ramp_of[at.up & (at.n > 0)], ramp_of[~at.up & (at.n > 0)]).any())
    most = {
        "read": max(rough, total / 10),
        "pulse": min(3 * max(rough, total / at.pulses**0.5) / typical, 30.0),
        "colour": 2 * total if coloured else 0.0,
        "cycle": min(4 * total / reach, 1.0) if several else 0.0,
        "tilt": min(4 * total / reach, 1.0) if both else 0.0,
    }
    names = [name for name in PARTS if most[name] > 0]
    delta = {name: 0.1 * most[name] for name in names}
    cap = max(at.pulses, 4.0)
    lows = [np.log(delta[name]) for name in names]
    highs = [0.5 * np.log((3 * most[name]) ** 2 + delta[name] ** 2) for name in names]
    least = 1e-4 * rough
    lows[0] = 0.5 * np.log(least**2 + delta["read"] ** 2)
    if bind is not None:
        lows[0] = 0.5 * np.log(bind[0] ** 2 + delta["read"] ** 2)
        highs[0] = 0.5 * np.log(bind[1] ** 2 + delta["read"] ** 2)
    bounds = [*zip(lows, highs, strict=True), (0.0, float(np.log(cap)))]

    def levels(z: Array) -> Levels:
        own = {
            name: float(np.sqrt(max(np.exp(2 * z[i]) - delta[name] ** 2, 0.0)))
            for i, name in enumerate(names)
        }
        # a colour of 0 has a state all the same, so that its slope is seen
        own["colour"] = max(own["colour"], 1e-5 * total) if "colour" in own else 0.0
        for name in ("cycle", "tilt"):
            own[name] = max(own[name], 1e-6) if name in own else 0.0
        return Levels(tau=float(np.exp(z[-1])), **own)

    def loss(z: Array) -> float:
        return -model(levels(z))

    def solve(z: Array, held: int | None = None, rounds: int = 60) -> tuple[float, Array]:
        own = list(bounds)
        if held is not None:
            own[held] = (z[held], z[held])
        z = np.clip(z, [b[0] for b in own], [b[1] for b in own])
        out = minimize(
            loss, z, method="L-BFGS-B", bounds=own, options={"eps": 1e-4, "maxiter": rounds}
        )
        return float(out.fun), out.x

    def at_levels(shares: dict[str, float], tau: float) -> Array:
        z = [0.5 * np.log((shares[n] * most[n]) ** 2 + delta[n] ** 2) for n in names]
        return np.array([*z, np.log(tau)])

    tau = min(6.0, cap)
    begun = (
        {"read": 0.5, "pulse": 0.3, "colour": 0.02, "cycle": 0.1, "tilt": 0.1},
        {"read": 0.5, "pulse": 0.02, "colour": 0.4, "cycle": 0.1, "tilt": 0.1},
    )
    least_loss, best = min((solve(at_levels(b, tau)) for b in begun), key=lambda found: found[0])
    parts: dict[str, Part] = {}
    averages: list[tuple[float, Levels]] = [(1.0, levels(best))]
    for i, name in enumerate(names):
        value = _value(levels(best), name)
        if not intervals:
            parts[name] = Part(value, 0.0, np.inf)
            continue
        low, high, seen = _profile(i, best, least_loss, bounds, solve, delta[name])
        parts[name] = Part(value, min(low, value), max(high, value))
        if name == "pulse":
            averages += [(float(np.exp(-drop)), levels(z)) for drop, z in seen]
    for name in PARTS:
        parts.setdefault(name, Part(0.0, 0.0, np.inf))
    found = levels(best)
    return Noise(
        found,
        parts,
        _left(found, parts, at, several, both),
        -least_loss,
        tuple(averages),
    )


def _value(s: Levels, name: str) -> float:
    value = float(getattr(s, name))
    return value if value > 2e-5 else 0.0


def _profile(
    i: int,
    best: Array,
    least: float,
    bounds: list[tuple[float, float]],
    solve: Callable[..., tuple[float, Array]],
    delta: float,
) -> tuple[float, float, list[tuple[float, Array]]]:
    """Where the profile likelihood has dropped to the 95 % level, both ways, and points between."""
    ends: list[float] = []
    seen: list[tuple[float, Array]] = []

    def variance(z: float) -> float:
        own = float(np.exp(2 * z) - delta**2)
        return own if own > 1e-3 * delta**2 else 0.0  # rounding of the bound is no noise

    for end in bounds[i]:
        inner, z = float(best[i]), best.copy()
        if abs(end - inner) < 1e-6:
            ends.append(variance(end))
            continue
        side = 1.0 if end > inner else -1.0
        a, fa = inner, 0.0  # drop's square root is nearly linear in z
        b = inner + side * min(abs(end - inner), 0.15)
        reached = None
        for _ in range(5):
            z[i] = b
            value, z = solve(z, i, 12)
            drop = value - least
            seen.append((max(drop, 0.0), z.copy()))
            fb = np.sqrt(max(drop, 0.0))
            if abs(fb - DROP**0.5) < 0.08:
                reached = b
                break
            if fb < DROP**0.5 and abs(b - end) < 1e-6:
                reached = end
                break
            slope = (fb - fa) / (b - a) if abs(b - a) > 1e-9 else 0.0
            new = b + (DROP**0.5 - fb) / slope if side * slope > 1e-6 else b + side * 0.5
            if fb < DROP**0.5:
                new = b + side * min(abs(new - b), 1.5)
                a, fa = b, fb
            elif fa < DROP**0.5 < fb:
                new = a + (b - a) * np.clip((DROP**0.5 - fa) / (fb - fa), 0.1, 0.9)
            b = float(np.clip(new, min(inner, end), max(inner, end)))
        ends.append(variance(b if reached is None else reached))
    return float(np.sqrt(ends[0])), float(np.sqrt(ends[1])), seen


def _left(
    s: Levels, parts: dict[str, Part], at: Around, several: bool, both: bool
) -> tuple[str, ...]:
    out = []
    if s.colour > 2 * s.read / at.pulses**0.5 and s.tau > at.pulses / 4:
        out.append(
            f"coloured read noise of a memory of {s.tau:.0f} pulses, more than a quarter of a "
            "ramp, cannot be told from pulse noise or from the law's own error: the upper end of "
            "the pulse noise is its limit"
        )
    if not several:
        out.append(
            "how much ramps differ cannot be told from fewer than 3 traces: intervals hold if "
            "ramps share their step"
        )
    elif at.traces < 8:
        out.append(f"{at.traces} traces tell the spread from ramp to ramp within a factor 2 only")
    return tuple(out)


def explained(shot: Shot) -> Array:
    """What parameters and cells' own make of the reads: rows of the pseudo-inverse."""
    full = shot.jacobian
    keep = np.abs(full).max(axis=0) > 1e-12
    scale = np.linalg.norm(full[:, keep], axis=0) + 1e-300
    inverse = np.linalg.pinv(full[:, keep] / scale, rcond=1e-9) / scale[:, None]
    out = np.zeros((full.shape[1], full.shape[0]))
    out[keep] = inverse
    return out[:, : int(shot.traces.seen.sum())]


def covariance(shot: Shot, noise: Noise, additive: bool = False) -> Array:
    """Of the parameters: how the least squares pass the noise on, averaged over its profile."""
    rows = explained(shot)
    at = around(shot, additive=additive)
    model = Likelihood(at)
    seen = shot.traces.seen
    if len(at.r) < len(shot.traces.y):  # the noise of some traces stands for all
        keep = _same_rows(shot, at)
        part = rows[:, keep[seen]]
        grow = len(shot.traces.y) / len(at.r)
    else:
        part, grow = rows, 1.0
    total = np.zeros((len(rows), len(rows)))
    weight = 0.0
    for share, s in noise.averages:
        total += share * part @ model.spread(s, part, s.read**2 + 1e-12)
        weight += share
    out = total / weight * grow
    return np.asarray((out + out.T) / 2)


def _same_rows(shot: Shot, at: Around) -> Mask:
    t = shot.traces
    order = np.random.default_rng(1).permutation(t.size)
    rows = np.cumsum(np.bincount(t.trace, minlength=t.size)[order])
    keep: Index = np.sort(order[: max(1, int((rows <= SHOT_ROWS).sum()))])
    return np.isin(t.trace, keep)
