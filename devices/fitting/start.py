"""Where a fit begins: least squares of a law's steps on robust averages of measured steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from devices.fitting.data import DOWN, NOTHING, UP, Blocks, Unidentified
from devices.fitting.families import Family, Mean

WIDTHS = (8, 4, 2, 1, 5, 10, 3, 6, 7, 9, 16, 20, 32, 64)
"""Pulses over which a step is averaged, in the order in which they are tried."""

ENOUGH = 100
"""Averages after which no other width is tried."""

BINS = 24

STRETCHES = (1.0, 0.5, 2.0)
"""Factors on the shape parameters from which the least squares begin; the best end counts."""


@dataclass(frozen=True)
class Averages:
    """Median steps in bins of conductance, and what single pulses and reads scatter around them."""

    g: Tensor  # (n,)
    step: Tensor  # (n,) per pulse
    error: Tensor  # (n,) standard error
    kind: Tensor  # (n,)
    low: float  # range of conductances without the outermost reads
    high: float
    pulse_variance: float
    read_variance: float


def averages(blocks: Blocks) -> Averages:
    """Median steps per bin and polarity, with the noise that single steps show around them.

    The scatter of a difference of reads is that of one pulse plus two reads, the covariance of two
    neighbouring differences is minus that of one read.
    """
    low, high = _range(blocks.y)
    edges = torch.linspace(low, high, BINS + 1, dtype=blocks.y.dtype)[1:-1]
    rows: list[tuple[float, float, float, int]] = []
    for kind in (UP, DOWN):
        g, slope = _slopes(blocks, kind)
        bins = torch.bucketize(g, edges)
        for b in range(BINS):
            here = slope[bins == b]
            if len(here) >= 8:
                middle = here.median()
                spread = 1.4826 * (here - middle).abs().median()
                centre = float(g[bins == b].median())
                rows.append((centre, float(middle), float(spread) / len(here) ** 0.5, kind))
    if not rows:  # few data: one average of each polarity
        for kind in (UP, DOWN):
            g, slope = _slopes(blocks, kind)
            if len(slope):
                rows.append((float(g.median()), float(slope.median()), 1e-3, kind))
    if not rows:
        raise Unidentified("dg_min cannot be identified: no two reads have pulses of one polarity")
    columns = [torch.tensor(c, dtype=torch.float64) for c in zip(*rows, strict=True)]
    error = columns[2].clamp(min=float(columns[2].max()) * 0.1 + 1e-9)
    pulse, read = _scatter(blocks)
    return Averages(columns[0], columns[1], error, columns[3].long(), low, high, pulse, read)


def _range(y: Tensor) -> tuple[float, float]:
    reads = y[~y.isnan()].numpy()
    low, high = np.quantile(reads, [0.002, 0.998])
    return float(low), float(high)


def _slopes(blocks: Blocks, kind: int) -> tuple[Tensor, Tensor]:
    """Midpoint and mean step of runs of pulses of one kind, of the first width that reads have.

    The noise of a read enters midpoint and step of a run independently, so that it bends no curve.
    """
    best: tuple[Tensor, Tensor] | None = None
    for width in WIDTHS:
        if width >= len(blocks.y):
            continue
        run = blocks.kind.unfold(0, width, 1)[1:].eq(kind).all(-1)
        start, stop = blocks.y[:-width][: len(run)], blocks.y[width:][: len(run)]
        keep = run & ~start.isnan() & ~stop.isnan()
        found = ((start + stop) / 2)[keep], ((stop - start) / width)[keep]
        if best is None or len(found[0]) > len(best[0]):
            best = found
        if len(best[0]) >= ENOUGH:
            break
    assert best is not None
    return best


def _scatter(blocks: Blocks) -> tuple[float, float]:
    """Variance of one pulse and of one read, from second differences within one polarity."""
    d = blocks.y.diff(dim=0)
    kind = blocks.kind[1:]
    same = (kind[1:] == kind[:-1]) & (kind[1:] != NOTHING)
    # neighbouring differences of one polarity differ by little but noise
    a, b = d[:-1][same], d[1:][same]
    keep = ~a.isnan() & ~b.isnan()
    a, b = a[keep], b[keep]
    if len(a) < 3:
        size = torch.cat([_slopes(blocks, way)[1].abs() for way in (UP, DOWN)])
        guess = 0.1 * float(size.median()) ** 2 + 1e-12  # nothing better in sparse reads
        return guess, guess
    change = (b - a).abs().median() * 1.4826  # variance 2 q + 6 r
    limit = 5 * change
    fine = ((b - a).abs() < limit).nonzero().flatten()
    total = float((b - a)[fine].square().mean()) + 1e-14
    third = blocks.y[3:] - 2 * blocks.y[2:-1] + blocks.y[1:-2]
    other = blocks.y[2:-1] - 2 * blocks.y[1:-2] + blocks.y[:-3]
    run = same[1:] & same[:-1]
    product = (third * other)[run]  # covariance of second differences: -q - 4 r
    product = product[~product.isnan()]
    product = product[product.abs() < float(limit) ** 2]
    if len(product) < 3:
        return total / 4, total / 12
    negative = -float(product.mean())
    read = max((2 * negative - total) / 2, total * 1e-3)
    pulse = max((total - 6 * read) / 2, total * 1e-2)
    return pulse, read


def start(
    family: Family, seen: Averages, free: tuple[Mean, ...], known: dict[str, float], hard: bool
) -> dict[str, float]:
    """Values of all means: the known ones, and the free ones that best explain the averages.

    Next to a hard bound the steps are cut short by it and tell nothing of the law. Where the
    averages leave a direction open, the values stay near ordinary ones (`_width`), from where the
    likelihood finds its way; from the far end of such a direction it may not.
    """
    span = seen.high - seen.low
    begin: dict[str, float] = {}
    for mean in family.means:
        begin[mean.name] = mean.start
    up, down = seen.step[seen.kind == UP], -seen.step[seen.kind == DOWN]
    size = float(torch.cat([up, down]).abs().median())
    begin["g_min"], begin["g_max"] = seen.low, seen.high
    if family.bounded:
        begin["g_min"], begin["g_max"] = seen.low - 0.05 * span, seen.high + 0.05 * span
    if "dg_min" in begin:
        begin["dg_min"] = max(size, 1e-5)
        begin["up_down"] = 0.0
    for name in ("states_up", "states_down"):
        if name in begin:
            begin[name] = span / max(size, 1e-6 * span)
    begin.update(known)
    if not free:
        return begin
    scale = np.array([max(abs(begin[m.name]), 0.05) for m in free])
    lower = np.array([m.low for m in free]) / scale
    upper = np.array([m.high for m in free]) / scale
    for i, mean in enumerate(free):
        if mean.name == "g_min":
            lower[i], upper[i] = (seen.low - span) / scale[i], (seen.low + 0.2 * span) / scale[i]
        if mean.name == "g_max":
            lower[i], upper[i] = (seen.high - 0.2 * span) / scale[i], (seen.high + span) / scale[i]

    inside = (seen.g > seen.low + 0.1 * span) & (seen.g < seen.high - 0.1 * span)
    use = inside if hard and int(inside.sum()) > 2 * len(free) else torch.ones_like(inside)
    g, step, error, up_kind = (t[use] for t in (seen.g, seen.step, seen.error, seen.kind == UP))

    centre = np.array([begin[m.name] for m in free])
    width = np.array([_width(m, begin, span) for m in free])

    def residual(x: np.ndarray) -> np.ndarray:
        values = begin | {m.name: float(v) for m, v in zip(free, x * scale, strict=True)}
        steps = family.steps(values, {}, g)[:, 0]
        predicted = torch.where(up_kind, steps[0], steps[1])
        off = ((predicted - step) / error).clamp(-1e6, 1e6).numpy()
        return np.concatenate([off, (x * scale - centre) / width])

    trials = []
    for stretch in STRETCHES:
        x0 = np.array([begin[m.name] for m in free]) / scale
        for k, mean in enumerate(free):
            if not mean.siemens and not mean.log and not mean.whole:
                x0[k] *= stretch
        begun = np.clip(x0, lower + 1e-9, upper - 1e-9)
        trials.append(
            least_squares(
                residual, begun, bounds=(lower, upper), loss="soft_l1", max_nfev=100, x_scale="jac"
            )
        )
    best = min(trials, key=lambda trial: float(trial.cost))
    return begin | {m.name: float(v) for m, v in zip(free, best.x * scale, strict=True)}


def _width(mean: Mean, begin: dict[str, float], span: float) -> float:
    """How far from its ordinary value a parameter may start at the cost of one standard error."""
    if mean.name == "dg_min" or mean.whole:
        return math.inf
    if mean.name in ("g_min", "g_max"):
        return 0.1 * span
    return 0.5 * max(abs(begin[mean.name]), 1.0)
