"""Writing through wires: the voltages that cells see while lines of an array are pulsed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.wires.network import Solvable
from devices import Pulses
from devices._check import between, flag, positive
from devices.part import Update


class Fired(NamedTuple):
    """How often the lines of an array fired, in its phases of potentiation and of depression.

    A row at +v/2 and a column at −v/2 potentiate, the other way round they depress. Lines have one
    voltage at a time, so signed inputs and errors take a phase for every pair of signs (x, δ): only
    the rows and columns of these signs fire in it, up where x δ < 0, down where x δ > 0. A row
    therefore fires both in an up and in a down phase; phases without a row or a column to fire
    are not played.
    """

    rows: Pulses  # (..., rows, 1)
    cols: Pulses  # (..., 1, cols)
    slots: Pulses  # (..., 1, 1) of the phases that are played, whether or not a line fires


class Efficacy(NamedTuple):
    """Part of a whole pulse that reaches each device, (up, down) (K, ..., rows, cols).

    Each may be 0-dim where all cells are alike.
    """

    selected: tuple[Tensor, Tensor]
    row: tuple[Tensor, Tensor] | None = None  # where the row alone is pulsed
    col: tuple[Tensor, Tensor] | None = None  # where the column alone is

    def of(self, k: int) -> Efficacy:
        """That of device k."""

        def cut(parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            up, down = (t[k] if t.dim() else t for t in parts)
            return up, down

        return Efficacy(*(None if part is None else cut(part) for part in self))  # type: ignore[arg-type]

    def on(self, pulses: Pulses, rows: Pulses | None, cols: Pulses | None) -> Pulses:
        """What coincidences and lines that fire alone do to one device, in whole pulses.

        Of the R pulses of its row, D of its column and C coincidences, a cell sees R − C with the
        row alone and D − C with the column alone. C carries its fluctuation; R and D stand by
        their means where C does: with phases of both signs theirs moves a cell back and forth.
        """
        if self.row is None or self.col is None or rows is None or cols is None:
            return pulses.weakened(*self.selected)
        up, down = (s - r - c for s, r, c in zip(self.selected, self.row, self.col, strict=True))
        own = pulses.weakened(up, down)
        return own._replace(
            up=own.up + self.row[0] * rows.up + self.col[0] * cols.up,
            down=own.down + self.row[1] * rows.down + self.col[1] * cols.down,
        )


@dataclass(frozen=True)
class ParallelWrite:
    """What a pulse does at other voltages than its own in an outer-product update, as an option.

    Ions hop over barriers that the field tilts; a cell that sees u instead of v makes a part of
    the hops, and with them of its step and of the variance of its step,

        step(u) = step(v) · sinh(u/v₀) / sinh(v/v₀)   (exp((u − v)/v₀) above a few v₀)

    - Selected cells: u is what the wires leave while all lines of the tile are pulsed together at
      ±v/2, the largest drop an update can make, with the cells ohmic at their conductances of the
      moment; without wires u = v.
    - Half-selected cells, if asked for: a row or column that fires alone puts v/2 on its cells,
      less what the wires take while all rows, or all columns, are pulsed. Every pulse of a line
      that is no coincidence counts, in all phases of the update (`Fired`), so cells move that are
      given no pulse at all. Each device of a pair is in an array of its own. A disturbed cell does
      not start a new life: its age stays.

    Args:
        v: voltage of a coincidence at which the update law was measured, > 0 [V].
        v0: voltage over which the switching rate grows e-fold, > 0 [V]; None: the cell's own law,
            of cells that have voltage dynamics (`VTEAM`, `VolatileStep`).
        half_select: whether half-selected cells are disturbed.

    Raises:
        ValueError: a number out of its range.
        TypeError: half_select not a bool.

    Source: Strukov & Williams, Appl. Phys. A 94, 515 (2009), doi:10.1007/s00339-008-4975-3 (sinh
    law of ionic drift); Menzel et al., Adv. Funct. Mater. 25, 6306 (2015),
    doi:10.1002/adfm.201500825 (switching kinetics); Gokmen & Vlasov, Front. Neurosci. 10:333
    (2016), doi:10.3389/fnins.2016.00333 (coincident pulses of ±v/2).
    """

    v: float
    v0: float | None = None
    half_select: bool = False

    def __post_init__(self) -> None:
        positive("v", self.v, "V")
        if self.v0 is not None:
            positive("v0", self.v0, "V")
        flag("half_select", self.half_select)

    def efficacy(self, shares: Tensor, update: Update, p: Any) -> Efficacy:
        """Parts of a whole pulse, from voltages of rows alone and columns alone relative to v.

        Args:
            shares: (2,) or (2, K, ..., rows, cols), as `write_shares` gives them.
            update: the cells' law and
            p: its leaf, for `v0=None`.
        """
        row, col = shares.clamp(min=0)
        if not self.half_select:
            return Efficacy(self._part(row + col, update, p))
        return Efficacy(*(self._part(share, update, p) for share in (row + col, row, col)))

    def _part(self, share: Tensor, update: Update, p: Any) -> tuple[Tensor, Tensor]:
        if self.v0 is None:
            return update.partial(p, share)
        whole = self.v / self.v0
        u = share * whole
        # sinh(u)/sinh(whole) without the overflow of either
        part = (u - whole).exp() * torch.expm1(-2 * u) / math.expm1(-2 * whole)
        return part, part


def write_shares(network: Solvable) -> Tensor:
    """Cell voltages per volt of a write pulse: all rows at +1/2, then all columns at −1/2.

    (2, ..., rows, cols); their sum is the voltage while both are pulsed.
    """
    half = torch.full((2, 1), 0.5, dtype=network.g.dtype, device=network.g.device)
    half[1] = 0
    x, y = half.expand(2, network.rows), (half.flip(0) * -1).expand(2, network.cols)
    return network.fields(x, y).cell_voltage.movedim(-3, 0).to(network.g.dtype)


class Disturb(NamedTuple):
    """What a parallel update does to every cell; voltages wordline minus bitline."""

    voltage: Tensor  # (..., rows, cols) [V] as the wires leave it
    nominal: Tensor  # (..., rows, cols) [V] without wires
    selected: Tensor  # (..., rows, cols) bool: row and column pulsed
    half_selected: Tensor  # (..., rows, cols) bool: row or column pulsed, not both


def disturb(
    network: Solvable, rows: Tensor, cols: Tensor, v: float, unselected: float = 0.0
) -> Disturb:
    """Cell voltages during one pulse of an outer-product update.

    A selected row is driven at +v/2 and a selected column at −v/2: coincident cells see v, half
    selected ones v/2. `unselected` = 0 holds the other lines at ground (the v/2 scheme); 1/3
    holds unselected rows at −v/6 and columns at +v/6, so that no other cell sees more than v/3
    in size (the v/3 scheme, with half voltages about mid-supply).

    Args:
        network: the array; a nonlinear I-V is what keeps half-selected currents small.
        rows: which rows are pulsed (..., rows), boolean or signed: −1 pulses the other way.
        cols: which columns are pulsed (..., cols), likewise.
        v: voltage across a selected cell, > 0 [V].
        unselected: bias of unselected lines as a part of v, 0 to 1/3.

    Raises:
        ValueError: a number out of its range, or masks that do not fit the array.

    Source: Y.-C. Chen et al., IEDM 2003, doi:10.1109/IEDM.2003.1269425 (v/2 and v/3 schemes).
    """
    positive("v", v, "V")
    between("unselected", unselected, 0.0, 1 / 3)
    row, col = rows.to(network.g.dtype), cols.to(network.g.dtype)
    rest = unselected / 2
    x = v * torch.where(row != 0, row / 2, -rest)
    y = v * torch.where(col != 0, -col / 2, rest)
    found = network.fields(x, y)
    on_row, on_col = (row != 0)[..., :, None], (col != 0)[..., None, :]
    nominal = (x[..., :, None] - y[..., None, :]).expand(found.cell_voltage.shape)
    return Disturb(
        found.cell_voltage.to(network.g.dtype),
        nominal,
        (on_row & on_col).expand(nominal.shape),
        (on_row ^ on_col).expand(nominal.shape),
    )
