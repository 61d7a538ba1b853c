"""Base of the laws whose many pulses follow the mean flow of a single-pulse map."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses, Window
from devices.update.flow import Noise, Step, flow_pulse
from devices.update.nominal import Factor, NominalStep, Steps


class Curved(NamedTuple):
    """Steps and bounds of every cell."""

    up: Tensor  # (..., rows, cols) or () [S]
    down: Tensor  # (..., rows, cols) or () [S]
    low: Tensor | None  # [S] None: the window
    high: Tensor | None
    gamma_up: Tensor | None = None  # shape of the curve where it differs from cell to cell
    gamma_down: Tensor | None = None


@dataclass(frozen=True)
class CurvedStep(NominalStep):
    """A law given by its two steps as functions of the conductance (`_steps`).

    One pulse is exact. Many follow `devices.update.flow`, within a tenth of a step where the step
    changes by less than a fifth from one pulse to the next.
    """

    def _coefficients(self, window: Window, steps: Steps, factor: Factor) -> Curved:
        return Curved(*steps.whole[:4])

    @abstractmethod
    def _steps(self, window: Window, p: Curved) -> tuple[Step, Step]:
        """The signed steps of one pulse [S] as functions of the conductance."""

    def _noise(self, window: Window) -> tuple[float, Noise | None]:
        """Noise of one pulse relative to its step, and what is independent of that [S]."""
        if not self.sigma_add:
            return self.sigma_c2c, None
        add = self.sigma_add * self.dg_min
        return self.sigma_c2c, lambda g, step: torch.full_like(step, add)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Curved,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Curved]:
        """Few pulses one by one, many by the mean flow (`devices.update.flow`)."""
        up, down = self._steps(window, p)
        low, high = self.bounds(window, p)
        cycle, noise = self._noise(window)
        moved = flow_pulse(
            up,
            down,
            g,
            pulses,
            draw,
            nominal=self.step(window),
            low=low,
            high=high,
            noise=noise,
            cycle=cycle,
        )
        return moved, p
