"""Steps that depend exponentially on the conductance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from devices._check import at_least, finite
from devices.part import Window
from devices.update.curved import Curved, CurvedStep
from devices.update.flow import Noise, Step


@dataclass(frozen=True)
class ExpStep(CurvedStep):
    """Steps exponential in the conductance, aihwkit's ExpStep.

        s↑ = dg_min (1 + u/2) max(0, 1 − A↑ e^{+γ↑ z}),
        s↓ = dg_min (1 − u/2) max(0, 1 − A↓ e^{−γ↓ z}),
        z = a x + b,   x = 2 (g − g_mid)/(g_high − g_low) in −1 … 1

    with the cell's own bounds in the scale of x. A > 0 saturates, A < 0 makes the far steps larger.
    Valid inside the bounds. One pulse is exact, many follow `devices.update.curved`.

    Args:
        dg_min: mean prefactor of the steps [S], > 0; `step` gives the mean step at mid-window.
        up_down: imbalance u of the prefactors, in [−2, 2].
        sigma_c2c, sigma_d2d (of the prefactor), sigma_up_down, sigma_bounds: see `NominalStep`.
        sigma_add: noise of each pulse in units of dg_min.
        sigma_state: noise of each pulse relative to g − g_min. The three standard deviations add.
        A_up: amplitude A↑ of the potentiation exponential.
        A_down: amplitude A↓ of the depression exponential.
        gamma_up: rate γ↑ >= 0.
        gamma_down: rate γ↓ >= 0.
        a: slope of z.
        b: offset of z.

    Raises:
        ValueError: a field out of range, or no step at mid-window; at fabrication a prefactor
            above the window.

    Source: Rasch et al., AICAS 2021, arXiv:2104.02184 (ExpStepDevice; the default constants are its
    own); noise terms as its complex noise.
    """

    sigma_state: float = 0.0
    A_up: float = 0.00081
    A_down: float = 0.36833
    gamma_up: float = 12.44625
    gamma_down: float = 12.78785
    a: float = 0.244
    b: float = 0.2425

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("sigma_state", self.sigma_state, 0)
        at_least("gamma_up", self.gamma_up, 0)
        at_least("gamma_down", self.gamma_down, 0)
        for name in ("A_up", "A_down", "a", "b"):
            finite(name, getattr(self, name))
        if self._mid_step() <= 0:
            raise ValueError(
                f"A_up={self.A_up!r} and A_down={self.A_down!r} leave no step at mid-window"
            )

    def _mid_step(self) -> float:
        up = max(0.0, 1 - self.A_up * math.exp(self.gamma_up * self.b)) * (1 + self.up_down / 2)
        down = max(0.0, 1 - self.A_down * math.exp(-self.gamma_down * self.b))
        return self.dg_min * (up + down * (1 - self.up_down / 2)) / 2

    def step(self, window: Window) -> float:
        """Mean of the up and down step at mid-window [S]."""
        return self._mid_step()

    def _steps(self, window: Window, p: Curved) -> tuple[Step, Step]:
        low = window.g_min if p.low is None else p.low
        high = window.g_max if p.high is None else p.high
        middle = (window.g_min + window.g_max) / 2
        scale = 2 * self.a / (high - low)

        def left(g: Tensor, rate: float, size: float) -> Tensor:
            z = (g - middle) * (scale * rate)
            return z.add_(self.b * rate).exp_().mul_(-size).add_(1).clamp_(min=0)

        def up(g: Tensor) -> Tensor:
            return p.up * left(g, self.gamma_up, self.A_up)

        def down(g: Tensor) -> Tensor:
            return -p.down * left(g, -self.gamma_down, self.A_down)

        return up, down

    def _noise(self, window: Window) -> tuple[float, Noise | None]:
        if not (self.sigma_add or self.sigma_state):
            return self.sigma_c2c, None

        def sum_of_all(g: Tensor, step: Tensor) -> Tensor:
            std = step.abs().mul_(self.sigma_c2c).add_(self.sigma_add * self.dg_min)
            return std.add_((g - window.g_min).clamp_(min=0), alpha=self.sigma_state)

        return 0.0, sum_of_all
