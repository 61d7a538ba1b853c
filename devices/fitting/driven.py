"""Laws of amplitude and width: a curve of steps, times what a pulse of v volts for t seconds does.

Every row's pulses count as φ(v, t) pulses of the reference, the median amplitude and width of the
data; the curve of the reference is any of `families`, or VTEAM's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from devices.fitting.families import ANY, CONSTANT, Exponential, Family, Piecewise, Power, Seen
from devices.fitting.traces import Array, Traces

DRIVEN = ("AmplitudeStep", "VTEAM")
"""Laws that say what the amplitude of a pulse does."""


class Reference(NamedTuple):
    """The pulse that others are measured by, and which of its properties vary in the data."""

    v_up: float  # [V]
    v_down: float  # [V], > 0
    width: float  # [s]
    varies: tuple[bool, bool, bool]  # amplitude up, amplitude down, width
    grown: tuple[float, float]  # e-folds of the step from 0 V to the reference, up and down

    @classmethod
    def of(cls, traces: Traces) -> Reference:
        """Medians of the data.

        Raises:
            ValueError: rows with pulses and no amplitude.
        """
        assert traces.drive is not None
        given = (traces.n > 0) & (np.r_[False, np.diff(traces.trace) == 0])
        v, t = traces.drive.T
        if not np.isfinite(v[given]).all() or (v[given] <= 0).any():
            raise ValueError("amplitude: a pulse has none; every row with pulses needs a voltage")
        volts, varies, grown = [], [], []
        move = np.abs(np.diff(traces.y, prepend=np.nan))
        for way in (True, False):
            own = given & (traces.up == way)
            middle = float(np.median(v[own])) if own.any() else 1.0
            volts.append(middle)
            varies.append(bool(own.any()) and bool(np.ptp(v[own]) > 1e-3 * middle))
            use = own & np.isfinite(move) & (move > 0)
            slope = 3.0
            if varies[-1] and use.sum() > 3:
                slope = float(np.polyfit(v[use] / middle, np.log(move[use] / traces.n[use]), 1)[0])
            grown.append(float(np.clip(slope, 0.3, 30.0)))
        t = t[given & np.isfinite(t)]
        width = float(np.median(t)) if len(t) else 1e-6
        wide = len(t) > 0 and float(np.ptp(t)) > 1e-3 * width
        up, down = varies
        return cls(volts[0], volts[1], width, (up, down, wide), (grown[0], grown[1]))


class Driven(Family):
    """Any curve of steps whose pulses grow exponentially with the amplitude: `AmplitudeStep`."""

    law = "AmplitudeStep"
    own: tuple[tuple[str, float, float], ...] = (
        ("log_grown_up", -6.0, 4.5),
        ("log_grown_down", -6.0, 4.5),
        ("kappa", 0.0, 4.0),
    )
    """Parameters of φ with their bounds, one for each property that may vary."""

    def __init__(self, base: Family, at: Reference) -> None:
        self.base, self.at = base, at
        self.name = f"{self.law} over {base.name}"
        kept = [own for own, varies in zip(self.own, at.varies, strict=True) if varies]
        self.extra = tuple(name for name, _, _ in kept)
        self.names = (*base.names, *self.extra)
        self.low = np.r_[base.low, [low for _, low, _ in kept]]
        self.high = np.r_[base.high, [high for _, _, high in kept]]

    def split(self, theta: Array) -> tuple[Array, dict[str, float]]:
        """Parameters of the curve, and those of φ."""
        p = len(self.base.names)
        return theta[:p], dict(zip(self.extra, theta[p:].tolist(), strict=True))

    def start(self, seen: Seen) -> Array:  # noqa: D102
        up, down = np.log(self.at.grown)
        first = {"log_grown_up": up, "log_grown_down": down, "kappa": 1.0}
        return np.r_[self.base.start(seen), [first[name] for name in self.extra]]

    def grown(self, theta: Array) -> tuple[float, float]:
        """|v_ref|/v₀ up and down; a direction whose amplitude does not vary has the other's."""
        own = self.split(theta)[1]
        up = own.get("log_grown_up", own.get("log_grown_down", 0.0))
        return float(np.exp(up)), float(np.exp(own.get("log_grown_down", up)))

    def worth(self, theta: Array, traces: Traces) -> Array:
        """φ of every row."""
        assert traces.drive is not None
        v, t = traces.drive.T
        up, down = self.grown(theta)
        ref = np.where(traces.up, self.at.v_up, self.at.v_down)
        q = np.where(traces.up, up, down)
        share = np.where(np.isfinite(v), np.abs(v), ref) / ref
        grown = np.exp(np.minimum(q * (share - 1), 60.0)) * np.expm1(-q * share) / np.expm1(-q)
        return np.asarray(grown * self.longer(theta, t))

    def longer(self, theta: Array, t: Array) -> Array:
        """What the width makes of a pulse."""
        kappa = self.split(theta)[1].get("kappa", 1.0)
        return np.asarray(np.where(np.isfinite(t), t / self.at.width, 1.0) ** kappa)

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        return self.base.size(self.split(theta)[0], x, up)

    def tables(self, theta: Array) -> Any:  # noqa: D102
        return self.base.tables(self.split(theta)[0])

    def advance(self, law: Any, up: bool, x: Array, n: Array) -> Array:  # noqa: D102
        return self.base.advance(law, up, x, n)

    def speed(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        return self.base.speed(self.split(theta)[0], x, up)


class Resistive(Family):
    """A constant step of the resistance, R ← R ∓ e^a (R(x = 0) − R(x = 1)), up to hard ends."""

    name = "resistance"
    names = ("log_up", "log_down", "end_low", "end_high")

    def __init__(self, traces: Traces) -> None:
        self.g, self.span = traces.low, traces.span
        self.range = 1 / self.g - 1 / (self.g + self.span)
        y = traces.y[traces.seen]
        # ends beyond the reads would have nothing to tell them
        bottom = max(float(y.min()), -0.9 * self.g / self.span) - 1e-3
        self.low = np.array([-18.0, -18.0, bottom, 0.7])
        self.high = np.array([2.0, 2.0, 0.3, float(y.max()) + 1e-3])

    def start(self, seen: Seen) -> Array:  # noqa: D102
        middle = self.g + self.span / 2
        unit = self.span / middle**2 / self.range
        steps = np.log(np.maximum(np.array([seen.up, seen.down]) * unit, 1e-7))
        return np.r_[steps, 0.0, 1.0]

    def resistance(self, x: Array | float) -> Array:
        """Of a state, at least a hundredth of the range of the conductances above 0 S."""
        return np.asarray(1 / np.maximum(self.g + self.span * np.asarray(x), 0.01 * self.span))

    def tables(self, theta: Array) -> Any:  # noqa: D102
        off, on = (float(self.resistance(end)) for end in theta[2:4])
        return *(np.exp(theta[:2]) * self.range).tolist(), off, on

    def advance(self, law: Any, up: bool, x: Array, n: Array) -> Array:  # noqa: D102
        r = self.resistance(x)
        if up:
            moved = np.maximum(r - law[0] * n, np.minimum(r, law[3]))
        else:
            moved = np.minimum(r + law[1] * n, np.maximum(r, law[2]))
        return np.where(n > 0, (1 / moved - self.g) / self.span, x)

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        moved = self.advance(self.tables(theta), up, x, np.ones_like(x))
        return np.maximum(np.abs(moved - x), 1e-7)

    def speed(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        return self.tables(theta)[0 if up else 1] / self.resistance(x) ** 2 / self.span


class Threshold(Driven):
    """φ = ((v/v_t − 1)/(v_ref/v_t − 1))^α t/width over a constant step of the resistance: VTEAM."""

    law = "VTEAM"

    def __init__(self, base: Family, at: Reference) -> None:
        super().__init__(base, at._replace(varies=(False, False, False)))
        self.extra = tuple(
            f"{name}_{way}"
            for way, varies in zip(("up", "down"), at.varies[:2], strict=True)
            if varies
            for name in ("threshold", "log_alpha")
        )
        self.name, self.names = self.law, (*base.names, *self.extra)
        bounds = {"threshold": (0.01, 0.98), "log_alpha": (-2.3, 2.3)}
        ends = np.array([bounds[name.rpartition("_")[0]] for name in self.extra]).reshape(-1, 2)
        self.low = np.r_[base.low, ends[:, 0]]
        self.high = np.r_[base.high, ends[:, 1]]

    def start(self, seen: Seen) -> Array:  # noqa: D102
        # d ln φ/d(v/v_ref) = α/(1 − v_t/v_ref)
        rows: dict[str, float] = {}
        for way, grown in zip(("up", "down"), self.at.grown, strict=True):
            rows |= {
                f"threshold_{way}": 0.5,
                f"log_alpha_{way}": np.log(np.clip(grown / 2, 0.2, 9)),
            }
        return np.r_[self.base.start(seen), [rows[name] for name in self.extra]]

    def shape(self, theta: Array, up: bool) -> tuple[float, float]:
        """v_t/v_ref and α; of a direction whose amplitude does not vary VTEAM's defaults."""
        own, way = self.split(theta)[1], "up" if up else "down"
        return own.get(f"threshold_{way}", 0.5), float(
            np.exp(own.get(f"log_alpha_{way}", float(np.log(3))))
        )

    def worth(self, theta: Array, traces: Traces) -> Array:  # noqa: D102
        assert traces.drive is not None
        v, t = traces.drive.T
        out = np.ones(len(v))
        for way, ref in ((True, self.at.v_up), (False, self.at.v_down)):
            own = traces.up == way
            limit, alpha = self.shape(theta, way)
            share = np.where(np.isfinite(v[own]), np.abs(v[own]), ref) / ref
            out[own] = (np.maximum(share / limit - 1, 0.0) / (1 / limit - 1)) ** alpha
        return out * self.longer(theta, t)


def driven(law: str, traces: Traces) -> list[Family]:
    """The curves that a law of amplitude and width may have.

    Raises:
        ValueError: data without amplitudes, or reads that the law cannot have.
    """
    if traces.drive is None:
        raise ValueError(
            f"{law} is a law of the pulses' amplitude, and no column says it: name it amplitude, "
            "or with columns=... (--columns)"
        )
    at = Reference.of(traces)
    if not any(at.varies):
        raise ValueError(
            f"{law}: every pulse has the same amplitude and width, so that nothing tells what they "
            "do; leave --law out, or fit a law of pulses"
        )
    if law == "VTEAM":
        if traces.low <= 0:
            raise ValueError("VTEAM is a law of the resistance: reads must be above 0 S")
        return [Threshold(Resistive(traces), at)]
    bases = (CONSTANT, ANY, Exponential(), Power(), Piecewise())
    return [Driven(base, at) for base in bases]
