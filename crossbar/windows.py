"""The receptive fields of convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, ...]
"""Of an image; of the output of a read () where its input settles it."""

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


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

    def peak(self, image: Tensor) -> Tensor:
        """Largest magnitude in every field, (n, groups, *positions)."""
        largest = image.abs().unflatten(1, (self.groups, -1)).amax(2)
        # max_pool pads by less than half a kernel; of magnitudes zeros change nothing
        pool = POOLS[len(self.kernel) - 1]
        padded = F.pad(largest, self._pads())
        return pool(padded, self.kernel, self.stride, 0, self.dilation)

    def mass(self, image: Tensor) -> Tensor:
        """Sum of the magnitudes in every field, (n, groups, *positions)."""
        summed = image.abs().unflatten(1, (self.groups, -1)).sum(2)
        return self.convolve(summed, summed.new_ones(self.groups, 1, *self.kernel))

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
