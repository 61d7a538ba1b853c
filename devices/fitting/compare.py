"""Which curve predicts ramps that its fit did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t

from devices.fitting.families import Affine, Family, Piecewise, Seen
from devices.fitting.shooting import Curve, Pins, Shot, correlation, first_weight, shoot
from devices.fitting.traces import Array, Index, Traces

FOLDS = 4
FEWEST = 3
"""Traces from which on some are held out; fewer are judged by BIC."""

NEAR = 1.06
"""A simpler curve is taken whose error is within this factor of the best one's."""

FAR = 1.2
"""Or no further than chance leads (Student's 95 % of one side), and this factor."""

FIRM = 100.0
"""Weight of the first read of an unseen ramp, unless a curve leaves little but read noise."""


@dataclass(frozen=True)
class Candidate:
    """A law in the comparison."""

    name: str
    parameters: int  # of its curve, without what differs from cell to cell
    error: float  # root mean square error of whole ramps, in parts of the range of the reads
    held_out: bool  # whether of ramps that the fit did not see; else of all
    equivalent: bool  # as good as the best
    reason: str = ""  # why it could not be fitted, or what else has its curve


@dataclass(frozen=True, eq=False)
class Trial:
    """One curve: its fit, and its squared errors."""

    family: Family
    shot: Shot
    squares: Array  # of every trace, summed; of unseen ramps where held out
    firm: float  # weight of the first read of an unseen trace
    score: float  # the smaller the better
    hard: bool  # whether the window has hard ends

    @property
    def parameters(self) -> int:
        """Numbers of the curve."""
        return len(self.shot.theta) + 2 * self.hard


def fitted(
    family: Family,
    traces: Traces,
    seen: Seen,
    *,
    cells: bool,
    walls: Array | None = None,
    pins: Pins | None = None,
    begin: Array | None = None,
) -> Shot:
    """A curve fitted twice: the second time with the weight that first reads deserve."""
    start = family.start(seen) if begin is None else begin
    shot = shoot(family, traces, start, cells=cells, walls=walls, pins=pins)
    weight = first_weight(shot)
    if weight:
        shot = shoot(
            family,
            traces,
            shot.theta,
            weight=weight,
            cells=cells,
            own=shot.cell,
            walls=walls,
            pins=pins,
        )
    return shot


def ends(traces: Traces) -> Array | None:
    """Hard ends of every cell, from ramps that end flat; None where few do."""
    low, high = np.full(traces.cells, -np.inf), np.full(traces.cells, np.inf)
    flat = total = 0
    found: dict[tuple[int, bool], list[float]] = {}
    ramps = np.unique(traces.ramp)
    for ramp in ramps:
        rows = np.nonzero((traces.ramp == ramp) & traces.seen)[0]
        if len(rows) < 12:
            continue
        total += 1
        y, count = traces.y[rows], np.cumsum(traces.n[rows])
        part = len(rows) // 4
        last = np.polyfit(count[-part:], y[-part:], 1)[0]
        rise = (y[-1] - y[0]) / max(count[-1] - count[0], 1)
        if abs(last) < 0.25 * abs(rise):
            flat += 1
            key = (int(traces.cell[traces.trace[rows[0]]]), bool(traces.up[rows[0]]))
            found.setdefault(key, []).append(float(np.median(y[-part:])))
    if not total or flat <= 0.4 * total:
        return None
    for (cell, up), values in found.items():
        (high if up else low)[cell] = np.median(values)
    return np.column_stack([low, high])


def abrupt(traces: Traces) -> bool:
    """Whether one down pulse makes more than half of the range, and later ones nothing."""
    drops, rest = [], []
    seen = traces.seen
    for ramp in np.unique(traces.ramp[~traces.up]):
        rows = np.nonzero((traces.ramp == ramp) & seen)[0]
        moved = rows[traces.n[rows] > 0]
        if not len(moved) or moved[0] == 0 or not seen[moved[0] - 1]:
            continue
        if traces.trace[moved[0] - 1] == traces.trace[moved[0]]:
            drops.append(traces.y[moved[0] - 1] - traces.y[moved[0]])
            rest.append(traces.y[moved[0]] - traces.y[rows[-1]])
    return bool(drops) and float(np.median(drops)) > 0.5 and float(np.median(rest)) < 0.2


