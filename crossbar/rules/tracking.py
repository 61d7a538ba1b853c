"""Symmetry points that are tracked while training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from crossbar.matrix import Matrix
from crossbar.rules.lines import of_lines, put_lines
from crossbar.rules.tiki_taka import ChoppedTikiTaka, Filter
from devices._check import between


class Tracked(NamedTuple):
    """`Filter`, and the reference of every cell of A."""

    h: Tensor  # (..., rows, cols)
    chopper: Tensor  # (rows,)
    clock: Tensor  # ()
    tops: Tensor  # (2, ...)
    rho: Tensor  # (..., rows, cols)


@dataclass(frozen=True)
class TrackedTikiTaka(ChoppedTikiTaka):
    """c-TTv2 that transfers v − ρ, ρ the running mean of all reads of the cell (RIDER type).

    Choppers make the gradient average out of the mean, so that ρ → what A is drawn to. The forward
    pass does not see A.

    Args:
        rate: of the running mean, ρ ← ρ + rate (v − ρ), in (0, 1].
        others: see `TikiTaka`.

    Source: Wu et al., "Towards Exact Gradient-based Training on Analog In-memory Computing",
    NeurIPS 2024, arXiv:2406.12774 (residual learning and symmetry-point tracking).
    """

    rate: float = 0.02

    filtered: ClassVar[tuple[int, int]] = (7, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        between("rate", self.rate, 0, 1)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Any:
        """References at zero."""
        start: Filter = super().fabricate(shape, matrices)
        return Tracked(*start, start.h.clone())

    def _signal(self, v: Tensor, leaf: Any, line: Tensor, flip: Tensor) -> Tensor:
        rho = of_lines(leaf.rho, line)
        put_lines(leaf.rho, line, rho + self.rate * (v - rho))
        return v - rho
