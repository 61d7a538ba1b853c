"""A weight in several cells of few levels: bit slices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.layout import Column, Layout
from crossbar.mappings.base import Mapping
from devices import Device
from devices._check import whole


@dataclass(frozen=True)
class Slices(Mapping):
    """The magnitude of a weight cut into binary digits, a differential pair and a converter each.

        |W|/w_max · (2^B − 1) rounded = Σ_s digit_s 2^(bits of the less significant slices)

    The pair of a slice holds digit/(2^width − 1) of the window in g⁺ or in g⁻, by the sign of W.
    Codes are added up digitally. Pulses cannot train it: a carry would have to move from one
    slice to the next.

    Args:
        widths: bits of each slice, the most significant first, B = Σ widths <= 24.
        w_max, per_column: see `Mapping`.

    Raises:
        TypeError, ValueError: widths not whole numbers in their range.
    """

    widths: tuple[int, ...] = (4, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.widths, tuple) or not self.widths:
            raise TypeError(f"widths must be a tuple of bits, got {self.widths!r}")
        for width in self.widths:
            whole("widths", width, 1, 12)
        if sum(self.widths) > 24:
            raise ValueError(f"widths must sum to at most 24 bits, got {self.widths!r}")

    def _shifts(self) -> list[int]:
        return [sum(self.widths[k + 1 :]) for k in range(len(self.widths))]

    def _weight(self, k: int) -> float:
        """What the full window of slice k counts in W/w_max."""
        return (2 ** self.widths[k] - 1) * 2 ** self._shifts()[k] / (2 ** sum(self.widths) - 1)

    def layout(self, device: Device) -> Layout:
        """One converter a slice; not linear, since digits are rounded."""
        columns = []
        for k in range(len(self.widths)):
            signs = [0] * (2 * len(self.widths))
            signs[2 * k : 2 * k + 2] = [1, -1]
            columns.append(Column(tuple(signs), self._weight(k)))
        return Layout(tuple(columns))

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(2 slices, ..., rows, cols)."""
        code = (w.abs().double() * (2 ** sum(self.widths) - 1)).round().long()
        planes = []
        for width, shift in zip(self.widths, self._shifts(), strict=True):
            digit = ((code >> shift) & (2**width - 1)).to(w.dtype) / (2**width - 1)
            planes += [torch.where(w > 0, digit, 0), torch.where(w < 0, digit, 0)]
        # straight through the rounding: the most significant slice takes a change of the weight
        change = (w - w.detach()) / (2 * self._weight(0))
        planes[:2] = [planes[0] + change, planes[1] - change]
        return torch.stack(planes)

    def untrainable(self) -> str:
        """Why in situ is refused."""
        return (
            "Slices cannot be trained by pulses, which would have to carry from one slice to the "
            "next: train with HardwareAware() and program() it"
        )
