"""What a mapping is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crossbar.layout import Layout
from devices import Device, Pulses
from devices._check import flag, positive

HEADROOM = 4.0
"""Window of an array for in-situ training over the largest weight it starts with."""


@dataclass(frozen=True)
class Mapping(ABC):
    """How a logical weight sits on K cells, and how pulses reach them.

    Args:
        w_max: logical weight at the full window, > 0; None takes max|W| when the array is made,
            `HEADROOM` times that where it is made for in-situ training, torch's initialisation
            bound where W is all zero.
        per_column: whether every output has a w_max of its own (with w_max=None).

    Raises:
        TypeError, ValueError: w_max not positive, or given together with per_column.
    """

    w_max: float | None = field(default=None, kw_only=True)
    per_column: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.w_max is not None:
            positive("w_max", self.w_max)
        flag("per_column", self.per_column)
        if self.per_column and self.w_max is not None:
            raise ValueError("per_column=True takes each output's own maximum: leave w_max=None")

    @abstractmethod
    def layout(self, device: Device) -> Layout:
        """What the converters see."""

    @abstractmethod
    def places(self, w: Tensor, device: Device) -> Tensor:
        """Places (K, ..., rows, cols) in the window, 0 … 1, for w = W/w_max in [−1, 1]."""

    @property
    def gain(self) -> float:
        """Device steps, in units of w_max/ΔG, by which one coincidence moves a weight."""
        raise TypeError(self.untrainable())

    @property
    def alike(self) -> bool:
        """Whether several devices are given the same pulses and so share their fluctuation."""
        return False

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """What each of the K devices is given of a weight's pulses; None: nothing."""
        raise TypeError(self.untrainable())

    def untrainable(self) -> str:
        """Why pulses cannot train it; empty where they can."""
        if type(self).given is not Mapping.given:
            return ""
        return (
            f"{type(self).__name__} does not say how pulses reach its cells (`given`, `gain`): "
            "train with HardwareAware() and program() it"
        )

    def due(self, updates: int) -> bool:
        """Whether `worn` is to be asked after so many updates."""
        return False

    def worn(self, places: Tensor) -> Tensor:
        """Weights (..., rows, cols) bool that are to be rewritten, of places (K, ...)."""
        return torch.zeros(places.shape[1:], dtype=torch.bool, device=places.device)

    def scale(self, weight: Tensor, headroom: float = 1.0) -> Tensor:
        """The logical weight (..., rows, cols) at the full window; () or (..., 1, cols)."""
        if self.w_max is not None:
            return weight.new_full((), self.w_max)
        bound = max(weight.shape[-2], 1) ** -0.5
        if not weight.numel():
            return weight.new_full((), bound * headroom)
        largest = self.largest(weight)
        return torch.where(largest == 0, bound, largest) * headroom

    def largest(self, weight: Tensor) -> Tensor:
        """max|W| of the tensor, or of each column; NaN where W is."""
        if self.per_column:
            return weight.detach().abs().amax(-2, keepdim=True)
        # in the order of memory: the other one would be copied first
        inner = weight.mT if weight.mT.is_contiguous() else weight
        low, high = torch.aminmax(inner.detach())
        return torch.maximum(-low, high)

    def targets(self, w: Tensor, device: Device) -> Tensor:
        """Conductances (K, ..., rows, cols) [S] for w = W/w_max, clipped to ±1."""
        g_min, span = device.window.g_min, device.window.span
        return self.places(w.clamp(-1, 1), device) * span + g_min
