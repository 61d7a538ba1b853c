"""Programming errors that are a standard deviation for every target."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import flag
from devices.curve import Curve, at, check_curve
from devices.draw import Draw
from devices.part import Window, Write


class NormalWrite(Write):
    """A write whose error is normal, with a standard deviation that its target decides (`std`)."""

    @abstractmethod
    def std(
        self,
        window: Window,
        target: Tensor,  # (..., rows, cols) [S]
    ) -> Tensor:
        """Standard deviation of one programming, () or per cell [S], >= 0."""

    def program(self, window: Window, target: Tensor, draw: Draw) -> Tensor:
        """One programming of every cell [S], unclipped: target + std · N(0, 1)."""
        return torch.addcmul(target, self.std(window, target), draw.normal(target.shape))


@dataclass(frozen=True)
class StateWrite(NormalWrite):
    """One-shot programming with the error that was measured for every state.

        g = target + σ(x) (g_max − g_min) N(0, 1),   x = (target − g_min)/(g_max − g_min)

    With `absolute` σ(x) is in siemens and not multiplied by the window. Where a curve is negative
    there is no error.

    Args:
        sigma: σ as a number, a `Polynomial`, a `Table` or a callable of x (see `devices.Curve`).
        absolute: whether σ is in siemens rather than relative to the window.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262 (errors as any
    function of the state); Rasch et al., arXiv:2104.02184 (polynomial of the target).
    """

    sigma: Curve = 0.02
    absolute: bool = False

    def __post_init__(self) -> None:
        check_curve("sigma", self.sigma, 0)
        flag("absolute", self.absolute)

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        return sized(self.sigma, self.absolute, window, target)


def relative(window: Window, g: Tensor) -> Tensor:
    """x of a conductance, 0 at g_min and 1 at g_max, and no further."""
    return ((g - window.g_min) / window.span).clamp(0, 1)


def sized(sigma: Curve, absolute: bool, window: Window, g: Tensor) -> Tensor:
    """The curve at every conductance [S], never negative."""
    size = at(sigma, relative(window, g)).clamp(min=0)
    return size if absolute else size * window.span
