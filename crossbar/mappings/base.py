"""What a mapping is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from crossbar.layout import Layout
from devices import Device, Pulses
from devices._check import between, flag, positive, whole

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
        quantile: in (0, 1], of |W| that takes the place of its maximum (with w_max=None): the
            largest weights are clipped so that all others use more of the window.
        binary: whether w_max is rounded up to a power of two (with w_max=None), so that digital
            logic scales outputs by shifts; with per_column, block floating point.
        corrections: sweeps >= 0 after a programming, in which the devices of a weight are written
            again one after another, each to what a read of the others finds left of the weight.
            So healthy cells stand in for stuck ones, and the error is that of the last one
            written: of least weight where devices count differently.

    Raises:
        TypeError, ValueError: a field out of range, or two that exclude one another.
    """

    w_max: float | None = field(default=None, kw_only=True)
    per_column: bool = field(default=False, kw_only=True)
    quantile: float = field(default=1.0, kw_only=True)
    binary: bool = field(default=False, kw_only=True)
    corrections: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.w_max is not None:
            positive("w_max", self.w_max)
        flag("per_column", self.per_column)
        flag("binary", self.binary)
        between("quantile", self.quantile, 1e-6, 1)
        whole("corrections", self.corrections, 0, 100)
        if self.w_max is not None and (self.per_column or self.binary or self.quantile < 1):
            raise ValueError(
                "per_column, quantile and binary take w_max from the weights: leave w_max=None"
            )

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

    low: ClassVar[float] = -1.0
    """Least W/w_max that cells can hold."""

    def check(self, weight: Tensor) -> None:
        """Refuse weights that an array cannot be made for; most are made for all.

        Raises:
            ValueError: a weight of the wrong sign.
        """
        return

    @property
    def clips(self) -> bool:
        """Whether weights may lie beyond what cells can hold."""
        return self.w_max is not None or self.quantile < 1 or self.low > -1

    def turns(self, device: Device) -> tuple[int, ...]:
        """Devices that are written again, in order, see `corrections`."""
        return tuple(range(self.layout(device).devices)) * self.corrections

    def again(self, w: Tensor, places: Tensor, k: int, device: Device) -> Tensor:
        """Place (..., rows, cols) of device k that makes w of devices at `places`, within 0 … 1."""
        layout = self.layout(device)
        counts = sum(column.weight * column.signs[k] for column in layout.columns)
        held = layout.logical(layout.planes(places, 1.0), 0.0)
        return (places[k] + (w - held) / counts).clamp(0, 1)

    arbitrated: ClassVar[bool] = False
    """Whether a counter says which devices take the next pulses, see `dealt`."""

    def dealt(self, pulses: Pulses, clock: int) -> tuple[Pulses | None, ...]:
        """`given`, after so many rounds of pulses."""
        return self.given(pulses)

    def untrainable(self) -> str:
        """Why pulses cannot train it; empty where they can."""
        if type(self).given is not Mapping.given:
            return ""
        return (
            f"{type(self).__name__} does not say how pulses reach its cells (`given`, `gain`): "
            "train with HardwareAware() and program() it"
        )

    def due(self, updates: Tensor) -> Tensor | bool:
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
        found = torch.where(largest == 0, bound, largest) * headroom
        return torch.exp2(torch.log2(found).ceil()) if self.binary else found

    def largest(self, weight: Tensor) -> Tensor:
        """max|W|, or the quantile of |W|, of the tensor or of each column; NaN where W is."""
        if self.quantile < 1:
            size = weight.detach().abs()
            size = size if self.per_column else size.reshape(-1, 1)
            rank = max(1, round(self.quantile * size.shape[-2]))
            found = size.kthvalue(rank, -2, keepdim=True).values
            found = torch.where(found > 0, found, size.amax(-2, keepdim=True))  # mostly zeros
            return found if self.per_column else found.reshape(())
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
