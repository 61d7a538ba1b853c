"""Stages of a bit and a half, one after another or one in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.converters.converter import Converter
from crossbar.converters.sar import per_bit
from crossbar.quantise import levels
from devices._check import at_least, whole


class Stage(NamedTuple):
    """The stage of every converter."""

    gain: Tensor  # (tiles, C, ..., lines) relative error


@dataclass(frozen=True)
class Pipeline(Converter):
    """b − 1 stages that each decide −1, 0 or 1 at ∓1/4 and hand on r ← (2 r − d)(1 + g).

    The gains g of the stages are off by σ N(0, 1) each; what the last one hands on is rounded.
    The redundancy of half a bit takes the comparators' offsets away, which are left out.

    Args:
        bits: resolution, 2 to 16 (2^b − 1 levels).
        sigma_stage: relative spread σ of the stages' gains, >= 0.
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Lewis et al., IEEE JSSC 27, 351 (1992), doi:10.1109/4.121557.
    """

    bits: int = 8
    sigma_stage: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("bits", self.bits, 2, 16)
        at_least("sigma_stage", self.sigma_stage, 0)

    def fabricate(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """Gain errors of the stages of every converter."""
        if not self.sigma_stage:
            return None
        stages = range(self.bits - 1)
        made = (self.sigma_stage * torch.randn(shape, generator=generator) for _ in stages)
        return per_bit("Stages", self.bits - 1)(*made)

    def _gain(self, leaf: Any, k: int) -> Tensor:
        gain: Tensor = getattr(leaf, f"bit{k}")
        return gain

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Stage by stage."""
        n, stages = levels(self.bits), self.bits - 1
        left = (i * (n / full)).clamp(-n, n) / 2.0**stages
        code = torch.zeros_like(left)
        for k in reversed(range(stages)):
            decided = (left > 0.25).to(left) - (left < -0.25).to(left)
            left = 2 * left - decided
            if leaf is not None:
                left = left * (1 + self._gain(leaf, k))
            code = code.add(decided, alpha=2.0**k)
        return (code + torch.round(left)).clamp(-n, n) * (full / n)


@dataclass(frozen=True)
class Cyclic(Pipeline):
    """A pipeline folded into one stage: every bit sees the same gain error.

    Args:
        bits: resolution, 2 to 16 (2^b − 1 levels).
        sigma_stage: relative spread of the converters' stage gains, >= 0.
        range, noise and the rest: see `Converter`.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Onodera, Tateishi & Tamaru, IEEE JSSC 23, 152 (1988), doi:10.1109/4.270.
    """

    def fabricate(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """Gain error of the stage of every converter."""
        if not self.sigma_stage:
            return None
        return Stage(self.sigma_stage * torch.randn(shape, generator=generator))

    def _gain(self, leaf: Any, k: int) -> Tensor:
        gain: Tensor = leaf.gain
        return gain
