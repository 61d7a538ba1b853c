"""What a fit found: parameters with their intervals, noise in sentences, the device they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.stats import chi2, t

from devices.device import Device
from devices.fitting.compare import Candidate
from devices.fitting.data import Unidentified
from devices.fitting.laws import FIELDS, Frame, built, inner
from devices.fitting.noise import Noise, Part, covariance
from devices.fitting.shooting import EFFECTS, Shot
from devices.fitting.traces import Array
from devices.read.gaussian import GaussianRead, ProportionalRead

FEW = 8
"""Cells from which on their mean is the device's nominal cell; of fewer it is their median."""

STEPS = {"log_up": 0, "near_up": 0, "log_down": 1, "near_down": 1}
STEPS |= {f"log_{way}_{k}": i for i, way in enumerate(("up", "down")) for k in range(16)}
"""Parameters that are logarithms of a step → which of a cell's factors multiplies it."""

WAYS = {
    "size": np.array([[0.5, 0.5, 0.0, 0.0]]),
    "tilt": np.array([[0.5, -0.5, 0.0, 0.0]]),
    "bounds": np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
}
"""How cells differ: sums of what each has of its own."""

FACTORS = {"k_on", "k_off", "alpha_on", "alpha_off", "v0_up", "v0_down", "A_up", "A_down"}
"""Numbers that may be wrong by a factor: their interval is one of their logarithm."""

UNITS = {name: "S" for name in ("dg_min", "g_min", "g_max", "level")}
UNITS |= {name: "V" for name in ("v0_up", "v0_down", "v_on", "v_off")}
UNITS |= {"k_on": "1/s", "k_off": "1/s"}

RANGES = {
    "gamma_up": (0.0, np.inf),
    "gamma_down": (0.0, np.inf),
    "beta_up": (0.0, np.inf),
    "beta_down": (0.0, np.inf),
    "up_down": (-2.0, 2.0),
    "kappa": (0.0, np.inf),
    "v_on": (0.0, np.inf),
    "v_off": (-np.inf, 0.0),
    "dg_min": (0.0, np.inf),
}


