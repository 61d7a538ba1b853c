"""Means, spreads and confidence intervals of a few repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import isotonic_regression


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval (Student's t); NaN bounds for a single value."""

    mean: float
    low: float
    high: float
    sd: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, interval and standard deviation of independent repeats.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("an estimate needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, 1)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, sd, n)


def paired(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """Mean of after − before over pairs; raises ValueError where the lengths differ."""
    if len(before) != len(after):
        raise ValueError(f"pairs need equal lengths, got {len(before)} and {len(after)}")
    return estimate([b - a for a, b in zip(before, after, strict=True)])


def decided(value: Estimate, low: float = -math.inf, high: float = math.inf) -> bool | None:
    """Whether a mean lies between two bounds; None where its 95 % interval leaves that open."""
    if math.isnan(value.low):
        return None
    if value.low >= low and value.high <= high:
        return True
    return False if value.high < low or value.low > high else None


def bands(count: int, of: str = "seed") -> str:
    """What the lines of a figure with bands show, for so many repeats."""
    if count == 1:
        return f"One {of}: no band, and no telling how far another would lie."
    return f"Mean over {count} {of}s; bands span the lowest and highest {of}."


def spreads(count: int, of: str = "seed") -> str:
    """What the numbers of a table are, for so many repeats."""
    if count == 1:
        return f"One {of}: neither spread nor interval can be given."
    return (
        f"Mean ± standard deviation over {count} {of}s; differences are paired by {of}, with their "
        "95 % confidence interval."
    )


def percent(value: Estimate, digits: int = 1) -> str:
    """Mean and standard deviation over repeats: 97.3 ± 0.2."""
    spread = "" if math.isnan(value.sd) else f" ± {value.sd:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def signed(value: Estimate, digits: int = 1) -> str:
    """Mean difference with its 95 % confidence interval: −2.4 [−2.9, −1.9]."""
    text = f"{value.mean:+.{digits}f}"
    if not math.isnan(value.low):
        text += f" [{value.low:+.{digits}f}, {value.high:+.{digits}f}]"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Crossing:
    """Where a rising loss passes a limit, with its 95 % interval; inf: not within what was tried.

    `value` is NaN where even the first value is beyond the limit.
    """

    value: float
    low: float
    high: float


def crossing(x: Sequence[float], losses: Sequence[Sequence[float]], limit: float = 1.0) -> Crossing:
    """The `x` at which the mean of the losses exceeds `limit`, for a loss that rises along `x`.

    Every x has one loss per repeat, in the same order (common random numbers). Means and the ends
    of their Student's t intervals are made monotone and interpolated, in log x where x spans a
    decade; the interval is all x whose own interval holds the limit, a test inverted, so that few
    repeats give a wide one and not a false one.

    Raises:
        ValueError: fewer than two repeats or values, or x that does not rise or fall.
    """
    if len(x) < 2 or min(map(len, losses)) < 2:
        raise ValueError("a crossing needs at least two values of two repeats each")
    at = np.asarray(x, dtype=float)
    if not ((np.diff(at) > 0).all() or (np.diff(at) < 0).all()):
        raise ValueError(f"x must rise or fall throughout, got {list(x)}")
    found = [estimate(values) for values in losses]
    scale = np.log(at) if (at > 0).all() and at.max() > 10 * at.min() else at

    def passed(values: list[float]) -> float:
        y = isotonic_regression(values).x
        above = np.nonzero(y > limit)[0]
        if len(above) == 0:
            return math.inf
        k = int(above[0])
        if k == 0:
            return math.nan
        part = (limit - y[k - 1]) / (y[k] - y[k - 1])
        place = scale[k - 1] + part * (scale[k] - scale[k - 1])
        return float(np.exp(place) if scale is not at else place)

    ends = [passed([getattr(e, end) for e in found]) for end in ("high", "low")]
    return Crossing(passed([e.mean for e in found]), *ends)


def clopper_pearson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a probability from hits in so many independent tries."""
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"hits must lie in 0 … count, got {hits} of {count}")
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, hits, count - hits + 1) if hits else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)
