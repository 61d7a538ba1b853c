"""Binary cells: two levels, how readily pulses switch, and what scatters around the levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, chi2

from devices.fitting.noise import Part
from devices.fitting.traces import Array, Traces

GAP = 0.15
"""Part of the range that no read falls into between two clusters."""

LONG = 6
"""Reads in a ramp from which on cells are gradual."""


@dataclass(frozen=True)
class Binary:
    """What the reads of binary cells say; levels in units of x."""

    off: float
    on: float
    up: Part  # chance of an up pulse to switch on
    down: Part
    off_scatter: float  # standard deviation of a written state
    on_scatter: float
    read: Part | None  # from repeated reads; None where no state is read twice


def clusters(traces: Traces) -> float | None:
    """The conductance between two clusters of reads, or None."""
    y = np.sort(traces.y[traces.seen])
    if len(y) < 8:
        return None
    counts = np.bincount(traces.ramp[traces.seen])
    if np.median(counts[counts > 0]) >= LONG:
        return None
    gaps = np.diff(y)
    k = int(np.argmax(gaps))
    low, high = y[: k + 1], y[k + 1 :]
    if gaps[k] < GAP * np.ptp(y) or min(len(low), len(high)) < 3:
        return None
    apart = float(np.median(high) - np.median(low))
    spread = float(np.hypot(_robust(low), _robust(high)))
    return float(low[-1] + high[0]) / 2 if apart > 4 * spread else None


def _robust(y: Array) -> float:
    return float(1.4826 * np.median(np.abs(y - np.median(y))))


def switches(traces: Traces, middle: float) -> Binary:
    """Levels, chances and noise of cells whose reads lie on two sides of `middle`."""
    y, n, up, trace = traces.y, traces.n, traces.up, traces.trace
    same = np.r_[False, trace[1:] == trace[:-1]]
    before = np.r_[np.nan, y[:-1]]
    known = same & np.isfinite(y) & np.isfinite(before)
    chances = []
    for way, off in ((True, True), (False, False)):
        tried = known & (n > 0) & (up == way) & ((before < middle) == off)
        count, done = int(tried.sum()), int((tried & ((y < middle) != off)).sum())
        pulses = float(n[tried].mean()) if count else 1.0
        share = done / count if count else 1.0
        low = float(beta.ppf(0.025, done, count - done + 1)) if done else 0.0
        high = float(beta.ppf(0.975, done + 1, count - done)) if done < count else 1.0
        chances.append(Part(*(1 - (1 - p) ** (1 / pulses) for p in (share, low, high))))
    again = known & (n == 0)
    read = None
    if again.any():
        jump = (y - before)[again]
        value, k = float(np.sqrt(np.mean(jump**2) / 2)), len(jump)
        low, high = chi_interval(value**2, k)
        read = Part(value, low**0.5, high**0.5)
    on = y[np.isfinite(y) & (y > middle)]
    low_state = y[np.isfinite(y) & (y <= middle)]
    white = 0.0 if read is None else read.value
    scatter = [float(np.sqrt(max(s.var() - white**2, 0.0))) for s in (low_state, on)]
    off_level, on_level = float(low_state.mean()), float(on.mean())
    return Binary(off_level, on_level, chances[0], chances[1], scatter[0], scatter[1], read)


def chi_interval(variance: float, freedom: float) -> tuple[float, float]:
    """95 % interval of a variance estimated with so many degrees of freedom."""
    from_, to = (float(q) for q in chi2.ppf([0.975, 0.025], freedom))
    return variance * freedom / from_, variance * freedom / to
