"""Charge loss of SONOS cells over the first days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import positive
from devices.draw import Draw
from devices.part import Retention, Window

DAY = 86400.0
I_MAX = 1400.0
"""Current above which a cell moves as it does there [nA]: the polynomials run away beyond."""

SHIFT = (  # c₀ … c₁₀ of the mean shift [nA] in powers of the programmed current [nA], each day
    (0.0,) * 11,
    (
        *(6.83650e-01, 6.51250e-03, -4.03163e-04, 3.37944e-06, -1.87435e-08, 5.88902e-11),
        *(-1.07685e-13, 1.17751e-16, -7.60016e-20, 2.67255e-23, -3.94954e-27),
    ),
    (
        *(6.60925e-01, 8.60627e-03, -1.72936e-04, 7.44096e-07, -5.94866e-09, 2.36734e-11),
        *(-4.83740e-14, 5.56072e-17, -3.65397e-20, 1.28405e-23, -1.87450e-27),
    ),
    (
        *(1.15821e00, 1.96116e-02, -4.70807e-04, 3.67510e-06, -2.08786e-08, 6.59752e-11),
        *(-1.19499e-13, 1.28435e-16, -8.11574e-20, 2.78802e-23, -4.02057e-27),
    ),
    (
        *(8.72216e-01, 1.70926e-02, -2.23370e-04, 1.57526e-06, -1.32779e-08, 5.08256e-11),
        *(-1.01251e-13, 1.14633e-16, -7.46124e-20, 2.60559e-23, -3.78724e-27),
    ),
    (
        *(1.15294e00, 1.03149e-02, -6.05199e-05, 1.76086e-08, -6.46690e-09, 3.39044e-11),
        *(-7.53872e-14, 8.98185e-17, -6.00346e-20, 2.12615e-23, -3.11099e-27),
    ),
)
AMPLITUDE = (19.88665, 25.59102, 28.72753, 31.04318, 33.76214, 34.57909)
SCALE = (176.3115, 186.85544, 193.56834, 198.90332, 204.77023, 207.34309)
"""A and B [nA] of the spread A (1 − e^{−I/B}), each day."""


class Programmed(NamedTuple):
    """What every cell was programmed to, and where its loss carries it, in standard deviations."""

    g: Tensor  # (..., rows, cols) [S]
    z: Tensor  # (..., rows, cols)


@dataclass(frozen=True)
class SONOSRetention(Retention):
    """Mean shift and broadening of SONOS currents, measured each day for five days.

        I(t) = I(0) + D(I(0), t) + z √(σ(I(0), t)² − σ(I(0), 0)²),   I = g v_read,   z ~ N(0, 1)
        D = Σ c_k(t) I^k, k = 0 … 10,   σ = A(t) (1 − e^{−I/B(t)})

    with c, A and B of t = 0, 1 … 5 days; between them D and the added deviation are linear in the
    time, beyond five days the cell stands still. The spread at t = 0 is `SONOSWrite`'s. Only the
    distribution over cells is published: that a cell keeps its z until it is written again is an
    assumption, under which periods compose exactly. I(0) is the current after the write. Above
    1400 nA a cell moves as one of 1400 nA: between there and 1600 nA the polynomials fall by up to
    200 nA, each day's in another way, which cannot be the cells.

    Args:
        v_read: voltage at which the published currents count as conductances [V], > 0.

    Raises:
        TypeError, ValueError: v_read not positive.

    Source: Agrawal et al., IEDM 2022, IEEE Xplore 10019564 (128,000 cells of 40 nm); fits as in
    CrossSim 3's SONOS device, doi:10.2172/1869509.
    """

    v_read: float = 0.1

    ages = True

    def __post_init__(self) -> None:
        positive("v_read", self.v_read, "V")

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Programmed:
        """Cells fresh at g_min."""
        g = torch.full(shape, window.g_min, dtype=draw.dtype, device=draw.device)
        return Programmed(g, draw.normal(shape))

    def written(
        self, window: Window, g: Tensor, p: Programmed, mask: Tensor, draw: Draw
    ) -> Programmed:
        """What a rewritten cell now holds, and a new direction."""
        z = draw.normal(g.shape)
        return Programmed(torch.where(mask, g, p.g), torch.where(mask, z, p.z))

    def _nodes(self, g: Tensor, z: Tensor) -> list[Tensor]:
        """Change of every cell since it was programmed, at each day [S]."""
        current = (g * (self.v_read * 1e9)).double().clamp(0, I_MAX)
        first = AMPLITUDE[0] * -torch.expm1(-current / SCALE[0])
        nodes = []
        for c, a, b in zip(SHIFT, AMPLITUDE, SCALE, strict=True):
            mean = torch.zeros_like(current)
            for coefficient in reversed(c):
                mean = mean * current + coefficient
            spread = a * -torch.expm1(-current / b)
            wider = (spread.square() - first.square()).clamp(min=0).sqrt()
            nodes.append((mean + z.double() * wider) * (1e-9 / self.v_read))
        return nodes

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Programmed,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Programmed]:
        """Loss of dt at the temperature of the published data."""
        if dt == 0:
            return g, p
        change = torch.zeros_like(g, dtype=torch.float64)
        nodes = self._nodes(p.g, p.z)
        for k in range(len(nodes) - 1):
            share = ((age + dt) / DAY - k).clamp(0, 1) - (age / DAY - k).clamp(0, 1)
            change = change + share * (nodes[k + 1] - nodes[k])
        return (g + change.to(g.dtype)).clamp(min=0), p
