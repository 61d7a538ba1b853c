"""What is checked before any law: polarity, whether there is a step, spikes, the steps' sizes."""

from __future__ import annotations

import numpy as np

from devices.fitting.data import Unidentified
from devices.fitting.families import Seen
from devices.fitting.traces import Array, Mask, Traces

PIECES = 8
"""Parts of a ramp whose slopes start a fit."""


FEWEST = 4
"""Reads after pulses without which there is no step to speak of."""


def slopes(traces: Traces, pieces: int) -> tuple[Array, Array, Array, Mask]:
    """Slope per pulse of parts of every ramp: slope, its standard error, mean x, whether up."""
    seen = traces.seen
    count = np.cumsum(traces.n)
    ramp = traces.ramp[seen]
    y, n, up = traces.y[seen], count[seen], traces.up[seen]
    first = np.searchsorted(ramp, ramp)
    reads = np.bincount(ramp, minlength=int(ramp.max()) + 1)[ramp]
    part = ((np.arange(len(ramp)) - first) * np.minimum(pieces, np.maximum(reads // 3, 1))) // reads
    group = np.unique(ramp * pieces + part, return_inverse=True)[1]
    k = np.bincount(group).astype(np.float64)
    my, mn = np.bincount(group, y) / k, np.bincount(group, n) / k
    dn, dy = n - mn[group], y - my[group]
    snn = np.bincount(group, dn * dn)
    good = (k >= 2) & (snn > 0)
    slope = np.bincount(group, dn * dy) / np.where(good, snn, 1.0)
    rest = np.bincount(group, (dy - slope[group] * dn) ** 2)
    error = np.sqrt(rest / np.maximum(k - 2, 1) / np.where(good, snn, 1.0))
    error[k < 3] = np.nan
    ways = np.bincount(group, up) / k > 0.5
    return slope[good], error[good], my[good], ways[good]


def _z(t: Array) -> float:
    return float(t.sum() / np.sqrt(len(t)))


def check(traces: Traces) -> None:
    """Refuse ramps that do not move as their polarity says, by a z-value over all of them.

    Raises:
        ValueError: up pulses lower the conductance: polarity.
        Unidentified: no step at all, or no pulses of a direction.
    """
    reads = int(traces.seen.sum())
    if reads - traces.size < FEWEST:
        raise Unidentified(
            f"dg_min cannot be identified: {reads} reads are too few to tell steps from their noise"
        )
    slope, error, _, up = slopes(traces, 1)
    sign = np.where(up, 1.0, -1.0)
    sure = np.isfinite(error) & (error > 0)
    if sure.any():
        t = np.clip(sign[sure] * slope[sure] / error[sure], -30, 30)
        z = _z(t)
    else:  # ramps of two reads: the moves themselves
        move = sign * slope
        z = float(move.mean() / (move.std() / np.sqrt(len(move)) + 1e-12))
    right = int((sign * slope > 0).sum())
    if sure.any() and up[sure].any() and not up[sure].all():
        ways = {word: _z(t[up[sure] == way]) for word, way in (("up", True), ("down", False))}
        with_, against = max(ways, key=ways.__getitem__), min(ways, key=ways.__getitem__)
        if ways[with_] > 4 and ways[against] < -4:
            raise ValueError(
                f"ramps {against} move the conductance as ramps {with_} do (z = "
                f"{ways[against]:.0f}): are their points listed from the last to the first, as for "
                "some figures and fitting scripts? Then turn their order round in the file"
            )
    if z < -4:
        raise ValueError(
            f"up pulses lower the conductance in {len(slope) - right} of {len(slope)} ramps "
            f"(z = {z:.0f}): the polarity is swapped. Exchange up and down in the file (on many "
            "stacks SET is the negative voltage)"
        )
    if z < 4:
        raise Unidentified(
            f"dg_min cannot be identified: over {len(slope)} ramps the reads move no more than "
            f"they scatter (z = {z:.1f}); more pulses or less read noise are needed"
        )


def sizes(traces: Traces) -> Seen:
    """Step at mid-range and relative slope of both directions, by least squares of slopes."""
    slope, _, x, up = slopes(traces, PIECES)
    out: list[float] = []
    whole = float(np.abs(slope).mean()) + 1e-6
    for way, sign in ((up, 1.0), (~up, -1.0)):
        own, at = sign * slope[way], x[way]
        if not len(own):
            out += [whole, 0.0]
            continue
        middle = max(float(np.median(own)), 1e-6)
        step, tilt = middle, 0.0
        if len(own) > 3 and np.ptp(at) > 0.1:
            keep = np.abs(own - middle) <= 8 * np.median(np.abs(own - middle)) + 1e-12
            b, a = np.polyfit(at[keep] - 0.5, own[keep], 1)
            if a > 0.1 * middle:
                step, tilt = float(a), float(np.clip(b / a, -5, 5))
        out += [step, tilt]
    return Seen(*out)


def without_spikes(traces: Traces) -> tuple[Traces, int]:
    """Reads that stand out from both neighbours of one ramp, far beyond the others' scatter."""
    y, ramp = traces.y, traces.ramp
    if len(y) < 8:
        return traces, 0
    behind, ahead = y[1:-1] - y[:-2], y[1:-1] - y[2:]
    inside = (ramp[2:] == ramp[:-2]) & np.isfinite(behind) & np.isfinite(ahead)
    if inside.sum() < 8:
        return traces, 0
    bend = np.abs(behind + ahead)[inside]
    limit = 6 * 1.4826 * float(np.median(bend)) + 1e-9
    spike = np.zeros(len(y), dtype=bool)
    spike[1:-1] = inside & (behind * ahead > 0)
    spike[1:-1] &= np.minimum(np.abs(behind), np.abs(ahead)) > limit
    count = int(spike[traces.seen].sum())
    return (traces.without(spike).rescaled() if count else traces), count
