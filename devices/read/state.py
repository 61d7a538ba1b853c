"""Read noise measured for every state: white, or 1/f."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, flag, positive
from devices.curve import Curve, at, check_curve
from devices.draw import Draw
from devices.part import Read, Window
from devices.write.state import relative, sized


@dataclass(frozen=True)
class StateRead(Read):
    """Noise of every read with the size that was measured for the state.

        g_read = g + σ(x) (g_max − g_min) N(0, 1),   x = (g − g_min)/(g_max − g_min)

    With `absolute` σ(x) is in siemens and not multiplied by the window. Where a curve is negative
    there is no noise.

    Args:
        sigma: σ as a number, a `Polynomial`, a `Table` or a callable of x (see `devices.Curve`).
        absolute: whether σ is in siemens rather than relative to the window.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262 (read noise as
    any function of the state).
    """

    sigma: Curve = 0.02
    absolute: bool = False

    def __post_init__(self) -> None:
        check_curve("sigma", self.sigma, 0)
        flag("absolute", self.absolute)

    def std(self, window: Window, g: Tensor, p: Any, age: Tensor) -> Tensor:
        """Per cell [S]."""
        return sized(self.sigma, self.absolute, window, g)


class Flicker(NamedTuple):
    """1/f amplitude of every cell, set by the state it was programmed to."""

    q: Tensor  # (..., rows, cols), pure number


class FlickerNoise(Read):
    """1/f noise integrated from the inverse of the time since programming to the read bandwidth.

    The amplitude Q keeps the state that was programmed (`_q`) while g(t) drifts.
    """

    ages = True

    @property
    @abstractmethod
    def t0(self) -> float:
        """Time of the reference read after programming [s]."""

    @property
    @abstractmethod
    def t_read(self) -> float:
        """Duration of a read [s]."""

    @abstractmethod
    def _q(self, window: Window, g: Tensor) -> Tensor:
        """Amplitude Q >= 0 of cells programmed to g."""

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Flicker:
        """Amplitudes of cells fresh at g_min."""
        return Flicker(
            self._q(window, torch.full(shape, window.g_min, dtype=draw.dtype, device=draw.device))
        )

    def written(self, window: Window, g: Tensor, p: Flicker, mask: Tensor, draw: Draw) -> Flicker:
        """The amplitude follows the state a rewritten cell now holds."""
        return Flicker(torch.where(mask, self._q(window, g), p.q))

    def std(self, window: Window, g: Tensor, p: Flicker, age: Tensor) -> Tensor:
        """Per cell [S]."""
        decades = torch.log((age + (self.t0 + self.t_read)) / (2 * self.t_read))
        return g * p.q * decades.clamp(min=0).sqrt().to(g.dtype)


@dataclass(frozen=True)
class FlickerRead(FlickerNoise):
    """1/f read noise with the amplitude that was measured for the programmed state.

        σ = g(t) Q(x) √ln((t + t0 + t_read)/(2 t_read)),   x = (g_prog − g_min)/(g_max − g_min)

    Successive reads are taken as independent. Where a curve is negative there is no noise.

    Args:
        q: Q as a number, a `Polynomial`, a `Table` or a callable of x (see `devices.Curve`).
        t0: time of the reference read after programming [s], >= t_read.
        t_read: duration of a read [s], > 0.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Nandakumar et al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852, with a Q(x) of one's
    own.
    """

    q: Curve = 0.01
    t0: float = 20.0
    t_read: float = 250e-9

    def __post_init__(self) -> None:
        check_curve("q", self.q, 0)
        positive("t_read", self.t_read, "s")
        at_least("t0", self.t0, self.t_read, "s")

    def _q(self, window: Window, g: Tensor) -> Tensor:
        return at(self.q, relative(window, g)).clamp(min=0)
