"""The linear operations that a matrix computes, each two directions of reading.

Rows are wordlines (inputs x), columns bitlines (outputs, errors δ).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.directions import Dense, Direction, Gather, Pick, Scatter, flat
from crossbar.regions import Form
from crossbar.windows import Size, Window


class Operation(ABC):
    """A linear operation: how its inputs drive the rows, and its errors the columns."""

    @property
    @abstractmethod
    def forward(self) -> Direction:
        """Inputs in, outputs out."""

    @property
    @abstractmethod
    def backward(self) -> Direction:
        """Errors in, what falls on the inputs out."""

    @abstractmethod
    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """Σ over vectors of x_i d_j, in the matrix's shape (..., rows, cols)."""

    @abstractmethod
    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors one by one, (n, ..., rows) and (n, ..., cols)."""

    @property
    @abstractmethod
    def form(self) -> Form:
        """How the weight of the operation is its matrix."""

    def peak(self, v: Tensor) -> Tensor:
        """Largest magnitude of each vector of x, or of d."""
        return self.forward.peak(v)

    def sized(self, v: Tensor) -> Size:
        """Spatial size of an input or error, which the other direction must give back."""
        return ()


_DENSE, _PLAIN = Dense(), Form()


class _Flat(Operation):
    @property
    def forward(self) -> Direction:
        """Vectors in the last dimension."""
        return _DENSE

    @property
    def backward(self) -> Direction:
        """Vectors in the last dimension."""
        return _DENSE

    @property
    def form(self) -> Form:
        """out × in."""
        return _PLAIN


@dataclass(frozen=True)
class Matmul(_Flat):
    """y = x @ m over any leading dimensions of x."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(rows, cols), in the memory order of torch's weight (cols, rows)."""
        return (flat(d).mT @ flat(x)).mT

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, rows) and (n, cols)."""
        return flat(x), flat(d)


@dataclass(frozen=True, eq=False)
class Lookup(_Flat):
    """Rows `at` (...) of a table that lies across the matrix: (..., 1), ones, drive its columns."""

    at: Tensor
    count: int

    @property
    def forward(self) -> Direction:
        """Lines picked one by one."""
        return Pick(self.at, self.count)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(columns, rows), those that were picked."""
        rows = flat(x * d)
        return rows.new_zeros(self.count, d.shape[-1]).index_add(0, self.at.flatten(), rows)

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot (n, columns), and (n, rows)."""
        return self.forward.lines(x), flat(d)


class _Windowed(Operation):
    window: Window

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n · positions, groups, rows) and (n · positions, groups, cols)."""
        return self.forward.lines(x).transpose(0, 1), self.backward.lines(d).transpose(0, 1)

    def sized(self, v: Tensor) -> Size:
        """All but samples and channels."""
        return tuple(v.shape[2:])


@dataclass(frozen=True)
class Conv(_Windowed):
    """A convolution of (n, channels, *size): a vector is one receptive field."""

    window: Window

    @property
    def form(self) -> Form:
        """(out, in/groups, *kernel)."""
        return Form(self.window.groups, False, self.window.area)

    @property
    def forward(self) -> Direction:
        """Fields in, channels out."""
        return Gather(self.window)

    @property
    def backward(self) -> Direction:
        """Channels in, fields out."""
        return Scatter(self.window)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(groups, rows, cols)."""
        return self.window.correlate(x, d).unflatten(0, (self.window.groups, -1)).flatten(2).mT


@dataclass(frozen=True)
class ConvTranspose(_Windowed):
    """A transposed convolution: the window's roles exchanged."""

    window: Window

    @property
    def form(self) -> Form:
        """(in, out/groups, *kernel)."""
        return Form(self.window.groups, True, self.window.area)

    @property
    def forward(self) -> Direction:
        """Channels in, fields out."""
        return Scatter(self.window)

    @property
    def backward(self) -> Direction:
        """Fields in, channels out."""
        return Gather(self.window)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(groups, rows, cols)."""
        return self.window.correlate(d, x).unflatten(0, (self.window.groups, -1)).flatten(2)


@dataclass(frozen=True)
class Vectors(_Flat):
    """Vectors already taken apart, (n, ..., rows) and (n, ..., cols): what updates are made of."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        if x.dim() == 2:
            return x.mT @ d
        return x.movedim(0, -1) @ d.movedim(0, -2)

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Themselves."""
        return x, d


@dataclass(frozen=True)
class Numbers(_Flat):
    """A matrix d (..., rows, cols) applied row by row: x is (..., rows, 1), ones."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        return x * d

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot rows (rows, ..., rows) and the rows of d."""
        hot = torch.diag_embed(x[..., 0])
        return hot.movedim(-2, 0), d.movedim(-2, 0)
