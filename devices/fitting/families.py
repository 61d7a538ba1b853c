"""What a fit can find: the contract of a family of laws, and those that are compared.

Everything is in units of x, the conductance from 0 to 1 over the middle 99 % of the reads. A family
states its parameters (of order 1: logarithms of steps, relative slopes) with finite bounds, the
size of one pulse, and how the parameters become a law; curve, sensitivities and likelihood follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from devices.fitting.traces import Array, Traces

NODES = np.linspace(-0.75, 1.75, 1001)
SPACING = float(NODES[1] - NODES[0])

FLOOR = 1e-7
"""Smallest step, in units of x."""


class Seen(NamedTuple):
    """Least squares of measured slopes: the step at mid-range and its relative slope."""

    up: float
    up_slope: float
    down: float
    down_slope: float


class Family(ABC):
    """A family of mean curves.

    `tables` and `advance` simulate: one pulse is the time-1 map of a flow of velocity
    v = s log1p(s')/s', so that n pulses are T(x) ← T(x) + n with T = ∫dx/v, whatever n.
    """

    name: str
    names: tuple[str, ...]
    low: Array
    high: Array

    @abstractmethod
    def start(self, seen: Seen) -> Array:
        """Parameters to begin with."""

    @abstractmethod
    def size(self, theta: Array, x: Array, up: bool) -> Array:
        """Size of the step of one pulse at x, > 0."""

    def mirrored(self, theta: Array, up: bool) -> Array:
        """Parameters whose other direction mirrors, at mid-range, the one that is known."""
        out = theta.copy()
        here, there = ("up", "down") if up else ("down", "up")
        for i, name in enumerate(self.names):
            if there in name.split("_"):
                out[i] = self._image(theta, name.replace(there, here))
        return out

    def _image(self, theta: Array, name: str) -> float:
        """What mirrors the parameter of that name."""
        return float(theta[self.names.index(name)])

    def worth(self, theta: Array, traces: Traces) -> Array | None:
        """Pulses of the law that each pulse of a row is worth; None: one."""
        return None

    def tables(self, theta: Array) -> Any:
        """What `advance` needs, made once for all traces."""
        out = []
        for up in (True, False):
            step = np.maximum(self.size(theta, NODES, up), FLOOR)
            signed = step if up else -step
            slope = np.clip(np.gradient(signed, SPACING), -0.98, 50.0)
            flat = np.abs(slope) < 1e-6
            ratio = np.where(flat, 1.0, np.log1p(slope) / np.where(flat, 1.0, slope))
            speed = step * ratio
            inverse = 1 / speed
            gaps = (inverse[1:] + inverse[:-1]) * (SPACING / 2)
            out.append((np.r_[0.0, np.cumsum(gaps)], speed))
        return tuple(out)

    def advance(self, law: Any, up: bool, x: Array, n: Array) -> Array:
        """x after n pulses of one direction."""
        time, speed = law[0 if up else 1]
        begun = np.interp(x, NODES, time)
        after = begun + n if up else begun - n
        moved = np.interp(after, time, NODES)
        # beyond the table as fast as at its end
        over, under = after - time[-1], time[0] - after
        moved = np.where(over > 0, NODES[-1] + over * speed[-1], moved)
        moved = np.where(under > 0, NODES[0] - under * speed[0], moved)
        return np.where(n > 0, moved, x)

    def speed(self, theta: Array, x: Array, up: bool) -> Array:
        """Velocity of the flow at x, the move of a small part of a pulse; > 0."""
        return np.interp(x, NODES, self.tables(theta)[0 if up else 1][1])


class Affine(Family):
    """s = e^a (1 + c (x − ½)) each way: constant, linear, soft bounds, NeuroSim, growing steps.

    The five have one mean curve, which is fitted once; `signs` restricts the slopes to those of
    steps that shrink towards the bound they move to.
    """

    def __init__(self, name: str, *, constant: bool = False, shrinking: bool = False) -> None:
        self.name, self.constant = name, constant
        self.names = (
            ("log_up", "log_down")
            if constant
            else ("log_up", "slope_up")
            + (
                "log_down",
                "slope_down",
            )
        )
        most = 0.0 if shrinking else 25.0
        slopes = (np.array([-25.0, -most]), np.array([most, 25.0]))
        if constant:
            self.low, self.high = np.full(2, -16.0), np.full(2, 1.0)
        else:
            self.low = np.array([-16.0, slopes[0][0], -16.0, slopes[0][1]])
            self.high = np.array([1.0, slopes[1][0], 1.0, slopes[1][1]])

    def start(self, seen: Seen) -> Array:  # noqa: D102
        if self.constant:
            return np.log([seen.up, seen.down])
        return np.array([np.log(seen.up), seen.up_slope, np.log(seen.down), seen.down_slope])

    def _image(self, theta: Array, name: str) -> float:
        return super()._image(theta, name) * (-1 if name.startswith("slope") else 1)

    def line(self, theta: Array, up: bool) -> tuple[float, float]:
        """Signed step at x = 0 and its slope."""
        if self.constant:
            step, slope = float(np.exp(theta[0 if up else 1])), 0.0
        else:
            step, slope = float(np.exp(theta[0 if up else 2])), float(theta[1 if up else 3])
        sign = 1.0 if up else -1.0
        # a step of more than 98 % of the way would jump past where it vanishes
        b = max(sign * step * slope, -0.98)
        return sign * step - b / 2, b

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        a, b = self.line(theta, up)
        return np.asarray((a + b * x) * (1 if up else -1))

    def tables(self, theta: Array) -> Any:  # noqa: D102
        return self.line(theta, True), self.line(theta, False)

    def advance(self, law: Any, up: bool, x: Array, n: Array) -> Array:  # noqa: D102
        a, b = law[0 if up else 1]
        if abs(b) < 1e-12:
            return x + a * n
        return np.asarray(x + (a / b + x) * np.expm1(np.minimum(n * np.log1p(b), 60.0)))

    def speed(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        a, b = self.line(theta, up)
        ratio = 1.0 if abs(b) < 1e-9 else np.log1p(b) / b
        return np.maximum(np.abs((a + b * x) * ratio), FLOOR)


class Power(Family):
    """s = e^a ((B − x)/(B − ½))^γ up, e^a ((x − A)/(½ − A))^γ down, with A and B outside the reads.

    A and B may lie a fifth of the range inside: then they are the ends of the window.
    """

    name = "PowStep"
    names = ("log_up", "power_up", "log_down", "power_down", "bound_low", "bound_high")
    low = np.array([-16.0, 0.02, -16.0, 0.02, -3.0, 0.8])
    high = np.array([1.0, 8.0, 1.0, 8.0, 0.2, 4.0])

    def start(self, seen: Seen) -> Array:  # noqa: D102
        up, down = max(-seen.up_slope, 0.2), max(seen.down_slope, 0.2)
        top, bottom = min(max(0.5 + 1 / up, 1.02), 3.0), max(min(0.5 - 1 / down, -0.02), -2.0)
        return np.array([np.log(seen.up), 1.0, np.log(seen.down), 1.0, bottom, top])

    def mirrored(self, theta: Array, up: bool) -> Array:  # noqa: D102
        out = super().mirrored(theta, up)
        out[4 if up else 5] = 1 - theta[5 if up else 4]
        return np.clip(out, self.low, self.high)

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        low, high = theta[4], theta[5]
        if up:
            return np.exp(theta[0]) * (np.maximum(high - x, 0) / (high - 0.5)) ** theta[1]
        return np.exp(theta[2]) * (np.maximum(x - low, 0) / (0.5 - low)) ** theta[3]


class Exponential(Family):
    """s = e^a e^{−β (u − ½)}, u = x up and 1 − x down: Querlioz's step, which never vanishes."""

    name = "QuerliozStep"
    names = ("log_up", "beta_up", "log_down", "beta_down")
    low = np.array([-16.0, 0.0, -16.0, 0.0])
    high = np.array([1.0, 20.0, 1.0, 20.0])

    def start(self, seen: Seen) -> Array:  # noqa: D102
        up, down = max(-seen.up_slope, 0.05), max(seen.down_slope, 0.05)
        return np.array([np.log(seen.up), min(up, 8.0), np.log(seen.down), min(down, 8.0)])

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        x = np.clip(x, -0.5, 1.5)
        if up:
            return np.exp(theta[0] - theta[1] * (x - 0.5))
        return np.exp(theta[2] + theta[3] * (x - 0.5))


class Bent(Family):
    """s = e^a (1 + r (e^{γu} − 1)/(e^γ − 1)), u = x up and 1 − x down: aihwkit's ExpStep.

    r is how much larger the far step is than the near one; with γ → 0 it is a line.
    """

    name = "ExpStep"
    names = ("near_up", "far_up", "rate_up", "near_down", "far_down", "rate_down")
    low = np.array([-16.0, -0.999, 0.3, -16.0, -0.999, 0.3])
    high = np.array([1.0, 40.0, 12.0, 1.0, 40.0, 12.0])

    def start(self, seen: Seen) -> Array:  # noqa: D102
        out = []
        for step, slope in ((seen.up, seen.up_slope), (seen.down, -seen.down_slope)):
            slope = float(np.clip(slope, -1.9, 1.9))
            near = step * (1 - slope / 2)
            out += [np.log(near), float(np.clip(slope / (1 - slope / 2), -0.97, 10)), 1.5]
        return np.array(out)

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        a, r, rate = theta[:3] if up else theta[3:]
        u = np.clip(x if up else 1 - x, -0.5, 1.5)
        return np.maximum(np.exp(a) * (1 + r * np.expm1(rate * u) / np.expm1(rate)), FLOOR)


class Piecewise(Family):
    """Steps on a few conductances from 0 to 1 each way, linear between, constant beyond."""

    def __init__(self, nodes: int = 6) -> None:
        self.name = "PiecewiseStep" if nodes == 6 else f"PiecewiseStep of {nodes} nodes"
        self.at = np.linspace(0, 1, nodes)
        self.names = tuple(f"log_{way}_{k}" for way in ("up", "down") for k in range(nodes))
        self.low, self.high = np.full(2 * nodes, -16.0), np.full(2 * nodes, 1.0)

    def start(self, seen: Seen) -> Array:  # noqa: D102
        up = seen.up * np.maximum(1 + seen.up_slope * (self.at - 0.5), 0.05)
        down = seen.down * np.maximum(1 + seen.down_slope * (self.at - 0.5), 0.05)
        return np.log(np.r_[up, down])

    def _image(self, theta: Array, name: str) -> float:
        way, k = name.split("_")[1:]
        return super()._image(theta, f"log_{way}_{len(self.at) - 1 - int(k)}")

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        return np.interp(x, self.at, np.exp(theta[: len(self.at)] if up else theta[len(self.at) :]))


class Abrupt(Affine):
    """A gradual SET, as `Affine`, and a RESET that ends at one level."""

    name = "AbruptReset"

    def __init__(self) -> None:
        self.constant = False
        self.names = ("log_up", "slope_up", "level")
        self.low = np.array([-16.0, -25.0, -0.5])
        self.high = np.array([1.0, 25.0, 0.5])

    def start(self, seen: Seen) -> Array:  # noqa: D102
        return np.array([np.log(seen.up), seen.up_slope, 0.0])

    def tables(self, theta: Array) -> Any:  # noqa: D102
        return self.line(theta, True), float(theta[2])

    def advance(self, law: Any, up: bool, x: Array, n: Array) -> Array:  # noqa: D102
        if up:
            return super().advance(law, True, x, n)
        return np.where(n > 0, law[1], x)

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        return super().size(theta, x, True) if up else np.maximum(x - theta[2], FLOOR)

    def speed(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        return super().speed(theta, x, True) if up else np.full_like(x, FLOOR)


CONSTANT = Affine("ConstantStep", constant=True)
SHRINKING = Affine("shrinking", shrinking=True)
ANY = Affine("affine")

CURVES: tuple[Family, ...] = (
    CONSTANT,
    ANY,
    Exponential(),
    Power(),
    Bent(),
    Piecewise(),
    Piecewise(16),
)
"""The mean curves that are compared where the caller names no law, the simplest first."""

OF_LAW: dict[str, Family] = {
    "ConstantStep": CONSTANT,
    "LinearStep": SHRINKING,
    "SoftBounds": SHRINKING,
    "NeuroSim": ANY,
    "PiecewiseStep": Piecewise(),
    "PowStep": Power(),
    "QuerliozStep": Exponential(),
    "ExpStep": Bent(),
    "AbruptReset": Abrupt(),
}
"""Law → its mean curve."""
