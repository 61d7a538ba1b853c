"""Where the numbers of torch's weight lie in the matrix, and which part of it a view shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

WHOLE = slice(None)


class Region(NamedTuple):
    """A range of the rows and columns of a matrix, read along or, `transposed`, across."""

    rows: slice = WHOLE
    cols: slice = WHOLE
    transposed: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is all of the matrix, read along or across."""
        return self.rows == WHOLE and self.cols == WHOLE

    def of(self, m: Tensor) -> Tensor:
        """The part of (..., rows, cols)."""
        return m if self.whole else m[..., self.rows, self.cols]

    def flat(self, at: Tensor, extent: tuple[int, ...], lines: tuple[int, ...]) -> Tensor:
        """Flat indices in what is read, of shape `extent`, as those in the matrix, of `lines`."""
        if self == EVERYWHERE:
            return at
        along = at // extent[-1]
        across = at - along * extent[-1]
        row, col = (across, along) if self.transposed else (along, across)
        rows, cols = (
            range(*part.indices(n))
            for part, n in zip((self.rows, self.cols), lines[-2:], strict=True)
        )
        row = row * rows.step + rows.start
        return row * lines[-1] + (col * cols.step + cols.start)


EVERYWHERE = Region()


@dataclass(frozen=True)
class Form:
    """How a weight is a matrix: rows are wordlines (inputs), columns bitlines (outputs).

    Args:
        groups: of a convolution, each a matrix of its own; None: a plain matrix, out × in.
        rows_first: whether the weight's first dimension are the rows (a transposed convolution),
            not the columns.
        area: places of the kernel, which share a channel's scale.
    """

    groups: int | None = None
    rows_first: bool = False
    area: int = 1

    def matrix(self, weight: Tensor) -> Tensor:
        """torch's weight as (..., rows, cols), a view."""
        if self.groups is None:
            return weight.mT
        grouped = weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        return grouped if self.rows_first else grouped.mT

    def weight(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        """(..., rows, cols) as torch's weight, a view where the memory allows it."""
        first = matrix if self.rows_first else matrix.mT
        return first.reshape(shape)

    def place(self, at: Tensor, lines: tuple[int, ...]) -> Tensor:
        """Flat indices in a matrix, of `lines` (..., rows, cols), as those in torch's weight."""
        if self.rows_first:
            return at
        *lead, rows, cols = lines
        row = at // cols
        place = (at - row * cols) * rows + row
        if math.prod(lead) > 1:
            place += (row // rows) * (rows * cols - rows)
        return place

    def alike(self, scale: Tensor) -> Tensor:
        """A scale (..., 1, cols) of columns as all places of a kernel can share it."""
        if scale.dim() == 0 or not self.rows_first or self.area == 1:
            return scale
        channels = scale.unflatten(-1, (-1, self.area))
        return channels.amax(-1, keepdim=True).expand(channels.shape).flatten(-2)

    def region(self, view: Tensor, root: Tensor) -> Region | None:
        """The region that a two-dimensional view of the weight's memory shows; None: none.

        The view is read as torch reads a weight, out × in: y = x @ viewᵀ.
        """
        if view.dim() != 2 or not root.is_contiguous() or (self.groups or 1) != 1:
            return None
        width = root[0].numel() if root.shape[0] else 0
        start = 0
        if view.numel() != root.numel():  # else it begins where the weight does; tracers lack this
            start = int(view.storage_offset()) - int(root.storage_offset())
        if not width or not view.numel() or start < 0:
            return None
        first, last = divmod(start, width)
        by_first, by_last = _steps(view.shape, view.stride(), width, first, last)
        if by_first is None or by_last is None:
            return None
        (dim, a), (_, b) = by_first, by_last
        a, b = _whole(a, root.shape[0]), _whole(b, width)
        # dim: which dimension of the view runs along the weight's first one
        along_cols = not self.rows_first  # the weight's first dimension are columns
        cols, rows = (a, b) if along_cols else (b, a)
        return Region(rows, cols, transposed=(dim == 0) != along_cols)


def _whole(lines: slice, n: int) -> slice:
    return WHOLE if (lines.start, lines.stop, lines.step) == (0, n, 1) else lines


def _steps(
    shape: tuple[int, ...], strides: tuple[int, ...], width: int, first: int, last: int
) -> tuple[tuple[int, slice] | None, tuple[int, slice] | None]:
    """Which dimension of a view walks the weight's first and which its last dimension, and how."""
    for dim in (0, 1):
        n, m = shape[dim], shape[1 - dim]
        s, t = strides[dim], strides[1 - dim]
        step, rest = divmod(s, width) if n > 1 else (1, 0)
        jump = t if m > 1 else 1
        if rest or step < 1 or not 1 <= jump < width or last + (m - 1) * jump >= width:
            if not (width == 1 and rest == 0 and step >= 1 and m == 1):
                continue
        a = slice(first, first + (n - 1) * step + 1, step)
        b = slice(last, last + (m - 1) * jump + 1, jump)
        return (dim, a), (1 - dim, b)
    return None, None
