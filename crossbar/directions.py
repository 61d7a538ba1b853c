"""How vectors meet lines: what a read drives, what it senses, and how images are made of vectors.

A matrix m is always (..., driven, sensed), of one group (`Dense`) or (groups, driven, sensed): a
transposed read hands over m.mT and nothing else differs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from crossbar.windows import Size, Window


def flat(v: Tensor) -> Tensor:
    """Vectors (..., lines) as (n, lines), also where there are no lines."""
    return v.unsqueeze(0) if v.dim() == 1 else v.flatten(0, -2)


class Direction(ABC):
    """Lines driven by an input and lines sensed into an output."""

    channel: ClassVar[int]
    """Dimension of a product along which the sensed lines lie."""

    lone: ClassVar[bool] = False
    """Whether lines are driven one by one."""

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

    def weighted(self, v: Tensor, s: Tensor) -> Tensor:
        """Sum of the vectors, each times its number in s (..., n): (..., driven)."""
        return s.unsqueeze(-2).matmul(self.lines(v)).squeeze(-2)

    def summed(self, v: Tensor, lead: int) -> Tensor:
        """Σ over all vectors of each line, (..., driven), of a matrix of `lead` dimensions more."""
        return self.lines(v).sum(-2)

    def fired(self, v: Tensor, tiles: Sequence[tuple[int, int]], lead: int) -> Tensor:
        """How often lines a…b of each tile are driven by what is not zero, (tiles,) float64."""
        kind = torch.float64 if v.numel() > 1 << 24 else torch.float32  # which counts so far
        lines = self.summed((v != 0).to(kind), lead).double()
        return torch.stack([lines[..., a:b].sum() for a, b in tiles])

    def number(self, v: Tensor) -> int:
        """How many vectors v holds, of all matrices."""
        return v.numel() // max(v.shape[-1], 1)

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
        """(..., driven) to (..., sensed); of groups (..., groups, driven) to as many."""
        if b - a < v.shape[-1]:
            v, m = v[..., a:b], m[..., a:b, :]
        return self.whole(v, m, ())

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """As `product`."""
        return v @ m if m.dim() == 2 else (v.unsqueeze(-2) @ m).squeeze(-2)

    def total(self, v: Tensor, a: int, b: int, sensed: int) -> Tensor:
        """(..., 1)."""
        return v[..., a:b].sum(-1, keepdim=True)

    def peak(self, v: Tensor) -> Tensor:
        """(..., 1)."""
        if not v.numel():
            return v.new_zeros(*v.shape[:-1], 1)
        return v.abs().amax(-1, keepdim=True)  # tens of times faster than the norm of infinity

    def lines(self, v: Tensor) -> Tensor:
        """(n, driven)."""
        return flat(v)

    def fired(self, v: Tensor, tiles: Sequence[tuple[int, int]], lead: int) -> Tensor:
        """(tiles,)."""
        counts = [v[..., a:b].count_nonzero() for a, b in tiles]
        return torch.stack(counts).double()

    def summed(self, v: Tensor, lead: int) -> Tensor:
        """Of the last dimension, or the last two."""
        return v.reshape(-1, *v.shape[v.dim() - 1 - lead :]).sum(0)

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(..., sensed)."""
        return i.reshape(*v.shape[:-1], i.shape[-1])

    def entry(self, t: Tensor) -> Tensor:
        """Itself."""
        return t

    def sensed(self, t: Tensor) -> Tensor:
        """Itself."""
        return t

    def driven(self, t: Tensor) -> Tensor:
        """Itself."""
        return t


@dataclass(frozen=True, eq=False)
class Pick(Dense):
    """One line driven by each number, of `count`: (..., 1) at the lines `at` (...)."""

    lone: ClassVar[bool] = True

    at: Tensor
    count: int

    def product(self, v: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """(..., sensed)."""
        here = (self.at >= a) & (self.at < b)
        return F.embedding(self.at, m) * (v * here.unsqueeze(-1))

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """(..., sensed)."""
        return F.embedding(self.at, m) * v

    def total(self, v: Tensor, a: int, b: int, sensed: int) -> Tensor:
        """(..., 1)."""
        return v * ((self.at >= a) & (self.at < b)).unsqueeze(-1)

    def lines(self, v: Tensor) -> Tensor:
        """(n, driven), almost all zero."""
        hot = F.one_hot(self.at.flatten(), self.count).to(v.dtype)
        return hot * v.reshape(-1, 1)

    fired = Direction.fired

    def summed(self, v: Tensor, lead: int) -> Tensor:
        """(driven,)."""
        return self.weighted(v, torch.ones_like(v).flatten())

    def weighted(self, v: Tensor, s: Tensor) -> Tensor:
        """(driven,)."""
        return s.new_zeros(self.count).index_add(0, self.at.flatten(), s * v.flatten())

    def driven(self, t: Tensor) -> Tensor:
        """(..., 1)."""
        return t[self.at].unsqueeze(-1)


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

    def summed(self, v: Tensor, lead: int) -> Tensor:
        """(groups, channels · area), without unfolding; (channels · area,) of a plain matrix."""
        one = v.sum(0, keepdim=True)
        at = self.window.positions(tuple(v.shape[2:]))
        found = self.window.correlate(one, one.new_ones(1, self.window.groups, *at)).flatten(1)
        return found if lead else found[0]

    def number(self, v: Tensor) -> int:
        """Positions of all images and groups."""
        at = self.window.positions(tuple(v.shape[2:]))
        return v.shape[0] * self.window.groups * math.prod(at)

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

    def number(self, v: Tensor) -> int:
        """Positions of all images and groups."""
        return v.shape[0] * self.window.groups * math.prod(v.shape[2:])

    def lines(self, v: Tensor) -> Tensor:
        """(groups, n · positions, driven)."""
        return self._vectors(v).transpose(0, 1).flatten(1, 2)

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(n, groups, positions, sensed)."""
        return i.unflatten(1, (v.shape[0], math.prod(v.shape[2:]))).transpose(0, 1)

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
    peak = v.flatten(1).abs().amax(-1)
    return peak.view(-1, *(1,) * (v.dim() - 1))
