"""Parts other than the update law, each from its own measurement: time, voltage, wear, faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares, minimize
from scipy.stats import beta, f_oneway, norm, t

from devices.curve import Table
from devices.faults.stuck import StuckAt
from devices.fitting.result import Parameter
from devices.fitting.switching import chi_interval
from devices.fitting.traces import Array, Index
from devices.part import Part, Update
from devices.retention.leak import Leak
from devices.retention.power_law import PowerLawDrift
from devices.retention.relaxation import LogRelaxation
from devices.retention.state import StateDrift
from devices.update.endurance import Endurance

BINS = 8
FEWEST = 12
"""Measurements in a bin of a table."""


@dataclass(frozen=True)
class PartFit:
    """A part of a device, fitted."""

    part: Part
    parameters: dict[str, Parameter]
    """Its fields with their 95 % intervals."""
    rmse: float  # of what was measured, relative to its root mean square
    sentences: tuple[str, ...]  # what was compared, and what the data cannot tell


def table(name: str, values: ArrayLike, dims: tuple[int, ...] = (1, 2)) -> Array:
    """Numbers as rows, one a cell.

    Raises:
        ValueError: another number of dimensions, no numbers, or an infinite one.
    """
    out = np.asarray(values, dtype=np.float64)
    if out.ndim not in dims or not out.size:
        raise ValueError(f"{name} must be (cells, reads) or (reads,) numbers, got {out.shape}")
    if np.isinf(out).any():
        raise ValueError(f"{name} must be finite or NaN, got an infinite number")
    return np.atleast_2d(out)


def spread(values: Array, errors: Array) -> tuple[Parameter, Parameter]:
    """Mean over cells and their standard deviation, each value's own error taken off."""
    cells = len(values)
    mean = float(values.mean())
    if cells < 2:
        half = float(norm.ppf(0.975) * errors[0])
        return Parameter(mean, mean - half, mean + half), Parameter(0.0, 0.0, float("inf"))
    total = float(values.var(ddof=1))
    half = float(t.ppf(0.975, cells - 1)) * (total / cells) ** 0.5
    off = float(np.mean(errors**2))
    low, high = chi_interval(total, cells - 1)
    sd = [float(max(v - off, 0.0)) ** 0.5 for v in (total, low, high)]
    return Parameter(mean, mean - half, mean + half), Parameter(*sd)


