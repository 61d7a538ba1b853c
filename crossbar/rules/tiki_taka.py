"""Tiki-Taka, version 2 and its chopped form: gradients on a fast array, filtered on their way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.operations import Vectors
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.lines import Turns, blocks, each_line, of_lines, peaks, put_lines
from crossbar.rules.rule import Job, Load, Rule, Slot, Work, clock, like, of_columns, signed, train
from crossbar.streams import Streams
from devices._check import at_least, between, flag, instance, positive, whole


class Filter(NamedTuple):
    """The digital filter H, choppers and clocks."""

    h: Tensor  # (..., rows, cols)
    chopper: Tensor  # (rows,) ±1
    clock: Tensor  # () int64, vectors seen
    tops: Tensor  # (2, ...) running means of max|x| and max|δ|; 0: none yet


@dataclass(frozen=True)
class TikiTaka(Rule):
    """Two arrays: A is pulsed by every vector, C holds the weight. TTv2, and with `chop` c-TTv2.

    A takes −q (c∘x) δᵀ, c the choppers of the input lines. After every `every` vectors the next
    input line j of A is read one-hot, v, and

        H_j ← H_j + c_j v transfer_lr lr/b,   b = buffer g_A (· auto_granularity/(rows · every))

    Where |H| >= 1, C is given n = trunc H pulses, at most `transfer_bl`, and H ← momentum · H (or
    H − (1 − momentum) n without `forget`). Then c_j flips with probability `chop`: what A holds at
    its symmetry point averages out in H. The read is the forward one of A's chip. With `auto_scale`

        q = fast_lr BL g_A/(m_x m_δ),   m ← (1 − τ) m + τ max|·|,   τ = 0.01/(vectors of a step)

    starting at the first maximum. Of a train on A a coincidence is reckoned (g_A + g_C)/2.

    Args:
        fast_lr: q where `auto_scale` does not set it, > 0; times lr with `scale_fast_lr`.
        transfer_lr: see above, > 0.
        every: vectors between two reads of A, >= 1.
        buffer: see above, > 0 (aihwkit's buffer_granularity; its buffered class has
            thres_scale g_C/g_A here and momentum 0.1).
        auto_granularity: see above, > 0; None leaves the factor out.
        auto_scale: see above.
        scale_fast_lr: see above.
        momentum: see above, in [0, 1).
        forget: see above.
        transfer_bl: longest train on C, >= 1: beyond one pulse n comes as a train of max|n| slots,
            in which a cell is pulsed with n/max|n|.
        chop: probability of a flip at each read, in [0, 1].
        regular: whether lines flip in every ⌈1/chop⌉-th sweep of reads instead (at least 2nd).
        gamma: what A counts in the weight, γ c∘A + C, in units of C.
        scheme: how x and δ become pulses on A; `Sequential(ExactBits(5))` keeps the order of the
            pulses within a batch.
        fast: the chip of A; None: that of C.
        zero_pairs: pairs of pulses by which A is brought to its symmetry points before its
            references take these over; None: it begins at weight zero as it was made.

    Source: Gokmen, Front. Artif. Intell. 4:699148 (2021), doi:10.3389/frai.2021.699148; Rasch et
    al., Nat. Commun. 15:7133 (2024), doi:10.1038/s41467-024-51221-z; aihwkit 1.2's
    ChoppedTransferCompound, whose defaults these are.
    """

    fast_lr: float = 1.0
    transfer_lr: float = 1.0
    every: int = 1
    buffer: float = 1.0
    auto_granularity: float | None = None
    auto_scale: bool = False
    scale_fast_lr: bool = False
    momentum: float = 0.0
    forget: bool = True
    transfer_bl: int = 1
    chop: float = 0.0
    regular: bool = False
    gamma: float = 0.0
    scheme: Scheme = field(default_factory=lambda: ExactBits(bl=5))
    fast: Chip | None = None
    zero_pairs: int | None = None

    def __post_init__(self) -> None:
        for name in ("fast_lr", "transfer_lr", "buffer"):
            positive(name, getattr(self, name))
        if self.auto_granularity is not None:
            positive("auto_granularity", self.auto_granularity)
        for name in ("every", "transfer_bl"):
            whole(name, getattr(self, name), 1)
        for name in ("auto_scale", "scale_fast_lr", "forget", "regular"):
            flag(name, getattr(self, name))
        between("momentum", self.momentum, 0, 1)
        between("chop", self.chop, 0, 1)
        at_least("gamma", self.gamma, 0)
        instance("scheme", self.scheme, Scheme, optional=False)
        instance("fast", self.fast, Chip)
        if self.auto_scale and not hasattr(self.scheme, "bl"):
            raise TypeError(
                f"auto_scale=True fits pulses to trains: {type(self.scheme).__name__} has no `bl`"
            )
        if self.gamma and self.chop:
            raise ValueError(
                "gamma shows A in the weight, but chop inverts A line by line: give one of them"
            )

    def slots(self) -> tuple[Slot, ...]:
        """A and C."""
        return Slot(self.gamma, self.fast, self.zero_pairs), Slot()

    def reads(self, vectors: int, lines: int) -> float:
        """One line of A every so many vectors."""
        return vectors / self.every

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Any:
        """An empty filter."""
        h = like(matrices[-1], shape)
        return Filter(h, h.new_ones(shape[-2]), clock(matrices[-1]), h.new_zeros(2, *shape[:-2]))

    filtered: ClassVar[tuple[int, int]] = (4, 8)
    """Operations, and bytes of the filter read and written, of each number that A is read for."""

    def work(self, load: Load) -> Work:
        """Peaks and choppers of the vectors, and the filter of each read."""
        ops, size = self.filtered
        read = self.reads(load.vectors, load.rows) * load.cols
        return Work(optimiser_op=2 * load.lines + ops * read, optimiser_byte=size * read)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """In blocks of vectors in which no line is read twice."""
        for job in jobs:
            self.whole(job)
            x, d = job.lines()
            for part in blocks(self.every * x.shape[-1], x, d, self._rate(job, x, d)):
                self._block(job, *part)

    def _rate(self, job: Job, x: Tensor, d: Tensor) -> Tensor | float:
        """The rate of A, of each vector where these differ."""
        rate = self.fast_lr * (job.lr if self.scale_fast_lr else 1.0)
        if not self.auto_scale:
            return rate
        one = job.matrices[0].granularity.amax()  # of columns with scales of their own
        return rate * self.scheme.bl * one / peaks(x, d, job.leaf.tops)  # type: ignore[attr-defined]

    def _block(self, job: Job, x: Tensor, d: Tensor, rate: Tensor | float) -> None:
        (a, c), leaf, count = job.matrices, job.leaf, int(job.leaf.clock)
        turns = Turns.among(len(x), count, self.every, x)
        flip = self._flips(turns, f"{a.streams.seed}/choppers/{count}")
        x, between = turns.chop(x, leaf.chopper, flip), (a.granularity + c.granularity) / 2
        v = a.update(x, d, rate, self.scheme, op=Vectors(), g=between, reads=turns.reads)
        leaf.clock.add_(len(x))
        if v is not None:
            self._transfer(job, v, turns, flip)

    def _transfer(self, job: Job, v: Tensor, turns: Turns, flip: Tensor) -> None:
        (a, c), leaf, line = job.matrices, job.leaf, turns.line
        own, b = leaf.chopper[line], of_columns(a.granularity) * self.buffer
        if self.auto_granularity is not None:
            b = b * (self.auto_granularity / (a.lines[-2] * self.every))
        signal = each_line(own, v) * self._signal(v, leaf, line, flip)
        h = of_lines(leaf.h, line) + signal * (self.transfer_lr * job.lr / b)
        counts = h.trunc().clamp(-self.transfer_bl, self.transfer_bl)
        kept = h * self.momentum if self.forget else h - (1 - self.momentum) * counts
        put_lines(leaf.h, line, torch.where(counts != 0, kept, h))
        if self.transfer_bl > 1:
            counts = train(counts, self.transfer_bl, -1, c)
        c.pulse(signed(counts * self._opened(turns.sweep, v)), line)
        leaf.chopper[line] = torch.where(flip, -own, own)

    @property
    def period(self) -> int:
        """Sweeps between two regular flips of a line."""
        return max(math.ceil(1 / self.chop), 2) if self.chop else 2**62

    def _flips(self, turns: Turns, seed: str) -> Tensor:
        """Which lines flip at their read."""
        if self.regular or not self.chop:
            return turns.sweep % self.period == self.period - 1
        return turns.drawn(self.chop, seed)

    def _signal(self, v: Tensor, leaf: Any, line: Tensor, flip: Tensor) -> Tensor:
        """What of a read is filtered."""
        return v

    def _opened(self, sweep: Tensor, v: Tensor) -> Tensor | float:
        """1 where C is written, 0 where it waits."""
        return 1.0


@dataclass(frozen=True)
class ChoppedTikiTaka(TikiTaka):
    """c-TTv2: `TikiTaka` whose choppers flip at random, with a tenth of the full rate on A.

    Whatever A is drawn to, a mistaken symmetry point or its drift, changes its sign with the
    choppers and averages out in H.

    Args: see `TikiTaka`.

    Source: Rasch et al., Nat. Commun. 15:7133 (2024), doi:10.1038/s41467-024-51221-z.
    """

    fast_lr: float = 0.1
    auto_scale: bool = True
    chop: float = 0.1
