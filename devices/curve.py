"""A quantity as a function of a cell's state: a number, a polynomial, a table or a callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from devices._check import at_least, finite


@dataclass(frozen=True)
class Polynomial:
    """A polynomial c₀ + c₁ x + c₂ x² + … of the state x.

    Args:
        coefficients: c₀, c₁, …, at least one.

    Raises:
        TypeError, ValueError: none, or one that is not a finite number.
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        if not self.coefficients:
            raise ValueError("coefficients must be at least one number, got ()")
        for k, c in enumerate(self.coefficients):
            finite(f"coefficients[{k}]", c)

    def __call__(self, x: Tensor) -> Tensor:
        """The value at x."""
        value = torch.full_like(x, self.coefficients[-1])
        for c in reversed(self.coefficients[:-1]):
            value = value * x + c
        return value


@dataclass(frozen=True)
class Table:
    """Measured points, joined by straight lines; beyond the first and the last their values hold.

    Args:
        x: at least two abscissae, increasing.
        values: one for each.

    Raises:
        TypeError, ValueError: too few, unequal in number, not finite or not increasing.
    """

    x: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("x", "values"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            for k, value in enumerate(getattr(self, name)):
                finite(f"{name}[{k}]", value)
        if len(self.x) < 2 or len(self.x) != len(self.values):
            raise ValueError(
                f"x and values must be at least two points, got {len(self.x)} and "
                f"{len(self.values)} numbers"
            )
        if any(a >= b for a, b in pairwise(self.x)):
            raise ValueError(f"x must increase, got {self.x!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """The value at x."""
        nodes, values = (
            torch.tensor(t, dtype=x.dtype, device=x.device) for t in (self.x, self.values)
        )
        x = x.clamp(self.x[0], self.x[-1])
        right = torch.searchsorted(nodes, x.detach().contiguous()).clamp(1, len(self.x) - 1)
        slopes = values.diff() / nodes.diff()
        return values[right - 1] + slopes[right - 1] * (x - nodes[right - 1])


Curve = float | Polynomial | Table | Callable[[Tensor], Tensor]
"""A function of the state x of a cell, relative to the window: 0 at g_min, 1 at g_max.

A callable of one's own gets x as a tensor and returns one like it. To be rebuilt from its repr, as
`devices.testing.check` asks, it is a frozen dataclass with `__call__`, not a lambda.
"""


def at(curve: Curve, x: Tensor) -> Tensor:
    """The curve at every x, a tensor like x."""
    return curve(x) if callable(curve) else torch.full_like(x, curve)


def check_curve(name: str, curve: object, low: float | None = None) -> None:
    """Whether it is a curve, and finite on the whole window.

    Args:
        name: of the field.
        curve: what it was given.
        low: the least a number may be; a curve must not be below it everywhere.

    Raises:
        TypeError: neither a number nor a callable, or a callable that gives no tensor like x.
        ValueError: not finite somewhere in 0 … 1, or below `low`.
    """
    if not callable(curve):
        number = finite(name, curve)
        if low is not None:
            at_least(name, number, low)
        return
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    value = curve(x)
    if not isinstance(value, Tensor) or value.shape != x.shape or value.dtype != x.dtype:
        raise TypeError(f"{name} must give a tensor like its x, got {value!r} from {curve!r}")
    if not bool(value.isfinite().all()):
        where = x[~value.isfinite()][0].item()
        raise ValueError(f"{name} must be finite on the window, got {curve!r}, not so at {where:g}")
    if low is not None and float(value.max()) < low:
        raise ValueError(f"{name} must be >= {low:g} somewhere on the window, got {curve!r}")
