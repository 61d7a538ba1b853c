"""A pair of high and a pair of low significance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.layout import Layout
from crossbar.mappings.differential import Differential
from devices import Device, Pulses
from devices._check import positive, whole


@dataclass(frozen=True)
class Significance(Differential):
    """A coarse pair that counts F and a fine one that counts 1, read together.

        W/w_max = (F (G⁺ − G⁻) + g⁺ − g⁻)/((F + 1) span ΔG)

    Written, the coarse pair takes W as far as its window goes, F/(F + 1) of w_max, and the fine
    pair the rest. Pulses reach the fine pair alone. Every `transfer_every` updates all weights are
    written anew, so that the coarse pair takes over what the fine one gathered and the fine one
    starts again from its middle; the weights are taken as they are, as by a read without error.

    Args:
        factor: F > 0.
        transfer_every: updates between transfers, >= 1; None: none, worn pairs of the route's.
        route, converters, w_max and the rest: see `Differential`.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Ambrogio et al., Nature 558, 60 (2018), doi:10.1038/s41586-018-0180-5 (F about 3).
    """

    factor: float = 3.0
    transfer_every: int | None = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("factor", self.factor)
        if self.transfer_every is not None:
            whole("transfer_every", self.transfer_every, 1)

    def layout(self, device: Device) -> Layout:
        """One converter sees the weighed sum, or one that of all G⁺ and one that of all G⁻."""
        f = self.factor
        return self.seen((f, -f, 1, -1), (f + 1) * self.encoding(device).span)

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(4, ..., rows, cols)."""
        whole = w * (self.factor + 1)
        coarse = (whole / self.factor).clamp(-1, 1)
        split = self.encoding(device).split
        return torch.stack([*split(coarse), *split(whole - coarse * self.factor)])

    @property
    def gain(self) -> float:
        """That of the fine pair."""
        return super().gain / (self.factor + 1)

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """The fine pair takes all of them."""
        return None, None, *self.route(pulses)

    def due(self, updates: Tensor) -> Tensor | bool:
        """Every `transfer_every`."""
        if self.transfer_every is None:
            return self.route.due(updates)
        return updates % self.transfer_every == 0

    def worn(self, places: Tensor) -> Tensor:
        """All of them."""
        if self.transfer_every is None:
            return self.route.worn(places[2:])
        return torch.ones(places.shape[1:], dtype=torch.bool, device=places.device)
