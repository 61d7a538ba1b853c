"""The linear operations an array computes: which inputs meet which cells.

An operation knows shapes only. Its matrix is (rows, cols) for `Matmul` and (groups, rows, cols)
for `Conv`; rows are wordlines (inputs), columns bitlines (outputs).

    mv(x, m, a, b)    rows a…b of the matrix applied to x
    mv_t(d, m, a, b, shape)  columns a…b applied backwards to d, giving something of x's `shape`
    outer(x, d)       Σ over vectors of x_i d_j, in the matrix's shape
    energy(x, a, b, cols)  Σ over rows a…b of x², broadcastable to the output of `cols` columns
    vectors(x, d)     the input and output vectors one by one
    peak(x)           largest magnitude of each vector (of each image for `Conv`)
    channel           dimension of an output along which its columns lie
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Matmul:
    """y = x @ m over any leading dimensions of x."""

    channel: ClassVar[int] = -1

    def mv(self, x: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """(..., rows) to (..., cols)."""
        return x[..., a:b] @ m[a:b] if b - a < x.shape[-1] else x @ m

    def mv_t(self, d: Tensor, m: Tensor, a: int, b: int, shape: torch.Size) -> Tensor:
        """(..., cols) to (..., rows)."""
        return d[..., a:b] @ m[:, a:b].mT

    mv_t_vectors = mv_t

    def flat(self, x: Tensor) -> Tensor:
        """Inputs, or errors, as vectors (k, lines)."""
        return x.reshape(-1, x.shape[-1])

    flat_t = flat

    def unflat(self, y: Tensor, shape: torch.Size) -> Tensor:
        """Outputs (k, cols) of inputs that had `shape`."""
        return y.reshape(*shape[:-1], y.shape[-1])

    unflat_t = unflat

    def gather(self, partial: Tensor, shape: torch.Size) -> Tensor:
        """What `mv_t_vectors` gave, as something of x's shape."""
        return partial

    def energy(self, x: Tensor, a: int, b: int, cols: int) -> Tensor:
        """(..., 1)."""
        part = x[..., a:b]
        return torch.linalg.vecdot(part, part).unsqueeze(-1)

    def energy_t(self, d: Tensor, a: int, b: int, shape: torch.Size) -> Tensor:
        """(..., 1)."""
        return self.energy(d, a, b, 1)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(rows, cols)."""
        return x.reshape(-1, x.shape[-1]).mT @ d.reshape(-1, d.shape[-1])

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, rows) and (n, cols)."""
        return x.reshape(-1, x.shape[-1]), d.reshape(-1, d.shape[-1])

    def peak(self, x: Tensor) -> Tensor:
        """(..., 1)."""
        return x.abs().amax(-1, keepdim=True) if x.numel() else x.new_zeros(*x.shape[:-1], 1)


