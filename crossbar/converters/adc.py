"""The uniform converter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossbar.converters.converter import Converter, Normal
from crossbar.quantise import quantize
from devices._check import flag, whole


@dataclass(frozen=True)
class ADC(Converter):
    """Uniform steps from −full scale, or from zero, to +full scale.

    Args:
        bits: resolution, 1 to 24 (signed: 2^b − 1 levels, else 2^b); None: no steps, full scale
            clips.
        signed: whether it converts currents of either sign; else those below zero become 0.
        stochastic: whether a current between two codes becomes either with the chance that makes
            it right on average.
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range; stochastic rounding without or of one bit.
    """

    bits: int | None = 8
    signed: bool = True
    stochastic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits is not None:
            whole("bits", self.bits, 1, 24)
        flag("signed", self.signed)
        flag("stochastic", self.stochastic)
        if self.stochastic and (self.bits is None or self.bits == 1):
            raise ValueError(f"stochastic rounding needs bits >= 2, got bits={self.bits!r}")

    @property
    def one_sided(self) -> bool:
        """Whether currents below zero are cut."""
        return not self.signed

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Rounded to the nearest code and clipped."""
        if self.bits is None:
            low = -full if self.signed else full * 0
            return torch.clamp(i, low, full)  # type: ignore[arg-type]
        return quantize(i, self.bits, full, signed=self.signed)

    def drawn(self, i: Tensor, full: Tensor | float, leaf: Any, normal: Normal) -> Tensor:
        """Stochastic rounding: to a neighbour by chance."""
        if not self.stochastic or self.bits is None:
            return self.convert(i, full, leaf)
        dither = torch.erf(normal(i) / math.sqrt(2)) / 2
        return quantize(i, self.bits, full, signed=self.signed, dither=dither)
