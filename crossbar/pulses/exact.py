"""Real bit trains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from crossbar.operations import Operation, Vectors
from crossbar.pulses import jit
from crossbar.pulses.bits import Bits, counted, drawn, hits
from crossbar.pulses.events import hit
from crossbar.pulses.lines import Phases, fired, phases, slots
from crossbar.pulses.scheme import Cut, Parcel, counted_once, nowhere
from crossbar.pulses.trains import Drive, Trains
from crossbar.wires.disturb import Fired
from devices import Pulses

EVENTS = 0.12
"""Coincidences a weight up to which they are visited one by one, unless a compiled loop does it;
beyond, a product counts them."""

HITS = 1.0
"""Coincidences a weight up to which the weights that are hit are looked for; beyond, all are."""

PRODUCTS, SLOTS = 4, 600
"""Products of moments over all vectors, and slots besides whose product costs what moments cost
more in the device's law."""

DRAWN = 100_000
"""Bits that are drawn in the time in which the calls of a small update are dispatched."""


@dataclass(frozen=True)
class ExactBits(Trains):
    """Real bit trains: every coincidence of random row and column bits is counted.

    Cells that share a row or a column see the same bits and are correlated accordingly. The bits of
    the lines are drawn in any case; whether coincidences are then visited one by one, or counted by
    a product, is settled by their expected number and changes nothing but the cost. See `Trains`
    for the arguments.
    """

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        (bits,) = drawn([self.drive(op, x, d, rate)], generator)
        return Pulses(*counted(bits, x.dtype))

    def parcels(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Iterator[Parcel]:
        """See the class."""
        yield from self.sent(self.drive(op, x, d, rate), generator)

    def sent(self, drive: Drive, generator: torch.Generator | None) -> Iterator[Parcel]:
        """See the class."""
        yield from bits_parcels(drive, generator)

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """The bits themselves, counted along the lines too."""
        drive = self.drive(op, x, d, rate)
        (bits,) = drawn([drive], generator)
        return Pulses(*counted(bits, x.dtype)), bit_lines(drive, bits)

    def parted(
        self, x: Tensor, d: Tensor, rate: float, cut: Cut, *, generator: torch.Generator | None
    ) -> tuple[Iterator[Parcel], Iterator[Parcel]]:
        """Of the same bits."""
        return parted_bits(self.drive(Vectors(), x, d, rate), cut, generator)


def bit_lines(drive: Drive, bits: Bits) -> Fired:
    """The pulses of the lines of trains that were drawn."""
    signs = phases(*drive.op.vectors(drive.x, drive.d))
    played = Phases(*(sign.index_select(0, bits.slots) for sign in signs))
    found = fired(bits.x, bits.d, played, drive.x.dtype)
    if drive.length.numel() == len(drive.length):
        return found
    # trains of single matrices end before the longest one's
    return found._replace(slots=slots(signs, drive.x.dtype, drive.length))


def few_bits(drive: Drive) -> bool:
    """Whether drawing the bits and pulsing what they hit costs less than moments of all weights.

    Their products go over the slots, those of the moments several times over the vectors.
    """
    *lead, rows, cols = drive.extent
    slots, vectors = drive.slots, len(drive.turns)
    lines = slots * math.prod(lead) * (rows + cols)
    moments = math.prod(drive.extent) * (2 + vectors / 16)
    short = slots <= PRODUCTS * vectors + SLOTS
    return short and lines <= DRAWN + moments


def bits_parcels(drive: Drive, generator: torch.Generator | None) -> Iterator[Parcel]:
    """Counts of the coincidences of exact trains."""
    (bits,) = drawn([drive], generator)
    parcels = dealt(bits, drive.density, drive.x.dtype)
    return counted_once(parcels, partial(bit_lines, drive, bits))


def parted_bits(
    drive: Drive, cut: Cut, generator: torch.Generator | None
) -> tuple[Iterator[Parcel], Iterator[Parcel]]:
    """See `Scheme.parted`."""
    (bits,) = drawn([drive], generator)
    first, rest = halved(bits, cut)
    share = float(rest.x.count_nonzero()) / max(float(bits.x.count_nonzero()), 1.0)
    few = share * drive.density * drive.extent[-2] / max(len(cut.line), 1)
    dtype = drive.x.dtype
    after = dealt(rest, few, dtype) if share else iter(())  # the last vector is read after
    return (
        counted_once(
            dealt(first, drive.density * (1 - share), dtype), partial(bit_lines, drive, bits)
        ),
        counted_once(after, nowhere),
    )


def halved(bits: Bits, cut: Cut) -> tuple[Bits, Bits]:
    """Bits before and after."""
    first, rest = cut.halve(bits.x, bits.slots)
    return bits._replace(x=first), bits._replace(x=rest)


def dealt(bits: Bits, density: float, dtype: torch.dtype) -> Iterator[Parcel]:
    """Counts of coincidences, of which so many a weight are expected."""
    if density > HITS:
        yield Parcel(None, (Pulses(*counted(bits, dtype)),))
        return
    many = density > EVENTS and jit.struck is None
    if many or bits.x.device.type != "cpu":  # an accelerator has the product before bits cross
        at, up, down = hits(bits, dtype)
    else:
        ((at, up, down),) = hit([bits], dtype)
    yield Parcel(at, (Pulses(up, down),))
