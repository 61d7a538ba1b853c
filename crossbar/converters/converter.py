"""What an output converter is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.ranges import Fixed, Range
from devices._check import at_least, between, instance, positive, whole

BOLTZMANN = 1.380649e-23  # [J/K]

Normal = Callable[[Tensor], Tensor]
"""Fresh N(0, 1) in the shape and dtype of a tensor."""


class Mismatch(NamedTuple):
    """Errors of every converter."""

    gain: Tensor | None  # (tiles, C, ..., lines) relative
    offset: Tensor | None  # (tiles, C, ..., lines) of full scale


@dataclass(frozen=True)
class Converter(ABC):
    """Column currents to codes, one conversion per tile, layout column and line.

    Args:
        range: the current at the largest code.
        noise: Gaussian noise of the input current, relative to full scale, >= 0.
        sigma_gain: spread of the converters' gains, relative, >= 0; drawn once.
        sigma_offset: spread of their offsets, relative to full scale, >= 0; drawn once.
        shared: neighbouring lines that one converter serves in turn, >= 1: they have its errors.
        compression: β of a sense amplifier in front of it that gives i (1 − β (i/full)²), in
            [0, 1/3]: its third harmonic is β/4 at full scale.
        capacitor: of charge-domain columns, where the cell at the full window is a capacitor of so
            many farads that is charged to its line's voltage and shares its charge with the column:
            each read has the noise kT/C at 300 K of all N cells that it sees, of every line of
            the tile all that count for a weight (s² where one counts s) and those of a reference
            column, σ = √(N kT/C)/v_max in units of one cell at full input; None: none.

    Raises:
        TypeError, ValueError: a field out of range.
    """

    range: Range = field(default_factory=Fixed, kw_only=True)
    noise: float = field(default=0.0, kw_only=True)
    sigma_gain: float = field(default=0.0, kw_only=True)
    sigma_offset: float = field(default=0.0, kw_only=True)
    shared: int = field(default=1, kw_only=True)
    compression: float = field(default=0.0, kw_only=True)
    capacitor: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        instance("range", self.range, Range, optional=False)
        for name in ("noise", "sigma_gain", "sigma_offset"):
            at_least(name, getattr(self, name), 0)
        whole("shared", self.shared, 1)
        between("compression", self.compression, 0, 1 / 3)
        if self.capacitor is not None:
            positive("capacitor", self.capacitor, "F")

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest code, as currents relative to full scale."""
        return -1.0, 1.0

    @property
    def one_sided(self) -> bool:
        """Whether currents below zero are cut."""
        return self.ends[0] >= 0

    def needs(self, i: Tensor) -> Tensor:
        """The full scale that would hold each current; |i| where no code has its sign."""
        low, high = self.ends
        if low == -high or low >= 0 or high <= 0:
            return i.abs()
        return torch.maximum(i / high, i / low)

    def cuts(self, i: Tensor, full: Tensor | float, edge: float) -> Tensor:
        """Which currents lie beyond the codes, of which this part, `edge`, counts."""
        low, high = self.ends
        below, above = low * edge if low else edge - 1, high * edge if high else 1 - edge
        return (i < below * full) | (i > above * full)

    def thermal(self, cells: float, v_max: float) -> float:
        """Standard deviation of kT/C noise of so many cells a column, of one cell at v_max."""
        if self.capacitor is None:
            return 0.0
        return math.sqrt(cells * BOLTZMANN * 300.0 / self.capacitor) / v_max

    def mismatch(self, shape: tuple[int, ...], generator: torch.Generator) -> Mismatch:
        """Gains and offsets of converters of this shape."""

        def drawn(sigma: float) -> Tensor | None:
            return sigma * torch.randn(shape, generator=generator) if sigma else None

        return Mismatch(drawn(self.sigma_gain), drawn(self.sigma_offset))

    def fabricate(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:
        """What else differs from converter to converter, a NamedTuple of tensors of this shape.

        None where all are alike.
        """
        return None

    @abstractmethod
    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """Codes of currents i at full scale `full`, as currents; both in one unit.

        What is no number stays none. `leaf` holds the converters of these columns, broadcastable
        to i; None: all alike.
        """

    def drawn(self, i: Tensor, full: Tensor | float, leaf: Any, normal: Normal) -> Tensor:
        """The same where conversions of one current differ: `normal` draws in what."""
        return self.convert(i, full, leaf)
