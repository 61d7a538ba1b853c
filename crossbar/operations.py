"""The linear operations that a matrix computes, each two directions of reading.

Rows are wordlines (inputs x), columns bitlines (outputs, errors δ).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crossbar.directions import Dense, Direction, Gather, Pick, Scatter, flat
from crossbar.regions import Form
from crossbar.windows import Size, Window


class Operation(ABC):
    """A linear operation: how its inputs drive the rows, and its errors the columns."""

    along: ClassVar[int] = 0
    """Dimension of x and d in which uses lie one after another."""

    def key(self) -> bytes:
        """Equal for operations that are, on other machines too."""
        return repr(self).encode()

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

    def first(self, x: Tensor, d: Tensor) -> Tensor:
        """x_i d_j of the first of the `vectors` alone, in the matrix's shape."""
        xs, ds = self.vectors(x, d)
        return Vectors().outer(xs[:1], ds[:1])

    @abstractmethod
    def macs(self, x: Tensor, y: Tensor) -> int:
        """Multiplications of a digital product of x that gives y."""

    @property
    @abstractmethod
    def form(self) -> Form:
        """How the weight of the operation is its matrix."""

    @abstractmethod
    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """The matrix's shape (..., rows, cols)."""

    @abstractmethod
    def peaks(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Largest |x_i| and |d_j| of each of the `vectors`, (n, ..., 1); nothing unfolds."""

    @abstractmethod
    def sums(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Σ|x_i| and Σ|d_j| of each of the `vectors`, (n, ..., 1); nothing unfolds."""

    @abstractmethod
    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """x and d whose products are those of each vector times `by` (n, 1, ..., 1)."""

    def sized(self, v: Tensor) -> Size:
        """Spatial size of an input or error, which the other direction must give back."""
        return ()


_DENSE, _PLAIN = Dense(), Form()


class Flat(Operation):
    """Of vectors in the last dimension, with a matrix that is no convolution's."""

    @property
    def forward(self) -> Direction:
        """Vectors in the last dimension."""
        return _DENSE

    @property
    def backward(self) -> Direction:
        """Vectors in the last dimension."""
        return _DENSE

    def macs(self, x: Tensor, y: Tensor) -> int:
        """One for every output and input of each vector."""
        return y.numel() * x.shape[-1]

    @property
    def form(self) -> Form:
        """out × in."""
        return _PLAIN

    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """Of plain vectors."""
        return x.shape[-1], d.shape[-1]

    def peaks(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Of the last dimension."""
        return flat(self.forward.peak(x)), flat(self.backward.peak(d))

    def sums(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Of the last dimension."""
        return flat(x.abs().sum(-1, keepdim=True)), flat(d.abs().sum(-1, keepdim=True))

    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """By its errors."""
        return x, d * by.view(*d.shape[:-1], 1)


@dataclass(frozen=True)
class Matmul(Flat):
    """y = x @ m over any leading dimensions of x."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(rows, cols), in the memory order of torch's weight (cols, rows)."""
        return (flat(d).mT @ flat(x)).mT

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, rows) and (n, cols)."""
        return flat(x), flat(d)


@dataclass(frozen=True, eq=False)
class Lookup(Flat):
    """Rows `at` (...) of a table that lies across the matrix: (..., 1), ones, drive its columns."""

    at: Tensor
    count: int

    def key(self) -> bytes:
        """With every index; `repr` leaves most of many out."""
        return self.at.cpu().numpy().tobytes()

    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """(columns, rows)."""
        return self.count, d.shape[-1]

    @property
    def forward(self) -> Direction:
        """Lines picked one by one."""
        return Pick(self.at, self.count)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(columns, rows), those that were picked."""
        rows = flat(x * d)
        return rows.new_zeros(self.count, d.shape[-1]).index_add(0, self.at.flatten(), rows)

    def first(self, x: Tensor, d: Tensor) -> Tensor:
        """A single row."""
        rows = flat(x * d)[:1]
        return rows.new_zeros(self.count, d.shape[-1]).index_add(0, self.at.flatten()[:1], rows)

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot (n, columns), and (n, rows)."""
        return self.forward.lines(x), flat(d)


Reduced = Callable[[Tensor], Tensor]
_Both = tuple[Tensor, Tensor]


class _Windowed(Operation):
    window: Window
    slid: ClassVar[int]
    """Which of (x, d) is the image that the window slides over; the other has channels at every
    position."""

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n · positions, groups, rows) and (n · positions, groups, cols)."""
        return self.forward.lines(x).transpose(0, 1), self.backward.lines(d).transpose(0, 1)

    def macs(self, x: Tensor, y: Tensor) -> int:
        """One for every place of the kernel and channel of the image, at all positions."""
        image, channels = (x, y) if self.slid == 0 else (y, x)
        return channels.numel() * (image.shape[1] // self.window.groups) * self.window.area

    def first(self, x: Tensor, d: Tensor) -> Tensor:
        """One image alone unfolds."""
        return super().first(x[:1], d[:1])

    def sized(self, v: Tensor) -> Size:
        """All but samples and channels."""
        return tuple(v.shape[2:])

    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """(groups, rows, cols)."""
        groups, area = self.window.groups, self.window.area
        rows, cols = (
            v.shape[1] // groups * (area if k == self.slid else 1) for k, v in enumerate((x, d))
        )
        return groups, rows, cols

    def _each(self, x: Tensor, d: Tensor, image: Reduced, channels: Reduced) -> _Both:
        """What each of the `vectors` comes to, (n · positions, groups, 1)."""
        found = (
            (image if k == self.slid else channels)(v).flatten(2).mT.flatten(0, 1).unsqueeze(-1)
            for k, v in enumerate((x, d))
        )
        of_x, of_d = found
        return of_x, of_d

    def peaks(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Of fields, and of the channels at their positions."""
        return self._each(x, d, self.window.peak, lambda v: self._grouped(v).amax(2))

    def sums(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Of fields, and of the channels at their positions."""
        return self._each(x, d, self.window.mass, lambda v: self._grouped(v).sum(2))

    def _grouped(self, v: Tensor) -> Tensor:
        return v.abs().unflatten(1, (self.window.groups, -1))

    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """By the channels at their positions."""
        v = x if self.slid else d
        v = v * by.view(v.shape[0], 1, *v.shape[2:])
        return (v, d) if self.slid else (x, v)


@dataclass(frozen=True)
class Conv(_Windowed):
    """A convolution of (n, channels, *size): a vector is one receptive field."""

    window: Window
    slid: ClassVar[int] = 0

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
    slid: ClassVar[int] = 1

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
class Vectors(Flat):
    """Vectors already taken apart, (n, ..., rows) and (n, ..., cols): what updates are made of."""

    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """(..., rows, cols)."""
        return *x.shape[1:], d.shape[-1]

    def peaks(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, ..., 1)."""
        return self.forward.peak(x), self.backward.peak(d)

    def sums(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, ..., 1)."""
        return x.abs().sum(-1, keepdim=True), d.abs().sum(-1, keepdim=True)

    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """By its errors."""
        return x, d * by

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        if x.dim() == 2:
            return x.mT @ d
        return x.movedim(0, -1) @ d.movedim(0, -2)

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Themselves."""
        return x, d


@dataclass(frozen=True)
class Numbers(Flat):
    """A matrix d (..., rows, cols) applied row by row: x is (..., rows, 1), ones."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        return x * d

    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """That of d."""
        return tuple(d.shape)

    def peaks(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows."""
        return _rows_first(x.abs()), _rows_first(self.backward.peak(d))

    def sums(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows."""
        return _rows_first(x.abs()), _rows_first(d.abs().sum(-1, keepdim=True))

    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """By their ones."""
        return x * by.movedim(0, -2), d

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot rows (rows, ..., rows) and the rows of d."""
        hot = torch.diag_embed(x[..., 0])
        return hot.movedim(-2, 0), d.movedim(-2, 0)


def _rows_first(v: Tensor) -> Tensor:
    """(..., rows, 1) as (rows, ..., 1)."""
    return v.movedim(-2, 0)
