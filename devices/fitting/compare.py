"""Which family predicts data that its fit did not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices.fitting.data import NOTHING, Blocks
from devices.fitting.engine import COARSE, Solution, held_out, solve
from devices.fitting.problem import Problem, begin
from devices.fitting.start import Averages

FOLDS = 3
FAR = 8.0
FEWEST = 2
"""Pieces of every cell that remain where the data are thinned."""

SHORT = 64
"""Reads in such a piece."""

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


def compare(problems: Sequence[Problem], seen: Averages) -> tuple[tuple[Candidate, ...], Solution]:
    """The families, the chosen one first, then by their predictions; and the chosen one's fit.

    All of it on at most about `MOST` reads of `limited`. Every family is fitted coarsely; one that
    describes even the data of its own fit worse than the best by `FAR` standard errors is left out
    (`_hopeless`). The others are fitted well and predict unseen cells.

    Raises:
        RuntimeError: none of them could be fitted.
    """
    scores: dict[int, Tensor] = {}
    reasons: dict[int, str] = {}
    fits: dict[int, Solution] = {}
    for i, problem in enumerate(problems):
        small = limited(problem)
        try:
            fits[i] = solve(small, begin(small, seen), corrections=0, small=COARSE)
        except RuntimeError as failure:  # no convergence: the law does not suit the data
            reasons[i] = str(failure)
    for i in _hopeless(fits):
        reasons[i] = "describes even the data of its own fit far worse"
        del fits[i]
    for i, coarse in fits.items():
        try:
            fits[i] = solve(coarse.problem, coarse.at, small=COARSE)
            scores[i] = predictions(fits[i])
        except RuntimeError as failure:  # no convergence: the law does not suit the data
            reasons[i] = str(failure)
    if not scores:
        raise RuntimeError("; ".join(reasons.values()))
    sizes = {i: len(p.free) + len(p.noises) + len(p.spreads) for i, p in enumerate(problems)}
    best = max(scores, key=lambda i: float(scores[i].sum()))
    reads = int((~fits[best].problem.blocks.y.isnan()).sum())
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
    return (found[winner], *(found[i] for i in order), *failed), fits[winner]


def _hopeless(fits: dict[int, Solution]) -> list[int]:
    """Families whose own data are worse described than by the best, far beyond the error of that.

    By `FAR` standard errors of the sum over cells, and more than `FAR`² in the logarithm of the
    likelihood, many times what fitted parameters can pretend (half a unit each): by chance that
    happens to a family as good as the best in one of 10¹⁵ data sets.
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
        slope = whole.slope[kept]
        fitted = solve(train, begun, corrections=0, slope=slope, small=COARSE)
        out.append(held_out(test, fitted.at))
    return torch.cat(out)


def limited(problem: Problem, reads: int = MOST) -> Problem:
    """About `reads` reads where there are more: random short pieces of the traces of every cell.

    Random, because traces alternate between the polarities; short, because a piece takes as long as
    many side by side.
    """
    y, kind, cell = problem.blocks
    if y.numel() <= reads:
        return problem
    pieces = _cut(problem.blocks, SHORT)
    each = max(FEWEST, reads // (problem.cells * SHORT))
    y, kind, cell = pieces
    draw = torch.rand(len(cell), generator=torch.Generator().manual_seed(0))
    order = torch.argsort(draw)
    order = order[torch.argsort(cell[order], stable=True)]  # by cell, random within
    start = torch.searchsorted(cell[order], torch.arange(problem.cells))
    rank = torch.arange(len(cell)) - start[cell[order]]
    keep = order[rank < each]
    return replace(problem, blocks=Blocks(y[:, keep], kind[:, keep], cell[keep]))


def _cut(blocks: Blocks, rows: int) -> Blocks:
    """The blocks in pieces of so many rows; a piece begins with its first read."""
    y, kind, cell = blocks
    parts = -(-y.shape[0] // rows)
    lack = parts * rows - y.shape[0]
    y = torch.nn.functional.pad(y, (0, 0, 0, lack), value=math.nan)
    kind = torch.nn.functional.pad(kind, (0, 0, 0, lack), value=NOTHING)
    y, kind = (t.view(parts, rows, -1).transpose(0, 1).flatten(1) for t in (y, kind))
    seen = ~y.isnan()
    at = torch.arange(rows)[:, None] + seen.int().argmax(0)
    inside, at = at < rows, at.clamp(max=rows - 1)
    y = torch.where(inside, y.gather(0, at), math.nan)
    kind = torch.where(inside, kind.gather(0, at), NOTHING)
    keep = seen.sum(0) > 1
    cell = cell.repeat(parts)[keep]
    order = torch.argsort(cell, stable=True)
    return Blocks(y[:, keep][:, order], kind[:, keep][:, order], cell[order])


def _part(problem: Problem, keep: Tensor, each: bool = False) -> Problem:
    """Some of the blocks with cells numbered anew; `each` block a cell of its own on request."""
    y, kind, cell = problem.blocks
    labels = (
        torch.arange(int(keep.sum())) if each else torch.unique(cell[keep], return_inverse=True)[1]
    )
    blocks = Blocks(y[:, keep], kind[:, keep], labels)
    return replace(problem, blocks=blocks, cells=int(labels.max()) + 1)
