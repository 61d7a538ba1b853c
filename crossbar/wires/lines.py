"""One family of parallel lines: a ladder of wire segments that cells draw current from.

Everything below the public interface sees the circuit in one canonical orientation. Both families
of lines are written alike: node 0 lies next to the near terminal (the driver of a wordline, the
sense amplifier of a bitline), and the voltages of bitlines change sign, so that with

    u = v_row + v_col                          cell voltage [V]
    v_k = v_near − Σ_{l<=k} r_l I_l            node k of a line
    I_l = Σ_{k>=l} i_k + i_far                 segment l carries all current drawn beyond it

a bitline is a wordline seen from the side and the circuit of an array is u = u₀ − R i(u), with R
symmetric and positive semidefinite and no division by a resistance anywhere: zero is not special.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from crossbar.wires.settings import Resistance, Wires


class Lines(NamedTuple):
    """Segment resistances of a family of equal lines."""

    r: Tensor  # (nodes,) [ohm] segment on the near side of each node
    far: Tensor | None  # () [ohm] from the last node to a second terminal; None: open end

    @property
    def total(self) -> Tensor:
        """Resistance between the two terminals; inf where the far end is open [ohm]."""
        if self.far is None:
            return torch.full_like(self.r[0], torch.inf)
        return self.r.sum() + self.far

    def share(self) -> Tensor:
        """Fraction of the line's resistance that lies before each node, from the near end."""
        return self.r.cumsum(0) / self.total

    def far_current(self, i: Tensor) -> Tensor:
        """Current that leaves at the far end when cells draw i (..., nodes) [A]."""
        return -(i * self.share()).sum(-1)

    def currents(self, i: Tensor, i_far: Tensor | None = None) -> Tensor:
        """Current of each segment, away from the near terminal; i (..., nodes) [A]."""
        beyond = i.flip(-1).cumsum(-1).flip(-1)
        return beyond if i_far is None else beyond + i_far[..., None]

    def drop(self, i: Tensor) -> Tensor:
        """Voltage lost at each node when cells draw i and both terminals are grounded [V]."""
        i_far = None if self.far is None else self.far_current(i)
        return (self.r * self.currents(i, i_far)).cumsum(-1)


class Mesh(Protocol):
    """Whatever takes voltage away from cells that draw current; linear, symmetric, >= 0."""

    def drop(self, i: Tensor) -> Tensor:
        """Loss of cell voltage [V] caused by the cell currents i (..., rows, cols) [A]."""


class Circuit(NamedTuple):
    """The wires of one array in canonical orientation."""

    rows: Lines  # nodes = columns of the array
    cols: Lines  # nodes = rows of the array, counted from the sense amplifiers

    def drop(self, i: Tensor) -> Tensor:
        """R i: loss of cell voltage [V] caused by the cell currents i (..., rows, cols) [A]."""
        return self.rows.drop(i) + self.cols.drop(i.mT).mT

    def open_circuit(self, x: Tensor, y: Tensor) -> Tensor:
        """u₀ [V] of row voltages x (..., rows) and canonical column voltages y (..., cols)."""
        return x[..., :, None] + y[..., None, :]


def identity(size: int, like: Tensor) -> Tensor:
    """The unit matrix with the dtype and device of `like`."""
    return torch.eye(size, dtype=like.dtype, device=like.device)


def lines(
    r: Resistance, end: Resistance, wires: Wires, both: bool, nodes: int, like: Tensor
) -> Lines:
    """A family of lines of `nodes` cells, segments r, terminals behind `end` [ohm]."""
    segment, terminal = (torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in (r, end))
    first = terminal + segment if wires.end_segments else terminal
    values = torch.cat((first[None], segment.expand(nodes - 1)))
    # two ideal terminals on an ideal line hold the same voltage: the second one adds nothing
    if not both or not float(values.detach().sum() + first.detach()) > 0:
        return Lines(values, None)
    return Lines(values, first)


def circuit(wires: Wires, rows: int, cols: int, like: Tensor) -> Circuit:
    """The lines of a rows × cols array, with the dtype and device of `like`."""
    return Circuit(
        lines(wires.r_wordline, wires.r_driver, wires, wires.both_drivers, cols, like),
        lines(wires.r_bitline, wires.r_sense, wires, wires.both_senses, rows, like),
    )
