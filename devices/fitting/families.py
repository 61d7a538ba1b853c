"""What a fit can find: one short declaration for every family of update laws.

A family says which fields of its law are parameters, which of them differ from cell to cell, and
how their values become the steps of one pulse; the equation stays where it is, in the law.
Conductances are in units of the fit here (the data's range), which every law is indifferent to.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses, Update, Window
from devices.update.exp_step import ExpStep
from devices.update.neurosim import NeuroSim, _leaf, _pulse
from devices.update.nominal import NominalStep, Steps
from devices.update.pow_step import PowStep
from devices.update.querlioz import QuerliozStep
from devices.update.stepped import ConstantStep, LinearStep, SoftBounds

Values = Mapping[str, Any]
"""Field → number, or (cells, 1) tensor where it differs from cell to cell."""


@dataclass(frozen=True)
class Mean:
    """A field of the law or the window that is fitted, and the range it may take."""

    name: str
    start: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    siemens: bool = False
    log: bool = False  # fitted, and held in `Values`, as its logarithm
    whole: bool = False  # fitted as a real number, rounded in the device

    def inside(self, value: float, by: float) -> float:
        """A shift of about the size `by` > 0 that stays in the range, upwards where it can."""
        by = min(by, (self.high - self.low) / 4)
        return by if value + by <= self.high else -by

    def natural(self, value: float) -> float:
        """The field's value from the fitted one."""
        return math.exp(value) if self.log else value


@dataclass(frozen=True)
class Spread:
    """A field that holds a standard deviation from cell to cell, of one or several quantities."""

    name: str
    of: tuple[str, ...]


class Family(ABC):
    """A family of update laws, as the fit sees it."""

    law: type[Update]
    means: tuple[Mean, ...]
    spreads: tuple[Spread, ...]
    cycle: str | None = "sigma_c2c"
    """Field of the noise relative to the step, in units of the step."""
    add: str | None = "sigma_add"
    """Field of the additive noise."""
    bounded: bool = False
    """Whether the steps themselves tell the window, because they vanish at its ends."""

    @property
    def name(self) -> str:
        """Name of the law."""
        return self.law.__name__

    @abstractmethod
    def leaf(self, values: Values, cells: Mapping[str, Tensor]) -> tuple[Update, Any]:
        """The law and its leaf for cells that deviate by `cells`, each (cells, 1)."""

    @abstractmethod
    def unit(self, spread: str, values: Values) -> float:
        """Standard deviation of the quantities for a spread field of 1."""

    @abstractmethod
    def add_unit(self, values: Values) -> float:
        """Standard deviation of one pulse for an additive noise field of 1."""

    def window(self, values: Values) -> Window:
        """The nominal window."""
        return Window(values["g_min"], values["g_max"])

    def steps(self, values: Values, cells: Mapping[str, Tensor], nodes: Tensor) -> Tensor:
        """Signed steps of an up and of a down pulse for every cell, (2, cells, nodes)."""
        law, leaf = self.leaf(values, cells)
        count = max((d.shape[0] for d in cells.values()), default=1)
        g = nodes.expand(count, -1)
        one, none = torch.ones_like(g), torch.zeros_like(g)
        window = self.window(values)
        up, _ = law.pulse(window, g, leaf, Pulses(one, none), Draw.like(g))
        down, _ = law.pulse(window, g, leaf, Pulses(none, one), Draw.like(g))
        return torch.stack([up - g, down - g])


WINDOW = (Mean("g_min", siemens=True), Mean("g_max", siemens=True))


@dataclass(frozen=True)
class Nominal(Family):
    """A law of `devices.update.nominal`: step, imbalance, bounds, and its own shape parameters."""

    law: type[NominalStep]
    shape: tuple[Mean, ...] = ()
    bounded: bool = False
    add: str | None = "sigma_add"
    means: tuple[Mean, ...] = field(init=False)
    spreads: tuple[Spread, ...] = (
        Spread("sigma_d2d", ("dg_min",)),
        Spread("sigma_up_down", ("up_down",)),
        Spread("sigma_bounds", ("g_min", "g_max")),
    )

    def __post_init__(self) -> None:
        step = Mean("dg_min", low=1e-6, siemens=True)
        means = (*WINDOW, step, Mean("up_down", low=-1.9, high=1.9), *self.shape)
        object.__setattr__(self, "means", means)

    def leaf(self, values: Values, cells: Mapping[str, Tensor]) -> tuple[Update, Any]:  # noqa: D102
        own = {mean.name: mean.natural(values[mean.name]) for mean in self.shape}
        law = self.law(dg_min=values["dg_min"], up_down=values["up_down"], **self.valid(own))
        size = values["dg_min"] + cells.get("dg_min", torch.zeros(1, 1, dtype=torch.float64))
        size, tilt = size.clamp(min=0), (values["up_down"] + cells.get("up_down", 0.0)) / 2
        up, down = size * (1 + tilt), size * (1 - tilt)
        low = high = None
        if "g_min" in cells:
            low, high = values["g_min"] + cells["g_min"], values["g_max"] + cells["g_max"]
        window = self.window(values)
        alike = up.new_ones(())
        leaf = law._coefficients(window, Steps(up, down, low, high), lambda sigma: alike)
        return law, leaf

    def valid(self, own: dict[str, float]) -> dict[str, float]:
        """Shape parameters that the law accepts, nearest to those asked for."""
        return own

    def unit(self, spread: str, values: Values) -> float:  # noqa: D102
        half = (values["g_max"] - values["g_min"]) / 2
        units = {"sigma_d2d": values["dg_min"], "sigma_up_down": 2.0, "sigma_bounds": half}
        return float(units[spread])

    def add_unit(self, values: Values) -> float:  # noqa: D102
        return float(values["dg_min"])