@dataclass(frozen=True)
class Parameter:
    """A fitted number with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    unit: str = ""  # "S" or none

    def covers(self, truth: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= truth <= self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.3g} … {self.high:.3g}) {self.unit}".rstrip()


@dataclass(frozen=True)
class Fit:
    """A device fitted to pulse data."""

    device: Device
    parameters: dict[str, Parameter]
    """Fields of the device with their 95 % intervals, those of its law first."""
    noise: dict[str, Parameter]
    """Every kind of noise: read, coloured read [S]; of a pulse, ramp to ramp, up against down, cell
    to cell relative to the step; from four cycles of a cell on the drift of the step, per cycle."""
    sentences: tuple[str, ...]
    """What the noise is, and what these data cannot tell."""
    candidates: tuple[Candidate, ...]  # the chosen law first
    rmse: float
    """Error of the fitted curve over all ramps, in parts of the range of the reads."""
    reads: int
    left_out: int  # reads that were not used
    notes: tuple[str, ...]  # what was understood of the data
    log_likelihood: float | None = None
    shot: Shot | None = field(default=None, repr=False)
    draw: Callable[[np.random.Generator], Device] | None = field(default=None, repr=False)

    def drawn(self, seed: int) -> Device:
        """Another device that these data allow, at random: what is left open goes on into a study.

        Parameters of the curve are drawn together from their Student's distribution, every noise
        from one with its interval, where 0 stays 0 only if the data hold it there.

        Raises:
            Unidentified: measured steps or two levels, of which no distribution is known.
        """
        if self.draw is None:
            raise Unidentified("no distribution of this device's parameters is known")
        rng = np.random.default_rng(seed)
        for _ in range(20):
            try:
                return self.draw(rng)
            except ValueError:  # a draw beyond what its law can have
                continue
        return self.device

    def __str__(self) -> str:
        law, error = type(self.device.update).__name__, f"{100 * self.rmse:.2g} %"
        head = f"{law}: {self.reads} reads, curve off by {error} of their range; 95 % intervals"
        width = max(map(len, self.parameters), default=0)
        numbers = [f"  {name:<{width}}  {number}" for name, number in self.parameters.items()]
        return "\n".join([head, *numbers, *(f"- {line}" for line in self.sentences)])

    @property
    def equivalent(self) -> tuple[str, ...]:
        """Laws that predict as well as the best."""
        return tuple(c.name for c in self.candidates if c.equivalent)


@dataclass(frozen=True)
class Spreads:
    """How cells differ: standard deviations with their intervals, relative to the step."""

    size: Part  # of both steps alike
    tilt: Part  # of half their imbalance
    bounds: Part  # of the bounds, in units of x


def frame(shot: Shot, window: tuple[float, float] | None = None) -> Frame:
    """The window: hard ends where there are, else all that reads and curve explored."""
    traces = shot.traces
    low, span = traces.low, traces.span
    if window is not None:
        return Frame(low, span, (window[0] - low) / span, (window[1] - low) / span)
    y, mean = traces.y[traces.seen], shot.mean
    if shot.cell is not None:  # as the mean cell would have them
        own = shot.cell[traces.cell[traces.trace]]
        low_end, size = own[:, 2], 1 + own[:, 3] - own[:, 2]
        y, mean = ((traces.y - low_end) / size)[traces.seen], (mean - low_end) / size
    values = np.r_[y, mean]
    x_min, x_max = float(values.min()), float(values.max())
    if shot.walls is not None:
        lows, highs = (e[np.isfinite(e)] for e in shot.walls.T)
        x_min = float(lows.mean()) if len(lows) else x_min
        x_max = float(highs.mean()) if len(highs) else x_max
    return Frame(low, span, max(x_min, -low / span), x_max)


def median_cell(shot: Shot, at: Frame) -> tuple[Shot, Frame]:
    """The law of the median cell, the lower of two, in the place of the mean of few.

    One odd cell of few moves their mean, and no cell may have it.
    """
    assert shot.cell is not None
    middle = np.sort(shot.cell, axis=0)[(len(shot.cell) - 1) // 2]
    theta = shot.theta.copy()
    for i, label in enumerate(shot.family.names):
        if label in STEPS:
            theta[i] += middle[STEPS[label]]
    low, size = middle[2], 1 + middle[3] - middle[2]
    # in the coordinates of a cell the window stays; the coordinates are the median cell's
    moved = Frame(at.low + at.span * low, at.span * size, at.x_min, at.x_max)
    return replace(shot, theta=theta), moved


def one_way(shot: Shot) -> bool | None:
    """Whether all pulses of the reads are up, or down (False); None: both ways are there."""
    up = shot.traces.up[shot.traces.n > 0]
    if shot.family.name == "AbruptReset" or min(int(up.sum()), int((~up).sum())) >= 2:
        return None
    return bool(up.mean() > 0.5)


def between_cells(shot: Shot, cov: Array, known: bool | None = None) -> Spreads | None:
    """The spread of cells, what their own errors make taken off; None for one cell.

    Of steps of one direction it is that of both alike: an imbalance is not to be seen, and is 0.
    """
    if shot.cell is None or len(shot.cell) < 2:
        return None
    p, cells = len(shot.theta), len(shot.cell)
    error = cov[p:, p:].reshape(cells, EFFECTS, cells, EFFECTS)
    kinds = WAYS if known is None else WAYS | {"size": np.eye(4)[[0 if known else 1]]}
    parts = {}
    for name, ways in kinds.items():
        freedom = len(ways) * (cells - 1)
        # what all cells have alike is the law's: of effects and errors that apart from it counts
        total = float((shot.cell @ ways.T).var(axis=0, ddof=1).mean())
        own = np.einsum("ke,iejf,kf->kij", ways, error, ways)
        off = float((np.trace(own, axis1=1, axis2=2) - own.sum((1, 2)) / cells).sum()) / freedom

        def end(q: float, off: float, freedom: int = freedom, total: float = total) -> float:
            return total * freedom / float(chi2.ppf(q, freedom)) - off

        # the errors are estimates too, within a factor of 2
        low = end(0.975, 2 * off)
        # of a spread that may be nothing it is an upper limit that is told: one-sided
        ends = (total - off, low, end(0.025 if low > 0 else 0.05, off / 2))
        parts[name] = Part(*(float(np.sqrt(max(v, 0.0))) for v in ends))
    if known is not None:
        parts["tilt"] = Part(0.0, 0.0, 0.0)
    return Spreads(**parts)


def parameter_cov(
    shot: Shot, cov: Array, spreads: Spreads | None, known: bool | None = None
) -> tuple[Array, float]:
    """Covariance of the law's parameters, that of few cells included, and degrees of freedom.

    Those of a direction without pulses mirror those of the `known` one.
    """
    p = len(shot.theta)
    out = cov[:p, :p].copy()
    freedom = float(shot.traces.size - 1) if shot.traces.size >= 3 else 6.0
    if spreads is not None and shot.cell is not None:
        cells = len(shot.cell)
        for i, label in enumerate(shot.family.names):
            if label in STEPS:
                share = float(shot.cell[:, STEPS[label]].var(ddof=1)) / cells
                if share > out[i, i]:
                    freedom = min(freedom, cells - 1.0)
                out[i, i] += share
    if known is not None:
        image, rows = partial(shot.family.mirrored, up=known), 1e-6 * np.eye(p)
        slope = np.array([image(shot.theta + r) - image(shot.theta - r) for r in rows]) / 2e-6
        out = slope.T @ out @ slope
    return out, max(freedom, 1.0)


def law_parameters(
    name: str, shot: Shot, at: Frame, between: Array, freedom: float
) -> dict[str, Parameter]:
    """Fields of the law with intervals by the delta method and Student's t."""
    family, theta, p = shot.family, shot.theta, len(shot.theta)
    own = FIELDS[name](family, theta, at)
    reach = float(t.ppf(0.975, freedom))
    rows = []
    for i in range(p):
        by = 1e-5 if theta[i] + 1e-5 <= family.high[i] else -1e-5
        moved = theta.copy()
        moved[i] += by
        after = FIELDS[name](family, moved, at)
        rows.append([(after[k] - own[k]) / by for k in own])
    slope = np.nan_to_num(np.array(rows))
    errors = np.sqrt(np.maximum(np.einsum("ik,ij,jk->k", slope, between, slope), 0.0))
    out = {}
    for (k, value), error in zip(own.items(), errors, strict=True):
        floor, top = RANGES.get(k, (-np.inf, np.inf))
        low, high = max(value - reach * error, floor), min(value + reach * error, top)
        if k in FACTORS and value:
            factor = np.exp(min(reach * error / abs(value), 50.0))
            ends = sorted((value / factor, value * factor))
            signless = low < 0 < high and floor < 0  # both signs are possible
            low, high = (min(low, ends[0]), max(high, ends[1])) if signless else ends
        value, low, high = float(value), float(low), float(high)
        out[k] = Parameter(value, low, high, UNITS.get(k, ""))
    return out


