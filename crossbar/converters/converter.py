"""What an output converter is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crossbar.ranges import Fixed, Range
from devices._check import at_least, instance


@dataclass(frozen=True)
class Converter(ABC):
    """Column currents to codes, one conversion per tile, layout column and line.

    Args:
        range: the current at the largest code.
        noise: Gaussian noise of the input current, relative to full scale, >= 0.
    """

    range: Range = field(default_factory=Fixed, kw_only=True)
    noise: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        instance("range", self.range, Range, optional=False)
        at_least("noise", self.noise, 0)

    def fabricate(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """What differs from converter to converter, a NamedTuple of tensors (tiles, C, ..., lines).

        None where all are alike.
        """
        return None

    @abstractmethod
    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Codes of currents i at full scale `full`, as currents; both in one unit.

        `leaf` holds the converters of these columns, broadcastable to i; None: all alike.
        """
