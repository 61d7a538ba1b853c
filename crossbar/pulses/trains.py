"""Trains of pulses on rows and columns: how long each vector's are and how likely a line fires."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.host import numbers
from crossbar.operations import Operation, Vectors
from crossbar.pulses.scheme import Parcel, Scheme
from devices._check import flag, whole
from devices.part import MOST


class Sought(NamedTuple):
    """What an array is asked for."""

    op: Operation
    x: Tensor  # as it takes them
    d: Tensor
    rate: Tensor | float  # () float64: the host need not know it yet


class Drive(NamedTuple):
    """Vectors, clipped where a line would fire with more than certainty, and their trains.

    A row fires in a slot with probability |x_i| by_x, a column with |δ_j| by_d.
    """

    op: Operation  # `Vectors` where they had to be taken apart to be clipped
    x: Tensor
    d: Tensor
    by_x: Tensor  # (n, ..., 1)
    by_d: Tensor
    length: Tensor  # (n, 1, ..., 1) slots of each vector's trains, or (n, ..., 1) of each matrix
    slots: int  # of all of them
    expected: float  # coincidences, without the clipping
    rate: float
    positive: bool  # whether inputs are, as after a ReLU or sigmoid
    extent: tuple[int, ...]  # of the matrix (..., rows, cols)

    @property
    def density(self) -> float:
        """Expected coincidences a weight."""
        return self.expected / max(math.prod(self.extent), 1)


@dataclass(frozen=True)
class Trains(Scheme):
    """Trains of `bl` slots; in each a row fires with p(x_i), a column with p(δ_j).

        k = rate max|x| max|δ|,   p(x_i) = |x_i|/max|x| √(k/BL),   p(δ_j) = |δ_j|/max|δ| √(k/BL)

    so that the mean count is rate |x_i δ_j|. Beyond k = BL trains of inputs keep their proportions,
    p(x_i) = |x_i|/max|x|, and errors are clipped, p(δ_j) = min(1, |δ_j|/max|δ| k/BL).

    Args:
        bl: longest train, 1 to 1024.
        update_management: whether the product is shared as written; without it both probabilities
            are min(1, |·| √(rate/BL)).
        bl_management: whether a vector's train has the BL = ceil(rate · max|x| · max|δ|) slots
            that it needs, at most `bl`; without it all have `bl`. Needs update management.

    Groups of a convolution share the train of their vector; taken apart, (n, ..., rows), each
    matrix of a stack has trains of its own. A vector is one receptive field, with a maximum of its
    own, whatever else is in the image.

    Raises:
        TypeError, ValueError: bl no whole number in its range; bl_management alone.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016), doi:10.3389/fnins.2016.00333, as
    aihwkit runs it.
    """

    bl: int = 31
    update_management: bool = True
    bl_management: bool = True

    parallel = True

    def __post_init__(self) -> None:
        whole("bl", self.bl, 1, 1024)
        flag("update_management", self.update_management)
        flag("bl_management", self.bl_management)
        if self.bl_management and not self.update_management:
            raise ValueError(
                "bl_management=True counts the slots that update management needs: with "
                "update_management=False give bl_management=False too"
            )

    @abstractmethod
    def sent(self, drive: Drive, generator: torch.Generator | None) -> Iterator[Parcel]:
        """`parcels` of trains that are known."""

    def drive(self, op: Operation, x: Tensor, d: Tensor, rate: float) -> Drive:
        """The trains of vectors as `op` takes them."""
        return self.drives([Sought(op, x, d, rate)])[0]

    def drives(self, sought: Sequence[Sought]) -> list[Drive]:
        """Those of several arrays, for all of which the host waits once."""
        found = [self._trains(*one) for one in sought]
        asked = numbers([told for *_, told in found])
        return [_clipped(*one[:-1], *told) for one, told in zip(found, asked, strict=True)]

    def _trains(
        self, op: Operation, x: Tensor, d: Tensor, rate: Tensor | float
    ) -> tuple[Drive, Tensor]:
        """Trains, and the numbers that are asked of them."""
        top_x, top_d = op.peaks(x, d)
        mass_x, mass_d = op.sums(x, d)
        needed = (top_x * top_d * rate).clamp_(max=MOST)  # infinite, a line would never fire
        one = (-1, *(1,) * (top_x.dim() - 1))
        if self.bl_management:
            own = top_x.dim() == 2 or op == Vectors()
            most = needed if own else needed.flatten(1).amax(1).view(one)
            length = most.ceil().clamp_(1, self.bl)
        else:
            length = top_x.new_full((len(top_x),), self.bl).view(one)
        if self.update_management:
            # a vector without inputs or errors fires nothing
            tiny = torch.finfo(top_x.dtype).tiny
            share = needed / length
            root = share.sqrt()
            likely = torch.maximum(root, share)
            by_x, by_d = root.clamp_(max=1) / top_x.clamp(min=tiny), likely / top_d.clamp(min=tiny)
        else:
            by_x = by_d = (length.reciprocal() * rate).sqrt().expand_as(top_x)
            likely = torch.maximum(top_x, top_d) * by_x
        slots = length.flatten(1).amax(1).sum()
        mass = (mass_x * mass_d).sum()
        told = [mass, slots, likely.amax(), torch.as_tensor(rate, device=mass.device), x.amin()]
        asked = torch.stack([t.double() for t in told])
        return Drive(op, x, d, by_x, by_d, length, 0, 0.0, 0.0, True, op.extent(x, d)), asked


def _clipped(drive: Drive, *told: float) -> Drive:
    """The trains with what was asked of them."""
    mass, slots, likely, rate, least = told
    if any(number != number for number in told):
        raise ValueError("x, δ and their rate must be finite to become pulses, got NaN")
    op, x, d, by_x, by_d, *_ = drive
    if likely > 1 + 1e-6:
        (x, d), op = op.vectors(x, d), Vectors()
        x, d = (torch.clamp(v, -1 / by, 1 / by) for v, by in ((x, by_x), (d, by_d)))
    drive = drive._replace(op=op, x=x, d=d, positive=least >= 0, rate=rate)
    return drive._replace(slots=int(slots), expected=rate * mass)
