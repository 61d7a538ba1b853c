"""From a fitted curve to the law that has it: fields in SI, and the device they make.

A bound of a law is never moved to fit a window: soft bounds that reach outside the physical range
are a linear step, and a curve that no law of its own can hold is a piecewise step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from devices.fitting.driven import Driven, Resistive, Threshold
from devices.fitting.families import FLOOR, Abrupt, Affine, Family
from devices.fitting.traces import Array
from devices.part import Update
from devices.update.abrupt import AbruptReset
from devices.update.amplitude import AmplitudeStep
from devices.update.exp_step import ExpStep
from devices.update.neurosim import NeuroSim, curve_constant
from devices.update.piecewise import PiecewiseStep
from devices.update.pow_step import PowStep
from devices.update.querlioz import QuerliozStep
from devices.update.stepped import ConstantStep, LinearStep, SoftBounds
from devices.update.vteam import VTEAM

TABLE = 31
"""Nodes of a piecewise step that stands for another curve."""

INSIDE = 0.1
"""How far inside the range of the reads, which noise widens, a soft bound may lie."""

Fields = dict[str, float]


@dataclass(frozen=True)
class Frame:
    """The units of x and the window of the device in them."""

    low: float  # [S] at x = 0
    span: float  # [S]
    x_min: float
    x_max: float

    @property
    def width(self) -> float:
        """The window in units of x."""
        return self.x_max - self.x_min

    def siemens(self, x: float) -> float:
        """x as a conductance, a rounding below 0 as 0."""
        g = float(self.low + self.span * x)
        return 0.0 if -1e-12 * self.span < g < 0 else g


def _size(family: Family, theta: Array, x: float, up: bool) -> float:
    return float(family.size(theta, np.array([x]), up)[0])


def _pair(up: float, down: float, span: float) -> Fields:
    """Both steps as their mean [S] and imbalance."""
    mean = (up + down) / 2
    return {"dg_min": mean * span, "up_down": (up - down) / mean}


def constant(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `ConstantStep`."""
    middle = (at.x_min + at.x_max) / 2
    up, down = (_size(family, theta, middle, way) for way in (True, False))
    return _pair(up, down, at.span)


