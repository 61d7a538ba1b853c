"""Steps that are a power of the distance to the bound they move to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from devices._check import at_least
from devices.part import Window
from devices.update.curved import Curved, CurvedStep
from devices.update.flow import Step
from devices.update.nominal import Factor, Steps


@dataclass(frozen=True)
class PowStep(CurvedStep):
    """Steps proportional to a power of the distance from the bound they move to.

        s↑ = dg_min (1 + u/2) (2 (g_high − g)/(g_high − g_low))^γ↑,
        s↓ = dg_min (1 − u/2) (2 (g − g_low)/(g_high − g_low))^γ↓

    so dg_min is the step at mid-window whatever γ (the source's prefactor is 2^γ dg_min). γ = 0 is
    the constant step, γ = 1 soft bounds. One pulse is exact, many follow `devices.update.curved`;
    with γ < 1 the last pulse before a bound is cut short by it, and counts taken together end there
    within one step.

    Args:
        dg_min: mean step at mid-window [S], > 0.
        up_down: imbalance u of the two directions, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.
        gamma_up: exponent γ↑ >= 0.
        gamma_down: exponent γ↓ >= 0.
        sigma_gamma: spread of both exponents from cell to cell (absolute, clipped at 0).

    Raises:
        ValueError: a field out of range; at fabrication a step above the window.

    Source: Fusi & Abbott, Nat. Neurosci. 10, 485 (2007), doi:10.1038/nn1859; as the power response
    of Wu et al., arXiv:2502.06309 (2025), and as aihwkit's PowStepDevice, arXiv:2104.02184.
    """

    gamma_up: float = 1.0
    gamma_down: float = 1.0
    sigma_gamma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma_up", "gamma_down", "sigma_gamma"):
            at_least(name, getattr(self, name), 0)

    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Curved:
        gamma_up, gamma_down = (
            (factor(self.sigma_gamma) + (gamma - 1)).clamp(0)
            for gamma in (self.gamma_up, self.gamma_down)
        )
        return Curved(*steps.whole[:4], gamma_up, gamma_down)

    def _steps(self, window: Window, p: Curved) -> tuple[Step, Step]:
        low = window.g_min if p.low is None else p.low
        high = window.g_max if p.high is None else p.high
        assert p.gamma_up is not None and p.gamma_down is not None
        gamma_up, gamma_down = p.gamma_up, p.gamma_down
        half = (high - low) / 2

        def up(g: Tensor) -> Tensor:
            return p.up * ((high - g) / half).clamp(min=0) ** gamma_up

        def down(g: Tensor) -> Tensor:
            return -p.down * ((g - low) / half).clamp(min=0) ** gamma_down

        return up, down
