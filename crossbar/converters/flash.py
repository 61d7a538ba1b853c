"""All comparators at once."""

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
def _per_threshold(count: int) -> Any:
    return namedtuple("Comparators", [f"threshold{k}" for k in range(count)])


@dataclass(frozen=True)
class Flash(Converter):
    """A comparator between every two codes, each with its own offset; the code counts those set.

    Comparator k of 2^b − 2 is set above the current (k + 1/2 − n + σ N(0, 1)) steps, n = 2^(b−1)−1.
    Its integral nonlinearity has the standard deviation σ, its differential one √2 σ.

    Args:
        bits: resolution, 2 to 8 (2^b − 1 levels); time and memory go with 2^b.
        sigma_comparator: spread σ of the comparators' offsets [steps], >= 0.
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Pelgrom, "Analog-to-Digital Conversion", 3rd ed., Springer (2017), chapter 8.
    """

    bits: int = 4
    sigma_comparator: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("bits", self.bits, 2, 8)
        at_least("sigma_comparator", self.sigma_comparator, 0)

    def fabricate(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """Thresholds of every comparator [steps]."""
        if not self.sigma_comparator:
            return None
        n = levels(self.bits)
        drawn = (torch.randn(shape, generator=generator) for _ in range(2 * n))
        made = (k + 0.5 - n + self.sigma_comparator * z for k, z in enumerate(drawn))
        return _per_threshold(2 * n)(*made)

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """The comparators that are set, counted."""
        n = levels(self.bits)
        steps = i * (n / full)
        if leaf is None:
            return torch.round(steps).clamp_(-n, n) * (full / n)
        code = torch.full_like(steps, float(-n))
        for threshold in leaf:
            code = code.add(steps > threshold)
        return torch.where(i.isnan(), i, code * (full / n))
