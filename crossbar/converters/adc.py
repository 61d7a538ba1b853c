"""The uniform converter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crossbar.converters.converter import Converter, Normal
from crossbar.quantise import quantize
from devices._check import flag, positive, whole


@dataclass(frozen=True)
class ADC(Converter):
    """Uniform steps from −full scale, or from zero, to +full scale.

    Args:
        bits: resolution, 1 to 24 (signed: 2^b − 1 levels, else 2^b); None: no steps, full scale
            clips.
        signed: whether it converts currents of either sign; else those below zero become 0.
        low: what it converts below zero, over full scale, > 0; all 2^b codes are dealt out evenly
            between both ends, one of them zero. None: ends as `signed` says.
        stochastic: whether a current between two codes becomes either with the chance that makes
            it right on average.
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range; stochastic rounding without or of one bit.
    """

    bits: int | None = 8
    signed: bool = True
    stochastic: bool = False
    low: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits is not None:
            whole("bits", self.bits, 1, 24)
        flag("signed", self.signed)
        flag("stochastic", self.stochastic)
        if self.stochastic and (self.bits is None or self.bits == 1):
            raise ValueError(f"stochastic rounding needs bits >= 2, got bits={self.bits!r}")
        if self.low is None:
            return
        positive("low", self.low)
        if not self.signed or self.bits == 1:
            raise ValueError("low is of a signed converter of more than one bit")
        if self.bits is not None and self._above < 1:
            raise ValueError(f"low={self.low!r}: {self.bits} bits leave no code above zero")

    @property
    def _above(self) -> int:
        """Codes above zero of a converter with `low`."""
        assert self.bits is not None and self.low is not None
        return round((2**self.bits - 1) / (1 + self.low))

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest code, relative to full scale."""
        if self.low is None:
            return (-1.0 if self.signed else 0.0), 1.0
        if self.bits is None:
            return -self.low, 1.0
        return -(2**self.bits - 1 - self._above) / self._above, 1.0

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Rounded to the nearest code and clipped."""
        if self.bits is None:
            return torch.clamp(i, self.ends[0] * full, full)  # type: ignore[arg-type]
        return self._coded(i, full, None)

    def _coded(self, i: Tensor, full: Tensor | float, dither: Tensor | None) -> Tensor:
        assert self.bits is not None
        if self.low is None:
            return quantize(i, self.bits, full, signed=self.signed, dither=dither)
        n = self._above
        code = i * (n / full)
        code = torch.round(code if dither is None else code + dither)
        return code.clamp(n + 1 - 2**self.bits, n) * (full / n)

    def drawn(self, i: Tensor, full: Tensor | float, leaf: Any, normal: Normal) -> Tensor:
        """Stochastic rounding: to a neighbour by chance."""
        if not self.stochastic or self.bits is None:
            return self.convert(i, full, leaf)
        dither = torch.erf(normal(i) / math.sqrt(2)) / 2
        return self._coded(i, full, dither)