def compare(
    traces: Traces,
    families: Sequence[Family],
    seen: Seen,
    *,
    walls: Array | None = None,
    pins: dict[str, Pins | None] | None = None,
) -> tuple[list[Trial], dict[str, str], bool]:
    """The curves in the order in which they are taken, the reasons of others, whether held out.

    With three traces and more each curve predicts a fourth of them from a fit to the others,
    open loop from their first reads (from starts of their own where read noise is all that is
    left); of those within `NEAR` of the best, or within `FAR` and no further than chance leads, the
    one with fewest parameters is first. With fewer, n log(error²) + p log n decides, n the
    number of reads that the correlation of the residuals leaves.
    """
    cells = traces.cells > 1
    folds = _folds(traces)
    # as many nodes as traces can bear: without unseen ramps they would follow the noise
    bear = 32 if folds else 12
    few = 2 + int(traces.seen.sum()) // 6
    # of nodes nearer than a pulse moves, a ramp passes some by: their steps would be noise
    near = 2 / min(max(seen.up, seen.down), 1.0)
    most = min(bear, few, max(near, len(Piecewise().names)))
    plans = [(f, False) for f in families if len(f.names) <= most]
    plans = plans or [(f, False) for f in families[:1]]
    if walls is not None:
        # offered always, hard ends would also explain ramps whose step varies
        plans += [(f, True) for f in families if isinstance(f, Affine) and f.name != "AbruptReset"]
    if len(plans) == 1:  # one curve is compared with none
        folds = []
    found, reasons = [], {}
    for family, hard in plans:
        own, pin = walls if hard else None, (pins or {}).get(family.name)
        try:
            shot = fitted(family, traces, seen, cells=cells, walls=own, pins=pin)
        except (ValueError, np.linalg.LinAlgError) as error:
            reasons[family.name] = f"its least squares do not converge ({error})"
            continue
        found.append((family, shot, hard, pin))
    if not found:
        return [], reasons, bool(folds)
    # one rule for all: curves that bend would make more of a start that may be moved
    firm = FIRM if min(shot.weight for _, shot, _, _ in found) > 0 else 0.0
    trials = []
    for family, shot, hard, pin in found:
        squares = _squares(shot.traces, (shot.traces.y - shot.mean)[shot.traces.seen])
        for left in folds:
            squares[left] = _unseen(shot, left, hard, pin, firm)
        trials.append(Trial(family, shot, squares, firm, 0.0, hard))
    return _ordered(trials, traces, bool(folds)), reasons, bool(folds)


def _folds(traces: Traces) -> list[Index]:
    """Traces to hold out; none where a fold would leave a direction without ramps."""
    if traces.size < FEWEST:
        return []
    out = [np.arange(k, traces.size, FOLDS) for k in range(min(FOLDS, traces.size))]
    ways = [{bool(u) for u in np.unique(traces.up[traces.trace == t])} for t in range(traces.size)]
    whole = set().union(*ways)
    for left in out:
        kept = set().union(*(ways[t] for t in range(traces.size) if t not in left))
        if kept != whole:
            return []
    return out


def _unseen(shot: Shot, left: Index, hard: bool, pin: Pins | None, firm: float) -> Array:
    """Squared errors of traces that a fit to the others did not see, from starts held so firmly."""
    whole = shot.traces
    kept = whole.of(np.setdiff1d(np.arange(whole.size), left))
    own = ends(kept) if hard else None
    if hard and own is not None and len(own) < whole.cells:
        own = np.vstack([own, np.tile([-np.inf, np.inf], (whole.cells - len(own), 1))])
    again = shoot(
        shot.family,
        kept,
        shot.theta,
        weight=shot.weight,
        cells=shot.cell is not None,
        own=shot.cell,
        walls=own,
        pins=pin,
        rounds=15,
    )
    cell = again.cell
    if cell is not None and len(cell) < whole.cells:
        cell = np.vstack([cell, np.zeros((whole.cells - len(cell), cell.shape[1]))])
    test = whole.of(left)
    start = test.y[test.first].copy()
    _, mean, _ = Curve(shot.family, again.theta, test, own).begun(start, cell, firm)
    return _squares(test, test.y[test.seen] - mean)


def _squares(traces: Traces, error: Array) -> Array:
    total = np.bincount(traces.trace[traces.seen], np.minimum(error**2, 1e6), traces.size)
    return np.asarray(total, dtype=np.float64)


def _ordered(trials: list[Trial], traces: Traces, held: bool) -> list[Trial]:
    reads = int(traces.seen.sum())
    if not held:
        best = min(trials, key=lambda t: float(t.squares.sum()))
        n = max(reads / correlation(best.shot), 10.0)
        scored = [
            replace(
                t,
                score=n * float(np.log(t.squares.sum() + 1e-12)) + t.parameters * float(np.log(n)),
            )
            for t in trials
        ]
        return sorted(scored, key=lambda t: t.score)
    scored = [replace(t, score=float(np.sqrt(t.squares.sum() / reads))) for t in trials]
    best = min(scored, key=lambda t: t.score)
    order = sorted(scored, key=lambda t: t.score)
    chosen = min((t for t in order if as_good(t, best)), key=lambda t: (t.parameters, t.score))
    order.remove(chosen)
    return [chosen, *order]


def as_good(own: Trial, best: Trial) -> bool:
    """Whether a curve predicts as well as the best one, as far as the traces can tell."""
    if own.score <= NEAR * best.score + 1e-12:
        return True
    apart = own.squares - best.squares
    few = len(apart)
    # few traces know their scatter badly, and the best of several curves is so by luck too
    error = float(apart.std(ddof=1)) * few**0.5 * float(t.ppf(0.95, few - 1)) if few > 1 else 0.0
    return float(apart.sum()) <= error and own.score <= FAR * best.score
