"""Noise taken apart: every kind with its interval, and what the reads cannot tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t

from devices.fitting.likelihood import Around, Levels, Likelihood, around
from devices.fitting.search import DROP, Point, Profile, Search
from devices.fitting.shooting import Shot, direct, misfit, roughness
from devices.fitting.traces import Array

PARTS = ("read", "pulse", "colour", "cycle", "tilt")

FAR = 8.0
"""Times the white part of the residuals from which on their slow part must not touch it."""

BETTER = 0.1
"""Of the log-likelihood, from which on a point of a profile is a better optimum."""

SURE = 7.5
"""Drop of the log-likelihood from which on pulse noise is more than 0 (chance 1 in 10⁴).

It adds up in training, so that inventing it costs more than missing a little of it.
"""


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


def noise_of(shot: Shot, *, additive: bool) -> tuple[Noise, list[str]]:
    """The noise around a curve; under misfit the read noise is held to its direct value."""
    white = roughness(shot)
    said = []
    bind = None
    error = misfit(shot)
    if error > white or shot.rmse > FAR * white:
        # third differences hold noise of the pulses too, which products of neighbours do not
        bind = (0.75 * min(direct(shot) or white, white), 1.33 * white)
    noise = taken_apart(shot, additive=additive, bind=bind)
    if bind is not None and error <= white:
        said.append(
            f"ramps differ among themselves by {shot.rmse / white:.0f} times the read noise, which "
            "is held to what neighbouring reads show"
        )
    elif error > white:
        said.append(
            f"the curve leaves the reads by {error / white:.1f} times the read noise: the law "
            "misfits, the read noise is held to what neighbouring reads show, and the other kinds "
            "cannot be told from the law's error"
        )
    return noise, [*said, *noise.left]


def taken_apart(
    shot: Shot,
    *,
    additive: bool = False,
    bind: tuple[float, float] | None = None,
) -> Noise:
    """The noise of the reads around a curve by restricted maximum likelihood.

    Args:
        shot: the fitted law.
        additive: whether a pulse's noise is relative to the window instead of its step.
        bind: range of the read noise, where the law misfits.
    """
    at = around(shot, additive=additive)
    model = Likelihood(at)
    several = at.traces >= 3 and at.traces > len(np.unique(at.cell))
    ramp_of = np.cumsum(at.first)
    ways = [set(ramp_of[(at.up == way) & (at.n > 0)]) for way in (True, False)]
    both = several and len(ways[0]) > 2 and bool(ways[0] & ways[1])
    rough, most = _largest(at, several, both)
    # below a part of it the factorisation loses its digits
    least = 0.03 * rough
    within = bind or (least, 3 * most["read"]), max(at.pulses, 4.0)
    search = Search(model, most, *within)
    tau = min(6.0, max(at.pulses, 4.0))
    shares = {"read": 0.5, "pulse": 0.3, "colour": 0.02, "cycle": 0.1, "tilt": 0.1}
    begun = [search.at(shares | own, tau) for own in ({}, {"pulse": 0.02, "colour": 0.4})]
    found = [search.best(z) for z in begun]
    for more in (True, True, True, False):
        found.sort(key=lambda one: one.loss)
        best, other = found
        # pulse noise with and without slow reads: where both hold, intervals reach over both
        apart = other.loss - best.loss < DROP and np.abs(other.z - best.z)[:-1].max() > 0.2
        profiles: dict[str, Profile] = {}
        for i, name in enumerate(most):
            own = [search.profile(i, one, best.loss) for one in found[: 1 + apart]]
            profiles[name] = Profile.of(own)
            lowest = min(profiles[name].points, key=lambda one: one.loss, default=best)
            if more and lowest.loss < best.loss - BETTER:
                found = [search.best(lowest.z), found[0]]
                break
        else:
            break
    levels = search.levels(best.z)
    averages = [(1.0, levels)]
    parts = {name: Part(0.0, 0.0, np.inf) for name in PARTS}
    parts |= {name: Part(_value(levels, name), 0.0, np.inf) for name in most}
    for name, (low, high, points) in profiles.items():
        if name == "read" and bind is None and low <= 1.05 * least:
            low = 0.0
        if name == "pulse" and low > 0:
            none = search.without(search.names.index(name), best.z)
            low = low if none.loss - best.loss > SURE else 0.0
        value = parts[name].value
        parts[name] = Part(value, min(low, value), max(high, value))
        if name == "pulse":
            averages += [
                (float(np.exp(-max(point.loss - best.loss, 0.0))), search.levels(point.z))
                for point in points
            ]
    if levels.colour > 0:
        top = _steady(
            search, best, Search(model, {k: most[k] for k in most if k != "colour"}, *within)
        )
        parts["pulse"] = replace(parts["pulse"], high=max(parts["pulse"].high, top))
    if levels.colour > levels.read / 3 and levels.tau > at.pulses / 4:
        # without slow reads, which nothing tells from it, the noise of pulses would be that much
        plain = search.without(search.names.index("colour"), begun[0])
        top = search.levels(plain.z).pulse
        parts["pulse"] = replace(parts["pulse"], high=max(parts["pulse"].high, top))
    if model.drifts:
        value, error = model(levels).drift
        reach = float(t.ppf(0.975, at.traces - 2)) * error
        parts["drift"] = Part(value, value - reach, value + reach)
    left = _left(levels, at, several)
    return Noise(levels, parts, left, -best.loss, tuple(averages))


def _steady(search: Search, best: Point, alone: Search) -> float:
    """The most that pulse noise may be without slow reads, where there may be none; else 0.

    At the bound of one kind of noise the likelihood along another is too narrow.
    """
    i = search.names.index("colour")
    none = search.without(i, best.z)
    if none.loss - best.loss > DROP:
        return 0.0
    own = alone.best(np.delete(none.z, i))
    return alone.profile(alone.names.index("pulse"), own, own.loss).high


def _largest(at: Around, several: bool, both: bool) -> tuple[float, dict[str, float]]:
    """The scatter from read to read, and the most that every kind may be; 0 is left out."""
    r, ramp_of = at.r, np.cumsum(at.first)
    jump = np.diff(r)[(np.diff(ramp_of) == 0) & np.isfinite(np.diff(r))]
    total = float(np.nanstd(r)) + 1e-9
    rough = float(1.4826 * np.median(np.abs(jump - np.median(jump))) if len(jump) else total) + 1e-9
    step = np.sqrt(at.n) * (np.abs(at.v) if not at.additive else 1.0)
    typical = float(np.median(step[at.n > 0])) + 1e-12
    drift = np.bincount(ramp_of, weights=np.abs(at.n * at.v) * (np.nan_to_num(at.f) > 0))
    reach = float(np.median(drift[drift > 0])) + 1e-12
    most = {
        "read": max(rough, total / 10),
        "pulse": min(3 * max(rough, total / at.pulses**0.5) / typical, 30.0),
        "colour": 2 * total,
        "cycle": min(4 * total / reach, 1.0) if several else 0.0,
        "tilt": min(4 * total / reach, 1.0) if both else 0.0,
    }
    return rough, {name: value for name, value in most.items() if value > 0}


def _value(s: Levels, name: str) -> float:
    value = float(getattr(s, name))
    return value if value > 2e-5 else 0.0


def _left(s: Levels, at: Around, several: bool) -> tuple[str, ...]:
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
    # what no read shows is not 0 but what rounding makes of a finite difference
    keep = np.abs(full).max(axis=0) > 1e-9
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
    # the noise of some traces stands for all
    part, grow = rows[:, at.reads], len(at.reads) / float(at.reads.sum())
    total = np.zeros((len(rows), len(rows)))
    weight = 0.0
    for share, s in noise.averages:
        total += share * model.spread(s, part, s.read**2 + 1e-12)
        weight += share
    out = total / weight * grow
    return np.asarray((out + out.T) / 2)
