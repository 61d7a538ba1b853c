"""Conductance relaxation in the logarithm of time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, finite, positive
from devices.draw import Draw
from devices.part import Retention, Window


class Direction(NamedTuple):
    """Where each cell's relaxation carries it, in standard deviations."""

    z: Tensor  # (..., rows, cols)


@dataclass(frozen=True)
class LogRelaxation(Retention):
    """State-independent shift and broadening with the logarithm of the time since writing.

        g(t) = g(0) + m ln(1 + t/t0) + z [s₀ (1 − e^{−t/t0}) + s ln(1 + t/t0)],   z ~ N(0, 1)

    one z per cell, drawn anew at every write, so that periods compose exactly. For t ≫ t0 this is
    the source's mean shift m ln t and standard deviation s ln t + s₀ (t in units of t0); that a
    cell keeps its z, and the rise of s₀ within t0, are assumptions, as only the distribution over
    cells is published. The defaults are the source's, with t0 = 1 s.

    Args:
        mean: m [S], negative where conductance is lost.
        std: s [S], >= 0.
        std_first: s₀ [S], >= 0.
        t0: unit of time [s], > 0.

    Raises:
        ValueError: a field out of range.

    Source: Falcone et al., arXiv:2502.04524 (2025) (CMO/HfOx, 8 … 90 µS, 1 s to 10 years);
    constants as in aihwkit's ReRamCMONoiseModel.
    """

    mean: float = -0.089002e-6
    std: float = 0.0420114e-6
    std_first: float = 0.4118334e-6
    t0: float = 1.0

    ages = True

    def __post_init__(self) -> None:
        finite("mean", self.mean)
        at_least("std", self.std, 0, "S")
        at_least("std_first", self.std_first, 0, "S")
        positive("t0", self.t0, "s")

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Direction:
        """Draw the direction of every cell."""
        z = draw.to(torch.float32).normal(shape)
        return Direction(z.to(draw.dtype))

    def written(
        self,
        window: Window,
        g: Tensor,
        p: Direction,
        mask: Tensor,
        draw: Draw,
    ) -> Direction:
        """A new direction for every cell that was written."""
        z = draw.normal(g.shape)
        return Direction(torch.where(mask, z, p.z))

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Direction,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Direction]:
        """Relax by dt at the temperature of the published data (room temperature)."""
        logs = torch.log1p(dt / (age + self.t0))
        first = torch.exp(-age / self.t0) * -math.expm1(-dt / self.t0)
        spread = (self.std_first * first + self.std * logs).to(g.dtype)
        return (g + self.mean * logs.to(g.dtype) + p.z * spread).clamp(min=0), p
