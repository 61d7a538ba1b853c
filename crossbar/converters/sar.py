"""Successive approximation on a bank of capacitors that do not match."""

from __future__ import annotations

import functools
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossbar.converters.converter import Converter
from crossbar.quantise import levels
from devices._check import at_least, whole


@functools.cache
def per_bit(name: str, bits: int) -> Any:
    """A NamedTuple with a field a bit, the most significant first."""
    return namedtuple(name, [f"bit{k}" for k in reversed(range(bits))])


@dataclass(frozen=True)
class SAR(Converter):
    """Sign first, then the bits of the magnitude from the largest capacitor down.

    A capacitor of 2^k units of relative spread σ weighs 2^k + σ √(2^k) N(0, 1) units; the bit is
    set where what is left of the current, half a step added, reaches its weight. The step before
    the largest capacitor is off by σ √(2^(b−1) − 1) steps (one standard deviation), the worst of
    the differential nonlinearity.

    Args:
        bits: resolution, 2 to 16 (2^b − 1 levels).
        sigma_unit: relative spread σ of a unit capacitor, >= 0.
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Pelgrom, "Analog-to-Digital Conversion", 3rd ed., Springer (2017), chapters 7 and 12.
    """

    bits: int = 8
    sigma_unit: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("bits", self.bits, 2, 16)
        at_least("sigma_unit", self.sigma_unit, 0)

    def fabricate(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """The capacitors of every converter, in units."""
        if not self.sigma_unit:
            return None
        sizes = [2.0**k for k in reversed(range(self.bits - 1))]
        drawn = (torch.randn(shape, generator=generator) for _ in sizes)
        spread = self.sigma_unit
        made = (w + spread * w**0.5 * n for w, n in zip(sizes, drawn, strict=True))
        return per_bit("Capacitors", self.bits - 1)(*made)

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Bit by bit."""
        n = levels(self.bits)
        left = (i * (n / full)).abs() + 0.5
        code = torch.zeros_like(left)
        for k in reversed(range(self.bits - 1)):
            weight = 2.0**k if leaf is None else getattr(leaf, f"bit{k}")
            taken = left >= weight
            left = torch.where(taken, left - weight, left)
            code = code.add(taken, alpha=2.0**k)
        return torch.where(i.isnan(), i, torch.copysign(code, i) * (full / n))
