"""One family against the data: from a start to the estimate, its covariance and the cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices.fitting.families import Mean
from devices.fitting.filter import Screen
from devices.fitting.look import look, shift
from devices.fitting.mixed import Evidence, Step, restricted, step
from devices.fitting.problem import NOISE, Estimate, Problem, unknown_cells

ROUNDS = 60
"""Scoring steps after which a fit that still moves has failed."""

SMALL = 1e-2
"""A fit has converged when no parameter moves by more than this part of its standard error."""

COARSE = 0.1
"""The same for an estimate that is only a stage: it costs 1/200 of log-likelihood a parameter."""

CORRECTIONS = 2
"""Times that the slope of the cells' log-determinants is found anew."""

WIDE = 0.5
"""Standard errors over which that slope is taken, wide enough to smooth the tables' kinks."""

STEEP = 0.2
"""Largest change of ½ log det over that distance which counts; a law's own kink makes more."""

WORSE = 3.0
"""Loss of log-likelihood after which a step is taken back and shortened."""

MOST_DAMPING = 1e3

PATIENCE = 25
"""Rounds after which a coarse end is accepted: what moves then are the kinks of tables."""

LOOSE = 0.2
"""Standard errors by which an estimate may still move after all rounds."""

TURN = 0.5
"""Part of the last step that the next one must take back for the two to count as to and fro."""


@dataclass(frozen=True)
class Solution:
    """A fitted problem."""

    problem: Problem
    at: Estimate
    last: Step
    screen: Screen
    names: tuple[str, ...]  # of the parameters x: means, then noises
    around: Estimate  # what the last evidence was taken at
    found: Evidence
    slope: Tensor  # (C, X + R) of ½ log det(1 + T J)
    rounds: int

    def restricted(self, name: str, variance: float) -> float:
        """Logarithm of the restricted likelihood if a spread had another variance."""
        at = replace(self.around, spread=self.at.spread | {name: variance})
        total, _ = at.design(self.problem)
        return restricted(self.found, at.delta, total, self.slope)


def solve(
    problem: Problem,
    at: Estimate,
    *,
    corrections: int = CORRECTIONS,
    slope: Tensor | None = None,
    small: float = SMALL,
) -> Solution:
    """Scoring steps from `at` until nothing moves.

    A step that loses likelihood is taken back and shortened. So is every later step after one that
    mostly undoes the step before it, which makes the fit close in on the place in between (there
    the information falls short of the curvature, or an outlier comes and goes); it has converged
    when it goes to and fro by no more than `small`.

    Args:
        problem: the problem.
        at: where to begin.
        corrections: times that the slope of the cells' log-determinants is found anew.
        slope: that slope to begin with, (C, X + R); None: zero.
        small: standard errors by which no parameter may still move.

    Raises:
        RuntimeError: no convergence.
    """
    names = (*(m.name for m in problem.free), *problem.noises)
    if slope is None:
        slope = torch.zeros(problem.cells, len(names) + len(problem.random), dtype=torch.float64)
    damping = caution = 0.0
    left = corrections if problem.random else 0
    safe, best, prior = (at, look(problem, at)), -math.inf, -math.inf
    last = torch.zeros(len(names) + len(problem.spreads), dtype=torch.float64)
    for number in range(1, ROUNDS + 1):
        found, screen = look(problem, at) if number > 1 else safe[1]
        reached = float(found.log_likelihood.sum()) + prior
        if reached < best - WORSE and damping < MOST_DAMPING:
            damping = max(4 * damping, 0.1)
            at, (found, screen) = safe
        else:
            safe, best = (at, (found, screen)), max(best, reached)
            damping = max(damping / 4 if damping > 0.02 else 0.0, caution)
        took = step(found, at.delta, *at.design(problem), slope, damping)
        prior = float(took.prior.sum())
        around, (at, move) = at, _move(problem, at, took)
        moved = float(move.abs().max())
        moving = max(moved, _stir(at.delta - around.delta, took.inner))
        turned = float(move @ last) < -TURN * float(last @ last)
        caution = 1 + 2 * caution if turned else 0.7 * caution
        last = move
        enough = max(COARSE, small) if left or number > PATIENCE else small
        stuck = damping >= MOST_DAMPING  # no step makes it better: this is the end
        if stuck or (moved if turned else (1 + damping) * moving) < enough:
            if not left:
                return Solution(problem, at, took, screen, names, around, found, slope, number)
            slope, best = _slope(problem, at, took, screen), -math.inf
            left -= 1
    if moved < LOOSE:  # it wanders about a place that the data hardly tell from others
        return Solution(problem, at, took, screen, names, around, found, slope, ROUNDS)
    raise RuntimeError(
        f"the fit of {problem.family.name} did not converge in {ROUNDS} rounds "
        f"(last move {moved:.3g} standard errors)"
    )


