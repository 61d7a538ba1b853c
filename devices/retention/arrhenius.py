"""Retention that runs faster when it is hot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import instance, positive
from devices.draw import Draw
from devices.part import Retention, Window

BOLTZMANN = 8.617333262e-5
"""Boltzmann's constant [eV/K], CODATA 2018."""


class Heated(NamedTuple):
    """The retention's own leaf, and each cell's age on its clock."""

    retention: Any
    age: Tensor  # () or (..., rows, cols) float64 [s] at the reference temperature


@dataclass(frozen=True)
class Arrhenius(Retention):
    """Another retention whose time runs at the rate of a thermally activated process.

        dt_ref = dt exp(E_a/k (1/T_ref − 1/T))

    the equivalent time at the reference temperature, at which the inner constants hold. A cell's
    age counts equivalent seconds too, so that a bake ages it. Valid while one activated process
    dominates; the activation energy belongs to the material and is not given a default.

    Args:
        retention: what happens at the reference temperature.
        e_a: activation energy [eV], > 0.
        t_ref: reference temperature [K], > 0.

    Raises:
        TypeError, ValueError: a field out of range or no retention part.

    Source: Arrhenius' law as used to extrapolate retention bakes, JEDEC JESD22-A117; Ielmini &
    Waser (eds.), Resistive Switching, Wiley (2016), doi:10.1002/9783527680870.
    """

    retention: Retention
    e_a: float
    t_ref: float = 300.0

    def __post_init__(self) -> None:
        instance("retention", self.retention, Retention, optional=False)
        positive("e_a", self.e_a, "eV")
        positive("t_ref", self.t_ref, "K")

    def acceleration(self, temperature: float) -> float:
        """Equivalent seconds at t_ref that pass in one second at `temperature` [K]."""
        return math.exp(self.e_a / BOLTZMANN * (1 / self.t_ref - 1 / temperature))

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Heated:
        """Cells of the inner retention, of age zero."""
        inner = self.retention.fabricate(window, shape, draw)
        cells = shape if self.retention.ages else ()
        return Heated(inner, torch.zeros(cells, dtype=torch.float64, device=draw.device))

    def written(
        self,
        window: Window,
        g: Tensor,
        p: Heated,
        mask: Tensor,
        draw: Draw,
    ) -> Heated:
        """A rewritten cell is young again."""
        inner = self.retention.written(window, g, p.retention, mask, draw)
        return Heated(inner, torch.where(mask, 0.0, p.age) if p.age.dim() else p.age)

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Heated,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Heated]:
        """The inner retention over the equivalent time."""
        dt = dt * self.acceleration(temperature)
        g, inner = self.retention.advance(
            window, g, p.retention, p.age, dt, draw, temperature=self.t_ref
        )
        return g, Heated(inner, p.age + dt)
