"""What laws with a nominal step share: its size, its asymmetry, their spread and the bounds'."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor

from devices._check import at_least, between, positive
from devices.draw import Draw
from devices.part import Update, Window

SMALLEST_HALF = 0.05
"""Spread never brings a cell's bound nearer to mid-window than this part of half the window."""


class Steps(NamedTuple):
    """Nominal steps and bounds of every cell."""

    up: Tensor  # (..., rows, cols) or () [S], or in units of `size`
    down: Tensor  # (..., rows, cols) or () [S], or in units of `size`
    low: Tensor | None  # [S] None: the window
    high: Tensor | None
    size: Tensor | None = None  # (..., rows, cols) [S] common to both, where that is all they vary

    @property
    def whole(self) -> Steps:
        """The same with `size` multiplied out."""
        if self.size is None:
            return self
        return Steps(self.up * self.size, self.down * self.size, self.low, self.high)


Factor = Callable[[float], Tensor]
"""`Draw.factor` for the cells that are being fabricated, of its σ."""


@dataclass(frozen=True)
class NominalStep(Update):
    """A law whose nominal step, asymmetry and spreads are given directly.

    Every cell draws its own step, imbalance and bounds; the law turns them into the coefficients of
    its equation (`_coefficients`), whose leaf carries the bounds as `low` and `high`.

    Args:
        dg_min: nominal step [S], > 0; the law says where in the window.
        up_down: imbalance u of the two directions, in [−2, 2]: steps (1 ± u/2) dg_min.
        sigma_c2c: cycle-to-cycle noise of each pulse, relative to the actual step.
        sigma_d2d: spread of the step from cell to cell, relative (normal, clipped at 0).
        sigma_up_down: spread of u/2 from cell to cell (absolute).
        sigma_bounds: spread of each bound's distance from mid-window, relative; a pair (low, high)
            where the two differ.
        sigma_add: additive noise of each pulse, in units of dg_min.

    Raises:
        ValueError: a field out of range; at fabrication a step above the window.
    """

    dg_min: float
    up_down: float = 0.0
    sigma_c2c: float = 0.0
    sigma_d2d: float = 0.0
    sigma_up_down: float = 0.0
    sigma_bounds: float | tuple[float, float] = 0.0
    sigma_add: float = 0.0

    largest: ClassVar[float] = 1.0
    """Largest nominal step, as a part of the window."""

    def __post_init__(self) -> None:
        positive("dg_min", self.dg_min, "S")
        between("up_down", self.up_down, -2, 2)
        for name in ("sigma_c2c", "sigma_d2d", "sigma_up_down", "sigma_add"):
            at_least(name, getattr(self, name), 0)
        self._bound_spreads()

    def _bound_spreads(self) -> tuple[float, float]:
        """`sigma_bounds` of the lower and of the upper bound."""
        given = self.sigma_bounds
        if not isinstance(given, tuple):
            return (at_least("sigma_bounds", given, 0),) * 2
        if len(given) != 2:
            raise ValueError(f"sigma_bounds must be a number or a pair (low, high), got {given!r}")
        low, high = (at_least(f"sigma_bounds[{i}]", given[i], 0) for i in (0, 1))
        return low, high

    @classmethod
    def with_states(cls, states: float, g_min: float, g_max: float, **fields: Any) -> Self:
        """The law whose nominal step crosses the window [g_min, g_max] in `states` pulses.

        For soft bounds and linear step that is the step at mid-window.
        """
        return cls(dg_min=(g_max - g_min) / positive("states", states), **fields)

    def step(self, window: Window) -> float:
        """Mean of the nominal up and down step, dg_min [S]."""
        return self.dg_min

    def bounds(self, window: Window, p: Any) -> tuple[Tensor | float, Tensor | float]:
        """The cell's own bounds where they are spread, else the window [S]."""
        if p.low is None or p.high is None:
            return window.g_min, window.g_max
        return p.low, p.high

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Any:
        """Draw steps, asymmetry and bounds of every cell."""
        limit = self.largest * window.span
        if self.dg_min > limit:
            raise ValueError(
                f"dg_min must be at most {limit:g} S ({self.largest:g} of g_max - g_min), "
                f"got {self.dg_min!r}"
            )

        factor = partial(draw.factor, shape)
        size = factor(self.sigma_d2d).clamp_(min=0).mul_(self.dg_min)
        tilt = factor(self.sigma_up_down).add_(self.up_down / 2 - 1)
        up, down = (1 + tilt).clamp_(min=0), (1 - tilt).clamp_(min=0)
        middle, half = (window.g_min + window.g_max) / 2, window.span / 2
        low = high = None
        spreads = self._bound_spreads()
        if any(spreads):
            low, high = (
                factor(sigma).clamp_(min=SMALLEST_HALF).mul_(side * half).add_(middle).clamp_(min=0)
                for side, sigma in zip((-1, 1), spreads, strict=True)
            )
        steps = Steps(up, down, low, high, size)
        if tilt.dim() or not size.dim():
            steps = steps.whole
        return self._coefficients(window, steps, factor)

    @abstractmethod
    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Any: ...
