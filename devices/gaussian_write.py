"""Programming error that does not depend on the state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import at_least
from devices.draw import Draw
from devices.part import Window, Write


@dataclass(frozen=True)
class GaussianWrite(Write):
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

    def program(self, window: Window, target: Tensor, draw: Draw) -> Tensor:
        """One programming of every cell [S], unclipped."""
        return erring(target, target.new_tensor(self.sigma * window.span), draw)


def erring(target: Tensor, std: Tensor, draw: Draw) -> Tensor:
    """target + std · N(0, 1), one draw per cell."""
    return torch.addcmul(target, std, draw.normal(target.shape))
