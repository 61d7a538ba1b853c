"""Write disturb: the voltages that cells see while selected lines of an array are pulsed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.wires.network import Network
from devices._check import between, positive


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
