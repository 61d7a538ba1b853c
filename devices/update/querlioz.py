"""Exponential multiplicative steps of spike-timing-dependent plasticity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devices._check import at_least
from devices.part import Window
from devices.update.curved import Curved, CurvedStep
from devices.update.flow import Step


@dataclass(frozen=True)
class QuerliozStep(CurvedStep):
    """Steps that fall exponentially towards the bound they move to.

        s↑ = dg_min (1 + u/2) e^{−β↑ (g − g_low)/(g_high − g_low)},
        s↓ = dg_min (1 − u/2) e^{−β↓ (g_high − g)/(g_high − g_low)}

    The source's α₊ = dg_min (1 + u/2) and α₋ = dg_min (1 − u/2); its default α₊ = 0.01, α₋ = 0.005
    of the window and β = 3 are dg_min = 0.0075 ΔG, up_down = 2/3. One pulse is exact, many follow
    `devices.update.curved`; the step does not vanish at the bound, which cuts it.

    Args:
        dg_min: mean largest step [S], > 0; `step` gives the mean step at mid-window.
        up_down: imbalance u of the two directions, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.
        beta_up: decay β↑ >= 0 of the potentiation step.
        beta_down: decay β↓ >= 0 of the depression step.

    Raises:
        ValueError: a field out of range; at fabrication a step above the window.

    Source: Querlioz et al., IEEE Trans. Nanotechnol. 12, 288 (2013),
    doi:10.1109/TNANO.2013.2250995.
    """

    beta_up: float = 3.0
    beta_down: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("beta_up", self.beta_up, 0)
        at_least("beta_down", self.beta_down, 0)

    def step(self, window: Window) -> float:
        """Mean step at mid-window [S]."""
        u = self.up_down / 2
        up, down = (1 + u) * math.exp(-self.beta_up / 2), (1 - u) * math.exp(-self.beta_down / 2)
        return self.dg_min * (up + down) / 2

    def _steps(self, window: Window, p: Curved) -> tuple[Step, Step]:
        low = window.g_min if p.low is None else p.low
        high = window.g_max if p.high is None else p.high
        span = high - low

        def up(g: Tensor) -> Tensor:
            return p.up * torch.exp(-self.beta_up / span * (g - low))

        def down(g: Tensor) -> Tensor:
            return -p.down * torch.exp(-self.beta_down / span * (high - g))

        return up, down
