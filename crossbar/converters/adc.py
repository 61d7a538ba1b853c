"""The uniform converter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossbar.converters.converter import Converter
from crossbar.quantise import quantize
from devices._check import whole


@dataclass(frozen=True)
class ADC(Converter):
    """Uniform steps from −full scale to +full scale.

    Args:
        bits: resolution, 1 to 24 (signed, 2^b − 1 levels); None: no steps, full scale clips.
        range: the current at the largest code.
        noise: Gaussian noise of the input current, relative to full scale, >= 0.

    Raises:
        TypeError, ValueError: a field out of range.
    """

    bits: int | None = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits is not None:
            whole("bits", self.bits, 1, 24)

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Rounded to the nearest code and clipped."""
        if self.bits is not None:
            return quantize(i, self.bits, full)
        return torch.clamp(i, -full, full)  # type: ignore[arg-type]
