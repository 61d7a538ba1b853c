"""Read noise that is white from read to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from devices._check import at_least
from devices.part import Read, Window


@dataclass(frozen=True)
class GaussianRead(Read):
    """Additive Gaussian noise of every read, independent of the conductance.

        g_read = g + σ (g_max − g_min) N(0, 1)

    Args:
        sigma: standard deviation relative to the window g_max − g_min, >= 0.

    Raises:
        ValueError: sigma negative or not finite.

    Source: Agarwal et al., IJCNN 2016, doi:10.1109/IJCNN.2016.7727298 (read noise as a part of
    the range).
    """

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def std(self, window: Window, g: Tensor, p: Any, age: Tensor) -> Tensor:
        """0-dim: the same for every cell [S]."""
        return g.new_full((), self.sigma * window.span)


@dataclass(frozen=True)
class ProportionalRead(Read):
    """Gaussian noise of every read, proportional to the conductance.

        g_read = g (1 + σ N(0, 1))

    Args:
        sigma: standard deviation relative to the cell's conductance, >= 0.

    Raises:
        ValueError: sigma negative or not finite.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262
    (state-proportional error).
    """

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def std(self, window: Window, g: Tensor, p: Any, age: Tensor) -> Tensor:
        """Per cell [S]."""
        return g * self.sigma
