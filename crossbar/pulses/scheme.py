"""What a scheme is: from δ·xᵀ to pulses.

A coincidence of a row pulse and a column pulse is one device pulse. `rate` is the number of
coincidences wanted per unit of |x_i δ_j| (learning rate over the weight change of one coincidence);
a positive x_i δ_j asks for depression, as gradient descent subtracts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.operations import Operation, Vectors
from crossbar.wires.disturb import Fired
from devices import Pulses

Lines = Callable[[], Fired | None] | None
"""Asked by whoever counts them: the pulses of the lines that made a parcel's coincidences, in the
operation's shape; None: they are counted with another parcel. Without one, weights are pulsed row
by row, each column as often as its weight is."""


class Parcel(NamedTuple):
    """Pulses that some weights, or all, are given one round after another.

    A round holds counts in the operation's matrix shape where `at` is None; else 1-D counts of the
    first so many of the weights `at`.
    """

    at: Tensor | None  # (n,) int64 flat indices in the matrix's shape, none twice; None: all
    rounds: Iterable[Pulses]
    lines: Lines = None


class Cut(NamedTuple):
    """Input lines that something happens to between two vectors."""

    vector: Tensor  # (q,) int64 number of the last vector whose pulses come before it
    line: Tensor  # (q,) int64, none twice

    def halve(self, x: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """What is driven before, (n, ..., rows), and by those lines after, (n, ..., q).

        `vector` (n,): which vector each x is of.
        """
        some = x.index_select(-1, self.line)
        late = (vector.unsqueeze(-1) > self.vector).to(x.dtype)
        after = some * late.view(len(x), *(1,) * (x.dim() - 2), -1)
        return x.index_copy(-1, self.line, some - after), after


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
            pulses = self.pulses(turn, xs, ds, rate, generator=generator)
            yield Parcel(None, (pulses,), self.lines(turn, xs, ds, rate))

    def parted(
        self, x: Tensor, d: Tensor, rate: float, cut: Cut, *, generator: torch.Generator | None
    ) -> tuple[Iterable[Parcel], Iterable[Parcel]]:
        """The same pulses of vectors (n, ..., rows) and (n, ..., cols), at `cut` in two.

        First those before, of the whole matrix; then the rest, of those lines alone (..., q, cols).
        """
        op = Vectors()
        first, rest = cut.halve(x, torch.arange(len(x), device=x.device))
        return (
            counted_once(
                self.parcels(op, first, d, rate, generator=generator), self.lines(op, x, d, rate)
            ),
            counted_once(self.parcels(op, rest, d, rate, generator=generator), nowhere),
        )

    def lines(self, op: Operation, x: Tensor, d: Tensor, rate: float) -> Lines:
        """Of pulses made here; where they are random the lines are those of other trains."""
        if not self.parallel:
            return None
        generator = torch.Generator(x.device).manual_seed(0)
        return lambda: self.driven(op, x, d, rate, generator=generator)[1]

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


def nowhere() -> None:
    """Lines that are counted with another parcel."""


def counted_once(parcels: Iterable[Parcel], lines: Lines) -> Iterator[Parcel]:
    """Parcels of the same trains, whose lines fire once."""
    for parcel in parcels:
        yield parcel if lines is None else parcel._replace(lines=lines)
        lines = None if lines is None else nowhere


def all_positive(x: Tensor) -> bool:
    """Whether inputs are, as after a ReLU or sigmoid: `halves` then are half the products."""
    return not x.numel() or bool(x.amin() >= 0)


def halves(op: Operation, x: Tensor, d: Tensor, positive: bool) -> tuple[Tensor, Tensor]:
    """Σ max(−x δ, 0) and Σ max(x δ, 0) over vectors, in the matrix's shape."""
    fall, rise = d.clamp(min=0), (-d).clamp(min=0)
    if positive:
        return op.outer(x, rise), op.outer(x, fall)
    plus, minus = x.clamp(min=0), (-x).clamp(min=0)
    up = op.outer(plus, rise) + op.outer(minus, fall)
    return up, op.outer(plus, fall) + op.outer(minus, rise)
