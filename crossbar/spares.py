"""Spare lines of a tile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from devices._check import at_least


@dataclass(frozen=True)
class Spares:
    """Spare rows and columns of every tile, and weights placed around faulty cells.

    Before weights are first written, a test finds the stuck cells of each tile. Its rows are then
    assigned to the logical ones so that the weights come out with the least squared error (with
    all that the mapping's `corrections` can mend), then its columns; lines left over stay unused.
    Inputs and outputs are routed digitally, and later writes find the lines as they are. With wires
    unused lines lie among the others and rest at 0 V, with cells at the bottom of the window or
    stuck, which do not age; a `HardwareAware` model, which has no cells yet, rehearses them as the
    last ones of each tile.

    Args:
        rows: spare rows of a tile over used ones, >= 0; 0 only permutes; None: they stay in order.
        columns: the same of columns.

    Raises:
        ValueError: a negative share, or both None.

    Source: the assignment problem (Hungarian method), `scipy.optimize.linear_sum_assignment`.
    """

    rows: float | None = 0.1
    columns: float | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 0)
        if self.rows is None and self.columns is None:
            raise ValueError("rows and columns are both None: leave spares=None")


def physical(used: int, share: float | None) -> int:
    """Lines of a tile that uses so many, spares included."""
    return used + math.ceil(used * (share or 0) - 1e-9)
