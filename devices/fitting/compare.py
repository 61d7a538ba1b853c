"""Which family predicts data that its fit did not see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices.fitting.data import DOWN, NOTHING, UP, Blocks, Unidentified
from devices.fitting.engine import COARSE, Solution, held_out, solve
from devices.fitting.look import OUTLIER
from devices.fitting.lookup import NODES as LOOKUP_NODES
from devices.fitting.lookup import QUANTILES as LOOKUP_QUANTILES
from devices.fitting.lookup import predicted
from devices.fitting.problem import Problem, begin
from devices.fitting.start import Averages
from devices.update.lookup import LookupStep

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


def compare(
    problems: Sequence[Problem], seen: Averages, *, lookup: bool
) -> tuple[tuple[Candidate, ...], Solution | None]:
    """The families, the chosen one first, then by their predictions; and the chosen one's fit.

    All of it on at most about `MOST` reads of `limited`. Every family is fitted coarsely; one that
    describes even the data of its own fit worse than the best by `FAR` standard errors is left out
    (`_hopeless`). The others are fitted well and predict unseen cells. With `lookup` so does the
    device of the measured steps themselves, whose parameters are all of its tables; it has no fit.

    A family of which the data leave a parameter open does not take part.

    Raises:
        Unidentified: none of them could be fitted.
    """
    scores: dict[str, Tensor] = {}
    sizes: dict[str, int] = {}
    reasons: dict[str, str] = {}
    fits: dict[str, Solution] = {}
    blocks = limited(problems[0].blocks, problems[0].cells)
    parts = [replace(problem, blocks=blocks) for problem in problems]
    for part in parts:
        name = part.family.name
        sizes[name] = len(part.free) + len(part.noises) + len(part.spreads)
        try:
            fits[name] = solve(part, begin(part, seen), corrections=0, small=COARSE)
        except RuntimeError as failure:  # no convergence: the law does not suit the data
            reasons[name] = str(failure)
    for name in _hopeless(fits):
        reasons[name] = "describes even the data of its own fit far worse"
        del fits[name]
    for name, coarse in fits.items():
        try:
            fits[name] = solve(coarse.problem, coarse.at, small=COARSE)
            check_identified(fits[name])
            scores[name] = predictions(fits[name])
        except (RuntimeError, Unidentified) as failure:  # the law does not suit the data
            reasons[name] = str(failure)
    if lookup:
        name = LookupStep.__name__
        sizes[name] = 2 * problems[0].cells * LOOKUP_NODES * LOOKUP_QUANTILES
        try:
            folds = [(train.blocks, test.blocks) for train, test, _ in _folds(parts[0])]
            scores[name] = torch.cat([predicted(*fold, OUTLIER) for fold in folds])
        except Unidentified as failure:
            reasons[name] = str(failure)
    if not scores:
        raise Unidentified("; ".join(f"{name}: {why}" for name, why in reasons.items()))
    best = max(scores, key=lambda name: float(scores[name].sum()))
    reads = int((~parts[0].blocks.y.isnan()).sum())
    found = {}
    for name, score in scores.items():
        total, error = _difference(score, scores[best])
        same = -total <= error
        found[name] = Candidate(name, sizes[name], total / reads, error / reads, same)
    order = sorted(found, key=lambda name: -found[name].held_out)
    winner = min((name for name in order if found[name].equivalent), key=lambda name: sizes[name])
    order.remove(winner)
    failed = [
        Candidate(name, sizes[name], -math.inf, math.nan, False, reason)
        for name, reason in reasons.items()
    ]
    return (found[winner], *(found[name] for name in order), *failed), fits.get(winner)


def _hopeless(fits: dict[str, Solution]) -> list[str]:
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
    for name, own in likelihood.items():
        total, error = _difference(own, best)
        if -total > max(FAR * error, FAR**2):
            out.append(name)
    return out


def _difference(own: Tensor, best: Tensor) -> tuple[float, float]:
    """Sum over cells of the difference of two log-likelihoods, and its standard error."""
    apart = own - best
    error = float(apart.std()) * math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return float(apart.sum()), error


def check_identified(solution: Solution) -> None:
    """Raise `Unidentified` for a mean that the data leave open."""
    error = torch.diagonal(solution.last.covariance).clamp(min=0).sqrt()
    for name, e, mean in zip(solution.names, error, solution.problem.free, strict=False):
        size = solution.at.values[name] if name == "dg_min" else 1.0
        limit = 20.0 if mean.log or mean.name.startswith(("states", "gamma", "beta")) else 1.0
        if float(e) > limit * size and not mean.whole:
            raise Unidentified(
                f"{name} cannot be identified from these data: its standard error, "
                f"{float(e) * (100 / size):.0f} % of its scale, leaves it open; pulses that cover "
                f"more of the window would help, or give it by fixed={{{name!r}: ...}}"
            )


def predictions(whole: Solution) -> Tensor:
    """Log-likelihood of every unseen cell (or trace, where cells are few), by cross-validation.

    Every fold starts from the fit to all of the data, which it forgets as it converges.
    """
    out = []
    for train, test, kept in _folds(whole.problem):
        begun = replace(whole.at, delta=whole.at.delta[kept], inner=whole.at.inner[kept])
        slope = whole.slope[kept]
        fitted = solve(train, begun, corrections=0, slope=slope, small=COARSE)
        out.append(held_out(test, fitted.at))
    return torch.cat(out)


def _folds(problem: Problem) -> Iterator[tuple[Problem, Problem, Tensor]]:
    """What to fit, what to predict, and the cells of the former; by cell or, if few, by trace."""
    cell = problem.blocks.cell
    by_cell = problem.cells >= 2 * FOLDS
    fold = cell % FOLDS if by_cell else torch.arange(len(cell)) % FOLDS
    for number in range(FOLDS):
        train, test = _part(problem, fold != number), _part(problem, fold == number, not by_cell)
        yield train, test, torch.unique(cell[fold != number])


def limited(blocks: Blocks, cells: int, reads: int = MOST) -> Blocks:
    """About `reads` reads where there are more: random short pieces of the traces of every cell.

    Random, because traces alternate between the polarities; short, because a piece takes as long as
    many side by side.
    """
    if blocks.y.numel() <= reads:
        return blocks
    each = max(FEWEST, reads // (cells * SHORT))
    y, kind, cell = _cut(blocks, SHORT)
    draw = torch.rand(len(cell), generator=torch.Generator().manual_seed(0))
    order = torch.argsort(draw)
    order = order[torch.argsort(cell[order], stable=True)]  # by cell, random within
    start = torch.searchsorted(cell[order], torch.arange(cells))
    rank = torch.arange(len(cell)) - start[cell[order]]
    keep = order[rank < each]
    return Blocks(y[:, keep], kind[:, keep], cell[keep])


def without_rest(blocks: Blocks, ends: tuple[float, float], near: float) -> Blocks:
    """The blocks without the reads that rest at a hard end of the window, for a comparison.

    A cell that goes on being pulsed against an end says nothing of any law, but by the number of
    its reads it weighs how well the normal distribution describes a pulse cut short there. Left are
    the arrival and the last read before the direction changes; `near` is the distance that read
    noise makes.
    """
    y, kind, cell = blocks
    y = y.clone()
    for way, end in ((DOWN, ends[0]), (UP, ends[1])):
        there = (blocks.y - end).abs() < near
        pushed = kind == way
        y[1:-1][there[:-2] & there[1:-1] & pushed[1:-1] & pushed[2:]] = math.nan
    return Blocks(y, kind, cell)


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
