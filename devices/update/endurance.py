"""Cells that wear out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, positive
from devices.draw import Draw
from devices.part import Pulses, Window
from devices.update.around import Around


class Wear(NamedTuple):
    """The law's own leaf, the pulses each cell has had, and those it survives."""

    law: Any
    used: Tensor  # (..., rows, cols) float64
    limit: Tensor  # (..., rows, cols) float64


@dataclass(frozen=True)
class Endurance(Around):
    """Another update law whose cells stop responding after a number of pulses of their own.

        log10 n_fail ~ N(log10 pulses, σ),   pulses beyond n_fail leave the cell where it is

    Both polarities count alike. A call that crosses a cell's limit applies the part of its pulses
    that the cell survives.

    Args:
        law: how the living cell responds.
        pulses: median number of pulses a cell survives, > 0.
        sigma_log10: spread of log10 n_fail from cell to cell, >= 0.

    Raises:
        TypeError, ValueError: a field out of range or no update law.

    Source: Chen et al., IEEE Trans. Electron Devices 59, 3243 (2012), doi:10.1109/TED.2012.2218607
    (set/reset endurance of HfO2 RRAM, failure by loss of switching); lognormal cycles to failure.
    """

    pulses: float = 1e6
    sigma_log10: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("pulses", self.pulses)
        at_least("sigma_log10", self.sigma_log10, 0)

    def _inner(self, p: Wear) -> Any:
        return p.law

    def _outer(self, p: Wear, law: Any) -> Wear:
        return p._replace(law=law)

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Wear:
        """Cells of the law, with their own limits."""
        law = self.law.fabricate(window, shape, draw)
        drawn = draw.to(torch.float32).normal(shape).double()
        limit = 10 ** (math.log10(self.pulses) + self.sigma_log10 * drawn)
        return Wear(law, torch.zeros_like(limit), limit)

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Wear,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Wear]:
        """The law under the pulses that each cell survives."""
        asked = pulses.up.double() + pulses.down.double()
        alive = ((p.limit - p.used) / asked.clamp(min=1e-30)).clamp(0, 1)
        if self.whole or pulses.up_var is None:  # a broken cell has had a whole number of pulses
            up = torch.where(alive < 1, (pulses.up * alive).floor(), pulses.up)
            down = torch.where(alive < 1, (pulses.down * alive).floor(), pulses.down)
            given = pulses._replace(up=up.to(pulses.up.dtype), down=down.to(pulses.down.dtype))
        else:
            part = alive.to(pulses.up.dtype)
            assert pulses.down_var is not None
            given = Pulses(
                pulses.up * part,
                pulses.down * part,
                pulses.up_var * part,
                pulses.down_var * part,
                pulses.z,
            )
        moved, law = self.law.pulse(window, g, p.law, given, draw, at)
        return torch.where(alive > 0, moved, g), Wear(law, p.used + asked, p.limit)

    def drive(
        self,
        window: Window,
        g: Tensor,
        p: Wear,
        v: Tensor,
        dt: float,
        draw: Draw,
    ) -> tuple[Tensor, Wear]:
        """The law's dynamics where the cell lives; a waveform is not counted as pulses."""
        moved, worn = super().drive(window, g, p, v, dt, draw)
        return torch.where(p.used < p.limit, moved, g), worn
