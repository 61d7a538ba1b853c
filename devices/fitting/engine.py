"""One family against the data: from a start to the estimate, its covariance and the cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices.fitting.data import Blocks
from devices.fitting.families import Family, Mean
from devices.fitting.filter import Model, Screen, innovations, screened
from devices.fitting.mixed import Evidence, Step, evidence, step
from devices.fitting.start import Averages, start

NODES = 129
"""Conductances at which a law is tabulated."""

OUTLIER = 4.5
"""Standard deviations from its prediction beyond which a read is left out."""

CHUNK = 1 << 21
"""Numbers per array of one pass over a part of the cells."""

ROUNDS = 60
"""Scoring steps after which a fit that still moves has failed."""

SMALL = 1e-2
"""A fit has converged when no parameter moves by more than this part of its standard error."""

COARSE = 0.1
"""The same for an estimate whose corrections are still to be found."""

CORRECTIONS = 2
"""Times that the slope of the cells' log-determinants is found anew."""

WIDE = 0.5
"""Standard errors over which that slope is taken, wide enough to smooth the tables' kinks."""

STEEP = 0.2
"""Largest change of ½ log det over that distance which counts; a law's own kink makes more."""

WORSE = 3.0
"""Loss of log-likelihood after which a step is taken back and shortened."""

MOST_DAMPING = 1e3

PATIENCE, LOOSE = 6, 0.2
"""Rounds after which smaller demands are made (a read on the edge of being an outlier may come and
go), and the largest move that is still accepted."""

NOISE = ("cycle", "add", "read")


@dataclass(frozen=True)
class Problem:
    """What is to be found, with which data, in units of the data's range."""

    family: Family
    blocks: Blocks
    cells: int
    known: Mapping[str, float]  # means, spreads and noises that are given
    hard: bool  # whether the window is a hard bound that pulses reach
    proportional: bool  # whether a read's noise is proportional to the conductance
    low: float  # range of the reads
    high: float

    @property
    def walls(self) -> bool:
        """Whether pulses can reach the ends of a cell's own range, where they are cut short."""
        return self.hard or self.family.bounded

    @property
    def free(self) -> tuple[Mean, ...]:
        """Means that are fitted."""
        return tuple(m for m in self.family.means if m.name not in self.known)

    @property
    def noises(self) -> tuple[str, ...]:
        """Noise variances that are fitted."""
        have = {"cycle": self.family.cycle, "add": self.family.add, "read": "read"}
        return tuple(n for n in NOISE if have[n] is not None and n not in self.known)

    @property
    def random(self) -> tuple[str, ...]:
        """Quantities that differ from cell to cell."""
        return tuple(
            q for s in self.family.spreads if self.known.get(s.name, 1.0) != 0 for q in s.of
        )

    @property
    def spreads(self) -> tuple[str, ...]:
        """Spreads that are fitted."""
        return tuple(s.name for s in self.family.spreads if s.name not in self.known)


