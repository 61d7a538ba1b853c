"""Low-rank updates: factors of the gradient in digital memory, few writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.matrix import Matrix
from crossbar.rules.rule import Job, Load, Rule, Work, clock, like, rounded, signed
from crossbar.streams import Streams
from devices._check import whole


class Factors(NamedTuple):
    """Σ lr x δᵀ ≈ left rightᵀ since the last write."""

    left: Tensor  # (..., rows, rank)
    right: Tensor  # (..., cols, rank)
    clock: Tensor  # () int64, steps
    writes: Tensor  # () int64, cells that were pulsed


@dataclass(frozen=True)
class LowRank(Rule):
    """Gradients are kept as `rank` pairs of vectors and written every `every` steps.

    New vectors are joined to the factors, which are cut to their largest singular values again: the
    nearest matrix of that rank to what was kept and what came. A write gives (left rightᵀ)/g whole
    pulses in the mean. `writes` counts the cells that were pulsed.

    Args:
        rank: r >= 1; memory is r (rows + cols) numbers.
        every: steps between two writes, >= 1.

    Source: Gural, Nadeau, Tikekar & Murmann, "Low-Rank Training of Deep Neural Networks for
    Emerging Memory Technology", arXiv:2009.03887 (its exact rule, without the bias correction).
    """

    rank: int = 4
    every: int = 10

    def __post_init__(self) -> None:
        whole("rank", self.rank, 1)
        whole("every", self.every, 1)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Factors:
        """Nothing kept."""
        *lead, rows, cols = shape
        left, right = (like(matrices[-1], (*lead, n, self.rank)) for n in (rows, cols))
        return Factors(left, right, clock(matrices[-1]), clock(matrices[-1]))

    def work(self, load: Load) -> Work:
        """Two QR decompositions, the product of their cores and its factors; these in memory.

        2 n k² multiplications a QR of n × k, as much again for the new factors, 20 k³ of the
        singular values, k = rank + vectors (Golub & Van Loan, "Matrix Computations", 4th ed.).
        """
        k, lines = self.rank + load.vectors, load.rows + load.cols
        macs = 4 * lines * k**2 + 20 * k**3 + load.weights * self.rank / self.every
        return Work(macs, 2 * load.weights / self.every, 8 * lines * self.rank)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        begun = {}
        for job in jobs:
            self.whole(job)
            left, right, *_ = job.leaf
            x, d = (v.to(left.dtype).movedim(0, -1) for v in job.lines())  # (..., lines, n)
            self._keep(left, right, torch.cat([left, x * job.lr], -1), torch.cat([right, d], -1))
            begun[job.matrices[-1]] = job.leaf
        for array, (left, right, steps, writes) in begun.items():
            steps.add_(1)
            if int(steps) % self.every == 0:
                n = rounded(-(left @ right.mT) / array.granularity, array)
                array.pulse(signed(n))
                writes.add_((n != 0).sum())
                left.zero_()
                right.zero_()

    def _keep(self, left: Tensor, right: Tensor, a: Tensor, b: Tensor) -> None:
        """The best a bᵀ of the rank, by the singular values of its small core."""
        (qa, ra), (qb, rb) = torch.linalg.qr(a), torch.linalg.qr(b)
        u, s, vt = torch.linalg.svd(ra @ rb.mT)
        k = min(self.rank, s.shape[-1])
        root = s[..., :k].sqrt().unsqueeze(-2)
        for kept, q, side in ((left, qa, u), (right, qb, vt.mT)):
            kept.zero_()
            kept[..., :k] = q @ (side[..., :k] * root)
