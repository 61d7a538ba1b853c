"""One vector's pulses after another's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from crossbar.operations import Operation, Vectors
from crossbar.pulses.bits import Bits, counted, drawn
from crossbar.pulses.events import Grouped, in_order
from crossbar.pulses.exact import ExactBits, bit_lines, halved
from crossbar.pulses.scheme import Cut, Parcel, Scheme, counted_once, nowhere
from crossbar.pulses.trains import Drive
from crossbar.wires.disturb import Fired
from devices import Pulses
from devices._check import instance

ROUNDS, TURN = 0.5, 3000
"""Coincidences a weight, and coincidences a vector besides, up to which rounds of single pulses
cost less than a turn of every vector."""


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

    @property
    def bl(self) -> int:
        """As its scheme."""
        found: int = self.scheme.bl  # type: ignore[attr-defined]
        return found

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
            if _few(drive):
                (bits,) = drawn([drive], generator)
                lines = partial(bit_lines, drive, bits)
                yield from counted_once(_in_rounds(bits, x.dtype), lines)
                return
        for turn, xs, ds in self.turns(op, x, d):
            yield from self.scheme.parcels(turn, xs, ds, rate, generator=generator)

    def parted(
        self, x: Tensor, d: Tensor, rate: float, cut: Cut, *, generator: torch.Generator | None
    ) -> tuple[Iterator[Parcel], Iterator[Parcel]]:
        """Every pulse in its turn.

        Raises:
            TypeError: another scheme than `ExactBits`, whose bits have no order.
        """
        if not isinstance(self.scheme, ExactBits):
            raise TypeError(
                f"Sequential({type(self.scheme).__name__}()) cannot be read between its vectors: "
                "use Sequential(ExactBits())"
            )
        drive = self.scheme.drive(Vectors(), x, d, rate)
        (bits,) = drawn([drive], generator)
        turns = _in_rounds if _few(drive) else _in_turns
        first, rest = halved(bits, cut)
        lines = partial(bit_lines, drive, bits)
        return (
            counted_once(turns(first, x.dtype), lines),
            counted_once(turns(rest, x.dtype), nowhere),
        )


def _few(drive: Drive) -> bool:
    turns = ROUNDS * math.prod(drive.extent) + TURN * len(drive.length)
    return drive.expected <= turns


def _in_rounds(bits: Bits, dtype: torch.dtype) -> Iterator[Parcel]:
    yield _rounds(in_order(bits), dtype)


def _in_turns(bits: Bits, dtype: torch.dtype) -> Iterator[Parcel]:
    """A product counts the pulses of each vector."""
    _, slots = bits.slots.unique_consecutive(return_counts=True)
    for x, d in zip(*(part.split(slots.tolist()) for part in bits[:2]), strict=True):
        yield Parcel(None, (Pulses(*counted(Bits(x, d, slots), dtype)),))


def _rounds(found: Grouped, dtype: torch.dtype) -> Parcel:
    """Round r gives every weight that has more than r pulses its r-th; these weights come first."""
    n, order = found.n.sort(descending=True, stable=True)
    first = (found.n.cumsum(0) - found.n)[order]
    most = int(n[0]) if len(n) else 0
    rounds = torch.arange(most, device=n.device)
    sizes = len(n) - torch.searchsorted(n.flip(0), rounds, right=True)
    risen = (found.up[first[:size] + r].to(dtype) for r, size in enumerate(sizes.tolist()))
    return Parcel(found.at[order], [Pulses(up, 1 - up) for up in risen])
