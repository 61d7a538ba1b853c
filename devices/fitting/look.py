"""What the data say at an estimate: the family's law in, score and information out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from devices.fitting.data import Blocks
from devices.fitting.filter import Model, Screen, innovations, screened
from devices.fitting.mixed import Evidence, evidence
from devices.fitting.problem import NOISE, Estimate, Problem

NODES = 129
"""Conductances at which a law is tabulated."""

OUTLIER = 4.5
"""Standard deviations from its prediction beyond which a read is left out."""

CHUNK = 1 << 21
"""Numbers per array of one pass over a part of the cells."""


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
    means = {} if only is not None else {m.name: m for m in problem.free}
    moves = [shift(name, at) for name in names]
    moves = [
        means[n].inside(at.values[n], m) if n in means else m
        for n, m in zip(names, moves, strict=True)
    ]
    by = torch.tensor(moves, dtype=torch.float64)
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
        model = _model(problem, at, own, by.tolist(), common)
        here = Screen(*(t[:, part] for t in screen)) if screen else screened(model, blocks, OUTLIER)
        errors, variances = innovations(model, blocks, here)
        seen = ~blocks.y.isnan()
        found = evidence(errors, variances, here, seen, by, local, len(own), OUTLIER)
        for into, what in zip(total, found, strict=True):
            into.index_add_(0, own, what)
        screens.append(here)
    return total, Screen(*(torch.cat(t, 1) for t in zip(*screens, strict=True)))


def shift(name: str, at: Estimate) -> float:
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
