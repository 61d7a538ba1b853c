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
from crossbar.programming import Written
from crossbar.pulses import Aggregated, ExactBits, Scheme
from crossbar.pulses.bits import drawn
from crossbar.pulses.events import hit
from crossbar.pulses.exact import EVENTS, bit_lines, few_bits
from crossbar.pulses.trains import Drive, Trains
from crossbar.regions import Region
from crossbar.states import writing
from crossbar.streams import WRITE
from devices import Pulses

SMALL = 1 << 18
"""Weights of an array beyond which an update of its own costs no more."""

CALLS = 20_000
"""Coincidences that are visited in the time of the calls of one update."""


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
    rest = list(asked)
    first = next((a for a in rest if _joins(a, asked, scheme)), None)
    if first is not None and isinstance(scheme, Trains):
        shares = []
        for one in asked:
            if _joins(one, asked, scheme) and _alike(one.matrix, first.matrix):
                x, d, rate = one.matrix.rated(one.x, one.d, one.lr, one.op, one.region)
                drive = scheme.drive(one.op, x, d, rate)
                few = drive.expected <= CALLS + EVENTS * torch.Size(drive.extent).numel()
                if few and few_bits(drive):
                    shares.append((one, drive))
        if len(shares) > 1:
            rest = [a for a in rest if not any(a is one for one, _ in shares)]
            _at_once(shares)
    for matrix, op, x, d, lr, region in rest:
        matrix.update(x, d, lr, scheme, op=op, region=region)


def _joins(one: Asked, asked: Sequence[Asked], scheme: Scheme) -> bool:
    matrix = one.matrix
    if type(scheme) not in (ExactBits, Aggregated) or one.lr == 0:
        return False
    if not one.x.numel() or not one.d.numel() or torch.Size(matrix.lines).numel() > SMALL:
        return False
    once = sum(other.matrix is matrix for other in asked) == 1
    alone = matrix.chip.write is not None or matrix.chip.mapping.arbitrated
    return once and not alone and matrix.written.separate


def _alike(a: Matrix, b: Matrix) -> bool:
    """Whether their cells can lie side by side."""
    g, h = a.written.g, b.written.g
    same = a.chip is b.chip or a.chip == b.chip
    return same and g.dtype == h.dtype and g.device == h.device


def _at_once(shares: Sequence[tuple[Asked, Drive]]) -> None:
    matrix = shares[0][0].matrix
    with writing():
        generator = matrix.streams.generator(WRITE, matrix.written.g.device)
        bits = drawn([drive for _, drive in shares], generator)
        (at, up, down), ends = hit(bits, matrix.written.g.dtype)
        cuts = torch.searchsorted(at, torch.tensor(ends, device=at.device)).tolist()
        found = []
        begins = zip(shares, bits, [0, *ends], [0, *cuts], cuts, strict=False)
        for (one, drive), own, start, a, b in begins:
            place = one.region.flat(at[a:b] - start, drive.extent, one.matrix.lines)
            lines = one.matrix.lines_of(partial(bit_lines, drive, own), one.region)
            one.matrix.tell(place, [Pulses(up[a:b], down[a:b])], lines)
            found.append((one.matrix.written, place))
        some = [states.taken(cells.state, place) for cells, place in found]
        sizes = [len(place) for _, place in found]
        given = matrix.chip.mapping.given(Pulses(up, down))
        device, joined = matrix.chip.device, states.side_by_side(some, sizes)
        made = states.pulsed(device, joined, [given], generator)
        news = zip(states.apart(made, sizes), states.apart(joined, sizes), strict=True)
        for (one, _), (cells, place), (new, now) in zip(shares, found, news, strict=True):
            if len(place):
                states.put_back(cells.state, place, new)
                cells.follow(place, now)
            mask = cells.maintain(generator)
            if mask is not None:
                cells.refresh()
                one.matrix.told([Written(cells.g, mask)])
            cells.paced()