def groups_of(x: Array, fewest: int) -> list[Index]:
    """Indices of bins of x, in its order, of at least `fewest` and of distinct mean."""
    order = np.argsort(x, kind="stable")
    count = min(BINS, len(x) // fewest, len(np.unique(x)))
    parts = [order] if count < 2 else np.array_split(order, count)
    out = [parts[0]]
    for part in parts[1:]:
        if x[part].mean() > x[out[-1]].mean() + 1e-9:
            out.append(part)
    return out


_Fitted = tuple[Part, dict[str, Parameter], Array, int]


def fit_retention(
    time: ArrayLike,
    g: ArrayLike,
    *,
    window: tuple[float, float],
    t0: float | None = None,
    law: str | None = None,
) -> PartFit:
    """What time does to written cells.

    Power law g₀((t + t₀)/t₀)^−ν (of 24 cells and more with ν as a table of g₀ where it depends on
    it, by an F test at 1 %), logarithm g₀ + m ln(1 + t/t₀) and exponential return to a rest
    are fitted to all cells, each with its own g₀; the one with the least n log(error²) + p log n is
    taken.

    Args:
        time: times since the write [s], increasing, at least four.
        g: conductances at these times [S], (cells, times) or (times,).
        window: g_min and g_max of the device [S].
        t0: reference time of the laws [s]; None: the first time.
        law: "PowerLawDrift" (`StateDrift` where ν depends on g₀), "LogRelaxation" or "Leak"; None:
            the best of them.

    Raises:
        ValueError: times that do not increase, shapes that do not match, conductances not above 0.
    """
    at, y = np.asarray(time, dtype=np.float64), table("g", g)
    if at.ndim != 1 or len(at) < 4 or (np.diff(at) <= 0).any() or at[0] < 0:
        raise ValueError("time must be at least four increasing times >= 0 s")
    if y.shape[1] != len(at):
        raise ValueError(f"g must have a column for each of {len(at)} times, got {y.shape}")
    if not (y > 0).all():
        raise ValueError("g must be conductances above 0 S, one for every time")
    first = float(at[at > 0][0]) if t0 is None else t0
    if not first > 0:
        raise ValueError(f"t0 must be > 0 s, got {t0!r}")
    laws: dict[str, Callable[[], _Fitted]] = {
        "PowerLawDrift": lambda: _power(at, y, first, window),
        "LogRelaxation": lambda: _logarithm(at, y, first),
        "Leak": lambda: _leak(at, y, window),
    }
    if law is not None and law not in laws:
        raise ValueError(f"law must be one of {', '.join(laws)}, got {law!r}")
    fits = {name: make() for name, make in laws.items() if law in (None, name)}
    n = y.size
    score = {
        name: n * np.log(np.mean(error**2) + 1e-30) + p * np.log(n)
        for name, (_, _, error, p) in fits.items()
    }
    best = min(score, key=lambda name: float(score[name]))
    part, parameters, error, _ = fits[best]
    said = [f"{name}: error {np.sqrt(np.mean(fits[name][2] ** 2)):.2%}" for name in fits]
    if len(y) < 8:
        said.append(f"{len(y)} cells tell the spread from cell to cell within a factor 2 only")
    return PartFit(part, parameters, float(np.sqrt(np.mean(error**2))), tuple(said))


def _power(at: Array, y: Array, t0: float, window: tuple[float, float]) -> _Fitted:
    x = np.log((at + t0) / t0)
    slope, error, left = _lines(x, np.log(y))
    state = (np.exp((np.log(y) - slope[:, None] * x).mean(1)) - window[0]) / (window[1] - window[0])
    groups = groups_of(state, FEWEST)
    if len(groups) > 1 and float(f_oneway(*(slope[g] for g in groups)).pvalue) < 0.01:
        found = [spread(-slope[g], error[g]) for g in groups]
        places = tuple(float(state[g].mean()) for g in groups)
        nu_of, sigma = (Table(places, tuple(p[k].value for p in found)) for k in (0, 1))
        named = {f"nu at {x:.2f}": p[0] for x, p in zip(places, found, strict=True)}
        named |= {f"sigma at {x:.2f}": p[1] for x, p in zip(places, found, strict=True)}
        return StateDrift(nu_of, sigma, t0), named, np.expm1(left), 2 * len(groups)
    nu, sd = spread(-slope, error)
    size = abs(nu.value) or 1.0
    own = Parameter(sd.value / size, sd.low / size, sd.high / size)
    part = PowerLawDrift(nu.value, own.value, t0)
    return part, {"nu": nu, "sigma_d2d": own}, np.expm1(left), 2


def _lines(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Slope of every row against x, its standard error, residuals."""
    dx = x - x.mean()
    slope = (y * dx).sum(1) / (dx * dx).sum()
    left = y - y.mean(1, keepdims=True) - slope[:, None] * dx
    error = np.sqrt((left**2).sum(1) / max(len(x) - 2, 1) / (dx * dx).sum())
    return slope, error, left


def _logarithm(at: Array, y: Array, t0: float) -> _Fitted:
    slope, error, left = _lines(np.log1p(at / t0), y)
    mean, std = spread(slope, error)
    part = LogRelaxation(mean.value, std.value, 0.0, t0)
    units = {
        "mean": Parameter(mean.value, mean.low, mean.high, "S"),
        "std": Parameter(std.value, std.low, std.high, "S"),
    }
    return part, units, left / y, 2


def _leak(at: Array, y: Array, window: tuple[float, float]) -> _Fitted:
    low, high = window
    unit = float(y.max())

    def curve(p: Array) -> tuple[Array, Array]:
        decay = np.exp(-at / np.exp(p[0]))
        rest = low + (high - low) * p[1]
        first = ((y - rest) * decay).sum(1) / (decay * decay).sum()
        return rest + first[:, None] * decay, decay

    def apart(p: Array) -> Array:
        return ((curve(p)[0] - y) / unit).ravel()

    span = np.log([max(at[1] / 10, 1e-12), at[-1] * 100])
    trials = [
        least_squares(apart, [start, rest], bounds=([span[0], 0.0], [span[1], 1.0]))
        for start in (span[0] + 0.5 * (span[1] - span[0]), float(np.log(at[-1] / 3)))
        for rest in (0.2, 0.8)
    ]
    best = min(trials, key=lambda trial: float(trial.cost))
    errors = deviations(best.jac, best.fun, len(y))
    reach = float(t.ppf(0.975, max(y.size - 2 - len(y), 1)))
    tau, rest = float(np.exp(best.x[0])), float(best.x[1])
    parameters = {
        "tau": Parameter(
            tau,
            tau * float(np.exp(-reach * errors[0])),
            tau * float(np.exp(reach * errors[0])),
            "s",
        ),
        "rest": Parameter(
            rest, max(rest - reach * errors[1], 0.0), min(rest + reach * errors[1], 1.0)
        ),
    }
    return Leak(tau, rest), parameters, (curve(best.x)[0] - y) / y, 3


def deviations(jac: Array, fun: Array, more: int = 0) -> list[float]:
    """Standard errors of a least squares with `more` parameters that it solved for inside."""
    freedom = max(len(fun) - jac.shape[1] - more, 1)
    inverse = np.linalg.pinv(jac.T @ jac)
    return [float(e) for e in np.sqrt(np.diag(inverse) * float(fun @ fun) / freedom)]


def fit_endurance(
    pulses: ArrayLike, failed: Sequence[bool] | ArrayLike | None = None, *, law: Update
) -> PartFit:
    """How many pulses cells survive: a log-normal fitted by maximum likelihood.

    Args:
        pulses: pulses that every cell had when it failed, or when the test of it ended.
        failed: whether it failed; a cell that lives is known to survive what it had. None: all.
        law: how the living cell responds; goes into the `Endurance` that is returned.

    Raises:
        ValueError: counts not above 0, or fewer than two failures.
    """
    count = np.asarray(pulses, dtype=np.float64)
    dead = np.ones(len(count), dtype=bool) if failed is None else np.asarray(failed, dtype=bool)
    if count.ndim != 1 or dead.shape != count.shape or not (count > 0).all():
        raise ValueError("pulses must be counts above 0, failed one flag for each")
    if dead.sum() < 2:
        raise ValueError(f"at least two cells must have failed, got {int(dead.sum())}")
    x = np.log10(count)

    def loss(p: Array) -> float:
        z = (x - p[0]) / np.exp(p[1])
        return -float((norm.logpdf(z[dead]) - p[1]).sum() + norm.logsf(z[~dead]).sum())

    start = np.array([np.median(x), np.log(max(x[dead].std(), 0.01))])
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8})
    by, curve = 1e-3, np.zeros((2, 2))
    for k in range(2):
        for m in range(2):
            e, f = np.eye(2)[k] * by, np.eye(2)[m] * by
            curve[k, m] = (
                loss(best.x + e + f)
                - loss(best.x + e - f)
                - loss(best.x - e + f)
                + loss(best.x - e - f)
            ) / (4 * by * by)
    error = np.sqrt(np.maximum(np.diag(np.linalg.pinv(curve)), 0.0))
    reach = float(t.ppf(0.975, max(int(dead.sum()) - 1, 1)))
    middle, sigma = float(best.x[0]), float(np.exp(best.x[1]))
    median = Parameter(
        10**middle,
        10 ** (middle - reach * float(error[0])),
        10 ** (middle + reach * float(error[0])),
    )
    width = float(np.exp(reach * error[1]))
    parameters = {"pulses": median, "sigma_log10": Parameter(sigma, sigma / width, sigma * width)}
    said = f"{int(dead.sum())} of {len(count)} cells failed"
    return PartFit(Endurance(law, median.value, sigma), parameters, 0.0, (said,))


def fit_stuck(
    off: ArrayLike, on: ArrayLike, *, window: tuple[float, float], share: float = 0.25
) -> PartFit:
    """Stuck cells from two maps of an array: all cells RESET, and all cells SET.

    A cell is stuck where SET and RESET differ by less than `share` of the window: at g_min below a
    quarter of the window, at g_max above three quarters, anywhere else between.

    Args:
        off: conductances after RESET [S].
        on: conductances of the same cells after SET [S].
        window: g_min and g_max of the device [S].
        share: part of the window that a working cell moves by at least, in (0, 1).

    Raises:
        ValueError: maps of unequal shape, or `share` out of range.
    """
    low_map, high_map = (np.asarray(m, dtype=np.float64) for m in (off, on))
    if low_map.shape != high_map.shape or not low_map.size:
        raise ValueError(f"off and on must be of one shape, got {low_map.shape}, {high_map.shape}")
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share!r}")
    low, high = window
    known = np.isfinite(low_map) & np.isfinite(high_map)
    stuck = known & (high_map - low_map < share * (high - low))
    place = ((low_map + high_map) / 2 - low) / (high - low)
    counts = {
        "p_off": int((stuck & (place < 0.25)).sum()),
        "p_on": int((stuck & (place > 0.75)).sum()),
        "p_any": int((stuck & (place >= 0.25) & (place <= 0.75)).sum()),
    }
    n = int(known.sum())
    parameters = {
        name: Parameter(
            k / n,
            float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0,
            float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0,
        )
        for name, k in counts.items()
    }
    said = f"{int(stuck.sum())} of {n} cells are stuck; {low_map.size - n} were not read"
    part = StuckAt(**{name: k / n for name, k in counts.items()})
    return PartFit(part, parameters, 0.0, (said,))
