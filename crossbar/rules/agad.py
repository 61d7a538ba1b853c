"""AGAD: choppers, and a reference that is measured on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from crossbar.matrix import Matrix
from crossbar.rules.lines import Turns, each_line, of_lines, put_lines
from crossbar.rules.tiki_taka import Filter, TikiTaka
from devices._check import positive


class Referenced(NamedTuple):
    """`Filter`, and what is known of the symmetry points of A."""

    h: Tensor  # (..., rows, cols)
    chopper: Tensor  # (rows,)
    clock: Tensor  # ()
    tops: Tensor  # (2, ...)
    rho: Tensor  # (..., rows, cols) the reference of this chopper period
    mu: Tensor  # (..., rows, cols) running mean of the reads
    flipped: Tensor  # (rows,) bool, whether the line flipped at its last read


@dataclass(frozen=True)
class AGAD(TikiTaka):
    """Analog gradient accumulation with dynamic reference: H takes c_j (v − ρ_j) instead of c_j v.

    At the first read after a flip ρ_j ← μ_j; then H is filled; then μ_j ← μ_j + min(tail/P, 1)
    (v − μ_j), P the period of the choppers. C is not written before P + 1 sweeps of reads are
    through, while H fills and empties as ever. No symmetry point need be known.

    Args:
        tail: see above, > 0.
        regular: whether lines flip at regular times alone; else at random ones too.
        others: see `TikiTaka`.

    Source: Rasch et al., Nat. Commun. 15:7133 (2024), doi:10.1038/s41467-024-51221-z; aihwkit
    1.2's DynamicTransferCompound.
    """

    fast_lr: float = 0.1
    auto_scale: bool = True
    chop: float = 0.1
    regular: bool = True
    tail: float = 5.0

    filtered: ClassVar[tuple[int, int]] = (8, 24)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("tail", self.tail)
        positive("chop", self.chop)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Any:
        """No reference yet."""
        start: Filter = super().fabricate(shape, matrices)
        flipped = torch.zeros(shape[-2], dtype=torch.bool, device=start.h.device)
        return Referenced(*start, start.h.clone(), start.h.clone(), flipped)

    def _flips(self, turns: Turns, seed: str) -> Tensor:
        flip = turns.sweep % self.period == self.period - 1
        return flip if self.regular else flip | super()._flips(turns, seed)

    def _signal(self, v: Tensor, leaf: Any, line: Tensor, flip: Tensor) -> Tensor:
        rho, mu = of_lines(leaf.rho, line), of_lines(leaf.mu, line)
        rho = torch.where(each_line(leaf.flipped[line], v), mu, rho)
        put_lines(leaf.rho, line, rho)
        put_lines(leaf.mu, line, mu + min(self.tail / self.period, 1.0) * (v - mu))
        leaf.flipped[line] = flip
        return v - rho

    def _opened(self, sweep: Tensor, v: Tensor) -> Tensor | float:
        return each_line(sweep > self.period, v).to(v.dtype)
