"""Soft bounds counted from a reference device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from devices._check import at_least, finite
from devices.part import Window
from devices.update.affine import Affine
from devices.update.clip import Bound
from devices.update.nominal import Factor, Steps
from devices.update.stepped import AffineStep


@dataclass(frozen=True)
class SoftBoundsReference(AffineStep):
    """Soft bounds of a cell that is read against its own reference device.

        v = g + r,   s↑ = dg_min (1 + u/2) (v_max − v)/(v_max − g_mid),
                     s↓ = dg_min (1 − u/2) (v − v_min)/(g_mid − v_min)
        r = reference + σ_reference ΔG/2 N(0, 1) + (v_sp − g_mid if subtracted)
        v_sp − g_mid = (s↑ − s↓ at mid-window) / (s↑/(v_max − g_mid) + s↓/(g_mid − v_min))

    g is the conductance minus the reference, moved to mid-window: with the symmetry point v_sp
    subtracted, up and down steps are equal there (g_mid stands for weight zero) and the cell's
    bounds lie v_sp off centre, so that g reaches v_min − r … v_max − r (never below 0), beyond the
    nominal window on one side. Exact closed form for one direction.

    Args:
        dg_min: mean step at v = g_mid [S], > 0 and at most half the window.
        up_down: imbalance u of the two directions there, in [−2, 2].
        sigma_c2c, sigma_d2d, sigma_up_down, sigma_bounds, sigma_add: see `NominalStep`.
        sigma_log: lognormal spread of the step, of ln(step), on top of sigma_d2d; the median stays.
        reference: offset of the reference, relative to half the window.
        sigma_reference: spread of the reference from cell to cell, relative to half the window.
        subtract: whether each cell's symmetry point is subtracted.

    Raises:
        ValueError: a field out of range; at fabrication a step above half the window.

    Source: Rasch et al., Nat. Commun. 15:7133 (2024), doi:10.1038/s41467-024-51221-z; Gong et al.,
    IEDM 2022, doi:10.1109/IEDM45625.2022.10019569; as aihwkit's SoftBoundsReferenceDevice.
    """

    largest: ClassVar[float] = 0.5

    sigma_log: float = 0.0
    reference: float = 0.0
    sigma_reference: float = 0.0
    subtract: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("sigma_log", self.sigma_log, 0)
        finite("reference", self.reference)
        at_least("sigma_reference", self.sigma_reference, 0)
        if not isinstance(self.subtract, bool):
            raise TypeError(f"subtract must be True or False, got {self.subtract!r}")

    def step(self, window: Window) -> float:
        """Mean step at g = g_mid, where the reference puts weight zero [S]."""
        place = self.reference + (self.up_down / 2 if self.subtract else 0.0)  # of v, −1 … 1
        return self.dg_min * (1 - self.up_down / 2 * place)

    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Affine:
        up, down, low, high, _ = steps.whole
        middle, half = (window.g_min + window.g_max) / 2, window.span / 2
        above = up.new_tensor(half) if high is None else high - middle
        below = up.new_tensor(half) if low is None else middle - low
        if self.sigma_log:
            size = torch.exp(factor(self.sigma_log) - 1)
            up, down = up * size, down * size
        up = torch.minimum(up, 0.999 * above)  # a cell never jumps past the bound it saturates at
        down = torch.minimum(down, 0.999 * below)
        shift = factor(self.sigma_reference) - 1
        shift = (shift + self.reference) * half
        b_up, b_down = -up / above, -down / below
        if self.subtract:
            shift = shift - ((up - down) / (b_down + b_up)).nan_to_num(0.0, 0.0, 0.0)
        base = middle - shift
        return Affine.of(None, (None, b_up), (None, b_down), base - below, base + above)

    def bounds(self, window: Window, p: Affine) -> tuple[Tensor | float, Tensor | float]:
        """The cell's own bounds, none below 0 [S]."""
        low, high = super().bounds(window, p)
        return tuple(end.clamp(min=0) if isinstance(end, Tensor) else end for end in (low, high))  # type: ignore[return-value]

    def _at(self, window: Window, p: Affine) -> tuple[Bound, Bound]:
        low, high = super().bounds(window, p)
        return high, low