class Exponential(Nominal):
    """The exponential step, whose potentiation must not vanish at mid-window.

    Its scale a and offset b of z = a x + b cannot be identified from any data: with

        A↑ e^{γ↑ z} = (A↑ e^{γ↑ b}) e^{(γ↑ a) x},   A↓ e^{−γ↓ z} = (A↓ e^{−γ↓ b}) e^{−(γ↓ a) x}

    the four numbers A↑, A↓, γ↑, γ↓ give every curve that all six can (for a given a ≠ 0), so a and
    b stay at the law's defaults, those of the source's fitted ReRAM.
    """

    def valid(self, own: dict[str, float]) -> dict[str, float]:  # noqa: D102
        most = 0.999 * math.exp(-own["gamma_up"] * ExpStep.b)
        return own | {"A_up": min(own["A_up"], most)}


@dataclass(frozen=True)
class Labelled(Family):
    """NeuroSim's curves: two labels, two pulse numbers, one spread of the labels."""

    law: type[Update] = NeuroSim
    means: tuple[Mean, ...] = (
        *WINDOW,
        Mean("states_up", 100.0, 2.0, 1e6, whole=True),
        Mean("states_down", 100.0, 2.0, 1e6, whole=True),
        Mean("nl_up", 1.0, -8.9, 8.9),
        Mean("nl_down", -1.0, -8.9, 8.9),
    )
    spreads: tuple[Spread, ...] = (Spread("sigma_d2d", ("label",)),)
    cycle: str | None = None
    add: str | None = "sigma_c2c"

    def leaf(self, values: Values, cells: Mapping[str, Tensor]) -> tuple[Update, Any]:  # noqa: D102
        shift = cells.get("label", torch.zeros(1, 1, dtype=torch.float64))
        up = _pulse(values["nl_up"] + shift, values["states_up"], 1)
        down = _pulse(values["nl_down"] + shift, values["states_down"], -1)
        return NeuroSim(), _leaf(self.window(values), up, down, shift.dtype)

    def unit(self, spread: str, values: Values) -> float:  # noqa: D102
        return 1.0

    def add_unit(self, values: Values) -> float:  # noqa: D102
        return float(values["g_max"] - values["g_min"])


FAMILIES: tuple[Family, ...] = (
    Nominal(ConstantStep, add=None),
    Nominal(LinearStep, shape=(Mean("gamma_up", 0.3, 0.0, 1.0), Mean("gamma_down", 0.3, 0.0, 1.0))),
    Nominal(SoftBounds, bounded=True),
    Nominal(
        PowStep,
        shape=(Mean("gamma_up", 1.0, 0.0, 8.0), Mean("gamma_down", 1.0, 0.0, 8.0)),
        bounded=True,
    ),
    Nominal(
        QuerliozStep,
        shape=(Mean("beta_up", 1.0, 0.0, 20.0), Mean("beta_down", 1.0, 0.0, 20.0)),
    ),
    Exponential(
        ExpStep,
        shape=(
            Mean("A_up", -7.0, -16.0, 3.0, log=True),
            Mean("A_down", -1.0, -16.0, 3.0, log=True),
            Mean("gamma_up", 12.0, 0.5, 60.0),
            Mean("gamma_down", 12.0, 0.5, 60.0),
        ),
        add=None,
    ),
    Labelled(),
)
"""Every family that is compared where the caller names none, and what each law leaves out:

the relative and the additive noise of a constant step cannot be told apart, so it has the relative
one; the exponential step keeps its scale a and offset b (see `Exponential`) and has no additive and
no state noise; the power step has no spread of its exponents.
"""
