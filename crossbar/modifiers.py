"""What is done to float weights in hardware-aware training, so that a network learns to bear it.

Each forward of a training model reads the changed weights; gradients reach the weights themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices._check import at_least, between


class Modifier(ABC):
    """One change of a matrix of weights."""

    @abstractmethod
    def changed(self, w: Tensor, w_max: Tensor, normal: Callable[[Tensor], Tensor]) -> Tensor:
        """The weights of one read.

        Args:
            w: weights, any shape.
            w_max: that of the full window, broadcasts to w.
            normal: standard normals in the shape of what it is given, new ones at every call.
        """

    def scaled(self, strength: float) -> Modifier:
        """The same, `strength` times as strong.

        Raises:
            TypeError: a modifier that does not say how. ValueError: out of its range then.
        """
        raise TypeError(
            f"{type(self).__name__} does not say what `strength` times of it is (`scaled`): "
            "leave strength=1"
        )


@dataclass(frozen=True)
class AdditiveNoise(Modifier):
    """w + σ w_max N(0, 1), as a programming error that is alike everywhere.

    Args:
        sigma: relative to the weight of the full window, >= 0.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9.
    """

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def changed(self, w: Tensor, w_max: Tensor, normal: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Modifier`."""
        return w + normal(w) * (self.sigma * w_max)

    def scaled(self, strength: float) -> Modifier:
        """See `Modifier`."""
        return replace(self, sigma=self.sigma * strength)


@dataclass(frozen=True)
class MultiplicativeNoise(Modifier):
    """w (1 + σ N(0, 1)).

    Args:
        sigma: relative to each weight, >= 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def changed(self, w: Tensor, w_max: Tensor, normal: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Modifier`."""
        return w * (1 + self.sigma * normal(w))

    def scaled(self, strength: float) -> Modifier:
        """See `Modifier`."""
        return replace(self, sigma=self.sigma * strength)


@dataclass(frozen=True)
class PolynomialNoise(Modifier):
    """w + w_max Σ_k c_k |w/w_max|^k N(0, 1), where the sum is positive.

    Args:
        coefficients: c_0, c_1, …, relative to the full window. The default is the programming error
            of phase-change cells, (0.26348 + 1.9650 r − 1.1731 r²) µS of 25 µS.
        scale: of all of them, >= 0.

    Raises:
        ValueError: no coefficient.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9; coefficients
    as Nandakumar et al., 26th IEEE ICECS (2019), doi:10.1109/ICECS46596.2019.8964852, fit them.
    """

    coefficients: tuple[float, ...] = (0.26348 / 25, 1.9650 / 25, -1.1731 / 25)
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.coefficients:
            raise ValueError("coefficients must hold at least one, got none")
        at_least("scale", self.scale, 0)

    def changed(self, w: Tensor, w_max: Tensor, normal: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Modifier`."""
        ratio = (w / w_max).abs()
        std = torch.zeros_like(ratio)
        for c in reversed(self.coefficients):
            std = std * ratio + c
        return w + normal(w) * (std.clamp(min=0) * (self.scale * w_max))

    def scaled(self, strength: float) -> Modifier:
        """See `Modifier`."""
        return replace(self, scale=self.scale * strength)


@dataclass(frozen=True)
class DropConnect(Modifier):
    """Weights that are 0 with probability p, as those of cells that are stuck; others stay.

    Args:
        p: 0 <= p <= 1.

    Source: Wan et al., ICML (2013), without the scaling by 1/(1 − p): stuck cells do not have it.
    """

    p: float

    def __post_init__(self) -> None:
        between("p", self.p, 0, 1)

    def changed(self, w: Tensor, w_max: Tensor, normal: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Modifier`."""
        # added to a tensor, not made one: a compiled graph then serves any p
        limit = torch.special.ndtri(w.new_zeros((), dtype=torch.float32) + self.p)
        return torch.where(normal(w) < limit, torch.zeros_like(w), w)

    def scaled(self, strength: float) -> Modifier:
        """See `Modifier`."""
        return replace(self, p=self.p * strength)
