"""One cell a weight that is never negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from crossbar.layout import Column, Layout
from crossbar.mappings.base import Mapping
from devices import Device, Pulses


@dataclass(frozen=True)
class Unipolar(Mapping):
    """One cell, g = g_min + ΔG W/w_max, of an excitatory synapse: W in 0 … w_max.

    What the floor g_min of all cells of a column lets through, Σ v g_min, is taken off digitally.
    Weights below zero are refused when the array is made and when numbers are written into it;
    those that training leads there are read and programmed as zero, as those beyond w_max are as
    w_max.
    """

    def layout(self, device: Device) -> Layout:
        """One unbalanced converter."""
        return Layout((Column((1,)),), linear=((1.0, 0.0),))

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(1, ..., rows, cols)."""
        return w.clamp(min=0).unsqueeze(0)

    low: ClassVar[float] = 0.0

    def check(self, weight: Tensor) -> None:
        """See `Mapping.check`."""
        if weight.numel() and not weight.is_meta and bool((weight < 0).any()):
            raise ValueError(
                f"Unipolar holds weights of 0 and more, got {float(weight.min()):g}: use "
                "Differential() or SingleCell() for signed ones"
            )

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """The cell takes all of them."""
        return (pulses,)

    @property
    def gain(self) -> float:
        """One step of a window that counts w_max."""
        return 1.0