@dataclass(frozen=True)
class Conv:
    """Two-dimensional convolution of (n, channels, h, w); a vector is one receptive field."""

    channel: ClassVar[int] = 1

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def weight(self, m: Tensor) -> Tensor:
        """(groups, rows, cols) as torch's (out, in/groups, kh, kw)."""
        groups, rows, cols = m.shape
        channels = rows // (self.kernel[0] * self.kernel[1])
        return m.mT.reshape(groups * cols, channels, *self.kernel)

    def matrix(self, weight: Tensor) -> Tensor:
        """The inverse of `weight`."""
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1).mT

    def _channels(self, x: Tensor, a: int, b: int) -> Tensor:
        grouped = x.unflatten(1, (self.groups, x.shape[1] // self.groups))
        return grouped[:, :, a:b].flatten(1, 2)

    def mv(self, x: Tensor, m: Tensor, a: int, b: int) -> Tensor:
        """(n, in, h, w) to (n, out, oh, ow)."""
        if b - a < m.shape[-2]:
            area = self.kernel[0] * self.kernel[1]
            first, last = a // area, -(-b // area)
            m = F.pad(m[:, a:b], (0, 0, a - first * area, last * area - b))
            x = self._channels(x, first, last)
        return F.conv2d(
            x, self.weight(m), None, self.stride, self.padding, self.dilation, self.groups
        )

    def mv_t(self, d: Tensor, m: Tensor, a: int, b: int, shape: torch.Size) -> Tensor:
        """(n, out, oh, ow) to (n, in, h, w), summed over overlapping receptive fields."""
        if b - a < m.shape[-1]:
            d, m = self._channels(d, a, b), m[..., a:b]
        return self._backward(d, d.new_empty(1).expand(shape), self.weight(m), 0)

    def mv_t_vectors(self, d: Tensor, m: Tensor, a: int, b: int, shape: torch.Size) -> Tensor:
        """(n, out, oh, ow) to (n, groups, oh·ow, rows): one vector per receptive field."""
        vectors = d.flatten(2).unflatten(1, (self.groups, -1))[:, :, a:b].mT
        return vectors @ m[..., a:b].mT

    def flat(self, x: Tensor) -> Tensor:
        """Receptive fields (groups, n·oh·ow, rows)."""
        patches = F.unfold(x, self.kernel, self.dilation, self.padding, self.stride)
        return patches.unflatten(1, (self.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)

    def flat_t(self, d: Tensor) -> Tensor:
        """Errors of an output as vectors (groups, n·oh·ow, cols)."""
        return d.flatten(2).unflatten(1, (self.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)

    def unflat(self, y: Tensor, shape: torch.Size) -> Tensor:
        """Outputs (groups, n·oh·ow, cols) of inputs that had `shape`, as (n, out, oh, ow)."""
        reach = [d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True)]
        size = [
            (n + 2 * p - r - 1) // s + 1
            for n, p, r, s in zip(shape[-2:], self.padding, reach, self.stride, strict=True)
        ]
        grouped = y.unflatten(1, (shape[0], *size))  # (groups, n, oh, ow, cols)
        return grouped.permute(1, 0, 4, 2, 3).flatten(1, 2)

    def unflat_t(self, i: Tensor, shape: torch.Size) -> Tensor:
        """Currents (groups, n·oh·ow, rows) as `gather` takes them; `shape` is the error's."""
        return i.unflatten(1, (shape[0], -1)).transpose(0, 1)

    def gather(self, partial: Tensor, shape: torch.Size) -> Tensor:
        """(n, groups, oh·ow, rows) folded onto the image they came from."""
        return F.fold(
            partial.mT.flatten(1, 2),
            (shape[-2], shape[-1]),
            self.kernel,
            self.dilation,
            self.padding,
            self.stride,
        )

    def _backward(self, d: Tensor, x: Tensor, weight: Tensor, which: int) -> Tensor:
        mask = [which == 0, which == 1, False]
        results = torch.ops.aten.convolution_backward(
            d,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            mask,
        )
        out: Tensor = results[which]
        return out

    def energy(self, x: Tensor, a: int, b: int, cols: int) -> Tensor:
        """(n, out or 1, oh, ow)."""
        area = self.kernel[0] * self.kernel[1]
        rows = area * (x.shape[1] // self.groups)
        ones = x.new_zeros(self.groups, rows, 1)
        ones[:, a:b] = 1
        summed = self.mv(x.square(), ones, 0, rows)
        return summed if self.groups == 1 else summed.repeat_interleave(cols, 1)

    def energy_t(self, d: Tensor, a: int, b: int, shape: torch.Size) -> Tensor:
        """(n, groups, oh·ow, 1)."""
        vectors = d.flatten(2).unflatten(1, (self.groups, -1))[:, :, a:b].mT
        return vectors.square().sum(-1, keepdim=True)

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(groups, rows, cols)."""
        shape = (d.shape[1], x.shape[1] // self.groups, *self.kernel)
        weight = d.new_empty(1).expand(shape)
        return self.matrix(self._backward(d, x, weight, 1))

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n·oh·ow, groups, rows) and (n·oh·ow, groups, cols)."""
        patches = F.unfold(x, self.kernel, self.dilation, self.padding, self.stride)
        x = patches.unflatten(1, (self.groups, -1)).permute(0, 3, 1, 2).flatten(0, 1)
        d = d.flatten(2).unflatten(1, (self.groups, -1)).permute(0, 3, 1, 2).flatten(0, 1)
        return x, d

    def peak(self, x: Tensor) -> Tensor:
        """(n, 1, 1, 1): one range a whole image, so that nothing need be unfolded."""
        if not x.numel():
            return x.new_zeros(x.shape[0], 1, 1, 1)
        return x.abs().amax((1, 2, 3), keepdim=True)


@dataclass(frozen=True)
class Vectors:
    """Vectors already taken apart, (n, ..., rows) and (n, ..., cols): what updates are made of."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(..., rows, cols)."""
        return x.movedim(0, -1) @ d.movedim(0, -2)

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Themselves."""
        return x, d

    def peak(self, x: Tensor) -> Tensor:
        """(n, ..., 1)."""
        return Matmul().peak(x)


class Operation(Protocol):
    """What a pulse scheme needs to know of an operation."""

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """Σ over vectors of x_i d_j, in the matrix's shape."""

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """The input and output vectors one by one."""

    def peak(self, x: Tensor) -> Tensor:
        """Largest magnitude of each vector."""
