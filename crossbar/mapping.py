"""Logical weights and the pairs of conductances that hold them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from devices import Device, Pulses
from devices._check import between, instance, positive, whole


class Route(ABC):
    """How a wanted change of a weight reaches the two devices of its pair.

    `gain` is the number of device steps by which one coincidence moves the pair, `span` the part
    of the window a weight can use: W = w_max (g⁺ − g⁻)/(span · ΔG).
    """

    gain: ClassVar[int]
    span: ClassVar[float]
    shared: ClassVar[bool] = False
    """Whether both devices are given the same pulses and so share their fluctuation."""

    @abstractmethod
    def split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Places of both devices in the window, 0 … 1, for w = W/w_max in [−1, 1]."""

    @abstractmethod
    def __call__(self, pulses: Pulses) -> tuple[Pulses | None, Pulses | None]:
        """What the positive and the negative device are given; None: nothing."""


@dataclass(frozen=True)
class Reference(Route):
    """Only the positive device is pulsed; the negative one stays at mid-window.

    g⁺ = mid + ΔG W/(2 w_max), g⁻ = mid. What aihwkit's signed weight stands for. Any up/down
    imbalance of the devices becomes a pull on the weight.
    """

    gain: ClassVar[int] = 1
    span: ClassVar[float] = 0.5

    def split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return 0.5 + w / 2, torch.full_like(w, 0.5)

    def __call__(self, pulses: Pulses) -> tuple[Pulses | None, Pulses | None]:
        """See the class."""
        return pulses, None


@dataclass(frozen=True)
class PushPull(Route):
    """Both devices move by the same pulses in opposite directions.

    g± = mid ± ΔG W/(2 w_max). An up/down imbalance common to both devices cancels in the pair.
    """

    gain: ClassVar[int] = 2
    span: ClassVar[float] = 1.0
    shared: ClassVar[bool] = True

    def split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return 0.5 + w / 2, 0.5 - w / 2

    def __call__(self, pulses: Pulses) -> tuple[Pulses | None, Pulses | None]:
        """See the class."""
        return pulses, pulses.swapped()


@dataclass(frozen=True)
class OneSided(Route):
    """Devices are only ever potentiated: g⁺ to raise a weight, g⁻ to lower it.

    g± = g_min + ΔG max(±W, 0)/w_max when written. Both devices of a pair drift upwards with use, so
    every `refresh_every` updates the pairs with one device above `high` and the other above `low`
    of the window are rewritten to the same weight from g_min.

    Args:
        refresh_every: updates between refreshes, >= 1; None never refreshes.
        high: part of the window the larger device must exceed, in [0, 1].
        low: part of the window the smaller device must exceed, in [0, 1].

    Source: Burr et al., IEEE Trans. Electron Devices 62, 3498 (2015),
    doi:10.1109/TED.2015.2439635 (occasional RESET of saturated pairs).
    """

    gain: ClassVar[int] = 1
    span: ClassVar[float] = 1.0

    refresh_every: int | None = 1
    high: float = 0.75
    low: float = 0.25

    def __post_init__(self) -> None:
        if self.refresh_every is not None:
            whole("refresh_every", self.refresh_every, 1)
        between("high", self.high, 0, 1)
        between("low", self.low, 0, 1)

    def split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return w.clamp(min=0), (-w).clamp(min=0)

    def __call__(self, pulses: Pulses) -> tuple[Pulses | None, Pulses | None]:
        """See the class."""
        none = torch.zeros_like(pulses.up)
        still = None if pulses.up_var is None else none
        plus = Pulses(pulses.up, none, pulses.up_var, still)
        return plus, Pulses(pulses.down, none, pulses.down_var, still)


@dataclass(frozen=True)
class Differential:
    """A weight is the difference of two conductances, subtracted before the ADC.

    Args:
        route: how updates reach the pair; without an update law one device of a pair stays at
            g_min (`OneSided`'s encoding), which is kindest to drift and read noise.
        w_max: logical weight at the full window, > 0; None takes max|W| when the array is made,
            four times that where it is made for in-situ training, torch's initialisation bound
            where W is all zero.

    Raises:
        TypeError, ValueError: route of another kind, w_max not positive.
    """

    route: Route = field(default_factory=PushPull)
    w_max: float | None = None

    def __post_init__(self) -> None:
        instance("route", self.route, Route, optional=False)
        if self.w_max is not None:
            positive("w_max", self.w_max)

    def scale(self, weight: Tensor, *, in_situ: bool) -> Tensor:
        """The logical weight at the full window, 0-dim; `weight` is (..., rows, cols)."""
        if self.w_max is not None:
            return weight.new_full((), self.w_max)
        largest = weight.detach().abs().amax() if weight.numel() else weight.new_zeros(())
        bound = weight.new_full((), max(weight.shape[-2], 1) ** -0.5)
        return torch.where(largest > 0, largest, bound) * (4 if in_situ else 1)

    def layout(self, device: Device) -> Route:
        """The route whose encoding a device uses."""
        return OneSided() if device.update is None else self.route

    def targets(self, w: Tensor, device: Device) -> Tensor:
        """Conductances (2, ..., rows, cols) [S] for w = W/w_max, clipped to ±1."""
        g_min, span = device.window.g_min, device.window.span
        places = torch.stack(self.layout(device).split(w.clamp(-1, 1)))
        return places * span + g_min
