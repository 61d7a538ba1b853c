"""Programming error that does not depend on the state."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from devices._check import at_least
from devices.part import Window
from devices.write.state import NormalWrite


@dataclass(frozen=True)
class GaussianWrite(NormalWrite):
    """One-shot programming with a Gaussian error.

        g = target + σ (g_max − g_min) N(0, 1)

    Args:
        sigma: standard deviation relative to the window, >= 0.

    Raises:
        ValueError: sigma negative or not finite.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262
    (state-independent error).
    """

    sigma: float

    def __post_init__(self) -> None:
        at_least("sigma", self.sigma, 0)

    def std(self, window: Window, target: Tensor) -> Tensor:
        """The same for every cell [S]."""
        return target.new_tensor(self.sigma * window.span)
