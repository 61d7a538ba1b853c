"""Means, spreads and confidence intervals of a few repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


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
