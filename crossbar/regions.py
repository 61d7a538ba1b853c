"""Where the numbers of torch's weight lie in the matrix, and which part of it a view shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

WHOLE = slice(None)


class Region(NamedTuple):
    """A range of the rows and columns of a matrix, read along or, `transposed`, across.

    Of a stack of matrices, also which: one (`lead` is its number), or a range of them.
    """

    rows: slice = WHOLE
    cols: slice = WHOLE
    transposed: bool = False
    lead: int | slice = WHOLE

    @property
    def whole(self) -> bool:
        """Whether it is all of the matrix, read along or across."""
        return self.rows == WHOLE and self.cols == WHOLE and self.lead == WHOLE

    def of(self, m: Tensor) -> Tensor:
        """The part of (..., rows, cols)."""
        if self.whole:
            return m
        m = m if self.lead == WHOLE else m[..., self.lead, :, :]
        return m[..., self.rows, self.cols]

    def of_rows(self, t: Tensor) -> Tensor:
        """The part of (..., rows), of every matrix of a stack (..., lead, rows)."""
        return (t if self.lead == WHOLE else t[..., self.lead, :])[..., self.rows]

    def of_cols(self, t: Tensor) -> Tensor:
        """The part of (..., cols)."""
        return (t if self.lead == WHOLE else t[..., self.lead, :])[..., self.cols]

    def flat(self, at: Tensor, extent: tuple[int, ...], lines: tuple[int, ...]) -> Tensor:
        """Flat indices in what is read, of shape `extent`, as those in the matrix, of `lines`."""
        if self == EVERYWHERE:
            return at
        each = extent[-2] * extent[-1]
        matrix = at // each if len(extent) > 2 else torch.zeros_like(at)
        at = at - matrix * each
        if isinstance(self.lead, int):
            matrix = matrix + self.lead
        elif self.lead != WHOLE:
            stack = range(*self.lead.indices(lines[-3]))
            matrix = matrix * stack.step + stack.start
        along = at // extent[-1]
        across = at - along * extent[-1]
        row, col = (across, along) if self.transposed else (along, across)
        rows, cols = (
            range(*part.indices(n))
            for part, n in zip((self.rows, self.cols), lines[-2:], strict=True)
        )
        row = row * rows.step + rows.start + matrix * lines[-2]
        return row * lines[-1] + (col * cols.step + cols.start)


EVERYWHERE = Region()


@dataclass(frozen=True)
class Form:
    """How a weight is a matrix: rows are wordlines (inputs), columns bitlines (outputs).

    Args:
        groups: of a convolution, each a matrix of its own; None: a plain matrix, out × in.
        rows_first: whether the weight's first dimension are the rows (a transposed convolution, a
            weight that inputs are multiplied by as it lies), not the columns.
        area: places of the kernel, which share a channel's scale.
        stack: whether all dimensions but two count matrices (experts); else they are columns too.
    """

    groups: int | None = None
    rows_first: bool = False
    area: int = 1
    stack: bool = False

    def matrix(self, weight: Tensor) -> Tensor:
        """torch's weight as (..., rows, cols), a view."""
        if self.groups is None:
            if weight.dim() > 2:
                weight = weight.flatten(0, -3) if self.stack else weight.flatten(0, -2)
            return weight if self.rows_first else weight.mT
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
        place = torch.sub(at * rows, row, alpha=rows * cols - 1)  # (at - row cols) rows + row
        if math.prod(lead) > 1:
            place += (row // rows) * (rows * cols - rows)
        return place

    def alike(self, scale: Tensor) -> Tensor:
        """A scale (..., 1, cols) of columns as all places of a kernel can share it."""
        if scale.dim() == 0 or not self.rows_first or self.area == 1:
            return scale
        channels = scale.unflatten(-1, (-1, self.area))
        return channels.amax(-1, keepdim=True).expand(channels.shape).flatten(-2)

    def region(self, view: Tensor, root: Tensor, start: int | None = None) -> Region | None:
        """The region that a two-dimensional view of the weight's memory shows; None: none.

        The view is read as torch reads a weight, out × in: y = x @ viewᵀ; one of three dimensions
        is a stack of such. It begins `start` numbers into the weight's; None: as it says itself,
        which tracers do not hear.
        """
        if not root.is_contiguous() or (self.groups or 1) != 1:
            return None
        if start is None:
            start = 0  # of a view of all of it
            if view.numel() != root.numel():
                start = int(view.storage_offset()) - int(root.storage_offset())
        if self.stack:
            return self._stacked(view, root, start)
        if view.dim() != 2:
            return None
        if self.groups is None and root.dim() > 2:
            root = root.flatten(0, -2)
        return self._flat(view, root, start)

    def _stacked(self, view: Tensor, root: Tensor, start: int) -> Region | None:
        root = root.flatten(0, -3)
        count, each = root.shape[0], root.shape[-2] * root.shape[-1]
        if view.dim() not in (2, 3) or not view.numel():
            return None
        first, rest = start // each, start % each
        lead: int | slice = first
        if view.dim() == 3:
            step, odd = 1, 0
            if view.shape[0] > 1:
                step, odd = view.stride(0) // each, view.stride(0) % each
            if odd or step < 1:
                return None
            lead = _whole(slice(first, first + (view.shape[0] - 1) * step + 1, step), count)
            view = view[0]
        reach = rest + sum((n - 1) * s for n, s in zip(view.shape, view.stride(), strict=True))
        if first < 0 or reach >= each:  # across two matrices
            return None
        found = self._flat(view, root[0], rest)
        return None if found is None else found._replace(lead=lead)

    def _flat(self, view: Tensor, root: Tensor, start: int) -> Region | None:
        """Of a view that begins `start` numbers into the memory of a matrix."""
        width = root[0].numel() if root.shape[0] else 0
        if not width or not view.numel() or start < 0:
            return None
        first, last = start // width, start % width
        by_first, by_last = _steps(view.shape, view.stride(), width, first, last)
        if by_first is None or by_last is None:
            return None
        (dim, a), (_, b) = by_first, by_last
        a, b = _whole(a, root.shape[0]), _whole(b, width)
        # dim: which dimension of the view runs along the weight's first one
        along_cols = not self.rows_first  # the weight's first dimension are columns
        cols, rows = (a, b) if along_cols else (b, a)
        return Region(rows, cols, transposed=(dim == 0) != along_cols)


def flattens(view: Tensor) -> bool:
    """Whether all dimensions but the first are one in its memory."""
    dims = [k for k in range(1, view.dim()) if view.shape[k] != 1]
    pairs = zip(dims, dims[1:], strict=False)
    return all(view.stride(a) == view.stride(b) * view.shape[b] for a, b in pairs)


def _whole(lines: slice, n: int) -> slice:
    return WHOLE if (lines.start, lines.stop, lines.step) == (0, n, 1) else lines


def _steps(
    shape: tuple[int, ...], strides: tuple[int, ...], width: int, first: int, last: int
) -> tuple[tuple[int, slice] | None, tuple[int, slice] | None]:
    """Which dimension of a view walks the weight's first and which its last dimension, and how."""
    for dim in (0, 1):
        n, m = shape[dim], shape[1 - dim]
        s, t = strides[dim], strides[1 - dim]
        step, rest = (s // width, s % width) if n > 1 else (1, 0)
        jump = t if m > 1 else 1
        if rest or step < 1 or not 1 <= jump < width or last + (m - 1) * jump >= width:
            if not (width == 1 and rest == 0 and step >= 1 and m == 1):
                continue
        a = slice(first, first + (n - 1) * step + 1, step)
        b = slice(last, last + (m - 1) * jump + 1, jump)
        return (dim, a), (1 - dim, b)
    return None, None


def logical(name: str, t: Tensor, lines: tuple[int, ...]) -> None:
    """Refuse numbers of a matrix of these lines that lie otherwise than its cells.

    Raises:
        ValueError: another shape.
    """
    if t.shape != lines:
        raise ValueError(
            f"{name} must be (..., rows, cols) = {lines}, got {tuple(t.shape)}; the shape of A in "
            "y = A @ x is (cols, rows)"
        )


def fitting(x: Tensor, d: Tensor, lines: tuple[int, ...], region: Region) -> None:
    """Refuse inputs (n, ..., rows) and errors (n, ..., cols) that do not fit a part of the lines.

    Raises:
        ValueError: vectors of another length, or not as many of both.
    """
    *lead, rows, cols = region.of(torch.empty(1, device="meta").expand(lines)).shape
    rows, cols = (cols, rows) if region.transposed else (rows, cols)
    for name, t, n in (("x", x, rows), ("d", d, cols)):
        if not t.dim() or list(t.shape[-len(lead) - 1 :]) != [*lead, n]:
            wanted = ", ".join(map(str, ("n", *lead, n)))
            raise ValueError(f"{name} must be ({wanted}), got {tuple(t.shape)}")
    if x.shape[:-1] != d.shape[:-1]:
        raise ValueError(
            f"x and d must hold as many vectors, got {tuple(x.shape)} and {tuple(d.shape)}"
        )


def placed(counts: Tensor, lines: tuple[int, ...], region: Region) -> Tensor:
    """Counts of a region as those of the whole matrix."""
    counts = counts.mT if region.transposed else counts
    if counts.shape == lines:
        return counts.contiguous()  # as the cells lie: the passes of a law are faster
    if counts.numel() == region.of(counts.new_empty(1).expand(lines)).numel():
        out = counts.new_zeros(lines)
        region.of(out).copy_(counts.reshape(region.of(out).shape))
        return out
    return counts


def in_lines(shape: tuple[int, ...], at: Tensor, lines: Tensor) -> Tensor:
    """Flat indices in (..., q, cols) of input lines as those in the whole matrix of this shape."""
    rows, cols = shape[-2:]
    line = at // cols
    lead = line // len(lines)
    return (lead * rows + lines[line - lead * len(lines)]) * cols + at % cols
