"""Cells that are written to a finite number of levels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from devices._check import instance, whole
from devices.draw import Draw
from devices.part import Window, Write


@dataclass(frozen=True)
class FiniteLevels(Write):
    """Targets rounded to equal levels of the window, then written with the error of another part.

        k = round((n − 1) (target − g_min)/(g_max − g_min))
        g = write(g_min + k (g_max − g_min)/(n − 1))

    so that g_min and g_max are levels themselves; a cell of b bits has n = 2^b. Half-way targets go
    to the even level, as everywhere in torch. Gradients pass the rounding as if it were not there.

    Args:
        levels: number of levels n, >= 2.
        write: error of the write; None: exact.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262 (bits per
    cell); Lammie et al., Neurocomputing 485, 124 (2022), arXiv:2004.10971 (finite states).
    """

    levels: int = 16
    write: Write | None = None

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2)
        instance("write", self.write, Write)

    def program(self, window: Window, target: Tensor, draw: Draw) -> Tensor:
        """One programming of every cell [S], unclipped."""
        spacing = window.span / (self.levels - 1)
        level = ((target - window.g_min) / spacing).round().clamp(0, self.levels - 1)
        rounded = target + (window.g_min + level * spacing - target).detach()
        return rounded if self.write is None else self.write.program(window, rounded, draw)
