"""What a fit found: parameters with their confidence intervals, and the device they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from scipy import optimize, stats
from torch import Tensor

from devices.device import Device
from devices.fitting.engine import Solution
from devices.part import Read
from devices.read.gaussian import GaussianRead, ProportionalRead

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Parameter:
    """A fitted field of the device with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    unit: str = ""  # "S" or none

    def covers(self, truth: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= truth <= self.high


def parameters(solution: Solution, scale: float) -> dict[str, Parameter]:
    """Every fitted field of law, window and read noise, with its interval.

    Means have Student's interval, whose degrees of freedom are those of the spread between cells as
    far as that makes their error. Noises have the chi-square interval with the degrees of freedom
    2 v²/var(v) of their variance v (Satterthwaite, Biometrics Bull. 2, 110 (1946),
    doi:10.2307/3002019), spreads from cell to cell that of the likelihood ratio.
    """
    problem, at = solution.problem, solution.at
    family = problem.family
    variance = dict(
        zip(solution.names, torch.diagonal(solution.last.covariance).tolist(), strict=True)
    )
    total, _ = at.design(problem)
    between = {q: float(total[i]) / problem.cells for i, q in enumerate(problem.random)}
    found: dict[str, Parameter] = {}
    for mean in problem.free:
        value, error = at.values[mean.name], math.sqrt(variance[mean.name])
        share = min(1.0, between.get(mean.name, 0.0) / variance[mean.name])
        freedom = max(problem.cells - 1, 1) / max(share, 1e-6) ** 2
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
        ends = (max(value - reach, mean.low), min(value + reach, mean.high))
        factor = scale if mean.siemens else 1.0
        best, low, high = (mean.natural(x) * factor for x in (value, *ends))
        found[mean.name] = Parameter(best, low, high, "S" if mean.siemens else "")
    window = problem.family.window(at.values)
    bounds = sum(variance.get(name, 0.0) for name in ("g_min", "g_max")) / window.span**2
    step = variance.get("dg_min", 0.0) / at.values["dg_min"] ** 2 if "dg_min" in at.values else 0.0
    for name, field, unit, extra in (
        ("cycle", family.cycle, 1.0, 0.0),
        ("add", family.add, family.add_unit(at.values), step or bounds),
        ("read", "read", 1.0 if problem.proportional else window.span, bounds),
    ):
        if name in problem.noises and field is not None:
            found[field] = _deviation(at.noise[name], variance[name], unit, extra)
    for field in problem.spreads:
        extra = {"sigma_d2d": step, "sigma_bounds": bounds}.get(field, 0.0)
        found[field] = _spread(solution, field, extra)
    return found


def _spread(solution: Solution, field: str, extra: float) -> Parameter:
    """A spread from cell to cell with its likelihood-ratio interval.

    Few cells make the likelihood of a variance skewed, and often largest at zero, where neither a
    normal nor a chi-square interval holds. The relative variance `extra` of the unit widens it.
    """
    fitted = solution.at.spread[field]
    index = solution.problem.spreads.index(field)
    error = math.sqrt(max(float(solution.last.spread_variance[index, index]), 1e-24))
    drop = float(stats.chi2.ppf(CONFIDENCE, 1)) / 2

    def loss(root: float) -> float:
        return -solution.restricted(field, root * root)

    near = math.sqrt(fitted + error)
    best = optimize.minimize_scalar(loss, bounds=(0.0, near), method="bounded")
    top, least = (float(best.x), float(best.fun))
    if loss(0.0) <= least:
        top, least = 0.0, loss(0.0)

    def above(root: float) -> float:
        return loss(root) - least - drop

    low = float(optimize.brentq(above, 0.0, top)) if above(0.0) > 0 else 0.0
    far = 2 * near
    while above(far) < 0 and far < 1e3 * near:
        far *= 2
    high = float(optimize.brentq(above, top, far)) if above(far) > 0 else far
    value = math.sqrt(fitted)
    low, high = min(low, value), max(high, value)
    if low > 0:  # the unit's own error adds to that of the logarithm
        reach = 1.96 * math.sqrt(extra)
        low = value * math.exp(-math.hypot(math.log(value / low), reach))
        high = value * math.exp(math.hypot(math.log(high / value), reach))
    return Parameter(value, low, high)


def _deviation(value: float, variance: float, unit: float, extra: float) -> Parameter:
    """A standard deviation in a unit, whose own relative variance `extra` widens the interval."""
    alpha = (1 - CONFIDENCE) / 2
    if value <= 0:
        return Parameter(0.0, 0.0, math.sqrt(1.96 * math.sqrt(max(variance, 0.0))) / unit)
    freedom = 2 / (variance / value**2 + 4 * extra)
    if freedom < 1:  # as good as zero: the chi-square has no upper end there, the normal one has
        low, high = 0.0, value + 1.96 * math.sqrt(variance)
    else:
        most, least = (float(stats.chi2.ppf(p, freedom)) for p in (1 - alpha, alpha))
        low, high = value * freedom / most, value * freedom / least
    return Parameter(math.sqrt(value) / unit, math.sqrt(low) / unit, math.sqrt(high) / unit)


def device(solution: Solution, scale: float) -> Device:
    """The device with the fitted values."""
    problem, at = solution.problem, solution.at
    family, values = problem.family, at.values
    known = {field.name for field in fields(family.law)}  # type: ignore[arg-type]
    own: dict[str, float | int] = {}
    for mean in family.means:
        if mean.name in known:
            value = mean.natural(values[mean.name]) * (scale if mean.siemens else 1.0)
            own[mean.name] = max(1, round(value)) if mean.whole else value
    for name, variance in at.spread.items():
        own[name] = math.sqrt(variance)
    if family.cycle is not None:
        own[family.cycle] = math.sqrt(at.noise["cycle"])
    if family.add is not None:
        own[family.add] = math.sqrt(at.noise["add"]) / family.add_unit(values)
    window = family.window(values)
    sigma = math.sqrt(at.noise["read"])
    read: Read
    read = ProportionalRead(sigma) if problem.proportional else GaussianRead(sigma / window.span)
    law = family.law(**own)
    return Device(max(window.g_min * scale, 0.0), window.g_max * scale, update=law, read=read)


def deviations(solution: Solution) -> dict[str, Tensor]:
    """Best estimate of how every cell departs from the mean, by quantity (cells,)."""
    return {q: solution.at.delta[:, i] for i, q in enumerate(solution.problem.random)}
