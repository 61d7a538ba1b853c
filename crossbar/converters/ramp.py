"""One ramp for all columns, and a counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossbar.converters.converter import Converter
from crossbar.quantise import levels
from devices._check import between, whole


@dataclass(frozen=True)
class Ramp(Converter):
    """The count at which a ramp that all columns share passes the current.

        ramp(x) = x (1 + slope) + bow x |x| / n  steps after x counts,   n = 2^(b−1) − 1

    so that the count lies short of the current by bow/4 of full scale in the middle, where the
    ends are right (slope = −bow). Columns differ by their comparators: give `sigma_offset`.

    Args:
        bits: resolution, 2 to 16 (2^b − 1 levels).
        slope: relative error of the ramp's slope at zero, in (−0.5, 0.5).
        bow: its curvature, in (−0.5, 0.5).
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Pelgrom, "Analog-to-Digital Conversion", 3rd ed., Springer (2017), chapter 13.
    """

    bits: int = 8
    slope: float = 0.0
    bow: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("bits", self.bits, 2, 16)
        between("slope", self.slope, -0.49, 0.49)
        between("bow", self.bow, -0.24, 0.49)

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """The nearest count."""
        n = levels(self.bits)
        y = i * (n / full)
        if self.slope or self.bow:  # x (1 + slope) + bow x |x|/n = y, without cancellation
            y = y.clamp(-4 * n, 4 * n)  # beyond the end of any ramp, and finite
            a = 1 + self.slope
            root = (a * a + 4 * self.bow / n * y.abs()).clamp(min=0).sqrt()
            y = 2 * y / (a + root)
        return torch.round(y).clamp(-n, n) * (full / n)
