"""Noise taken apart: every kind with its interval, and what the reads cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.optimize import minimize
from scipy.stats import t

from devices.fitting.likelihood import Around, Levels, Likelihood, around
from devices.fitting.shooting import Shot, direct, misfit, roughness
from devices.fitting.traces import Array

PARTS = ("read", "pulse", "colour", "cycle", "tilt")
ORDER = tuple(field.name for field in fields(Levels))
STEP = 1e-4  # of differences of the log-likelihood
DROP = 1.9207  # half the 95 % point of chi-square with one degree of freedom

FAR = 8.0
"""Times the white part of the residuals from which on their slow part must not touch it."""

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
    s = noise.levels
    ramps = np.bincount(shot.traces.ramp, weights=shot.traces.n)
    long = s.tau > float(np.median(ramps[ramps > 0])) / 4
    if noise.parts["colour"].value > s.read / 3 and long:
        plain = taken_apart(shot, additive=additive, bind=bind, coloured=False, intervals=False)
        top = max(noise.parts["pulse"].high, plain.parts["pulse"].value)
        parts = noise.parts | {"pulse": replace(noise.parts["pulse"], high=top)}
        noise = replace(noise, parts=parts)
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
    several = at.traces >= 3 and at.traces > len(np.unique(at.cell))
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
    least = 0.03 * rough  # below it the factorisation loses its digits
    lows[0] = 0.5 * np.log(least**2 + delta["read"] ** 2)
    if bind is not None:
        lows[0] = 0.5 * np.log(bind[0] ** 2 + delta["read"] ** 2)
        highs[0] = 0.5 * np.log(bind[1] ** 2 + delta["read"] ** 2)
    bounds = [*zip(lows, highs, strict=True), (0.0, float(np.log(cap)))]

    def levels(z: Array) -> Array:
        """Levels of many z (sets, names and log τ), as `Levels.row`."""
        out = np.zeros((len(z), len(ORDER)))
        out[:, ORDER.index("tau")] = np.exp(z[:, -1])
        for i, name in enumerate(names):
            own = np.sqrt(np.maximum(np.exp(2 * z[:, i]) - delta[name] ** 2, 0.0))
            out[:, ORDER.index(name)] = own
        return out

    def at_levels(shares: dict[str, float], tau: float) -> Array:
        z = [0.5 * np.log((shares[n] * most[n]) ** 2 + delta[n] ** 2) for n in names]
        return np.array([*z, np.log(tau)])

    tau = min(6.0, cap)
    begun = (
        {"read": 0.5, "pulse": 0.3, "colour": 0.02, "cycle": 0.1, "tilt": 0.1},
        {"read": 0.5, "pulse": 0.02, "colour": 0.4, "cycle": 0.1, "tilt": 0.1},
    )
    # losses count from here, so that what ends a search is a difference, not a part
    top = float(model(levels(at_levels(begun[0], tau)[None]))[0])

    def solve(z: Array, held: int | None = None) -> tuple[float, Array]:
        own = list(bounds)
        if held is not None:
            own[held] = (z[held], z[held])
        z = np.clip(z, [b[0] for b in own], [b[1] for b in own])
        free = np.array([i for i in range(len(z)) if i != held])

        def loss(z: Array) -> tuple[float, Array]:
            # the value and its slopes, by differences away from the upper bounds, in one call
            by = np.where(z + STEP > [b[1] for b in own], -STEP, STEP)
            value = top - model(levels(np.vstack([z, z + np.diag(by)[free]])))
            slope = np.zeros(len(z))
            slope[free] = (value[1:] - value[0]) / by[free]
            return float(value[0]), slope

        out = minimize(
            loss,
            z,
            jac=True,
            method="L-BFGS-B",
            bounds=own,
            # others that lag behind would make the profile too narrow
            options={"maxiter": 60 if held is None else 8, "ftol": 1e-5},
        )
        return float(out.fun), out.x

    # pulse noise with and without slow reads: where both hold, intervals reach over both
    optima = sorted((solve(at_levels(b, tau)) for b in begun), key=lambda one: one[0])
    least_loss, best = optima[0]
    other, near = optima[1]
    apart = other - least_loss < DROP and float(np.abs(near - best)[:-1].max()) > 0.2
    optima = optima[: 1 + apart]
    parts: dict[str, Part] = {}
    found = Levels(*levels(best[None])[0].tolist())
    averages = [(1.0, found)]
    for i, name in enumerate(names):
        value = _value(found, name)
        if not intervals:
            parts[name] = Part(value, 0.0, np.inf)
            continue
        reached = [
            _profile(i, at, fun - least_loss, least_loss, bounds, solve, delta[name])
            for fun, at in optima
        ]
        low, high = min(r[0] for r in reached), max(r[1] for r in reached)
        seen = [point for r in reached for point in r[2]]
        if name == "read" and bind is None and low <= 1.05 * least:
            low = 0.0
        if name == "pulse" and low > 0:
            none = best.copy()
            none[i] = bounds[i][0]
            low = low if solve(none, i)[0] - least_loss > SURE else 0.0
        parts[name] = Part(value, min(low, value), max(high, value))
        if name == "pulse":
            averages += [
                (float(np.exp(-drop)), Levels(*levels(z[None])[0].tolist())) for drop, z in seen
            ]
    for name in PARTS:
        parts.setdefault(name, Part(0.0, 0.0, np.inf))
    if model.drifts and intervals:
        value, error = model.drift(found)
        reach = float(t.ppf(0.975, at.traces - 2)) * error
        parts["drift"] = Part(value, value - reach, value + reach)
    return Noise(
        found,
        parts,
        _left(found, parts, at, several, both),
        top - least_loss,
        tuple(averages),
    )


def _value(s: Levels, name: str) -> float:
    value = float(getattr(s, name))
    return value if value > 2e-5 else 0.0


def _profile(
    i: int,
    best: Array,
    above: float,  # the loss at an optimum, over the least one
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
        inner, z, last = float(best[i]), best.copy(), best.copy()
        if abs(end - inner) < 1e-6:
            ends.append(variance(end))
            continue
        side = 1.0 if end > inner else -1.0
        a, fa = inner, np.sqrt(max(above, 0.0))  # drop's square root is nearly linear in z
        b = inner + side * min(abs(end - inner), 0.15)
        reached = None
        for _ in range(4):
            # the others go on as they went from the point before
            ahead = z + (z - last) * ((b - z[i]) / (z[i] - last[i]) if z[i] != last[i] else 0.0)
            ahead[i] = b
            last = z.copy()
            value, z = solve(ahead, i)
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
    # the noise of some traces stands for all
    part, grow = rows[:, at.reads], len(at.reads) / float(at.reads.sum())
    total = np.zeros((len(rows), len(rows)))
    weight = 0.0
    for share, s in noise.averages:
        total += share * part @ model.spread(s, part, s.read**2 + 1e-12)
        weight += share
    out = total / weight * grow
    return np.asarray((out + out.T) / 2)
