"""What the converters see of the cells that hold a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Column:
    """What one converter sees: Σ_k signs_k g_k, less a reference column where it is shared.

    Args:
        signs: of the K devices of a weight, −1, 0 or 1.
        weight: what a unit of window counts in W/w_max.
        top: largest |Σ signs_k place_k| in use, as a part of the window.
        shared: place in the window of a reference column that all columns of a tile subtract
            before they are converted; None: none.
    """

    signs: tuple[int, ...]
    weight: float = 1.0
    top: float = 1.0
    shared: float | None = None

    @property
    def balance(self) -> int:
        """Σ signs: 0 where the columns' common conductance cancels."""
        return sum(self.signs)

    def reference(self, floor: float) -> float:
        """What the reference column shows, in units of the window; 0: there is none."""
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
    def signs(self) -> tuple[tuple[int, ...], ...]:
        """(C, K)."""
        return tuple(column.signs for column in self.columns)

    def planes(self, cells: Tensor, span: float) -> Tensor:
        """(K, ..., rows, cols) [S] as (C, ..., rows, cols), relative to the window `span`.

        Differences are taken here: two float32 products of nearly equal numbers would cancel.
        """
        return torch.stack([_combined(cells, c.signs) for c in self.columns]).mul_(1 / span)

    def power(self, variance: Tensor) -> Tensor:
        """Variances (K, ..., rows, cols) or () of the cells as those of the columns."""
        signs = [[abs(s) for s in column.signs] for column in self.columns]
        if variance.dim() == 0:
            counts = [float(sum(row)) for row in signs]
            if len(set(counts)) == 1:
                return variance * counts[0]
            shape = (-1, *(1,) * 3)
            return variance * torch.tensor(counts, device=variance.device).view(shape)
        return torch.stack([_combined(variance, row) for row in signs])

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

    def reach(self, column: Column, lines: int, floor: float) -> float:
        """Default full scale of a converter behind `lines` driven lines, in units of v_max ΔG.

        √lines where the column balances (inputs and weights of random sign stay well inside it),
        half of what all lines could give where it does not.
        """
        lines = max(lines, 1)  # a layer without inputs gives its bias
        if column.balance == 0 or column.shared is not None:
            return column.top * lines**0.5
        return abs(column.balance) * (0.5 * column.top + floor) * lines


def _combined(cells: Tensor, signs: Sequence[int]) -> Tensor:
    """Σ signs_k cells_k."""
    if tuple(signs) == (1, -1):
        return cells[0] - cells[1]
    parts = [g if s > 0 else -g for g, s in zip(cells, signs, strict=True) if s]
    return sum(parts[1:], start=parts[0])
