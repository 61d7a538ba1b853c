"""One update of several small arrays: calls cost more than their pulses do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar import states
from crossbar.matrix import Matrix
from crossbar.operations import Operation
from crossbar.planes import seen_of
from crossbar.programming import Written
from crossbar.pulses import Aggregated, ExactBits, Scheme
from crossbar.pulses.bits import drawn
from crossbar.pulses.events import hit
from crossbar.pulses.exact import EVENTS, bit_lines, few_bits
from crossbar.pulses.trains import Drive, Sought, Trains
from crossbar.regions import Region
from crossbar.states import writing
from crossbar.streams import WRITE
from devices import Pulses

SMALL = 1 << 18
"""Weights of an array beyond which an update of its own costs no more."""

CALLS = 20_000
"""Coincidences that are visited in the time of the calls of one update."""


TRAINS = (ExactBits, Aggregated)
"""Whose trains are drawn for all arrays at once; a user's own are asked array by array."""


class Asked(NamedTuple):
    """What one array is asked for; of the arguments of `Matrix.update`."""

    matrix: Matrix
    op: Operation
    x: Tensor
    d: Tensor
    lr: float
    region: Region


def update(asked: Sequence[Asked], scheme: Scheme) -> None:
    """−lr Σ x_i δ_j by pulses on every array: small ones of one chip at the same time.

    Theirs are the exact trains that few pulses are drawn as, from the random stream of the first
    of them; the pulses of an array do not depend on those of another.
    """
    trains = scheme if isinstance(scheme, Trains) and type(scheme) in TRAINS else None
    drives = {} if trains is None else _drives(asked, trains)
    shares: list[int] = []
    for k, drive in drives.items():
        one, first = asked[k], asked[shares[0] if shares else k]
        if _joins(one, asked) and _alike(one.matrix, first.matrix):
            few = drive.expected <= CALLS + EVENTS * torch.Size(drive.extent).numel()
            if few and few_bits(drive):
                shares.append(k)
    if len(shares) < 2:
        shares = []
    else:
        _at_once([(asked[k], drives[k]) for k in shares])
    for k, (matrix, op, x, d, lr, region) in enumerate(asked):
        if k in shares:
            continue
        if trains is None or k not in drives:
            matrix.update(x, d, lr, scheme, op=op, region=region)
            continue
        with writing():
            generator = matrix.streams.generator(WRITE, matrix.written.w_max.device)
            matrix.send(trains.sent(drives[k], generator), drives[k].extent, region, generator)


def _drives(asked: Sequence[Asked], scheme: Trains) -> dict[int, Drive]:
    """The trains of those that are pulsed in full, by number; the host waits once for all."""
    found = {}
    for k, (matrix, op, x, d, lr, region) in enumerate(asked):
        if lr and x.numel() and d.numel() and matrix.chip.write is None:
            with writing():
                found[k] = Sought(op, *matrix.rated(x, d, lr, op, region))
    return dict(zip(found, scheme.drives(list(found.values())), strict=True))


def _joins(one: Asked, asked: Sequence[Asked]) -> bool:
    matrix = one.matrix
    if torch.Size(matrix.lines).numel() > SMALL or matrix.chip.mapping.arbitrated:
        return False
    return sum(other.matrix is matrix for other in asked) == 1 and matrix.written.separate


def _alike(a: Matrix, b: Matrix) -> bool:
    """Whether their cells can lie side by side."""
    g, h = a.written.w_max, b.written.w_max
    same = a.chip is b.chip or a.chip == b.chip
    return same and g.dtype == h.dtype and g.device == h.device


def _at_once(shares: Sequence[tuple[Asked, Drive]]) -> None:
    matrix = shares[0][0].matrix
    with writing():
        generator = matrix.streams.generator(WRITE, matrix.written.w_max.device)
        bits = drawn([drive for _, drive in shares], generator)
        hits, found = hit(bits, matrix.written.w_max.dtype), []
        for (one, drive), own, (at, *counts) in zip(shares, bits, hits, strict=True):
            place = one.region.flat(at, drive.extent, one.matrix.lines)
            lines = one.matrix.lines_of(partial(bit_lines, drive, own), one.region)
            one.matrix.tell(place, [Pulses(*counts)], lines)
            found.append((one.matrix.written, place))
        up, down = (torch.cat([one[k] for one in hits]) for k in (1, 2))
        some = [cells.taken(place) for cells, place in found]
        sizes = [len(place) for _, place in found]
        given = matrix.chip.mapping.given(Pulses(up, down))
        device, joined = matrix.chip.device, states.side_by_side(some, sizes)
        made = states.pulsed(device, joined, [given], generator)
        ends = (states.apart(t, sizes) for t in (made, joined, seen_of(matrix.chip, joined)))
        for (one, _), (cells, place), new, now, seen in zip(shares, found, *ends, strict=True):
            if len(place):
                cells.put(place, new, now)
                cells.follow(place, seen)
            mask = cells.maintain(generator)
            if mask is not None:
                cells.refresh()
                one.matrix.told([Written(cells.g, mask)])
            cells.paced()
