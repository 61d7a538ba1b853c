"""A weight as the difference of two conductances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from crossbar.layout import Column, Layout
from crossbar.mappings.base import Mapping
from devices import Device, Pulses
from devices._check import between, instance, whole


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

    def due(self, updates: Tensor) -> Tensor | bool:
        """Whether pairs may have to be rewritten after so many updates."""
        return False

    def worn(self, places: Tensor) -> Tensor:
        """Which pairs, of places (2, ...)."""
        return torch.zeros(places.shape[1:], dtype=torch.bool, device=places.device)


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

    def due(self, updates: Tensor) -> Tensor | bool:
        """Every `refresh_every`."""
        return self.refresh_every is not None and updates % self.refresh_every == 0

    def worn(self, places: Tensor) -> Tensor:
        """Pairs whose devices have both risen."""
        return (places.amax(0) > self.high) & (places.amin(0) > self.low)


@dataclass(frozen=True)
class Differential(Mapping):
    """A weight is the difference of two conductances.

    Args:
        route: how updates reach the pair; without an update law one device of a pair stays at
            g_min (`OneSided`'s encoding), which is kindest to drift and read noise.
        converters: 1 subtracts the two currents before one converter, 2 their codes after two.
        w_max, per_column, quantile, binary, corrections: see `Mapping`.

    Raises:
        TypeError, ValueError: route of another kind, a field out of range.
    """

    route: Route = field(default_factory=PushPull)
    converters: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        instance("route", self.route, Route, optional=False)
        whole("converters", self.converters, 1, 2)

    def encoding(self, device: Device) -> Route:
        """The route whose encoding a device uses."""
        return OneSided() if device.update is None else self.route

    def layout(self, device: Device) -> Layout:
        """One converter sees g⁺ − g⁻, or each its own."""
        return self.seen((1, -1), self.encoding(device).span)

    def seen(self, signs: tuple[float, ...], top: float) -> Layout:
        """The layout of cells that count `signs`, which are `top` at the largest weight."""
        if self.converters == 1:
            return Layout((Column(signs, 1 / top),), linear=((top, 0.0),))
        plus, minus = (tuple(max(sign * s, 0) for s in signs) for sign in (1, -1))
        return Layout((Column(plus, 1 / top), Column(minus, -1 / top)))

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(2, ..., rows, cols)."""
        return torch.stack(self.encoding(device).split(w))

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """As the route says."""
        return self.route(pulses)

    @property
    def gain(self) -> float:
        """See `Route`."""
        return self.route.gain / self.route.span

    @property
    def alike(self) -> bool:
        """See `Route`."""
        return self.route.shared

    def due(self, updates: Tensor) -> Tensor | bool:
        """See `OneSided`."""
        return self.route.due(updates)

    def worn(self, places: Tensor) -> Tensor:
        """See `OneSided`."""
        return self.route.worn(places)
