"""The mean curve of whole traces and its least squares: shooting from every trace's start.

What differs from trace to trace (its start) is solved inside, for every trace on its own; what
`scipy.optimize.least_squares` sees are the law's parameters and what differs from cell to cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from devices.fitting.families import Family
from devices.fitting.traces import Array, Mask, Traces

STEP = 1e-5
"""Of the finite differences, in units of x and of parameters of order 1."""

STRAY = 7.0
"""Standard deviations beyond which a read is left out: by chance one in 10¹¹."""

EFFECTS = 4
"""What a cell may have of its own: log factors of both steps, shifts of both bounds."""

PRIOR = np.array([1.0, 1.0, 0.1, 0.1])
"""Size of what cells differ by; its weight is what one read in a hundred weighs."""


class Curve:
    """A law with its parameters along the pulses of traces, without noise; in units of x."""

    def __init__(
        self, family: Family, theta: Array, traces: Traces, walls: Array | None = None
    ) -> None:
        self.family, self.traces = family, traces
        self.ends = None if walls is None else walls[traces.cell]  # walls: (cells, 2)
        self.law = family.tables(theta)
        worth = family.worth(theta, traces)
        self.count = traces.count if worth is None else traces.since(traces.n * worth)

    def __call__(self, start: Array, cell: Array | None = None) -> Array:
        """Conductance of every row, from the starts of traces; `cell` is (cells, EFFECTS)."""
        traces, ends = self.traces, self.ends
        own = None if cell is None else cell[traces.cell]
        if own is not None:
            low, size = own[:, 2], 1 + own[:, 3] - own[:, 2]
            g = (start - low) / size
        else:
            g = start.copy()
        out = np.empty(len(traces.y))
        for up, leg in traces.legs:
            n = self.count[leg.rows]
            if own is not None:
                n = n * np.exp(own[leg.owner, 0 if up else 1])
            x = self.family.advance(self.law, up, g[leg.owner], n)
            if ends is not None:  # a start outside stays outside until it comes in
                begun = g[leg.owner]
                x = (
                    np.minimum(x, np.maximum(ends[leg.owner, 1], begun))
                    if up
                    else np.maximum(x, np.minimum(ends[leg.owner, 0], begun))
                )
            out[leg.rows] = x
            g[leg.owner[leg.last]] = x[leg.last]
        if own is not None:
            out = out * size[traces.trace] + low[traces.trace]
        return out

    def begun(self, start: Array, cell: Array | None, weight: float) -> tuple[Array, Array, Array]:
        """The best start of every trace, the curve of its reads, its slope against the start."""
        t, seen = self.traces, self.traces.seen
        y, first, trace = t.y[seen], t.y[t.first], t.trace[seen]
        for _ in range(8):
            m = self(start, cell)[seen]
            slope = (self(start + STEP, cell)[seen] - m) / STEP
            gain = np.bincount(trace, slope * (y - m), t.size) + weight**2 * (first - start)
            size = np.bincount(trace, slope * slope, t.size) + weight**2 + 1e-9
            move = gain / size
            start = start + np.clip(move, -0.1, 0.1)
            if np.abs(move).max() < 1e-6:  # the curve is a line that far
                return start, m + slope * move[trace], slope
        return start, self(start, cell)[seen], slope


Pins = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Shot:
    """A law fitted to traces."""

    family: Family
    traces: Traces
    theta: Array
    start: Array
    cell: Array | None
    walls: Array | None
    mean: Array  # (rows,)
    jacobian: Array  # (reads + starts + ridge, parameters + cells' own), starts projected out
    weight: float  # of the first read of a trace

    @property
    def residual(self) -> Array:
        """Read − curve, of rows with a read."""
        return (self.traces.y - self.mean)[self.traces.seen]

    @property
    def rmse(self) -> float:
        """Root mean square of the residuals, in units of x."""
        return float(np.sqrt(np.mean(self.residual**2)))


def shoot(
    family: Family,
    traces: Traces,
    begin: Array,
    *,
    weight: float = 0.0,
    cells: bool = False,
    own: Array | None = None,
    walls: Array | None = None,
    pins: Pins | None = None,
    rounds: int = 60,
) -> Shot:
    """Least squares of the curve on all reads.

    Args:
        family: the law.
        traces: the reads.
        begin: parameters to begin with.
        weight: of the first read of a trace beside its others.
        cells: whether cells have steps and bounds of their own.
        own: theirs, to begin with.
        walls: hard ends of every cell.
        pins: what must vanish, as a function of the parameters: fields that are known.
        rounds: evaluations at most.
    """
    p = len(begin)
    many = traces.cells if cells else 0
    seen, trace = traces.seen, traces.trace[traces.seen]
    y, first = traces.y[seen], traces.y[traces.first]
    start = first.copy()
    ridge = 0.01 / PRIOR

    def unpack(u: Array) -> tuple[Array, Array | None]:
        return u[:p], u[p:].reshape(many, EFFECTS) if many else None

    def by_trace(values: Array) -> Array:
        return np.asarray(np.bincount(trace, values, traces.size), dtype=np.float64)

    last: tuple[bytes, Curve, Array, Array] | None = None

    def settled(u: Array) -> tuple[Curve, Array, Array]:
        """The curve of these parameters, its reads from the best starts, slopes against them."""
        nonlocal start, last
        if last is None or last[0] != u.tobytes():
            theta, cell = unpack(u)
            own = Curve(family, theta, traces, walls)
            start, m, slope = own.begun(start, cell, weight)
            last = u.tobytes(), own, m, slope
        return last[1:]

    def residual(u: Array) -> Array:
        theta, cell = unpack(u)
        _, m, _ = settled(u)
        parts = [m - y, weight * (start - first)]
        if cell is not None:
            parts.append((cell * ridge).ravel())
        if pins is not None:
            parts.append(pins(theta))
        out = np.concatenate(parts)
        return np.where(np.isfinite(out), np.clip(out, -1e3, 1e3), 1e3)

    def jacobian(u: Array) -> Array:
        theta, cell = unpack(u)
        own_curve, m, slope = settled(u)
        size = by_trace(slope * slope) + weight**2 + 1e-9
        held = 0 if pins is None else len(pins(theta))
        out = np.zeros((len(y) + traces.size + many * EFFECTS + held, p + many * EFFECTS))

        def fill(column: int, d: Array, apart: int = 0) -> None:
            """One column, or one of each cell, which its own traces alone have."""
            back = by_trace(slope * d) / size
            at = column + apart * traces.cell
            out[np.arange(len(y)), at[trace]] = d - slope * back[trace]
            out[len(y) + np.arange(traces.size), at] = -weight * back

        for i in range(p):
            moved = theta.copy()
            by = STEP if theta[i] + STEP <= family.high[i] else -STEP
            moved[i] += by
            fill(i, (Curve(family, moved, traces, walls)(start, cell)[seen] - m) / by)
            if pins is not None:
                out[-held:, i] = (pins(moved) - pins(theta)) / by
        for e in range(EFFECTS if many else 0):
            assert cell is not None
            shifted = cell.copy()
            shifted[:, e] += STEP
            d = (own_curve(start, shifted)[seen] - m) / STEP
            fill(p + e, d, EFFECTS)
        if many:
            rows = len(y) + traces.size + np.arange(many * EFFECTS)
            out[rows, p + np.arange(many * EFFECTS)] = np.tile(ridge, many)
        return np.where(np.isfinite(out), out, 0.0)

    wide = np.tile([2.0, 2.0, 0.5, 0.5], many)
    low, high = np.r_[family.low, -wide], np.r_[family.high, wide]
    effects = np.zeros((many, EFFECTS)) if own is None else own[:many]
    at = np.clip(np.r_[begin, effects.ravel()], low + 1e-6, high - 1e-6)
    found = least_squares(
        residual,
        at,
        jac=jacobian,
        bounds=(low, high),
        method="trf",
        x_scale="jac",
        ftol=1e-8,
        xtol=1e-8,
        max_nfev=rounds,
    )
    theta, cell = unpack(found.x)
    mean = settled(found.x)[0](start, cell)
    jac = jacobian(found.x)
    return Shot(family, traces, theta, start.copy(), cell, walls, mean, jac, weight)


def roughness(shot: Shot) -> float:
    """Standard deviation of the white part of the residuals, from their third differences.

    A law that misfits leaves a smooth curve in the residuals, which these do not see.
    """
    r, ramp = shot.residual, shot.traces.ramp[shot.traces.seen]
    third = r[3:] - 3 * r[2:-1] + 3 * r[1:-2] - r[:-3]
    third = third[ramp[3:] == ramp[:-3]]
    if len(third) < 4:
        return shot.rmse + 1e-9
    return float(1.4826 * np.median(np.abs(third - np.median(third))) / np.sqrt(20)) + 1e-9


def direct(shot: Shot) -> float:
    """Read noise from what differences of neighbouring reads share, whatever pulses and law do.

    −E[(e₁ − e₀)(e₂ − e₁)] is the variance of white noise alone; 0 where nothing alternates.
    """
    r, ramp = shot.residual, shot.traces.ramp[shot.traces.seen]
    step = np.where(ramp[1:] == ramp[:-1], np.diff(r), np.nan)
    pair = np.isfinite(step[1:] * step[:-1]) & (ramp[2:] == ramp[:-2])
    if pair.sum() < 8:
        return 0.0
    product = (step[1:] * step[:-1])[pair]
    # a mean without the farthest, as of jumps that no noise makes
    kept = np.abs(product) <= 30 * np.median(np.abs(product))
    return float(np.sqrt(max(-product[kept].mean(), 0.0)))


def misfit(shot: Shot) -> float:
    """Error of the law itself, in units of x: what all traces leave at the same conductances.

    Residuals are averaged over a tenth of the range, one direction and one trace; what is common to
    traces beyond their scatter is the law's. Fewer than three traces cannot tell it from slow noise
    of theirs, and all beyond three times the white part counts.
    """
    white, t = roughness(shot), shot.traces
    if t.size < 3:
        return shot.rmse if shot.rmse > 3 * white else 0.0
    seen = t.seen
    place = np.clip((10 * shot.mean[seen]).astype(int), -1, 10) + 1
    group = t.trace[seen] * 24 + place * 2 + t.up[seen]
    size = np.bincount(group, minlength=24 * t.size).reshape(t.size, 24)
    total = np.bincount(group, shot.residual, 24 * t.size).reshape(t.size, 24)
    mean = total / np.maximum(size, 1)
    common, weight = 0.0, 0
    for own, reads in zip(mean.T, size.T, strict=True):
        own = own[reads > 0]
        if len(own) >= 3:
            common += reads.sum() * (own.mean() ** 2 - own.var(ddof=1) / len(own))
            weight += int(reads.sum())
    return float(np.sqrt(max(common, 0.0) / max(weight, 1)))


def strays(shot: Shot) -> Mask:
    """Rows whose read stands out from the residuals around it, far beyond their scatter."""
    out = np.zeros(len(shot.traces.y), dtype=bool)
    r, trace = shot.residual, shot.traces.trace[shot.traces.seen]
    if len(r) < 8:
        return out
    at = np.arange(len(r))
    first, last = np.searchsorted(trace, trace), np.searchsorted(trace, trace, side="right") - 1
    # the nearest reads of the trace: two before and two after, or what there is at its ends
    low = np.clip(at - 2, first, np.maximum(last - 4, first))
    near = np.minimum(low[:, None] + np.arange(5), last[:, None])
    away = r - np.median(r[near], axis=1)
    limit = max(STRAY * 1.4826 * float(np.median(np.abs(away))), STRAY * roughness(shot))
    out[np.nonzero(shot.traces.seen)[0]] = np.abs(away) > limit
    out[shot.traces.first] = False
    return out


def correlation(shot: Shot) -> float:
    """Integrated autocorrelation time of the residuals, in reads."""
    r, trace = shot.residual, shot.traces.trace[shot.traces.seen]
    power, total = float(np.mean(r * r)), 1.0
    for lag in range(1, len(r) // 2):
        pair = trace[lag:] == trace[:-lag]
        if pair.sum() < 5:
            break
        rho = float(np.mean((r[lag:] * r[:-lag])[pair])) / (power + 1e-30)
        if rho < 0.05:
            break
        total += 2 * rho
    return total


def first_weight(shot: Shot) -> float:
    """How much more than others the first read of a trace weighs under pulse noise or misfit."""
    ratio = shot.rmse / roughness(shot)
    if ratio < 1.3:
        return 0.0
    return float(np.sqrt(max(0.0, ratio**2 * correlation(shot) - 1)))