def made(
    name: str,
    shot: Shot,
    noise: Noise,
    fixed: dict[str, float],
    window: tuple[float, float] | None,
    *,
    proportional: bool,
    known: bool | None = None,
) -> tuple[
    Device,
    dict[str, Parameter],
    dict[str, Parameter],
    list[str],
    Callable[[np.random.Generator], Device],
]:
    """The device, its parameters, every noise, sentences on them, and draws from all of it."""
    cov = covariance(shot, noise, additive=name == "NeuroSim")
    spreads = between_cells(shot, cov, known)
    at, few = frame(shot, window), ""
    if shot.cell is not None and 1 < len(shot.cell) < FEW:
        shot, at = median_cell(shot, at)
        cells = 0 if shot.cell is None else len(shot.cell)
        few = f"the nominal cell is the median of {cells} cells, of two the lower"
    between, freedom = parameter_cov(shot, cov, spreads, known)
    parameters = law_parameters(name, shot, at, between, freedom)
    inside = inner(name, shot.family, shot.theta, at)[0]
    if inside not in ("SoftBounds", "PowStep", "VTEAM"):
        for k, x in (("g_min", at.x_min), ("g_max", at.x_max)):
            g = at.siemens(x)
            parameters[k] = Parameter(g, g, g, "S")
    own: dict[str, float] = {}
    fields, said = _noise_fields(inside, noise, spreads, at)
    if known is not None:
        said.insert(0, _alone(known, spreads is not None))
        if "up_down" in parameters:
            parameters["up_down"] = replace(parameters["up_down"], low=-2.0, high=2.0)
    for k, part in fields.items():
        if k in fixed:
            fields[k] = part = Part(fixed[k], fixed[k], fixed[k])
        own[k] = part.value
        parameters[k] = scaled(part)
    if name == "AbruptReset":
        own["scatter"] = _reset_scatter(shot, noise.parts["read"].value)
    part, span = noise.parts["read"], shot.traces.span

    def device(theta: Array, own: dict[str, float], read: float) -> tuple[Device, float, str]:
        """With its unit of the read noise [S] and what to say."""
        law, ends, why = built(name, shot.family, theta, at, own)
        unit = ends[1] - ends[0]
        kind: type[GaussianRead] | type[ProportionalRead] = GaussianRead
        if proportional:
            reads = shot.traces.conductance(shot.traces.y[shot.traces.seen])
            unit, kind = float(np.sqrt(np.mean(np.square(reads)))), ProportionalRead
        return Device(*ends, update=law, read=kind(float(read * span / unit))), unit, why

    def draw(rng: np.random.Generator) -> Device:
        z = rng.standard_normal(len(between)) * np.sqrt(freedom / rng.chisquare(freedom))
        values, vectors = np.linalg.eigh(between)
        theta = shot.theta + vectors @ (np.sqrt(np.maximum(values, 0.0)) * z)
        theta = np.clip(theta, shot.family.low, shot.family.high)
        return device(
            theta, own | {k: chance(p, rng) for k, p in fields.items()}, chance(part, rng)
        )[0]

    made_device, unit, why = device(shot.theta, own, part.value)
    said += [words for words in (why, few) if words]
    parameters["read"] = scaled(part, span / unit)
    split = {
        "read": scaled(noise.parts["read"], span, "S"),
        "coloured read": scaled(noise.parts["colour"], span, "S"),
        "pulse": scaled(noise.parts["pulse"]),
        "ramp to ramp": scaled(noise.parts["cycle"]),
        "up against down": scaled(noise.parts["tilt"]),
    }
    if "drift" in noise.parts:
        split["drift over cycles"] = scaled(noise.parts["drift"])
    if spreads is not None:
        split["cell to cell"] = scaled(spreads.size)
    return made_device, parameters, split, said, draw


