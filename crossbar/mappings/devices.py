"""Several pairs of cells a weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.layout import Layout
from crossbar.mappings.differential import Differential
from devices import Device, Pulses
from devices._check import whole


@dataclass(frozen=True)
class Devices(Differential):
    """`count` differential pairs a weight, all written and pulsed alike, summed on one column.

        W/w_max = Σ_n (g⁺_n − g⁻_n)/(count · span · ΔG)

    Independent errors of the cells average: the spread of a weight falls as count^-1/2.

    Args:
        count: pairs a weight, >= 1.
        route, converters, w_max and the rest: see `Differential`.
    """

    count: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("count", self.count, 1)

    def layout(self, device: Device) -> Layout:
        """One converter sees all pairs, or one all g⁺ and one all g⁻."""
        return self.seen((1, -1) * self.count, self.encoding(device).span * self.count)

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(2 count, ..., rows, cols)."""
        return super().places(w, device).repeat(self.count, *(1,) * w.dim())

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """Every pair takes all pulses, with a fluctuation of its own unless they are shared."""
        return super().given(pulses) * self.count

    def worn(self, places: Tensor) -> Tensor:
        """Weights any pair of which is."""
        pairs = places.unflatten(0, (self.count, 2)).unbind(0)
        return torch.stack([self.route.worn(pair) for pair in pairs]).any(0)
