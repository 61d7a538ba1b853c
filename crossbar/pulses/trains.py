"""Trains of pulses on rows and columns: how long each vector's are and how likely a line fires."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.host import numbers
from crossbar.operations import Operation, Vectors
from crossbar.pulses.scheme import Parcel, Scheme
from devices._check import flag, whole
from devices.part import MOST

HIGHEST = 1e150
"""Rate beyond which all trains are as long, and all lines as likely, as can be."""


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
    by_x: Tensor  # (n, ..., 1) float64
    by_d: Tensor
    length: Tensor  # (n, 1, ..., 1) slots of each vector's trains, or (n, ..., 1) of each matrix
    turns: Any  # (n,) int64 array, slots of each vector
    expected: float  # coincidences, without the clipping
    rate: float
    positive: bool  # whether inputs are, as after a ReLU or sigmoid
    extent: tuple[int, ...]  # of the matrix (..., rows, cols)

    @property
    def slots(self) -> int:
        """Of all trains."""
        return int(self.turns.sum())

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
        told = numbers([_told(one) for one in sought])
        return [self._trains(*pair) for pair in zip(sought, told, strict=True)]

    def _trains(self, sought: Sought, told: Sequence[Any]) -> Drive:
        """Trains of vectors whose `_told` are these, (n, ..., 1) of each; settled by the host."""
        op, x, d, _ = sought
        *tops, mass_x, mass_d, least, rate = told
        top_x, top_d = tops
        if not all(math.isfinite(top.max()) for top in tops) or math.isnan(rate):
            raise ValueError(
                "x, δ and their rate must be finite to become pulses, got NaN or infinity"
            )
        rate, tiny = min(float(rate), HIGHEST), torch.finfo(x.dtype).tiny
        needed = np.minimum(top_x * top_d * rate, MOST)  # infinite, a line would never fire
        n, one = len(needed), (-1, *(1,) * (needed.ndim - 1))
        if self.bl_management:
            own = needed.ndim == 2 or op == Vectors()
            most = needed if own else needed.reshape(n, -1).max(1).reshape(one)
            length = np.minimum(np.maximum(np.ceil(most), 1), self.bl)
        else:
            length = np.full(n, float(self.bl)).reshape(one)
        if self.update_management:
            # a vector without inputs or errors fires nothing
            share = needed / length
            root = np.sqrt(share)
            likely = np.maximum(root, share)
            by_x = np.minimum(root, 1) / np.maximum(top_x, tiny)
            by_d = likely / np.maximum(top_d, tiny)
        else:
            by_x = by_d = np.broadcast_to(np.sqrt(rate / length), top_x.shape).copy()
            likely = np.maximum(top_x, top_d) * by_x
        place = x.device
        by_x, by_d = (torch.from_numpy(by).to(place) for by in (by_x, by_d))
        if likely.max() > 1 + 1e-6:
            (x, d), op = op.vectors(x, d), Vectors()
            x, d = (
                torch.clamp(v, -most, most)
                for v, most in ((x, (1 / by_x).to(x)), (d, (1 / by_d).to(d)))
            )
        turns = length.reshape(n, -1).max(1).astype(np.int64)
        long = torch.from_numpy(length).to(place, x.dtype)
        expected = rate * float((mass_x * mass_d).sum())
        extent = sought.op.extent(sought.x, sought.d)
        return Drive(op, x, d, by_x, by_d, long, turns, expected, rate, bool(least >= 0), extent)


def _told(one: Sought) -> tuple[Tensor, ...]:
    """What is asked of vectors: the largest and the sum of |x| and |δ|, the least x, the rate."""
    op, x, d, rate = one
    rate = torch.as_tensor(rate, device=x.device)
    return *op.peaks(x, d), *op.sums(x, d), x.amin(), rate
