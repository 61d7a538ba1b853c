"""How vectors meet lines: what a read drives, what it senses, and how images are made of vectors.

A matrix m is always (..., driven, sensed), of one group (`Dense`) or (groups, driven, sensed): a
transposed read hands over m.mT and nothing else differs. An `Operation` is two directions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from crossbar.regions import Form

Size = tuple[int, ...]
"""Spatial size of the image that a read gives, where its input does not settle it; else ()."""

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


class Direction(ABC):
    """Lines driven by an input and lines sensed into an output."""

    channel: ClassVar[int]
    """Dimension of a product along which the sensed lines lie."""

    @abstractmethod
    def product(self, v: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """Sums of the driven lines a…b, an entry per sensed line, before they make an image."""

    def finish(self, i: Tensor, size: Size) -> Tensor:
        """The output made of such entries."""
        return i

    @abstractmethod
    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """`finish(product)` of all lines: the cheap form where nothing happens per entry."""

    @abstractmethod
    def total(self, v: Tensor, a: int, b: int, sensed: int) -> Tensor:
        """Σ of v over the driven lines a…b, broadcastable to a product of `sensed` lines."""

    @abstractmethod
    def peak(self, v: Tensor) -> Tensor:
        """Largest magnitude of each vector; of a whole image, so that nothing need unfold."""

    @abstractmethod
    def lines(self, v: Tensor) -> Tensor:
        """The vectors one by one, (..., n, driven), leading dimensions those of the matrix."""

    def dot(self, v: Tensor, u: Tensor) -> Tensor:
        """Product of every vector with u (..., driven), in the order of `lines`, (..., n)."""
        return (self.lines(v) @ u.unsqueeze(-1)).squeeze(-1)

    @abstractmethod
    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(..., n, sensed) currents of `lines(v)`, laid out as `product` gives them."""

    @abstractmethod
    def entry(self, t: Tensor) -> Tensor:
        """(..., sensed) of the sensed lines as a factor of a `product`."""

    @abstractmethod
    def sensed(self, t: Tensor) -> Tensor:
        """(..., sensed) as a factor of an output."""

    @abstractmethod
    def driven(self, t: Tensor) -> Tensor:
        """(..., driven) as a factor of an input."""


