"""Which family predicts data that its fit did not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices.fitting.data import Blocks
from devices.fitting.engine import Problem, Solution, begin, held_out, solve
from devices.fitting.start import Averages

FOLDS = 3
FAR = 8.0
FEWEST = 2
"""Blocks of every cell that remain where the data are thinned."""

MOST = 40_000
"""Reads that a comparison uses at most."""


@dataclass(frozen=True)
class Candidate:
    """A family in the comparison."""

    name: str
    parameters: int  # fitted
    held_out: float  # log-likelihood per unseen read, relative to the best family
    error: float  # standard error of that difference
    equivalent: bool  # within one standard error of the best
    reason: str = ""  # why it could not be fitted, where it could not


def compare(problems: Sequence[Problem], seen: Averages) -> tuple[Candidate, ...]:
    """The families, the chosen one first, then by their predictions.

    Raises:
        RuntimeError: none of them could be fitted.
    """
    scores: dict[int, Tensor] = {}
    reasons: dict[int, str] = {}
    fits: dict[int, Solution] = {}
    for i, problem in enumerate(problems):
        try:
            small = limited(problem, MOST)
            fits[i] = solve(small, begin(small, seen))
        except RuntimeError as failure:  # no convergence: the law does not suit the data
            reasons[i] = str(failure)
    for i in _hopeless(fits):
        reasons[i] = "describes even the data of its own fit far worse"
        del fits[i]
    for i, whole in fits.items():
        try:
            scores[i] = predictions(whole)
        except RuntimeError as failure:  # no convergence: the law does not suit the data
            reasons[i] = str(failure)
    if not scores:
        raise RuntimeError("; ".join(reasons.values()))
    sizes = {i: len(p.free) + len(p.noises) + len(p.spreads) for i, p in enumerate(problems)}
    best = max(scores, key=lambda i: float(scores[i].sum()))
    reads = int((~problems[0].blocks.y.isnan()).sum())
    found = {}
    for i, score in scores.items():
        difference = score - scores[best]
        error = float(difference.std()) * math.sqrt(len(difference)) if len(difference) > 1 else 0.0
        total = float(difference.sum())
        same = -total <= error
        found[i] = Candidate(problems[i].family.name, sizes[i], total / reads, error / reads, same)
    order = sorted(found, key=lambda i: -found[i].held_out)
    winner = min((i for i in order if found[i].equivalent), key=lambda i: sizes[i])
    order.remove(winner)
    failed = [
        Candidate(problems[i].family.name, sizes[i], -math.inf, math.nan, False, reason)
        for i, reason in reasons.items()
    ]
    return (found[winner], *(found[i] for i in order), *failed)


def _hopeless(fits: dict[int, Solution]) -> list[int]:
    """Families whose own data are worse described than by the best, far beyond the error of that.

    Per cell, by `FAR` standard errors and more than `FAR`² in the logarithm of the likelihood.
    """
    if not fits:
        return []
    likelihood = {i: s.last.log_likelihood for i, s in fits.items()}
    best = max(likelihood.values(), key=lambda x: float(x.sum()))
    out = []
    for i, own in likelihood.items():
        difference = own - best
        error = float(difference.std()) * math.sqrt(len(own)) if len(own) > 1 else 0.0
        if -float(difference.sum()) > max(FAR * error, FAR**2):
            out.append(i)
    return out


def predictions(whole: Solution) -> Tensor:
    """Log-likelihood of every unseen cell (or trace, where cells are few), by cross-validation.

    Every fold starts from the fit to all of the data, which it forgets as it converges.
    """
    problem, at = whole.problem, whole.at
    y, kind, cell = problem.blocks
    by_cell = problem.cells >= 2 * FOLDS
    fold = cell % FOLDS if by_cell else torch.arange(len(cell)) % FOLDS
    out = []
    for number in range(FOLDS):
        train, test = _part(problem, fold != number), _part(problem, fold == number, not by_cell)
        kept = torch.unique(cell[fold != number])
        begun = replace(at, delta=at.delta[kept], inner=at.inner[kept])
        out.append(held_out(test, solve(train, begun).at))
    return torch.cat(out)


def limited(problem: Problem, reads: int) -> Problem:
    """About `reads` reads: as many random blocks of every cell, at least `FEWEST` of each.

    Random, because blocks cut from long cycles alternate between the polarities.
    """
    y, kind, cell = problem.blocks
    each = max(FEWEST, reads // (problem.cells * y.shape[0]))
    draw = torch.rand(len(cell), generator=torch.Generator().manual_seed(0))
    order = torch.argsort(draw)
    order = order[torch.argsort(cell[order], stable=True)]  # by cell, random within
    start = torch.searchsorted(cell, torch.arange(problem.cells))
    rank = torch.arange(len(cell)) - start[cell]
    keep = order[rank < each].sort().values
    return replace(problem, blocks=Blocks(y[:, keep], kind[:, keep], cell[keep]))


def _part(problem: Problem, keep: Tensor, each: bool = False) -> Problem:
    """Some of the blocks with cells numbered anew; `each` block a cell of its own on request."""
    y, kind, cell = problem.blocks
    labels = (
        torch.arange(int(keep.sum())) if each else torch.unique(cell[keep], return_inverse=True)[1]
    )
    blocks = Blocks(y[:, keep], kind[:, keep], labels)
    return replace(problem, blocks=blocks, cells=int(labels.max()) + 1)
