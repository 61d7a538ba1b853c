"""What a scheme is: from δ·xᵀ to pulses.

A coincidence of a row pulse and a column pulse is one device pulse. `rate` is the number of
coincidences wanted per unit of |x_i δ_j| (learning rate over the weight change of one coincidence);
a positive x_i δ_j asks for depression, as gradient descent subtracts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.operations import Operation
from crossbar.wires.disturb import Fired
from devices import Pulses


class Parcel(NamedTuple):
    """Pulses that some weights, or all, are given one round after another.

    A round holds counts in the operation's matrix shape where `at` is None; else 1-D counts of the
    first so many of the weights `at`.
    """

    at: Tensor | None  # (n,) int64 flat indices in the matrix's shape, none twice; None: all
    rounds: Iterable[Pulses]


class Scheme(ABC):
    """How inputs x and errors δ become potentiation and depression counts."""

    counts: bool = True
    """Whether the counts are whole numbers."""

    parallel: bool = False
    """Whether they are coincidences of pulses of whole rows and columns, see `driven`."""

    @abstractmethod
    def pulses(
        self,
        op: Operation,
        x: Tensor,  # (..., rows)
        d: Tensor,  # (..., cols)
        rate: float,
        *,
        generator: torch.Generator | None,
    ) -> Pulses:
        """Pulses of one update, counts in the shape of the operation's matrix."""

    def parcels(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Iterator[Parcel]:
        """The same pulses in order, of the weights alone that are pulsed where these are few."""
        for turn, xs, ds in self.turns(op, x, d):
            yield Parcel(None, (self.pulses(turn, xs, ds, rate, generator=generator),))

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """The same pulses, and those of the lines that made them."""
        raise TypeError(f"{type(self).__name__} does not pulse whole rows and columns")

    def turns(
        self, op: Operation, x: Tensor, d: Tensor
    ) -> Iterator[tuple[Operation, Tensor, Tensor]]:
        """What is updated together, in order: everything at once unless the scheme says other."""
        yield op, x, d


def halves(op: Operation, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Σ max(−x δ, 0) and Σ max(x δ, 0) over vectors, in the matrix's shape."""
    fall, rise = d.clamp(min=0), (-d).clamp(min=0)
    if bool((x >= 0).all()):  # after a ReLU or sigmoid: half the products
        return op.outer(x, rise), op.outer(x, fall)
    plus, minus = x.clamp(min=0), (-x).clamp(min=0)
    up = op.outer(plus, rise) + op.outer(minus, fall)
    return up, op.outer(plus, fall) + op.outer(minus, rise)