@dataclass(frozen=True)
class Estimate:
    """Where the fit stands: values, noise variances, spread variances, cells' deviations."""

    values: dict[str, float]
    noise: dict[str, float]
    spread: dict[str, float]  # variances of the spread fields
    delta: Tensor  # (C, R)
    inner: Tensor  # (C, R, R)

    def design(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Variances T of the cells' quantities (R,), and how the spreads' make them (R, M)."""
        names, fitted = problem.random, problem.spreads
        design = torch.zeros(len(names), len(fitted), dtype=torch.float64)
        total = torch.zeros(len(names), dtype=torch.float64)
        for s in problem.family.spreads:
            unit = problem.family.unit(s.name, self.values) ** 2
            for q in s.of:
                if q in names:
                    total[names.index(q)] = unit * self.spread[s.name]
                    if s.name in fitted:
                        design[names.index(q), fitted.index(s.name)] = unit
        return total, design


@dataclass(frozen=True)
class Solution:
    """A fitted problem."""

    problem: Problem
    at: Estimate
    last: Step
    screen: Screen
    names: tuple[str, ...]  # of the parameters x: means, then noises
    rounds: int


def begin(problem: Problem, seen: Averages) -> Estimate:
    """The estimate a fit starts from."""
    family = problem.family
    known = {k: v for k, v in problem.known.items() if k in {m.name for m in family.means}}
    values = start(family, seen, problem.free, known, problem.hard)
    size = float(seen.step.square().mean())
    both = family.cycle is not None and family.add is not None
    share = 0.5 if both else 1.0
    noise = {
        "cycle": share * seen.pulse_variance / size if family.cycle else 0.0,
        "add": share * seen.pulse_variance if family.add else 0.0,
        "read": seen.read_variance,
    }
    if problem.proportional:
        middle = (seen.low + seen.high) / 2
        noise["read"] /= middle**2
    noise |= {n: problem.known[n] for n in NOISE if n in problem.known}
    spread = {
        s.name: problem.known.get(s.name, 0.0) ** 2 if s.name in problem.known else 0.1**2
        for s in family.spreads
    }
    random = len(problem.random)
    return Estimate(
        values,
        noise,
        spread,
        torch.zeros(problem.cells, random, dtype=torch.float64),
        torch.zeros(problem.cells, random, random, dtype=torch.float64),
    )


def solve(problem: Problem, at: Estimate, corrections: int = CORRECTIONS) -> Solution:
    """Scoring steps from `at` until nothing moves, the slope of log det found so many times.

    Raises:
        RuntimeError: no convergence.
    """
    names = (*(m.name for m in problem.free), *problem.noises)
    slope = torch.zeros(problem.cells, len(names) + len(problem.random), dtype=torch.float64)
    moved, damping = math.inf, 0.0
    left = corrections if problem.random else 0
    safe, best = (at, look(problem, at)), -math.inf
    for number in range(1, ROUNDS + 1):
        found, screen = look(problem, at) if number > 1 else safe[1]
        took = step(found, at.delta, *at.design(problem), slope)
        reached = float(took.log_likelihood.sum())
        if reached < best - WORSE and damping < MOST_DAMPING:
            damping = max(4 * damping, 0.1)
            (at, (found, screen)) = safe
        else:
            safe, best = (at, (found, screen)), max(best, reached)
            damping = damping / 4 if damping > 0.02 else 0.0
        if damping:
            took = step(found, at.delta, *at.design(problem), slope, damping)
        at, moved = _move(problem, at, took)
        enough = COARSE if left else SMALL
        stuck = damping >= MOST_DAMPING  # no step makes it better: this is the end
        if stuck or (1 + damping) * moved < min(enough * max(1.0, (number / PATIENCE) ** 3), LOOSE):
            if not left:
                return Solution(problem, at, took, screen, names, number)
            slope, best = _slope(problem, at, took, screen), -math.inf
            left -= 1
    if moved < LOOSE:  # it only goes to and fro around the estimate
        return Solution(problem, at, took, screen, names, number)
    raise RuntimeError(
        f"the fit of {problem.family.name} did not converge in {ROUNDS} rounds "
        f"(last move {moved:.3g} standard errors)"
    )


def _slope(problem: Problem, at: Estimate, took: Step, screen: Screen) -> Tensor:
    """Slope of ½ log det(1 + T J) of every cell along x and δ, (C, X + R)."""
    here = look(problem, at, screen=screen, only=problem.random)[0].information
    columns: list[tuple[Estimate, float]] = []
    error = torch.diagonal(took.covariance).clamp(min=0).sqrt().tolist()
    names = (*(m.name for m in problem.free), *problem.noises)
    top = {m.name: m.high for m in problem.free}
    for name, width in zip(names, error, strict=True):
        by = WIDE * width + _small(name, at)
        if name in top and at.values[name] + by > top[name]:
            by = -by
        columns.append((_shifted(at, name, by), by))
    width_c = torch.diagonal(took.inner, dim1=1, dim2=2).sqrt().mean(0).tolist()
    for i, (q, width) in enumerate(zip(problem.random, width_c, strict=True)):
        by = WIDE * width + _small(q, at)
        delta = at.delta.clone()
        delta[:, i] += by
        columns.append((replace(at, delta=delta), by))
    slopes = []
    for moved, by in columns:
        there = look(problem, moved, screen=screen, only=problem.random)[0].information
        change = 0.5 * (took.inner * (there - here)).sum((1, 2))
        slopes.append(change.clamp(-STEEP, STEEP) / by)
    return torch.stack(slopes, 1)


def _shifted(at: Estimate, name: str, by: float) -> Estimate:
    if name in NOISE:
        return replace(at, noise=at.noise | {name: at.noise[name] + by})
    return replace(at, values=at.values | {name: at.values[name] + by})


def _move(problem: Problem, at: Estimate, took: Step) -> tuple[Estimate, float]:
    """The next estimate within the ranges, and the largest move in standard errors."""
    error = torch.diagonal(took.covariance).clamp(min=0).sqrt()
    values, noise, spread = dict(at.values), dict(at.noise), dict(at.spread)
    largest = 0.0
    free = problem.free
    # one factor for all: shape parameters are correlated, so the direction must stay
    reach = [
        _reach(m, values) / (abs(float(d)) + 1e-30) for m, d in zip(free, took.dx, strict=False)
    ]
    share = min([1.0, *reach])
    for i, mean in enumerate(free):
        old = values[mean.name]
        new = min(max(old + share * float(took.dx[i]), mean.low), mean.high)
        values[mean.name] = new
        largest = max(largest, abs(new - old) / (float(error[i]) + 1e-12))
    for i, name in enumerate(problem.noises, len(free)):
        old = noise[name]
        new = min(max(old + float(took.dx[i]), old / 5), 5 * old + float(error[i]))
        new = new if new > 1e-4 * float(error[i]) else 0.0
        noise[name] = new
        largest = max(largest, abs(new - old) / (float(error[i]) + 1e-18))
    error_t = torch.diagonal(took.spread_variance).clamp(min=0).sqrt()
    for i, name in enumerate(problem.spreads):
        old = spread[name]
        new = min(max(old + float(took.dt[i]), old / 5), 5 * old + float(error_t[i]))
        new = new if new > 1e-3 * float(error_t[i]) else 0.0
        spread[name] = new
        largest = max(largest, abs(new - old) / (float(error_t[i]) + 1e-18))
    return Estimate(values, noise, spread, took.delta, took.inner), largest


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


def look(
    problem: Problem,
    at: Estimate,
    *,
    screen: Screen | None = None,
    only: tuple[str, ...] | None = None,
) -> tuple[Evidence, Screen]:
    """What the data say at an estimate, and which reads say it.

    Args:
        problem: the problem.
        at: the estimate.
        screen: the reads to use; None: those that agree with the estimate.
        only: only these deviations of the cells are moved, no means; None: everything is.
    """
    common = [] if only is not None else [*(m.name for m in problem.free), *problem.noises]
    names = [*common, *problem.random]
    top = {m.name: m.high for m in problem.free}
    shift = torch.tensor([_small(name, at) for name in names], dtype=torch.float64)
    for i, name in enumerate(common):
        if name in top and at.values[name] + shift[i] > top[name]:
            shift[i] *= -1  # a parameter at the end of its range is moved inwards
    y, kind, cell = problem.blocks
    width = max(1, CHUNK // ((1 + len(names)) * y.shape[0]))
    d = len(names)
    score = torch.zeros(problem.cells, d, dtype=torch.float64)
    total = Evidence(score, score.new_zeros(problem.cells, d, d), score.new_zeros(problem.cells))
    screens: list[Screen] = []
    for first in range(0, len(cell), width):
        part = slice(first, first + width)
        own, local = torch.unique_consecutive(cell[part], return_inverse=True)
        blocks = Blocks(y[:, part], kind[:, part], local)
        model = _model(problem, at, own, shift.tolist(), common)
        here = Screen(*(t[:, part] for t in screen)) if screen else screened(model, blocks, OUTLIER)
        errors, variances = innovations(model, blocks, here)
        found = evidence(errors, variances, here.use, here.free, shift, local, len(own))
        for into, what in zip(total, found, strict=True):
            into.index_add_(0, own, what)
        screens.append(here)
    return total, Screen(*(torch.cat(t, 1) for t in zip(*screens, strict=True)))


def _small(name: str, at: Estimate) -> float:
    """The move of a finite difference."""
    if name in NOISE:
        return max(1e-4 * at.noise[name], 1e-10)
    if name == "dg_min":
        return 1e-5 * at.values["dg_min"]
    return 1e-5 * max(abs(at.values.get(name, 1.0)), 0.1)


def _model(
    problem: Problem, at: Estimate, own: Tensor, moved: list[float], common: list[str]
) -> Model:
    """The model at the estimate, and with every parameter in `moved` moved by as much."""
    family = problem.family
    nodes = _nodes(problem)
    random = problem.random
    deviations = {q: at.delta[own, i, None] for i, q in enumerate(random)}
    noise = {n: [at.noise[n]] * (1 + len(moved)) for n in NOISE}
    zero = torch.zeros(1, 1, dtype=torch.float64)

    def tabulated(
        values: Mapping[str, float], cells: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Steps (3, C, nodes) and both bounds (C,)."""
        steps = family.steps(values, cells, nodes).expand(2, len(own), -1)
        low, high = (
            (values[name] + cells.get(name, zero)).expand(len(own), 1)[:, 0]
            for name in ("g_min", "g_max")
        )
        return torch.cat([steps, torch.zeros_like(steps[:1])]), low, high

    sets = [tabulated(at.values, deviations)]
    for i, by in enumerate(moved):
        if i >= len(common):
            q = random[i - len(common)]
            sets.append(tabulated(at.values, deviations | {q: deviations[q] + by}))
        elif common[i] in NOISE:
            noise[common[i]][i + 1] += by
            sets.append(sets[0])
        else:
            changed = at.values | {common[i]: at.values[common[i]] + by}
            sets.append(tabulated(changed, deviations))
    steps, low, high = (torch.stack(t) for t in zip(*sets, strict=True))
    cycle, add, read = (torch.tensor(noise[n], dtype=torch.float64) for n in NOISE)
    return Model(
        steps,
        float(nodes[0]),
        float(nodes[1] - nodes[0]),
        cycle,
        add,
        read,
        problem.proportional,
        low if problem.walls else None,
        high if problem.walls else None,
    )


def _nodes(problem: Problem) -> Tensor:
    margin = 0.15 * (problem.high - problem.low)
    return torch.linspace(problem.low - margin, problem.high + margin, NODES, dtype=torch.float64)


def held_out(problem: Problem, at: Estimate, rounds: int = 6) -> Tensor:
    """Log-likelihood of every cell of new data, its deviations integrated out (C,)."""
    random = len(problem.random)
    at = replace(
        at,
        delta=torch.zeros(problem.cells, random, dtype=torch.float64),
        inner=torch.zeros(problem.cells, random, random, dtype=torch.float64),
    )
    for _ in range(rounds if random else 1):
        found, _ = look(problem, at)
        total, design = at.design(problem)
        none = torch.zeros_like(found.score)
        took = step(found, at.delta, total, design, none, damping=math.inf)
        at = replace(at, delta=took.delta)
    return took.log_likelihood
