"""Read noise and write error, each from its own measurement."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bartlett

from devices.curve import Table
from devices.fitting.parts import FEWEST, PartFit, groups_of, table
from devices.fitting.result import Parameter
from devices.fitting.switching import chi_interval
from devices.fitting.traces import Array, Mask
from devices.read.gaussian import GaussianRead, ProportionalRead
from devices.read.state import FlickerRead, StateRead
from devices.read.telegraph import TelegraphRead
from devices.write.gaussian import GaussianWrite
from devices.write.state import StateWrite


def _deviation(variance: float, freedom: float, unit: float, name: str = "") -> Parameter:
    """A standard deviation in a unit, with its chi-square interval."""
    low, high = chi_interval(variance, max(freedom, 1.0))
    value, low, high = (float(v) ** 0.5 / unit for v in (variance, low, high))
    return Parameter(value, low, high, name)


def fit_write(target: ArrayLike, achieved: ArrayLike, *, window: tuple[float, float]) -> PartFit:
    """The error of writing: `GaussianWrite`, or `StateWrite` where it depends on the target.

    Targets are put into bins; where the variances of the bins differ (Bartlett's test, 1 %) the
    error is a table of them.

    Args:
        target: wanted conductances [S].
        achieved: those read after the write [S]; noise of the read counts as error.
        window: g_min and g_max of the device [S].

    Raises:
        ValueError: unequal shapes or fewer than eight writes.
    """
    want, got = (np.asarray(v, dtype=np.float64).ravel() for v in (target, achieved))
    if want.shape != got.shape:
        raise ValueError(f"target and achieved must match, got {want.shape} and {got.shape}")
    keep = np.isfinite(want) & np.isfinite(got)
    want, got = want[keep], got[keep]
    if len(want) < 8:
        raise ValueError(f"at least eight writes are needed, got {len(want)}")
    low, high = window
    span, error = high - low, got - want
    bias = float(error.mean())
    half = 1.96 * float(error.std(ddof=1)) / len(error) ** 0.5
    said = [
        f"mean error {bias:.3g} ± {half:.2g} S"
        + ("" if abs(bias) <= half else ": a bias, which the device does not have")
    ]
    groups = groups_of((want - low) / span, FEWEST)
    if len(groups) > 1:
        parts = [error[group] for group in groups]
        p = float(bartlett(*parts).pvalue)
        said.append(f"the scatter is alike at all targets with a probability of {p:.2g}")
        if p < 0.01:
            x = [float(((want[group] - low) / span).mean()) for group in groups]
            sigma = [float(part.std(ddof=1)) / span for part in parts]
            parameters = {
                f"sigma at {at:.2f}": _deviation((s * span) ** 2, len(part) - 1.0, span)
                for at, s, part in zip(x, sigma, parts, strict=True)
            }
            write = StateWrite(Table(tuple(x), tuple(sigma)))
            return PartFit(write, parameters, float(error.std() / span), tuple(said))
    parameter = _deviation(float(error.var(ddof=1)), len(error) - 1.0, span)
    return PartFit(
        GaussianWrite(parameter.value), {"sigma": parameter}, float(error.std() / span), tuple(said)
    )


def fit_read(g: ArrayLike, *, window: tuple[float, float], dt: float | None = None) -> PartFit:
    """The noise of repeated reads: white, 1/f or of two levels.

    Two levels (telegraph noise) are found cell by cell; else the mean of blocks of reads says
    whether the noise is white. White noise is constant, proportional to the conductance, or a
    table, whichever the cells' own scatter says; `fit_read` of one conductance gives a constant.

    Args:
        g: reads of cells that nobody wrote in between [S], (cells, reads) or (reads,), evenly in
            time, at least 16.
        window: g_min and g_max of the device [S].
        dt: time from read to read [s]; needed for coloured noise.

    Raises:
        ValueError: too few reads, or coloured noise and no `dt`.
    """
    y = table("g", g)
    if y.shape[1] < 16 or not np.isfinite(y).all():
        raise ValueError("g must be at least 16 reads of every cell, none of them NaN")
    if dt is not None and not dt > 0:
        raise ValueError(f"dt must be > 0 s, got {dt!r}")
    low, high = window
    span = high - low
    levels = [_levels(row) for row in y]
    traps = [found for found in levels if found is not None]
    if traps:
        return _telegraph(y, levels, span, dt)
    mean = y.mean(1)
    variance = y.var(1, ddof=1)
    block = 8
    whole = y.shape[1] // block * block
    means = y[:, :whole].reshape(len(y), -1, block).mean(2)
    if means.shape[1] > 2:
        ratio = float((means.var(1, ddof=1) * block / variance).mean())
        freedom = len(y) * (means.shape[1] - 1)
        if ratio > 1 + 3 * (2 / freedom) ** 0.5:
            return _flicker(y, mean, variance, dt, ratio)
    return _white(y, mean, variance, window)


def _levels(row: Array) -> tuple[Mask, float, float] | None:
    """Whether each read is at the upper of two levels, and both; None for one level."""
    middle = (row.min() + row.max()) / 2
    for _ in range(20):
        up = row > middle
        if up.all() or not up.any():
            return None
        new = (row[up].mean() + row[~up].mean()) / 2
        if abs(new - middle) < 1e-15:
            break
        middle = new
    up = row > middle
    if min(int(up.sum()), int((~up).sum())) < max(3, len(row) // 50):
        return None
    within = float(np.sqrt((row[up].var() + row[~up].var()) / 2))
    apart = float(row[up].mean() - row[~up].mean())
    # halves of one normal are 1.6 of its deviations apart and scatter by 0.6: 2.6
    return (up, float(row[~up].mean()), float(row[up].mean())) if apart > 4.5 * within else None


def _telegraph(
    y: Array, levels: list[tuple[Mask, float, float] | None], span: float, dt: float | None
) -> PartFit:
    if dt is None:
        raise ValueError("the reads jump between two levels: give dt, the time from read to read")
    amplitude, left, up_time, down_time, jumps = [], [], 0.0, 0.0, [0, 0]
    for row, found in zip(y, levels, strict=True):
        if found is None:
            left.append(row - row.mean())
            continue
        up, low, high = found
        amplitude.append((high - low) / float(row.mean()))
        left.append(row - np.where(up, high, low))
        # time in a state over the times it is left: the estimate of exponential dwells
        up_time += float(up[:-1].sum()) * dt
        down_time += float((~up[:-1]).sum()) * dt
        jumps[0] += int((up[:-1] & ~up[1:]).sum())
        jumps[1] += int((~up[:-1] & up[1:]).sum())
    high_, low_ = (time / max(k, 1) for time, k in zip((up_time, down_time), jumps, strict=True))
    size = np.array(amplitude)
    median = min(float(np.median(size)), 1.0)
    white = float(np.sqrt(np.mean(np.concatenate(left) ** 2))) / span
    spread = float(np.log(size).std(ddof=1)) if len(size) > 1 else 0.0
    parameters = {"amplitude": Parameter(median, float(size.min()), float(size.max()))}
    for name, tau, k in (("tau_high", high_, jumps[0]), ("tau_low", low_, jumps[1])):
        ends = chi_interval(1.0, 2.0 * max(k, 1))
        parameters[name] = Parameter(tau, tau * ends[0], tau * ends[1], "s")
    parameters["white"] = _deviation((white * span) ** 2, y.size - 2.0 * len(y), span)
    share = len(size) / len(y)
    part = TelegraphRead(median, high_, low_, share=share, sigma_amplitude=spread, white=white)
    said = f"{len(size)} of {len(y)} cells jump between two levels, {sum(jumps)} jumps in all"
    return PartFit(part, parameters, white, (said,))


def _flicker(y: Array, mean: Array, variance: Array, dt: float | None, ratio: float) -> PartFit:
    if dt is None:
        raise ValueError(
            f"the reads are not white (blocks of eight scatter {ratio:.1f} times too much): give "
            "dt, the time from read to read"
        )
    n = y.shape[1]
    # what a part with the reference time of the whole measurement gives right after its start
    t0 = float(n * dt)
    decades = float(np.log((t0 + dt) / (2 * dt)))
    q = np.sqrt(variance / decades) / mean
    value = float(np.sqrt(np.mean(q**2)))
    parameter = _deviation(value**2, max(len(y) - 1.0, 3.0), 1.0)
    said = (
        f"blocks of eight reads scatter {ratio:.1f} times what white noise gives: coloured. Taken "
        f"as 1/f from {1 / t0:.2g} Hz to {1 / dt:.2g} Hz, the span of these reads"
    )
    return PartFit(FlickerRead(value, t0=t0, t_read=dt), {"q": parameter}, value, (said,))


def _white(y: Array, mean: Array, variance: Array, window: tuple[float, float]) -> PartFit:
    low, high = window
    span, freedom = high - low, y.shape[1] - 1.0
    x = (mean - low) / span
    pooled = float(variance.mean())
    constant = _loss(variance, np.full_like(mean, pooled), freedom)
    ratio = float((variance / mean**2).mean())
    proportional = _loss(variance, ratio * mean**2, freedom)
    groups = groups_of(x, max(2, 2 * FEWEST // y.shape[1]))
    total = float(np.log(y.size))
    score = {"GaussianRead": constant + total, "ProportionalRead": proportional + total}
    if len(groups) > 1:
        own = np.empty_like(mean)
        for group in groups:
            own[group] = variance[group].mean()
        score["StateRead"] = _loss(variance, own, freedom) + len(groups) * total
    best = min(score, key=lambda name: score[name])
    said = tuple(f"{name}: {score[name] - score[best]:+.1f} (−2 log likelihood)" for name in score)
    if best == "GaussianRead":
        parameter = _deviation(pooled, freedom * len(y), span)
        return PartFit(GaussianRead(parameter.value), {"sigma": parameter}, parameter.value, said)
    if best == "ProportionalRead":
        parameter = _deviation(ratio, freedom * len(y), 1.0)
        read = ProportionalRead(parameter.value)
        return PartFit(read, {"sigma": parameter}, parameter.value, said)
    at = [float(x[group].mean()) for group in groups]
    parameters = {
        f"sigma at {a:.2f}": _deviation(float(variance[g].mean()), freedom * len(g), span)
        for a, g in zip(at, groups, strict=True)
    }
    sizes = tuple(p.value for p in parameters.values())
    return PartFit(StateRead(Table(tuple(at), sizes)), parameters, float(np.mean(sizes)), said)


def _loss(variance: Array, expected: Array, freedom: float) -> float:
    """−2 log likelihood of sample variances with so many degrees of freedom."""
    return float(freedom * np.sum(np.log(expected) + variance / expected))
