"""The input converter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from crossbar.quantise import quantize
from crossbar.ranges import PerVector, Range
from devices._check import at_least, flag, instance, positive, whole


class Digit(NamedTuple):
    """One of the voltages an input is applied as, and what it counts."""

    v: Tensor  # as the input, relative to v_max
    weight: float
    code: Tensor  # the same as digital logic knows it, without the noise of the converter


@dataclass(frozen=True)
class DAC:
    """Input converter: logical inputs to line voltages.

    Args:
        bits: resolution, 1 to 24 (signed: 2^b − 1 levels, else 2^b); None: a perfect converter.
        v_max: voltage at full scale [V], > 0.
        range: what input maps to v_max.
        noise: Gaussian noise of the line voltage, relative to v_max, >= 0.
        passes: whether drivers have one polarity: positive inputs are applied in a first reading,
            the magnitudes of negative ones in a second that digital logic subtracts.
        sigma_offset: spread of the drivers' offset voltages, relative to v_max, >= 0; drawn once
            for every line, there at every reading, in those that drive nothing too.
        signed: whether drivers give voltages of either sign; else inputs below zero become 0.
            Spikes are DAC(bits=1, range=Fixed(1.0), signed=False): a line at 0 or v_max, an input
            of half and more is a spike.

    Raises:
        TypeError, ValueError: a field out of range; two readings of inputs that have one sign.
    """

    at_once: ClassVar[bool] = True
    """Whether one voltage stands for the whole input, so that inputs may be halved."""

    gathered: ClassVar[bool] = False
    """Whether the currents of all voltages are added before one conversion."""

    bits: int | None = 8
    v_max: float = 0.2
    range: Range = field(default_factory=PerVector)
    noise: float = 0.0
    passes: bool = False
    sigma_offset: float = field(default=0.0, kw_only=True)
    signed: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if self.bits is not None:
            whole("bits", self.bits, 1, 24)
        flag("passes", self.passes)
        positive("v_max", self.v_max, "V")
        instance("range", self.range, Range, optional=False)
        at_least("noise", self.noise, 0)
        at_least("sigma_offset", self.sigma_offset, 0)
        flag("signed", self.signed)
        if self.passes and not self.signed:
            raise ValueError("passes=True reads negative inputs apart, and signed=False has none")
        if self.range.reached:
            raise ValueError(f"range of a DAC needs a full scale of its own, got {self.range!r}")

    def digits(self, v: Tensor) -> tuple[Digit, ...]:
        """The voltages, relative to v_max, that inputs relative to full scale are applied as."""
        found = self._coded(v)
        if not self.passes:
            return tuple(Digit(code, weight, code) for code, weight in found)
        halves = ((sign, (sign * code).clamp(min=0), w) for code, w in found for sign in (1, -1))
        return tuple(Digit(code, sign * weight, code) for sign, code, weight in halves)

    def energy(self, v: Tensor) -> Tensor:
        """Variance of white read noise of lines at v, over that of lines at v_max."""
        return v if self._spikes and not self.noise else v.square()

    @property
    def _spikes(self) -> bool:
        """Whether a line is at 0 or v_max."""
        return self.bits == 1 and not self.signed

    def _coded(self, v: Tensor) -> list[tuple[Tensor, float]]:
        """Codes in −1 … 1 and what each counts."""
        if self.bits is None:
            return [(torch.clamp(v, -1 if self.signed else 0, 1), 1.0)]
        if self._spikes:  # 1 from a half on; in place, and NaN stays
            return [((2 * v).floor_().clamp_(0, 1), 1.0)]
        return [(quantize(v, self.bits, signed=self.signed), 1.0)]