def linear(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `LinearStep`."""
    middle, half = (at.x_min + at.x_max) / 2, at.width / 2
    up, down = (_size(family, theta, middle, way) for way in (True, False))
    assert isinstance(family, Affine)
    b_up, b_down = family.line(theta, True)[1], family.line(theta, False)[1]
    return _pair(up, down, at.span) | {
        "gamma_up": -b_up * half / up,
        "gamma_down": -b_down * half / down,
    }


def soft(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `SoftBounds` and its window, where the steps vanish."""
    assert isinstance(family, Affine)
    (a, b), (c, d) = family.line(theta, True), family.line(theta, False)
    high = -a / b if abs(b) > 1e-9 else np.copysign(1e9, -b or 1.0)
    low = -c / d if abs(d) > 1e-9 else -np.copysign(1e9, -d or 1.0)
    up, down = (_size(family, theta, (low + high) / 2, way) for way in (True, False))
    return _pair(up, down, at.span) | {
        "g_min": at.low + at.span * low,
        "g_max": at.low + at.span * high,
    }


def power(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `PowStep` and its window."""
    middle = (theta[4] + theta[5]) / 2
    up, down = (_size(family, theta, middle, way) for way in (True, False))
    return _pair(up, down, at.span) | {
        "gamma_up": float(theta[1]),
        "gamma_down": float(theta[3]),
        "g_min": at.low + at.span * float(theta[4]),
        "g_max": at.low + at.span * float(theta[5]),
    }


def querlioz(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `QuerliozStep`: the steps at the ends that they start from."""
    up, down = _size(family, theta, at.x_min, True), _size(family, theta, at.x_max, False)
    return _pair(up, down, at.span) | {
        "beta_up": float(theta[1]) * at.width,
        "beta_down": float(theta[3]) * at.width,
    }


def bent(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `ExpStep` with its scale a and offset b at their defaults.

    With A↑ e^{γ↑ z} = (A↑ e^{γ↑ b}) e^{(γ↑ a) x} any a ≠ 0 and b give every curve.
    """
    out: dict[str, float] = {}
    sizes = []
    for k, (way, side) in enumerate((("up", 1), ("down", -1))):
        near, far, rate = (float(v) for v in theta[3 * k : 3 * k + 3])
        share = far / np.expm1(rate)
        middle = (at.x_min + at.x_max) / 2
        u = middle if side > 0 else 1 - middle
        gamma = rate * at.width / (2 * ExpStep.a)
        sizes.append(np.exp(near) * (1 - share))
        size = -share / (1 - share) * np.exp(rate * u - side * gamma * ExpStep.b)
        out |= {f"A_{way}": float(size), f"gamma_{way}": gamma}
    return _pair(sizes[0], sizes[1], at.span) | out


def labelled(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `NeuroSim`; pulse numbers are real here."""
    assert isinstance(family, Affine)
    out: Fields = {}
    for way, up in (("up", True), ("down", False)):
        a, b = family.line(theta, up)
        begin, end = (at.x_min, at.x_max) if up else (at.x_max, at.x_min)
        first, last = a + b * begin, a + b * end
        if first * last <= 0:
            number = np.inf
        elif abs(b) < 1e-9:
            number = (end - begin) / a
        else:
            number = np.log(last / first) / np.log1p(b)
        curved = abs(np.log1p(b)) * number  # N/A
        label = _label(curved) * (1 if up else -1) * (1 if b < 0 else -1)
        out |= {f"states_{way}": float(number), f"nl_{way}": label}
    return out


def _label(curved: float) -> float:
    """The size of the label whose curve has N/A = `curved`."""
    if curved < 1e-3:
        return 0.0

    def apart(label: float) -> float:
        return float(curve_constant(torch.tensor(label, dtype=torch.float64))) * curved - 1

    return float(brentq(apart, 1e-4, 9.0)) if apart(9.0) < 0 else np.inf


def tabulated(family: Family, theta: Array, at: Frame) -> Fields:
    """Step of `PiecewiseStep`, the mean over its window; its tables hold the shape."""
    x = np.linspace(at.x_min, at.x_max, TABLE)
    up, down = (np.maximum(family.size(theta, x, way), FLOOR) for way in (True, False))
    mean = float(up.mean() + down.mean()) / 2
    return {"dg_min": mean * at.span, "up_down": float(up.mean() - down.mean()) / mean}


def abrupt(family: Family, theta: Array, at: Frame) -> Fields:
    """What `AbruptReset` has: the SET step at mid-window and the level of a RESET."""
    middle = (at.x_min + at.x_max) / 2
    return {
        "dg_min": _size(family, theta, middle, True) * at.span,
        "level": at.low + at.span * float(theta[2]),
    }


def inner(name: str, family: Family, theta: Array, at: Frame) -> tuple[str, Family, Array]:
    """The law that is fitted, or that of the reference pulse within one of amplitudes."""
    if name != "AmplitudeStep":
        return name, family, theta
    assert isinstance(family, Driven)
    theta = family.split(theta)[0]
    return named(family.base, theta, at), family.base, theta


def amplitude(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `AmplitudeStep` and of the law within it."""
    assert isinstance(family, Driven)
    name, base, own = inner("AmplitudeStep", family, theta, at)
    up, down = family.grown(theta)
    return FIELDS[name](base, own, at) | {
        "v0_up": family.at.v_up / up,
        "v0_down": family.at.v_down / down,
        "kappa": family.split(theta)[1].get("kappa", 1.0),
    }


def threshold(family: Family, theta: Array, at: Frame) -> Fields:
    """Fields of `VTEAM`: rates, thresholds and exponents."""
    assert isinstance(family, Threshold) and isinstance(family.base, Resistive)
    rates, (off, on) = family.base.tables(theta)[:2], family.base.tables(theta)[2:]
    out: Fields = {"g_min": 1 / off, "g_max": 1 / on}
    for way, up, sign, ref in (
        ("on", True, 1, family.at.v_up),
        ("off", False, -1, family.at.v_down),
    ):
        limit, alpha = family.shape(theta, up)
        rate = rates[0 if up else 1] / (off - on)
        out |= {
            f"k_{way}": float(rate / family.at.width / (1 / limit - 1) ** alpha),
            f"v_{way}": sign * limit * ref,
            f"alpha_{way}": alpha,
        }
    return out


FIELDS: dict[str, Callable[[Family, Array, Frame], Fields]] = {
    "ConstantStep": constant,
    "LinearStep": linear,
    "SoftBounds": soft,
    "NeuroSim": labelled,
    "PiecewiseStep": tabulated,
    "PowStep": power,
    "QuerliozStep": querlioz,
    "ExpStep": bent,
    "AbruptReset": abrupt,
    "AmplitudeStep": amplitude,
    "VTEAM": threshold,
}
"""Law → its fields as a function of the fitted parameters."""

LAWS: dict[str, type[Any]] = {
    "ConstantStep": ConstantStep,
    "LinearStep": LinearStep,
    "SoftBounds": SoftBounds,
    "PowStep": PowStep,
    "QuerliozStep": QuerliozStep,
    "ExpStep": ExpStep,
}


def named(family: Family, theta: Array, at: Frame) -> str:
    """The simplest law that has the curve of a family fitted without one in mind."""
    if family.name != "affine":
        return family.name.partition(" ")[0]
    for name in ("SoftBounds", "LinearStep"):
        if holds(name, FIELDS[name](family, theta, at), at) is None:
            return name
    return "PiecewiseStep"


def holds(name: str, own: Fields, at: Frame) -> str | None:
    """Why a law cannot have these fields, or None where it can."""
    g_min, g_max = own.get("g_min", 0.0), own.get("g_max", 1.0)
    if g_min < 0:
        return f"its steps would vanish at {g_min:.3g} S, below 0"
    if g_max > 1:
        return f"its steps would vanish at {g_max:.3g} S, above 1 S"
    if name == "SoftBounds" and (
        g_min > at.siemens(at.x_min + INSIDE * at.width)
        or g_max < at.siemens(at.x_max - INSIDE * at.width)
    ):
        return "its bounds lie inside the range of the reads"
    for way in ("up", "down"):
        gamma, label = own.get(f"gamma_{way}", 0.0), own.get(f"nl_{way}", 0.0)
        if name == "LinearStep" and not -1e-9 <= gamma <= 1:
            return f"gamma_{way} would be {gamma:.3g}, outside 0 … 1"
        if name == "NeuroSim" and not (abs(label) <= 9 and own[f"states_{way}"] < 1e7):
            return f"no label in −9 … 9 bends that much (nl_{way})"
    span = (g_max - g_min) if "g_min" in own else at.width * at.span
    limit = 0.5 if name in ("SoftBounds", "LinearStep") else 1.0
    if own.get("dg_min", 0.0) > limit * span:
        return f"its step exceeds {limit:g} of the window"
    if name == "ExpStep" and own["dg_min"] <= 0:
        return "its far steps grow faster than its exponential can"
    return None


def built(
    name: str, family: Family, theta: Array, at: Frame, noise: Fields
) -> tuple[Update, tuple[float, float], str]:
    """The law with these parameters, its window [S], and what to say where it is another law.

    `noise` are fields of spread and noise in the law's own units.
    """
    said = ""
    if name == "AbruptReset":
        assert isinstance(family, Abrupt)
        return _abrupt(family, theta, at, noise)
    own = FIELDS[name](family, theta, at)
    if isinstance(family, Driven):
        return _driven(name, family, theta, at, own, noise)
    why = holds(name, own, at)
    if why is not None and name == "SoftBounds":
        own = linear(family, theta, at)
        if holds("LinearStep", own, at) is None:
            said = f"SoftBounds: {why}; the same curve is a LinearStep with slopes below 1"
            name, why = "LinearStep", None
    window = at.siemens(at.x_min), at.siemens(at.x_max)
    if why is not None or name == "PiecewiseStep":
        if why is not None:
            said = f"{name}: {why}; the same curve is a PiecewiseStep"
        return _piecewise(family, theta, at, noise), window, said
    if "g_min" in own:
        window = own.pop("g_min"), own.pop("g_max")
    if name == "NeuroSim":
        return _neurosim(family, theta, at, own, noise)
    return LAWS[name](**{k: float(v) for k, v in (own | noise).items()}), window, said


def _driven(
    name: str, family: Driven, theta: Array, at: Frame, own: Fields, noise: Fields
) -> tuple[Update, tuple[float, float], str]:
    """The laws of amplitudes, which know the reference pulse."""
    v_up, v_down, width = family.at[:3]
    if name == "VTEAM":
        window = own.pop("g_min"), own.pop("g_max")
        noise = {k: v for k, v in noise.items() if k in ("sigma_c2c", "sigma_d2d")}
        law: Update = VTEAM(
            v_set=v_up,
            v_reset=-v_down,
            width=width,
            **(own | noise),  # type: ignore[arg-type]
        )
        return law, window, ""
    inside, base, curve = inner(name, family, theta, at)
    law, window, said = built(inside, base, curve, at, noise)
    own = {k: own[k] for k in ("v0_up", "v0_down", "kappa")}
    return AmplitudeStep(law, v_set=v_up, v_reset=-v_down, width=width, **own), window, said


def _abrupt(
    family: Abrupt, theta: Array, at: Frame, noise: Fields
) -> tuple[Update, tuple[float, float], str]:
    """A RESET ends at g_min and half-normally above it, so g_min lies below its mean level."""
    noise = noise.copy()
    scatter = noise.pop("scatter")
    sigma = scatter / np.sqrt(1 - 2 / np.pi)
    a, b = family.line(theta, True)
    top = -a / b if b < 0 and abs(-a / b - at.x_max) < INSIDE * at.width else at.x_max
    bottom = max(float(theta[2]) - np.sqrt(2 / np.pi) * sigma, -at.low / at.span)
    own = Frame(at.low, at.span, bottom, top)
    both = Affine("affine")
    rise = np.array([theta[0], theta[1], theta[0], -theta[1]])
    rising = _piecewise(both, rise, own, noise)
    flat = linear(both, rise, own)
    law: Update = rising
    if holds("LinearStep", flat, own) is None:
        law = LinearStep(**(flat | noise))
    return (
        AbruptReset(law, sigma=float(sigma / own.width)),
        (own.siemens(bottom), own.siemens(top)),
        "",
    )


def _piecewise(family: Family, theta: Array, at: Frame, noise: Fields) -> PiecewiseStep:
    x = np.linspace(at.x_min, at.x_max, TABLE)
    own = tabulated(family, theta, at)
    size = own["dg_min"] / at.span
    # the imbalance stays in the tables, which then read in units of one step
    up, down = (
        tuple((np.maximum(family.size(theta, x, way), 0.0) / size).tolist())
        for way in (True, False)
    )
    kept = {k: v for k, v in noise.items() if k != "sigma_bounds"}
    return PiecewiseStep(dg_min=own["dg_min"], up=up, down=down, **kept)


def _neurosim(
    family: Family, theta: Array, at: Frame, own: Fields, noise: Fields
) -> tuple[Update, tuple[float, float], str]:
    """Pulse numbers are whole, so g_max moves to where that of the way up is."""
    number = max(1, round(own["states_up"]))
    top = float(
        family.advance(family.tables(theta), True, np.array([at.x_min]), np.array([float(number)]))[
            0
        ]
    )
    moved = Frame(at.low, at.span, at.x_min, top)
    own = labelled(family, theta, moved)
    own |= {"states_up": number, "states_down": max(1, round(own["states_down"]))}
    window = moved.siemens(at.x_min), moved.siemens(top)
    return NeuroSim(**(own | noise)), window, ""  # type: ignore[arg-type]
