"""Likelihood of reads between pulses: a Kalman filter on tabulated steps, for many traces at once.

The state is the true conductance, the data are noisy reads of it:

    g' = g + s(g) + N(0, c s(g)² + a),    y = g + N(0, r)   or   y = g + N(0, r g²)

with s the step of the pulse's polarity, c the relative and a the additive variance of a pulse, r
that of a read. The step is a table over g, linear between its nodes, so that every law goes through
the same loop; mean and variance of the prediction are exact on an affine piece (the error of a law
curved over the read noise is s'' r/2). Where a hard bound can be reached they are those of the
clipped normal. A missing read is a prediction without an update. All arrays carry a leading axis of
parameter sets, evaluated together: one row is the estimate, the others its finite differences.

Source: Kalman, J. Basic Eng. 82, 35 (1960), doi:10.1115/1.3662552; likelihood by prediction errors:
Schweppe, IEEE Trans. Inf. Theory 11, 61 (1965), doi:10.1109/TIT.1965.1053737.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from devices.fitting.data import NOTHING, Blocks

FLOOR = 1e-7
"""Standard deviation of a read below which nothing is resolved, in units of the data's range."""

DISTORTED, CLEAR = 2.0, 3.0
"""Standard deviations from a hard bound below which the prediction is not normal, and beyond which
it as good as is; in between a read counts in part, for the noise, so that no read comes or goes."""

FAR = 4.5
"""Standard deviations from a hard bound beyond which it is not felt."""


@dataclass(frozen=True)
class Model:
    """Everything that predicts reads, for K parameter sets and C cells (in units of the range)."""

    steps: Tensor  # (K, 3, C, nodes) signed steps of UP, DOWN and NOTHING (zero)
    first: float  # conductance of the first node
    spacing: float  # between nodes
    cycle: Tensor  # (K,) variance of one pulse, relative to its step
    add: Tensor  # (K,) variance of one pulse
    read: Tensor  # (K,) variance of one read, relative to g where proportional
    proportional: bool
    low: Tensor | None  # (K, C) hard bounds; None: out of reach
    high: Tensor | None

    def first_set(self) -> Model:
        """The model with its first parameter set alone."""
        return replace(
            self,
            steps=self.steps[:1],
            cycle=self.cycle[:1],
            add=self.add[:1],
            read=self.read[:1],
            low=None if self.low is None else self.low[:1],
            high=None if self.high is None else self.high[:1],
        )


class Screen(NamedTuple):
    """Which reads the filter learns from and where it starts anew, (times, blocks) each."""

    use: Tensor  # 0 ... 1, weight of a read; 0 where there is none
    restart: Tensor  # bool
    free: Tensor  # 0 ... 1, how little a hard bound distorts the prediction of a read of the noise


def innovations(model: Model, blocks: Blocks, screen: Screen) -> tuple[Tensor, Tensor]:
    """Prediction error and its variance, (times, K, blocks) each; arbitrary without a read."""
    walk = _Walk(model, blocks)
    errors = torch.empty(blocks.y.shape[0], *walk.mean.shape, dtype=blocks.y.dtype)
    variances = torch.empty_like(errors)
    for t in range(blocks.y.shape[0]):
        errors[t], variances[t] = walk.predict(t)
        walk.update(errors[t], variances[t], screen.use[t])
        walk.restart(t, screen.restart[t])
    return errors, variances


def screened(model: Model, blocks: Blocks, threshold: float) -> Screen:
    """The weights of reads under a model (its first parameter set): outliers are left out.

    A read counts less and less from `threshold` − ½ to `threshold` + ½ standard deviations from its
    prediction, and not at all beyond: gradually, so that an estimate may settle where a read is on
    the edge. Two reads in a row beyond `threshold` mean that the cell itself has jumped, and the
    filter starts anew from the second.
    """
    walk = _Walk(model.first_set(), blocks)
    seen = ~blocks.y.isnan()
    use, free, restart = torch.zeros_like(blocks.y), torch.ones_like(blocks.y), seen & False
    rejected = torch.zeros_like(seen[0])
    for t in range(blocks.y.shape[0]):
        error, variance = walk.predict(t)
        free[t] = walk.free[0]
        if t == 0:
            restart[t] = seen[t]
        else:
            weight = (threshold + 0.5 - error[0].abs() * variance[0].rsqrt()).clamp_(0, 1)
            use[t] = weight * seen[t]
            far = weight < 0.5
            restart[t] = seen[t] & far & rejected
            rejected = torch.where(seen[t], far & ~restart[t], rejected)
        walk.update(error, variance, use[t])
        walk.restart(t, restart[t])
    return Screen(use, restart, free)