def chance(part: Part, rng: np.random.Generator) -> float:
    """A number whose central 95 % is the part's interval: two halves of normals, at least 0."""
    z = float(rng.standard_normal())
    side = part.high - part.value if z > 0 else part.value - part.low
    return max(part.value + z * side / 1.96, 0.0) if np.isfinite(side) else part.value


def _alone(known: bool, several: bool) -> str:
    word, other = ("up", "down") if known else ("down", "up")
    cells = (
        "; how far cells differ between the ways is taken as 0 (sigma_up_down)" if several else ""
    )
    return (
        f"the reads show no {other} pulses: their steps are taken as those of {word} pulses, "
        f"mirrored at the middle of the window{cells}; nothing in these data shows it"
    )


def _reset_scatter(shot: Shot, read: float) -> float:
    """Standard deviation of the level after a RESET, without read noise, in units of x."""
    traces = shot.traces
    levels = traces.y[(traces.n > 0) & ~traces.up & traces.seen]
    return float(np.sqrt(max(levels.var() - read**2, 0.0))) if len(levels) > 1 else 0.0


def scaled(part: Part, unit: float = 1.0, name: str = "") -> Parameter:
    """A noise in another unit."""
    value, low, high = (float(v * unit) for v in (part.value, part.low, part.high))
    return Parameter(value, low, high, name)


def _noise_fields(
    name: str, noise: Noise, spreads: Spreads | None, at: Frame
) -> tuple[dict[str, Part], list[str]]:
    """Noise and spread in the law's own fields; those that data cannot show are 0 and named."""
    pulse = noise.parts["pulse"]
    if name == "NeuroSim":
        return {"sigma_c2c": Part(*(v / at.width for v in (pulse.value, pulse.low, pulse.high)))}, (
            [] if spreads is None else ["sigma_d2d, a spread of labels, is not fitted: 0"]
        )
    zero = Part(0.0, 0.0, 0.0)
    fields = {"sigma_c2c": pulse}
    said = []
    if spreads is None:
        said.append("one cell cannot show how cells differ: sigma_d2d and sigma_up_down are 0")
        fields |= {"sigma_d2d": zero, "sigma_up_down": zero}
    else:
        fields |= {"sigma_d2d": spreads.size, "sigma_up_down": spreads.tilt}
    if name in ("SoftBounds", "PowStep") and spreads is not None:
        b = spreads.bounds
        fields["sigma_bounds"] = Part(*(2 * v / at.width for v in (b.value, b.low, b.high)))
    return fields, said
