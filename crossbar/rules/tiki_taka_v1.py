"""Tiki-Taka, version 1: a fast array whose columns are added to the slow one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.operations import Vectors
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.lines import Turns, blocks
from crossbar.rules.rule import Job, Load, Rule, Slot, Work, clock
from crossbar.streams import Streams
from devices._check import at_least, flag, instance, positive, whole


class Reads(NamedTuple):
    """How far the reads of A have got."""

    clock: Tensor  # () int64, vectors seen, or mini-batches


@dataclass(frozen=True)
class TikiTakaV1(Rule):
    """W = γA + C; A takes −fast_lr lr x δᵀ, and its columns are pulsed onto C one by one.

    After every `every` mini-batches (or vectors) the next input line j of A is read one-hot, v, and
    C takes the stochastic update +transfer_lr lr e_j vᵀ. Of a train on A a coincidence is reckoned
    (g_A + g_C)/2, on C g_C. The read is the forward one of A's chip.

    Args:
        fast_lr, transfer_lr: see above, > 0.
        every: see above, >= 1.
        batches: whether `every` counts mini-batches (aihwkit's units_in_mbatch), not vectors.
        gamma: γ >= 0.
        scheme: how x and δ become pulses on A.
        transfer: how e_j and v become pulses on C.
        fast: the chip of A; None: that of C.
        zero_pairs: see `TikiTaka`.

    Source: Gokmen & Haensch, Front. Neurosci. 14:103 (2020), doi:10.3389/fnins.2020.00103; aihwkit
    1.2's TransferCompound, whose defaults these are.
    """

    fast_lr: float = 1.0
    transfer_lr: float = 1.0
    every: int = 1
    batches: bool = True
    gamma: float = 0.0
    scheme: Scheme = field(default_factory=lambda: ExactBits(bl=31))
    transfer: Scheme = field(default_factory=lambda: ExactBits(bl=31))
    fast: Chip | None = None
    zero_pairs: int | None = None

    def __post_init__(self) -> None:
        positive("fast_lr", self.fast_lr)
        positive("transfer_lr", self.transfer_lr)
        whole("every", self.every, 1)
        flag("batches", self.batches)
        at_least("gamma", self.gamma, 0)
        instance("scheme", self.scheme, Scheme, optional=False)
        instance("transfer", self.transfer, Scheme, optional=False)
        instance("fast", self.fast, Chip)

    def slots(self) -> tuple[Slot, ...]:
        """A and C."""
        return Slot(self.gamma, self.fast, self.zero_pairs), Slot()

    def reads(self, vectors: int, lines: int) -> float:
        """One line every so many mini-batches or vectors."""
        return (1 if self.batches else vectors) / self.every

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Reads:
        """Nothing read yet."""
        return Reads(clock(matrices[-1]))

    def work(self, load: Load) -> Work:
        """The largest of each x and δ are looked for, and of each read."""
        reads = self.reads(load.vectors, load.rows)
        return Work(optimiser_op=load.lines + reads * load.cols)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """In blocks in which no line is read twice."""
        for job in jobs:
            self.whole(job)
            x, d = job.lines()
            size = len(x) if self.batches else self.every * x.shape[-1]
            for part in blocks(size, x, d):
                self._block(job, *part)

    def _block(self, job: Job, x: Tensor, d: Tensor) -> None:
        (a, c), passed, op = job.matrices, 1 if self.batches else len(x), Vectors()
        turns = Turns.among(passed, int(job.leaf.clock), self.every, x)
        turns = turns._replace(at=turns.at + len(x) - passed)  # after the last of a mini-batch
        between, rate = (a.granularity + c.granularity) / 2, self.fast_lr * job.lr
        v = a.update(x, d, rate, self.scheme, op=op, g=between, reads=turns.reads)
        job.leaf.clock.add_(passed)
        if v is not None:
            hot = torch.nn.functional.one_hot(turns.line, x.shape[-1]).to(v)
            hot = hot.view(len(v), *(1,) * (v.dim() - 2), -1).expand(*v.shape[:-1], -1)
            c.update(hot, -v, self.transfer_lr * job.lr, self.transfer, op=op)
