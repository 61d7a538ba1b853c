"""One vector's pulses after another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crossbar.operations import Operation, Vectors
from crossbar.pulses.bits import drawn
from crossbar.pulses.events import coincidences, grouped
from crossbar.pulses.exact import CHUNK, ExactBits
from crossbar.pulses.scheme import Parcel, Scheme
from crossbar.wires.disturb import Fired
from devices import Pulses
from devices._check import instance

ROUNDS = 0.5
"""Coincidences a weight, up to which they are visited one by one."""


@dataclass(frozen=True)
class Sequential(Scheme):
    """One vector's pulses after another's, in order: exact in the order of the pulses.

    Once the bits of `ExactBits` are drawn, cells are independent of each other: where pulses are
    few, each cell is given its own, one by one in their order, all cells at the same time.

    Args:
        scheme: how each vector's pulses are made.

    Raises:
        TypeError: not a scheme.
    """

    scheme: Scheme = field(default_factory=ExactBits)

    def __post_init__(self) -> None:
        instance("scheme", self.scheme, Scheme, optional=False)

    @property
    def counts(self) -> bool:  # type: ignore[override]
        """As its scheme."""
        return self.scheme.counts

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        return self.scheme.pulses(op, x, d, rate, generator=generator)

    @property
    def parallel(self) -> bool:  # type: ignore[override]
        """As its scheme."""
        return self.scheme.parallel

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """As its scheme."""
        return self.scheme.driven(op, x, d, rate, generator=generator)

    def turns(
        self, op: Operation, x: Tensor, d: Tensor
    ) -> Iterator[tuple[Operation, Tensor, Tensor]]:
        """One vector after another."""
        for xv, dv in zip(*op.vectors(x, d), strict=True):
            yield Vectors(), xv.unsqueeze(0), dv.unsqueeze(0)

    def parcels(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Iterator[Parcel]:
        """Every pulse in its turn, or, where they are many, vector by vector."""
        if isinstance(self.scheme, ExactBits):
            drive = self.scheme.drive(op, x, d, rate)
            if drive.density <= ROUNDS:
                found = grouped(coincidences(drawn(drive, generator)))
                yield from _rounds(*found, x.dtype)
                return
        for turn, xs, ds in self.turns(op, x, d):
            yield from self.scheme.parcels(turn, xs, ds, rate, generator=generator)


def _rounds(at: Tensor, count: Tensor, up: Tensor, dtype: torch.dtype) -> Iterator[Parcel]:
    """Of cells with `count` pulses each, `up` one cell after another."""
    begin = count.cumsum(0) - count
    for cells, n, first in zip(*(t.split(CHUNK) for t in (at, count, begin)), strict=True):
        order = n.argsort(descending=True, stable=True)
        left, first = n[order], first[order]
        most = int(left[0])
        # how many cells have more than r pulses
        more = torch.searchsorted(left.flip(0), torch.arange(most, device=n.device), right=True)
        sizes = (len(n) - more).tolist()
        yield Parcel(cells[order], _single(up, first, sizes, dtype))


def _single(up: Tensor, first: Tensor, sizes: list[int], dtype: torch.dtype) -> Iterator[Pulses]:
    for r, size in enumerate(sizes):
        risen = up[first[:size] + r].to(dtype)
        yield Pulses(risen, 1 - risen)
