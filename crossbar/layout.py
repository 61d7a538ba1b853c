"""What the converters see of the cells that hold a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNED = 8.0
"""Norms of a column that the largest of its outputs stays within, beyond its sum."""


@dataclass(frozen=True)
class Column:
    """What one converter sees: Σ_k signs_k g_k, less a reference column where it is shared.

    Args:
        signs: what each of the K devices of a weight counts, −1, 0 or 1; other numbers where lines
            are weighed before the converter, by longer pulses or mirrors.
        weight: what a unit of window counts in W/w_max.
        shared: place in the window that the cells of a reference column are written to, which all
            columns of a tile subtract before they are converted; None: none.
    """

    signs: tuple[float, ...]
    weight: float = 1.0
    shared: float | None = None

    @property
    def balanced(self) -> bool:
        """Whether what all columns have in common does not reach the converter."""
        return self.balance == 0 or self.shared is not None

    @property
    def balance(self) -> float:
        """Σ signs: 0 where the columns' common conductance cancels."""
        return sum(self.signs)

    @property
    def cells(self) -> float:
        """Σ signs², as independent noises of a weight's cells add up; that of a reference too."""
        return sum(s * s for s in self.signs) + (self.shared is not None)

    def reference(self, floor: float) -> float:
        """What the reference column is to show, in units of the window; 0: there is none.

        How far its cells are from that is part of the matrices that reads see.
        """
        return 0.0 if self.shared is None else self.shared + self.balance * floor


@dataclass(frozen=True)
class Layout:
    """How K cells and C converters make a weight.

        W/w_max = Σ_c weight_c (Σ_k sign_ck place_k − shared_c) + offset,   place = (g − g_min)/ΔG

    Args:
        columns: one for each conversion.
        offset: digital, times the sum of the encoded input.
        linear: (slope, bias) of each column, Σ_k sign_ck place_k − shared_c = slope W/w_max + bias,
            where the places follow the weight linearly: a float weight may then be read itself.
    """

    columns: tuple[Column, ...]
    offset: float = 0.0
    linear: tuple[tuple[float, float], ...] | None = None

    @property
    def devices(self) -> int:
        """K, cells a weight."""
        return len(self.columns[0].signs)

    @property
    def signs(self) -> tuple[tuple[float, ...], ...]:
        """(C, K)."""
        return tuple(column.signs for column in self.columns)

    def planes(self, cells: Tensor, span: float) -> Tensor:
        """(K, ..., rows, cols) [S] as (C, ..., rows, cols), relative to the window `span`.

        Differences are taken here: two float32 products of nearly equal numbers would cancel.
        """
        return torch.stack([_combined(cells, c.signs) for c in self.columns]).mul_(1 / span)

    def power(self, variance: Tensor) -> Tensor:
        """Variances (K, ..., rows, cols) or () of the cells as those of the columns.

        Of cells that are all alike, with that of a reference column.
        """
        if variance.dim() == 0:
            counts = [float(column.cells) for column in self.columns]
            if len(set(counts)) == 1:
                return variance * counts[0]
            shape = (-1, *(1,) * 3)
            return variance * torch.tensor(counts, device=variance.device).view(shape)
        return torch.stack(
            [_combined(variance, [s * s for s in column.signs]) for column in self.columns]
        )

    def logical(self, planes: Tensor, floor: float) -> Tensor:
        """W/w_max (..., rows, cols) that ideal reads of (C, ..., rows, cols) would give."""
        total = planes[0] * self.columns[0].weight
        for column, plane in zip(self.columns[1:], planes[1:], strict=True):
            total = total.add_(plane, alpha=column.weight)
        shift = self.shift(floor) - sum(c.weight * c.reference(floor) for c in self.columns)
        return total.add_(shift) if shift else total

    def shift(self, floor: float) -> float:
        """What is added digitally, times the sum of the encoded input; `floor` is g_min/ΔG."""
        common = (c.weight * c.balance * floor for c in self.columns if c.shared is None)
        return self.offset - sum(common)

    def level(self, c: int, m: Tensor, floor: float) -> Tensor:
        """Default full scale of the converters of layout column c, () in units of v_max ΔG.

        Args:
            c: which column.
            m: (..., driven, sensed) that they see, relative to the window.
            floor: g_min/ΔG.

        With S the sum of a sensed line's R entries and n their norm, the largest over all lines of

            min(√R n, |S| + 8n)      or S where the column does not balance

        √R n and S no vector can pass. Sums of terms of random sign stay within 8n, and of trained
        layers, which are aligned with what they see, nothing is lost to it at 8 bits, where √R
        clips and Σ|m| is too coarse.
        """
        total, power = self._sums(c, m, floor)
        if not self.columns[c].balanced:
            return total.amax().abs()
        return torch.minimum(power * m.shape[-2] ** 0.5, total.abs() + ALIGNED * power).amax()

    def reach(self, c: int, m: Tensor, floor: float) -> Tensor:
        """The same and what else bounds a product of m with one vector, (4,) float64.

        `level`, then the largest |S|, ‖m − mean m‖ and |m| of all lines.
        """
        total, power = self._sums(c, m, floor)
        spread = (power.square() - total.square() / max(m.shape[-2], 1)).clamp(min=0).sqrt()
        top = (m - self.columns[c].reference(floor)).abs() if m.numel() else total
        found = (self.level(c, m, floor), *(t.amax() for t in (total.abs(), spread, top)))
        return torch.stack(found).double()

    def _sums(self, c: int, m: Tensor, floor: float) -> tuple[Tensor, Tensor]:
        """Sum and norm of every sensed line; of none, those of one without a weight."""
        if not m.numel():
            return m.new_zeros(1), m.new_zeros(1)
        m = m.to(torch.promote_types(m.dtype, torch.float32))
        if reference := self.columns[c].reference(floor):
            m = m - reference
        return m.sum(-2), torch.linalg.vector_norm(m, 2, -2)


def _combined(cells: Tensor, signs: Sequence[float]) -> Tensor:
    """Σ signs_k cells_k."""
    if tuple(signs) == (1, -1):
        return cells[0] - cells[1]
    parts = [g if s == 1 else g * s for g, s in zip(cells, signs, strict=True) if s]
    return sum(parts[1:], start=parts[0])
