"""Laws whose nominal step, asymmetry and spreads are given directly: constant, soft, linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from devices._check import at_least, between
from devices.draw import Draw
from devices.part import Pulses, Window
from devices.update.affine import Affine, affine_pulse
from devices.update.clip import Bound
from devices.update.fused import TOGETHER
from devices.update.nominal import Factor, NominalStep, Steps


@dataclass(frozen=True)
class AffineStep(NominalStep):
    """A law with a nominal step; many pulses have the closed form of `devices.update.closed`."""

    block: ClassVar[int] = TOGETHER
    fixed: ClassVar[bool] = True

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
        moved = affine_pulse(
            g,
            p,
            pulses,
            draw,
            low=low,
            high=high,
            sigma_c2c=self.sigma_c2c,
            sigma_add=self.sigma_add * self.dg_min,
            at=self._at(window, p),
            jump=2 * self.dg_min / window.span,
        )
        return moved, p

    def _at(self, window: Window, p: Affine) -> tuple[Bound, Bound]:
        """Conductances from which the steps of the leaf are counted [S]."""
        return 0.0, 0.0


@dataclass(frozen=True)
class ConstantStep(AffineStep):
    """Every pulse moves the cell by the same amount, up to its bounds.

        s↑ = dg_min (1 + u/2),   s↓ = dg_min (1 − u/2),   u = up_down

    Closed form exact for pulses of one direction. At a hard bound pulses taken together clip once
    where single pulses clip one by one: a cell at its bound is off by at most the depression it
    was given in that call, and by about half a step where counts are random. Steps above some
    7 % of the window (12 % where counts are exact) are therefore given one by one.

    Args:
        dg_min: mean step [S], > 0 and at most the window.
        up_down: imbalance u of the two directions, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.

    Raises:
        ValueError: a field out of range; at fabrication a step above the window.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016), doi:10.3389/fnins.2016.00333.
    """

    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Affine:
        up, down, low, high, size = steps
        return Affine.of(size, (up, None), (-down, None), low, high)


@dataclass(frozen=True)
class LinearStep(AffineStep):
    """Steps that shrink linearly towards the bound they move to.

        s↑ = dg_min (1 + u/2) (1 − γ↑ x),   s↓ = dg_min (1 − u/2) (1 + γ↓ x)
        x = (g − g_mid) / (half the window on that side), −1 … 1

    γ = 0 is the constant step, γ = 1 soft bounds. Exact closed form for one direction.

    Args:
        dg_min: mean step at mid-window [S], > 0 and at most the window.
        up_down: imbalance u of the two directions at mid-window, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.
        gamma_up: slope γ↑ in [0, 1].
        gamma_down: slope γ↓ in [0, 1].
        sigma_gamma: spread of both slopes from cell to cell (absolute, clipped to [0, 1]).

    Raises:
        ValueError: a field out of range; at fabrication a step above the window.

    Source: Rasch et al., "A flexible and fast PyTorch toolkit for simulating training and
    inference on analog crossbar arrays", AICAS 2021, arXiv:2104.02184 (LinearStepDevice).
    """

    largest: ClassVar[float] = 0.5

    gamma_up: float = 0.0
    gamma_down: float = 0.0
    sigma_gamma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("gamma_up", self.gamma_up, 0, 1)
        between("gamma_down", self.gamma_down, 0, 1)
        at_least("sigma_gamma", self.sigma_gamma, 0)

    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Affine:
        gamma_up, gamma_down = (
            (factor(self.sigma_gamma) + (gamma - 1)).clamp_(0, 1)
            for gamma in (self.gamma_up, self.gamma_down)
        )
        up, down, low, high, size = short(window, steps, gamma_up, gamma_down)
        above, below = ways(window, steps)
        b_up, b_down = up * (gamma_up / -above), down * (gamma_down / -below)
        return Affine.of(size, (up, b_up), (-down, b_down), low, high)

    def _at(self, window: Window, p: Affine) -> tuple[Bound, Bound]:
        middle = (window.g_min + window.g_max) / 2
        return middle, middle


@dataclass(frozen=True)
class SoftBounds(AffineStep):
    """Steps proportional to the distance from the bound they move to.

        s↑ = dg_min (1 + u/2) (g_max − g)/(g_max − g_mid),
        s↓ = dg_min (1 − u/2) (g − g_min)/(g_mid − g_min)

    so dg_min is the step at mid-window and N = (g_max − g_min)/dg_min the number of states.
    Exact closed form for one direction.

    Args:
        dg_min: mean step at mid-window [S], > 0 and at most the window.
        up_down: imbalance u of the two directions at mid-window, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.

    Raises:
        ValueError: a field out of range; at fabrication a step above the window.

    Source: Fusi & Abbott, Nat. Neurosci. 10, 485 (2007), doi:10.1038/nn1859; Rasch et al.,
    Nat. Commun. 15:7133 (2024), doi:10.1038/s41467-024-51221-z.
    """

    largest: ClassVar[float] = 0.5

    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Affine:
        steps = steps if steps.low is None else steps.whole
        one = steps.up.new_ones(())
        up, down, low, high, size = short(window, steps, one, one)
        above, below = ways(window, steps)
        return Affine.of(size, (None, -up / above), (None, -down / below), low, high)

    def _at(self, window: Window, p: Affine) -> tuple[Bound, Bound]:
        low, high = self.bounds(window, p)
        return high, low


def ways(window: Window, steps: Steps) -> tuple[Bound, Bound]:
    """From mid-window to the bounds above and below [S]."""
    middle = (window.g_min + window.g_max) / 2
    above = window.g_max - middle if steps.high is None else steps.high - middle
    below = middle - window.g_min if steps.low is None else middle - steps.low
    return above, below


def short(window: Window, steps: Steps, gamma_up: Tensor, gamma_down: Tensor) -> Steps:
    """Steps that stay just short of the way to their bound, of step · (1 ∓ γ (g − g_mid)/way).

    A cell whose spread makes its step longer never jumps past the bound it saturates at.
    """
    above, below = ways(window, steps)
    if steps.size is None:
        up = torch.minimum(steps.up, above * (0.999 / gamma_up))
        down = torch.minimum(steps.down, below * (0.999 / gamma_down))
        return steps._replace(up=up, down=down)
    part = torch.maximum(steps.up * gamma_up / above, steps.down * gamma_down / below)
    return steps._replace(size=torch.minimum(steps.size, 0.999 / part))