def _slope(problem: Problem, at: Estimate, took: Step, screen: Screen) -> Tensor:
    """Slope of ½ log det(1 + T J) of every cell along x and δ, (C, X + R).

    A mean whose cells deviate from it has the slope of these deviations: only their sum counts, and
    the two must agree, for their difference is what moves the mean.
    """
    here = look(problem, at, screen=screen, only=problem.random)[0].information

    def slope(moved: Estimate, by: float) -> Tensor:
        there = look(problem, moved, screen=screen, only=problem.random)[0].information
        change = 0.5 * (took.inner * (there - here)).sum((1, 2))
        return change.clamp(-STEEP, STEEP) / by

    means = {m.name: m for m in problem.free}
    names = (*means, *problem.noises)
    error = torch.diagonal(took.covariance).clamp(min=0).sqrt().tolist()
    of = dict(zip(names, error, strict=True))
    found: dict[str, Tensor] = {}
    widths = torch.diagonal(took.inner, dim1=1, dim2=2).sqrt().mean(0).tolist()
    for i, (q, width) in enumerate(zip(problem.random, widths, strict=True)):
        by = WIDE * of.get(q, width) + shift(q, at)
        delta = at.delta.clone()
        delta[:, i] += by
        found[q] = slope(replace(at, delta=delta), by)
    deviations = [found[q] for q in problem.random]
    for name, width in of.items():
        if name not in found:
            by = WIDE * width + shift(name, at)
            if name in means:
                by = means[name].inside(at.values[name], by)
            found[name] = slope(_shifted(at, name, by), by)
    return torch.stack([*(found[name] for name in names), *deviations], 1)


def _shifted(at: Estimate, name: str, by: float) -> Estimate:
    if name in NOISE:
        return replace(at, noise=at.noise | {name: at.noise[name] + by})
    return replace(at, values=at.values | {name: at.values[name] + by})


def _move(problem: Problem, at: Estimate, took: Step) -> tuple[Estimate, Tensor]:
    """The next estimate within the ranges, and the moves in standard errors."""
    error = torch.diagonal(took.covariance).clamp(min=0).sqrt().tolist()
    error_t = torch.diagonal(took.spread_variance).clamp(min=0).sqrt().tolist()
    values, noise, spread = dict(at.values), dict(at.noise), dict(at.spread)
    free = problem.free
    # one factor for all: shape parameters are correlated, so the direction must stay
    reach = [
        _reach(m, values) / (abs(float(d)) + 1e-30) for m, d in zip(free, took.dx, strict=False)
    ]
    share = min([1.0, *reach])
    moves: list[float] = []
    for mean, by, e in zip(free, took.dx.tolist(), error, strict=False):
        old = values[mean.name]
        values[mean.name] = min(max(old + share * by, mean.low), mean.high)
        moves.append((values[mean.name] - old) / (e + 1e-12))
    for name, by, e in zip(
        problem.noises, took.dx[len(free) :].tolist(), error[len(free) :], strict=True
    ):
        noise[name] = _variance(noise[name], by, e, 1e-4)
        moves.append((noise[name] - at.noise[name]) / (e + 1e-18))
    for name, by, e in zip(problem.spreads, took.dt.tolist(), error_t, strict=True):
        spread[name] = _variance(spread[name], by, e, 1e-3)
        moves.append((spread[name] - at.spread[name]) / (e + 1e-18))
    real = [values[m.name] - at.values[m.name] for m in free]
    real += [noise[name] - at.noise[name] for name in problem.noises]
    lack = torch.tensor(real, dtype=torch.float64) - took.dx
    delta = took.delta + took.follow @ lack  # the cells make up for what x did not move
    to = Estimate(values, noise, spread, delta, took.inner)
    return to, torch.tensor(moves, dtype=torch.float64)


def _stir(by: Tensor, inner: Tensor) -> float:
    """How far the cells moved, root mean square in their standard errors."""
    variance = torch.diagonal(inner, dim1=1, dim2=2)
    share = torch.where(variance > 0, by.square() / variance, 0.0)
    return float(share.mean().sqrt()) if by.numel() else 0.0


def _variance(old: float, by: float, error: float, least: float) -> float:
    """A variance moved by at most a factor of five; as good as zero it is zero."""
    new = min(max(old + by, old / 5), 5 * old + error)
    return new if new > least * error else 0.0


def _reach(mean: Mean, values: Mapping[str, float]) -> float:
    """How far one step may move a mean."""
    if mean.name == "dg_min":
        return 0.3 * values["dg_min"]
    if mean.name in ("g_min", "g_max"):
        return 0.1
    if mean.log:
        return 1.0
    if mean.name == "up_down":
        return 0.3
    return 0.3 * max(abs(values[mean.name]), 0.3)


def held_out(problem: Problem, at: Estimate) -> Tensor:
    """Log-likelihood of every cell of new data, its deviations integrated out (C,)."""
    delta, inner = unknown_cells(problem, at.values)
    at = replace(at, delta=delta, inner=inner)
    for _ in range(ROUNDS):
        found, _ = look(problem, at)
        none = torch.zeros_like(found.score)
        took = step(found, at.delta, *at.design(problem), none, damping=math.inf)
        by, at = took.delta - at.delta, replace(at, delta=took.delta)
        if _stir(by, took.inner) < COARSE:
            break
    return took.log_likelihood
