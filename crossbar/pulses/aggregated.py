"""Moments of the coincidence counts of a mini-batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from crossbar.operations import Operation, Vectors
from crossbar.pulses.exact import bits_parcels, few_bits, parted_bits
from crossbar.pulses.lines import fired, phases
from crossbar.pulses.scheme import Cut, Parcel, halves, nowhere
from crossbar.pulses.trains import Drive, Trains
from crossbar.wires.disturb import Fired
from devices import Pulses


def mean_lines(drive: Drive) -> Fired:
    """The mean pulses of the lines of trains."""
    xs, ds = drive.op.vectors(drive.x, drive.d)
    xs, ds = (v * (by * drive.length).to(v) for v, by in ((xs, drive.by_x), (ds, drive.by_d)))
    return fired(xs, ds, phases(xs, ds), xs.dtype, drive.length)


@dataclass(frozen=True)
class Aggregated(Trains):
    """Mean and variance of the coincidence counts of a mini-batch, without walking through it.

        mean = rate Σ |x δ|,   variance = mean − Σ_vectors mean_v²/BL_v   (sums of binomials)

    The moments drive the device's closed form; correlations between cells that share a row or a
    column (see `ExactBits`) are left out. Where trains are so short that drawing them costs less
    than the moments of every weight, they are drawn as `ExactBits` draws them: the counts have
    these moments, and the correlations too. See `Trains` for the arguments.
    """

    counts = False

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """The moments, however many pulses there are."""
        return self._moments(self.drive(op, x, d, rate))

    def parcels(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Iterator[Parcel]:
        """See the class."""
        yield from self.sent(self.drive(op, x, d, rate), generator)

    def sent(self, drive: Drive, generator: torch.Generator | None) -> Iterator[Parcel]:
        """See the class."""
        if few_bits(drive):
            yield from bits_parcels(drive, generator)
        else:
            yield Parcel(None, (self._moments(drive),), partial(mean_lines, drive))

    def parted(
        self, x: Tensor, d: Tensor, rate: float, cut: Cut, *, generator: torch.Generator | None
    ) -> tuple[Iterator[Parcel], Iterator[Parcel]]:
        """Of the same bits, or the moments of each part."""
        drive = self.drive(Vectors(), x, d, rate)
        if few_bits(drive):
            return parted_bits(drive, cut, generator)
        parts = cut.halve(drive.x, torch.arange(len(x), device=x.device))
        first, rest = (self._moments(drive._replace(x=part)) for part in parts)
        lines = partial(mean_lines, drive)
        return iter([Parcel(None, (first,), lines)]), iter([Parcel(None, (rest,), nowhere)])

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """The mean pulses of the lines; a convolution is unfolded for them."""
        drive = self.drive(op, x, d, rate)
        return self._moments(drive), mean_lines(drive)

    @staticmethod
    def _moments(drive: Drive) -> Pulses:
        op, x, d, rate, positive = drive.op, drive.x, drive.d, drive.rate, drive.positive
        up, down = halves(op, x, d * rate, positive)
        shared = op.weighed(x * x.abs(), d * d.abs(), rate * rate / drive.length)
        shared_up, shared_down = halves(op, *shared, positive)
        # rounding may leave the difference of two nearly equal sums just below zero
        return Pulses(
            up,
            down,
            torch.sub(up, shared_up).clamp_(min=0),
            torch.sub(down, shared_down).clamp_(min=0),
        )
