"""Writing through wires: the voltages that cells see while lines of an array are pulsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.wires.network import Network
from devices._check import between, positive


@dataclass(frozen=True)
class ParallelWrite:
    """What the IR drop of the write pulses does to an outer-product update, as an option.

    Switching is thermally activated: a cell that sees u instead of v takes a part of its step,

        step(u) = step(v) · exp((u − v)/v₀)

    u is the voltage across the cell while all lines of its tile are pulsed together at ±v/2, the
    largest drop an update can make, with the cells ohmic at their conductances of the moment.

    Args:
        v: voltage of a coincidence at which the update law was measured, > 0 [V].
        v0: voltage over which the switching rate grows e-fold, > 0 [V].

    Raises:
        ValueError: a number out of its range.

    Source: Menzel et al., Adv. Funct. Mater. 25, 6306 (2015), doi:10.1002/adfm.201500825
    (exponential voltage dependence of the switching kinetics).
    """

    v: float
    v0: float

    def __post_init__(self) -> None:
        positive("v", self.v, "V")
        positive("v0", self.v0, "V")

    def efficacy(self, network: Network) -> Tensor:
        """Part of its step that every cell takes, g's shape."""
        ones = torch.ones(2, dtype=network.g.dtype, device=network.g.device)
        x, y = ones[0].expand(network.rows), ones[1].expand(network.cols)
        seen = network.fields(x * (self.v / 2), y * (-self.v / 2)).cell_voltage
        return ((seen - self.v) / self.v0).exp().to(network.g.dtype)


class Disturb(NamedTuple):
    """What a parallel update does to every cell; voltages wordline minus bitline."""

    voltage: Tensor  # (..., rows, cols) [V] as the wires leave it
    nominal: Tensor  # (..., rows, cols) [V] without wires
    selected: Tensor  # (..., rows, cols) bool: row and column pulsed
    half_selected: Tensor  # (..., rows, cols) bool: row or column pulsed, not both


def disturb(
    network: Network, rows: Tensor, cols: Tensor, v: float, unselected: float = 0.0
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
