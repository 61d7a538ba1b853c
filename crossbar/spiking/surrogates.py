"""The step of a spike, and the slopes that stand for its derivative."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import positive


class Surrogate(ABC):
    """A derivative for the spike S = H(u), u = v − θ, whose own is zero almost everywhere.

    Source: Neftci, Mostafa & Zenke, IEEE Signal Process. Mag. 36, 51 (2019), arXiv:1901.09948.
    """

    @abstractmethod
    def slope(self, u: Tensor) -> Tensor:
        """What stands for dS/du."""


@dataclass(frozen=True)
class ATan(Surrogate):
    """dS/du = (α/2)/(1 + (π α u/2)²), snnTorch's default.

    Args:
        alpha: slope at threshold, twice, > 0.
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)

    def slope(self, u: Tensor) -> Tensor:
        """See the class."""
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * u).square())


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """dS/du = 1/(k |u| + 1)²: snnTorch's at k = 25, Norse's SuperSpike at k = 100.

    Args:
        k: steepness, > 0.

    Source: Zenke & Ganguli, Neural Comput. 30, 1514 (2018), arXiv:1705.11146.
    """

    k: float = 25.0

    def __post_init__(self) -> None:
        positive("k", self.k)

    def slope(self, u: Tensor) -> Tensor:
        """See the class."""
        return 1 / (self.k * u.abs() + 1).square()


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """dS/du = α σ(αu) (1 − σ(αu)), SpikingJelly's default.

    Args:
        alpha: steepness, > 0.
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)

    def slope(self, u: Tensor) -> Tensor:
        """See the class."""
        s = torch.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """dS/du = max(0, 1 − |u|/w)/w: zero beyond w of the threshold.

    Args:
        width: w, > 0.

    Source: Bellec et al., NeurIPS 2018, arXiv:1803.09574.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        positive("width", self.width)

    def slope(self, u: Tensor) -> Tensor:
        """See the class."""
        return (1 - u.abs() / self.width).clamp(min=0) / self.width


class _Fire(torch.autograd.Function):
    """H(u), with a surrogate's slope."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, strict: bool, surrogate: Surrogate) -> Tensor:
        """1 where u > 0, or u >= 0 where not strict."""
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return above(u, strict)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """D times the surrogate's slope."""
        (u,) = ctx.saved_tensors
        return d * ctx.surrogate.slope(u), None, None


def above(u: Tensor, strict: bool) -> Tensor:
    """1 where u > 0, or u >= 0 where not strict; without a gradient."""
    return (u > 0 if strict else u >= 0).to(u.dtype)


def fire(u: Tensor, strict: bool, surrogate: Surrogate) -> Tensor:
    """Spikes {0, 1} of membranes u above their threshold; see `Surrogate`."""
    if torch.is_grad_enabled() and u.requires_grad:
        spikes: Tensor = _Fire.apply(u, strict, surrogate)  # type: ignore[no-untyped-call]
        return spikes
    return above(u, strict)
