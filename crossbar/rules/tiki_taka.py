"""Tiki-Taka, version 2: gradients on a fast array, filtered on their way to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.rule import Job, Rule, Slot, like
from crossbar.streams import Streams
from devices import Pulses
from devices._check import instance, positive, whole


class Buffer(NamedTuple):
    """The digital filter H, and which column of A is read next."""

    h: Tensor  # (rows, cols)
    clock: Tensor  # () int64, vectors seen


@dataclass(frozen=True)
class TikiTaka(Rule):
    """Two arrays: A is pulsed by every vector, C holds the weight.

    Every `every` vectors the next input line j of A is read one-hot, v, and

        H_j ← H_j + transfer_lr · lr · v/(buffer · g_A)

    with g_A the weight change of one pulse on A. Where |H_j| >= 1, C_j is given one pulse of the
    sign of H_j, and H_j ← 0: what A holds at its symmetry point averages out in H.

    Args:
        fast_lr: rate at which A is pulsed, in units of weight per x δ (not times lr), > 0.
        transfer_lr, buffer: see above, > 0.
        every: vectors between two reads of A, >= 1.
        scheme: how x and δ become pulses on A.
        fast: the chip of A; None: that of C.

    Source: Gokmen, Front. Artif. Intell. 4:699148 (2021), doi:10.3389/frai.2021.699148.
    """

    fast_lr: float = 1.0
    transfer_lr: float = 1.0
    buffer: float = 1.0
    every: int = 1
    scheme: Scheme = field(default_factory=lambda: ExactBits(bl=5))
    fast: Chip | None = None

    def __post_init__(self) -> None:
        positive("fast_lr", self.fast_lr)
        positive("transfer_lr", self.transfer_lr)
        positive("buffer", self.buffer)
        whole("every", self.every, 1)
        instance("scheme", self.scheme, Scheme, optional=False)
        instance("fast", self.fast, Chip)

    def slots(self) -> tuple[Slot, ...]:
        """A, which reads of the weight do not see, and C."""
        return Slot(0.0, self.fast), Slot()

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Buffer:
        """An empty filter."""
        h = like(matrices[-1], shape)
        return Buffer(h, h.new_zeros((), dtype=torch.int64))

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """Vector by vector."""
        for job in jobs:
            self.whole(job)
            (a, c), (h, clock) = job.matrices, job.leaf
            step = (a.granularity + c.granularity) / 2
            n = h.shape[-2]
            for x, d in zip(*job.lines(), strict=True):
                vectors = (x.unsqueeze(0), d.unsqueeze(0))
                a.update(*vectors, self.fast_lr, self.scheme, step=step)
                clock.add_(1)
                if int(clock) % self.every == 0:
                    self._transfer(a, c, h, (int(clock) // self.every - 1) % n, job.lr)

    def _transfer(self, a: Matrix, c: Matrix, h: Tensor, j: int, lr: float) -> None:
        v = a.read_row(j)  # (..., cols)
        step = a.granularity[..., 0, :] if a.granularity.dim() else a.granularity
        h[..., j, :] += self.transfer_lr * lr * v / (self.buffer * step)
        sign = h[..., j, :].trunc().sign()
        h[..., j, :].masked_fill_(sign != 0, 0)
        counts = torch.zeros_like(h)
        counts[..., j, :] = sign
        c.pulse(Pulses(counts.clamp(min=0), (-counts).clamp(min=0)))
