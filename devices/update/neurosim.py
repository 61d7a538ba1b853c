"""NeuroSim's exponential potentiation and depression curves, named by nonlinearity labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, between, flag, whole
from devices.draw import Draw
from devices.part import Pulses, Update, Window
from devices.update.affine import Affine, affine_pulse
from devices.update.clip import held
from devices.update.fused import TOGETHER

LABEL = 10.1015
"""NL per unit of the largest deviation of the normalised curve from a line."""
NEARLY_LINEAR = 1e-3
"""Labels below this follow the expansion NL = 10.1015/(8a) to 1e-6."""


def nonlinearity(a: Tensor) -> Tensor:
    """NeuroSim's label NL of a normalised curve constant a = A/P_max > 0.

        f(x) = (1 − e^{−x/a})/(1 − e^{−1/a}),   NL = 10.1015 · max_x [f(x) − x]

    with the maximum at x* = −a ln(a (1 − e^{−1/a})).
    """
    scale = -torch.expm1(-1 / a)
    x = -a * torch.log(a * scale)
    return LABEL * (-torch.expm1(-x / a) / scale - x)


def curve_constant(label: Tensor) -> Tensor:
    """Normalised constant a = A/P_max of a label |NL|, the inverse of `nonlinearity`.

    Linear interpolation in log–log over 8192 float64 nodes, relative error below 1e-6; a label of
    0 is a straight line (a = 1.3e12).

    Raises:
        ValueError: a label above 9.9, where the curve is a single step.
    """
    size = label.abs().double()
    if bool((size > 9.9).any()):
        raise ValueError(f"nonlinearity labels must be in [-9.9, 9.9], got {float(size.max()):g}")
    nodes = torch.logspace(3.2, -2.4, 8192, dtype=torch.float64, device=label.device)
    x, y = nonlinearity(nodes).log(), nodes.log()
    want = size.clamp(min=NEARLY_LINEAR).log()
    right = torch.searchsorted(x, want).clamp_(1, x.numel() - 1)
    t = (want - x[right - 1]) / (x[right] - x[right - 1])
    curved = torch.lerp(y[right - 1], y[right], t).exp()
    return torch.where(size < NEARLY_LINEAR, LABEL / (8 * size.clamp(min=1e-12)), curved)


@dataclass(frozen=True)
class NeuroSim(Update):
    """The exponential curves of (MLP+)NeuroSim.

        potentiation  G = g_min + B (1 − e^{−P/A}),   B = ΔG/(1 − e^{−P_max/A}),
        and depression the same curve in its own (A, P_max), mirrored where its label is negative

    Labels +a/−a: both directions start fast and saturate (asymmetric); +a/+a: depression retraces
    the potentiation curve. A label maps to A by NL = 10.1015 · max[f(x) − x] (`nonlinearity`). As
    b is the same for every pulse, this is the affine law with a closed form.

    Args:
        states_up: pulses from g_min to g_max, >= 1.
        states_down: pulses from g_max to g_min, >= 1.
        nl_up: potentiation label in [−9, 9].
        nl_down: depression label in [−9, 9].
        sigma_c2c: cycle-to-cycle noise, additive, per pulse, relative to the window g_max − g_min.
        sigma_d2d: spread of both labels from cell to cell (absolute), added to the labels as they
            are: +2 and −2 become +2.5 and −1.5, an asymmetry.
        alike: whether a cell has one draw for both labels, as in DNN+NeuroSim V2.1, or one for
            each, as in MLP+NeuroSim V3.0 (False).

    NeuroSim adds σ√n once after n pulses given together; here each pulse's noise is damped by the
    pulses that follow it, as when they are given one by one.

    Raises:
        ValueError, TypeError: a field out of range.

    Source: Chen, Peng & Yu, IEEE TCAD 37, 3067 (2018), doi:10.1109/TCAD.2018.2789723; MLP
    NeuroSim V3.0 manual. The label mapping is our own fit, not NeuroSim's table.
    """

    block: ClassVar[int] = TOGETHER

    states_up: int = 64
    states_down: int = 64
    nl_up: float = 0.0
    nl_down: float = 0.0
    sigma_c2c: float = 0.0
    sigma_d2d: float = 0.0
    alike: bool = True

    def __post_init__(self) -> None:
        whole("states_up", self.states_up, 1)
        whole("states_down", self.states_down, 1)
        between("nl_up", self.nl_up, -9, 9)
        between("nl_down", self.nl_down, -9, 9)
        at_least("sigma_c2c", self.sigma_c2c, 0)
        at_least("sigma_d2d", self.sigma_d2d, 0)
        flag("alike", self.alike)

    def step(self, window: Window) -> float:
        """Mean step of a full sweep, the window over the mean of the two pulse numbers [S]."""
        return window.span * 2 / (self.states_up + self.states_down)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Affine:
        """Coefficients of every cell's two curves."""
        first = draw.to(torch.float64).factor(shape, self.sigma_d2d) - 1
        second = first
        if not self.alike:
            second = draw.to(torch.float64).factor(shape, self.sigma_d2d) - 1
        up = _pulse(self.nl_up + first, self.states_up, 1)
        return _leaf(window, up, _pulse(self.nl_down + second, self.states_down, -1), draw.dtype)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Affine,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Affine]:
        """Closed form of the affine law (see `devices.update.affine`)."""
        low, high = self.bounds(window, p)
        noise = self.sigma_c2c * window.span
        zero = held(window.g_min, g.dtype), held(window.g_max, g.dtype)
        jump = 2 * self.step(window) / window.span
        moved = affine_pulse(
            g, p, pulses, draw, low=low, high=high, sigma_add=noise, at=zero, jump=jump
        )
        return moved, p


def _leaf(window: Window, up: _Pulse, down: _Pulse, dtype: torch.dtype) -> Affine:
    """Both pulses, each about the end of the window that it starts from.

    The first step of a curve that starts slowly is the difference of two large numbers elsewhere.
    """
    first, last = up.first * window.span, down.first * -window.span
    return Affine.of(None, (first, up.b), (last, down.b), dtype=dtype)


class _Pulse(NamedTuple):
    """One direction's step first + b (x − x₀), x in [0, 1] and x₀ the end that it starts at."""

    first: Tensor
    b: Tensor


def _pulse(label: Tensor, states: int, direction: int) -> _Pulse:
    """One pulse's step along its curve.

    The curve through (0, 0) and (1, 1) is x(P) = B (1 − e^{−P/A}), B = 1/(1 − e^{−N/A}); one pulse
    takes x to B − (B − x) e^{−1/A}. Depression follows the same curve of 1 − x where its label is
    negative, and of A of the other sign where it is positive.
    """
    signed = label.clamp(-9, 9)
    big_a = curve_constant(signed) * states
    big_a = torch.where(signed * direction < 0, -big_a, big_a)
    b = torch.expm1(-1 / big_a)
    return _Pulse(b / torch.expm1(-states / big_a), b)