@dataclass(frozen=True)
class Dense(Direction):
    """Vectors in the last dimension."""

    channel: ClassVar[int] = -1

    def product(self, v: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """(..., driven) to (..., sensed)."""
        return v @ m if b - a == v.shape[-1] else v[..., a:b] @ m[..., a:b, :]

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """(..., driven) to (..., sensed)."""
        return v @ m

    def total(self, v: Tensor, a: int, b: int, sensed: int) -> Tensor:
        """(..., 1)."""
        return v[..., a:b].sum(-1, keepdim=True)

    def peak(self, v: Tensor) -> Tensor:
        """(..., 1)."""
        if not v.numel():
            return v.new_zeros(*v.shape[:-1], 1)
        return torch.linalg.vector_norm(v, math.inf, -1, keepdim=True)

    def lines(self, v: Tensor) -> Tensor:
        """(n, driven)."""
        return v.reshape(-1, v.shape[-1])

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(..., sensed)."""
        return i.reshape(*v.shape[:-1], i.shape[-1])

    def entry(self, t: Tensor) -> Tensor:
        """Itself."""
        return t

    sensed = driven = entry


@dataclass(frozen=True)
class Window:
    """The receptive fields of a convolution of 1 to 3 dimensions."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    groups: int = 1

    @property
    def area(self) -> int:
        """Places of the kernel."""
        return math.prod(self.kernel)

    def as_kernel(self, m: Tensor) -> Tensor:
        """(groups, channels · area, n) as a kernel (groups · n, channels, *kernel)."""
        groups, lines, n = m.shape
        return m.mT.reshape(groups * n, lines // self.area, *self.kernel)

    def per_channel(self, t: Tensor) -> Tensor:
        """(groups, n) as a factor of an image of groups · n channels."""
        return t.reshape(-1, *(1,) * len(self.kernel))

    def of_channel(self, t: Tensor) -> Tensor:
        """(groups, channels · area), alike in all places of a kernel, as (groups, channels)."""
        return t.unflatten(-1, (-1, self.area))[..., 0]

    def convolve(self, image: Tensor, kernel: Tensor) -> Tensor:
        """torch's convolution."""
        return CONVOLUTIONS[len(self.kernel) - 1](
            image, kernel, None, self.stride, self.padding, self.dilation, self.groups
        )

    def _backward(self, d: Tensor, image: Tensor, kernel: Tensor, which: int) -> Tensor:
        zero = [0] * len(self.kernel)
        mask = [which == 0, which == 1, False]
        settings = (self.stride, self.padding, self.dilation, False, zero, self.groups, mask)
        found: Tensor = torch.ops.aten.convolution_backward(d, image, kernel, None, *settings)[
            which
        ]
        return found

    def scatter(self, d: Tensor, kernel: Tensor, size: Size) -> Tensor:
        """The adjoint of `convolve` in the image."""
        shape = (d.shape[0], kernel.shape[1] * self.groups, *size)
        return self._backward(d, d.new_empty(1).expand(shape), kernel, 0)

    def correlate(self, image: Tensor, d: Tensor) -> Tensor:
        """The adjoint of `convolve` in the kernel, (groups · n, channels, *kernel)."""
        shape = (d.shape[1], image.shape[1] // self.groups, *self.kernel)
        return self._backward(d, image, d.new_empty(1).expand(shape), 1)

    def fields(self, image: Tensor) -> Tensor:
        """Receptive fields (n, groups, positions, channels · area)."""
        if len(self.kernel) < 3:
            wide = (1,) * (2 - len(self.kernel))
            flat = image if image.dim() == 4 else image.unsqueeze(2)
            found = F.unfold(
                flat,
                wide + self.kernel,
                wide + self.dilation,
                (0,) * len(wide) + self.padding,
                wide + self.stride,
            )
        else:
            padded = F.pad(image, self._pads())
            at = self._places(padded.shape[2:], image.device)
            found = padded.flatten(2)[..., at].flatten(1, 2)
        return found.unflatten(1, (self.groups, -1)).mT

    def fold(self, fields: Tensor, size: Size) -> Tensor:
        """Fields (n, groups, positions, channels · area) added up on an image of `size`."""
        flat = fields.mT.flatten(1, 2)
        if len(self.kernel) < 3:
            wide = (1,) * (2 - len(self.kernel))
            image = F.fold(
                flat,
                wide + tuple(size),
                wide + self.kernel,
                wide + self.dilation,
                (0,) * len(wide) + self.padding,
                wide + self.stride,
            )
            return image if len(self.kernel) == 2 else image.squeeze(2)
        padded = [n + 2 * p for n, p in zip(size, self.padding, strict=True)]
        at = self._places(padded, fields.device)
        grouped = flat.unflatten(1, (-1, self.area)).flatten(2)
        image = grouped.new_zeros(*grouped.shape[:2], math.prod(padded))
        image = image.index_add(2, at.flatten(), grouped).unflatten(2, padded)
        return F.pad(image, [-p for p in self._pads()])

    def _pads(self) -> list[int]:
        return [p for p in reversed(self.padding) for _ in range(2)]

    def _places(self, size: Size | list[int], device: torch.device) -> Tensor:
        """Flat index in a padded image of (kernel place, position)."""
        at = torch.zeros(1, 1, dtype=torch.long, device=device)
        for n, k, s, d in zip(size, self.kernel, self.stride, self.dilation, strict=True):
            places = torch.arange(k, device=device) * d
            starts = torch.arange((n - d * (k - 1) - 1) // s + 1, device=device) * s
            grid = places[:, None] + starts
            at = (at[:, None, :, None] * n + grid[None, :, None, :]).flatten(2).flatten(0, 1)
        return at

    def positions(self, size: Size) -> Size:
        """Size of the output of `convolve` on an image of `size`."""
        parts = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts)


@dataclass(frozen=True)
class Gather(Direction):
    """A convolution: receptive fields of an image drive, channels are sensed."""

    window: Window
    channel: ClassVar[int] = 1

    def product(self, v: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """(n, groups · channels, *size) to (n, groups · sensed, *positions)."""
        if b - a < m.shape[-2]:
            area = self.window.area
            first, last = a // area, -(-b // area)
            m = F.pad(m[:, a:b], (0, 0, a - first * area, last * area - b))
            v = v.unflatten(1, (self.window.groups, -1))[:, :, first:last].flatten(1, 2)
        return self.window.convolve(v, self.window.as_kernel(m))

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """As `product`."""
        return self.window.convolve(v, self.window.as_kernel(m))

    def total(self, v: Tensor, a: int, b: int, sensed: int) -> Tensor:
        """(n, 1 or groups · sensed, *positions)."""
        groups = self.window.groups
        ones = v.new_zeros(groups, v.shape[1] // groups * self.window.area, 1)
        ones[:, a:b] = 1
        summed = self.window.convolve(v, self.window.as_kernel(ones))
        return summed if groups == 1 else summed.repeat_interleave(sensed, 1)

    def peak(self, v: Tensor) -> Tensor:
        """(n, 1, 1, …)."""
        return _image_peak(v)

    def lines(self, v: Tensor) -> Tensor:
        """(groups, n · positions, channels · area)."""
        return self.window.fields(v).transpose(0, 1).flatten(1, 2)

    def dot(self, v: Tensor, u: Tensor) -> Tensor:
        """(groups, n · positions), without unfolding."""
        field = self.product(v, u.unsqueeze(-1), 0, u.shape[-1])
        return field.transpose(0, 1).flatten(1)

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(n, groups · sensed, *positions)."""
        at = self.window.positions(tuple(v.shape[2:]))
        grouped = i.unflatten(1, (v.shape[0], *at)).movedim(-1, 1)  # (groups, sensed, n, *at)
        return grouped.movedim(2, 0).flatten(1, 2)

    def entry(self, t: Tensor) -> Tensor:
        """(groups · sensed, 1, …)."""
        return self.window.per_channel(t)

    sensed = entry

    def driven(self, t: Tensor) -> Tensor:
        """(groups · channels, 1, …)."""
        return self.window.per_channel(self.window.of_channel(t))


@dataclass(frozen=True)
class Scatter(Direction):
    """A transposed convolution: channels drive, each position's fields are sensed and folded."""

    window: Window
    channel: ClassVar[int] = -1

    def _vectors(self, v: Tensor) -> Tensor:
        return v.flatten(2).unflatten(1, (self.window.groups, -1)).mT

    def product(self, v: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """(n, groups · driven, *positions) to (n, groups, positions, sensed)."""
        return self._vectors(v)[..., a:b] @ m[:, a:b]

    def finish(self, i: Tensor, size: Size) -> Tensor:
        """Folded onto an image of `size`."""
        return self.window.fold(i, size)

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """(n, groups · driven, *positions) to an image of `size`."""
        kernel = m.reshape(-1, m.shape[-1] // self.window.area, *self.window.kernel)
        return self.window.scatter(v, kernel, size)

    def total(self, v: Tensor, a: int, b: int, sensed: int) -> Tensor:
        """(n, groups, positions, 1)."""
        return self._vectors(v)[..., a:b].sum(-1, keepdim=True)

    def peak(self, v: Tensor) -> Tensor:
        """(n, 1, 1, …)."""
        return _image_peak(v)

    def lines(self, v: Tensor) -> Tensor:
        """(groups, n · positions, driven)."""
        return self._vectors(v).transpose(0, 1).flatten(1, 2)

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(n, groups, positions, sensed)."""
        return i.unflatten(1, (v.shape[0], -1)).transpose(0, 1)

    def entry(self, t: Tensor) -> Tensor:
        """(groups, 1, sensed)."""
        return t.unsqueeze(-2)

    def sensed(self, t: Tensor) -> Tensor:
        """(groups · channels, 1, …)."""
        return self.window.per_channel(self.window.of_channel(t))

    def driven(self, t: Tensor) -> Tensor:
        """(groups · driven, 1, …)."""
        return self.window.per_channel(t)


def _image_peak(v: Tensor) -> Tensor:
    if not v.numel():
        return v.new_zeros(v.shape[0], *(1,) * (v.dim() - 1))
    peak = torch.linalg.vector_norm(v.flatten(1), math.inf, -1)
    return peak.view(-1, *(1,) * (v.dim() - 1))


class Operation(ABC):
    """A linear operation: how its inputs drive the rows, and its errors the columns."""

    forward: Direction
    backward: Direction

    @abstractmethod
    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """Σ over vectors of x_i d_j, in the matrix's shape (..., rows, cols)."""

    @abstractmethod
    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors one by one, (n, ..., rows) and (n, ..., cols)."""

    form: Form
    """How the weight of the operation is its matrix."""

    def peak(self, v: Tensor) -> Tensor:
        """Largest magnitude of each vector of x, or of d."""
        return self.forward.peak(v)

    def sized(self, v: Tensor) -> Size:
        """Spatial size of an input or error, which the other direction must give back."""
        return ()


@dataclass(frozen=True)
class Matmul(Operation):
    """y = x @ m over any leading dimensions of x."""

    form: ClassVar[Form] = Form()
    forward: ClassVar[Direction] = Dense()
    backward: ClassVar[Direction] = Dense()

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(rows, cols), in the memory order of torch's weight (cols, rows)."""
        return (d.reshape(-1, d.shape[-1]).mT @ x.reshape(-1, x.shape[-1])).mT

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, rows) and (n, cols)."""
        return x.reshape(-1, x.shape[-1]), d.reshape(-1, d.shape[-1])


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
    def form(self) -> Form:  # type: ignore[override]
        """(out, in/groups, *kernel)."""
        return Form(self.window.groups, False, self.window.area)

    @property
    def forward(self) -> Direction:  # type: ignore[override]
        """Fields in, channels out."""
        return Gather(self.window)

    @property
    def backward(self) -> Direction:  # type: ignore[override]
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
    def form(self) -> Form:  # type: ignore[override]
        """(in, out/groups, *kernel)."""
        return Form(self.window.groups, True, self.window.area)

    @property
    def forward(self) -> Direction:  # type: ignore[override]
        """Channels in, fields out."""
        return Scatter(self.window)

    @property
    def backward(self) -> Direction:  # type: ignore[override]
        """Fields in, channels out."""
        return Gather(self.window)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(groups, rows, cols)."""
        return self.window.correlate(d, x).unflatten(0, (self.window.groups, -1)).flatten(2)


@dataclass(frozen=True)
class Vectors(Operation):
    """Vectors already taken apart, (n, ..., rows) and (n, ..., cols): what updates are made of."""

    form: ClassVar[Form] = Form()
    forward: ClassVar[Direction] = Dense()
    backward: ClassVar[Direction] = Dense()

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        if x.dim() == 2:
            return x.mT @ d
        return x.movedim(0, -1) @ d.movedim(0, -2)

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Themselves."""
        return x, d


@dataclass(frozen=True)
class Numbers(Operation):
    """A matrix d (..., rows, cols) applied row by row: x is (..., rows, 1), ones."""

    form: ClassVar[Form] = Form()
    forward: ClassVar[Direction] = Dense()
    backward: ClassVar[Direction] = Dense()

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        return x * d

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot rows (rows, ..., rows) and the rows of d."""
        hot = torch.diag_embed(x[..., 0])
        return hot.movedim(-2, 0), d.movedim(-2, 0)