class _Walk:
    """Mean and variance of the state of every block, pulse by pulse."""

    def __init__(self, model: Model, blocks: Blocks) -> None:
        sets, _, cells, nodes = model.steps.shape
        self.model, self.kind = model, blocks.kind
        self.y = blocks.y.nan_to_num(0.0)  # missing reads have no weight
        self.slope = model.steps.diff(dim=-1) / model.spacing
        self.level = model.steps[..., :-1].flatten()
        self.slope = self.slope.flatten()
        self.pieces = nodes - 1
        rows = torch.arange(sets)[:, None] * (3 * cells) + blocks.cell
        self.row = rows * self.pieces  # (K, blocks) first piece of each cell's table
        self.kinds = cells * self.pieces  # from the table of one kind to the next
        self.mean = torch.zeros(sets, blocks.cell.numel(), dtype=blocks.y.dtype)
        self.variance = torch.zeros_like(self.mean)
        self.cycle, self.add, self.read = (v[:, None] for v in (model.cycle, model.add, model.read))
        self.free = torch.ones_like(self.mean)
        self.low = None if model.low is None else model.low[:, blocks.cell]
        self.high = None if model.high is None else model.high[:, blocks.cell]

    def predict(self, t: int) -> tuple[Tensor, Tensor]:
        """Move on by the pulse before read t; the prediction error of the read and its variance."""
        if t:
            self._pulse(self.kind[t])
        return self.y[t] - self.mean, self.variance + self._read()

    def _read(self) -> Tensor:
        noise = self.read * self.mean.square() if self.model.proportional else self.read
        return noise + FLOOR**2

    def _pulse(self, kind: Tensor) -> None:
        at = (self.mean - self.model.first) / self.model.spacing
        piece = at.floor().clamp_(0, self.pieces - 1)
        index = piece.long().add_(self.row).add_(kind * self.kinds)
        slope = self.slope.take(index)
        offset = at.sub_(piece).mul_(self.model.spacing)  # [range] beyond the node
        step = torch.addcmul(self.level.take(index), slope, offset)
        squared = torch.addcmul(step.square(), slope.square(), self.variance)
        pulse = torch.addcmul(self.add * (kind != NOTHING), self.cycle, squared)
        before = self.mean
        self.mean = before + step
        self.variance = (1 + slope).square_().mul_(self.variance).add_(pulse)
        if self.low is not None and self.high is not None:
            low, high = torch.minimum(self.low, before), torch.maximum(self.high, before)
            moments = _clipped(self.mean, self.variance, low, high)
            self.mean, self.variance, self.free = moments

    def update(self, error: Tensor, variance: Tensor, use: Tensor) -> None:
        """Learn from reads with the weights `use`."""
        gain = self.variance.div(variance).mul_(use)
        self.mean = torch.addcmul(self.mean, gain, error)
        self.variance = torch.addcmul(self.variance, gain, self.variance, value=-1)

    def restart(self, t: int, where: Tensor) -> None:
        """Forget what was known: the read alone says where the cell is."""
        if not bool(where.any()):
            return
        self.mean = torch.where(where, self.y[t], self.mean)
        self.variance = torch.where(where, self._read(), self.variance)


def _clipped(
    mean: Tensor, variance: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of normal variables clipped to [low, high], and how free they are of it."""
    std = variance.sqrt() + FLOOR
    near = torch.minimum(high - mean, mean - low) / std
    felt = (near < FAR).flatten().nonzero().squeeze(-1)
    if len(felt):
        m, d, lo, hi = (t.flatten()[felt] for t in (mean, std, low, high))
        m, d = _clipped_normal(m, d, lo, hi)
        mean = mean.flatten().index_copy(0, felt, m).view_as(mean)
        variance = variance.flatten().index_copy(0, felt, d).view_as(variance)
    return mean, variance, ((near - DISTORTED) / (CLEAR - DISTORTED)).clamp_(0, 1)


def _clipped_normal(mean: Tensor, std: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of clip(N(mean, std²), low, high)."""
    # beyond 40 standard deviations the products below vanish
    a, b = ((low - mean) / std).clamp(-40, 40), ((high - mean) / std).clamp(-40, 40)
    below, above = torch.special.ndtr(a), torch.special.ndtr(-b)
    density_a = torch.exp(-0.5 * a.square()) / math.sqrt(2 * math.pi)
    density_b = torch.exp(-0.5 * b.square()) / math.sqrt(2 * math.pi)
    first = a * below + b * above + density_a - density_b
    second = a.square() * below + b.square() * above + (1 - below - above)
    second = second + a * density_a - b * density_b
    return mean + std * first, (second - first.square()).clamp(min=0) * std.square()
