"""Reads that move the cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from devices._check import at_least, between
from devices.draw import Draw
from devices.part import Retention, Window


@dataclass(frozen=True)
class ReadDisturb(Retention):
    """Cells that are read at a steady rate, each read moving them a little towards one end.

        g ← g + s (g_end − g) per read,   g(dt) = g_end + (g − g_end) (1 − s)^{r dt}

    A state does not know how often it was read, so the reads are counted by the clock: r per second
    of `advance`. For one disturbance by a voltage on a cell with voltage dynamics use `drive` at
    the read voltage. Periods compose exactly.

    Args:
        share: part s of the way to the end that one read goes, in [0, 1).
        rate: reads r per second, >= 0.
        end: where the read voltage pushes, 0 (g_min) to 1 (g_max).

    Raises:
        TypeError, ValueError: a field out of range.

    Source: exponential saturation as in Leak; the default share is an example, not a measurement.
    """

    share: float = 1e-9
    rate: float = 1e6
    end: float = 1.0

    def __post_init__(self) -> None:
        between("share", self.share, 0, 1 - 1e-12)
        at_least("rate", self.rate, 0, "1/s")
        between("end", self.end, 0, 1)

    def advance(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        age: Tensor,
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Any]:
        """The reads of dt."""
        end = window.g_min + self.end * window.span
        moved = -math.expm1(self.rate * dt * math.log1p(-self.share))
        return g + (end - g) * moved, p
