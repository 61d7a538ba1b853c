"""The arrays that a fit works on: traces of reads with the pulses between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from devices.fitting.data import PulseData, Unidentified

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Leg(NamedTuple):
    """The rows of one ordinal of ramps, of one direction, of all traces at once."""

    rows: Index
    owner: Index  # trace of each row
    last: Index  # position in `rows` of the last row of each ramp


@dataclass(frozen=True, eq=False)
class Traces:
    """Reads in order of traces; x is the conductance from 0 to 1 over the middle 99 % of reads.

    A trace is a run of rows whose pulses are all known, from its first read on; a ramp is a run of
    pulses of one direction in it.
    """

    y: Array  # (rows,) x of the read; NaN where it failed
    n: Array  # (rows,) pulses since the row before, 0 in the first of a trace
    up: Mask  # (rows,) direction of the ramp
    trace: Index  # (rows,)
    cell: Index  # (traces,)
    low: float  # [S] conductance at x = 0
    span: float  # [S]
    notes: tuple[str, ...] = ()
    drive: Array | None = None  # (rows, 2) amplitude [V] and width [s] of the row's pulses

    @property
    def size(self) -> int:
        """How many traces."""
        return len(self.cell)

    @property
    def cells(self) -> int:
        """How many cells."""
        return int(self.cell.max()) + 1

    @cached_property
    def seen(self) -> Mask:
        """The rows with a read."""
        return np.isfinite(self.y)

    @cached_property
    def first(self) -> Index:
        """First row of every trace."""
        return np.searchsorted(self.trace, np.arange(self.size))

    @cached_property
    def ramp(self) -> Index:
        """Number of the ramp of every row, over all traces."""
        new = np.r_[True, (np.diff(self.trace) != 0) | (self.up[1:] != self.up[:-1])]
        return np.cumsum(new) - 1

    @cached_property
    def legs(self) -> tuple[tuple[bool, Leg], ...]:
        """All ramps by their ordinal in the trace, up and down apart."""
        ordinal = self.ramp - self.ramp[self.first][self.trace]
        final = np.r_[np.diff(self.ramp) != 0, True]
        out = []
        for k in range(int(ordinal.max()) + 1):
            for up in (True, False):
                rows = np.nonzero((ordinal == k) & (self.up == up))[0]
                if len(rows):
                    last = np.nonzero(final[rows])[0]
                    out.append((up, Leg(rows, self.trace[rows], last)))
        return tuple(out)

    @cached_property
    def begins(self) -> Index:
        """First row of every ramp."""
        return np.searchsorted(self.ramp, np.arange(self.ramp[-1] + 1))

    @cached_property
    def count(self) -> Array:
        """Pulses of every row since its ramp began."""
        return self.since(self.n)

    def since(self, n: Array) -> Array:
        """Sum of n since the ramp of a row began; the first row of a trace has no pulses."""
        total, begin = np.cumsum(n), self.begins
        before = np.where(np.isin(begin, self.first), total[begin], total[begin] - n[begin])
        return np.asarray(total - before[self.ramp])

    def rescaled(self) -> Traces:
        """The same with x from 0 to 1 over the reads that are left."""
        low, high = (float(q) for q in np.quantile(self.y[self.seen], [0.005, 0.995]))
        if not high > low:
            return self
        return replace(
            self,
            y=(self.y - low) / (high - low),
            low=self.low + low * self.span,
            span=self.span * (high - low),
        )

    def conductance(self, x: Array | float) -> Array:
        """x in siemens."""
        return np.asarray(self.low + self.span * np.asarray(x))

    def of(self, traces: Index) -> Traces:
        """Some of the traces, the cells keeping their numbers."""
        number = np.full(self.size, -1)
        number[traces] = np.arange(len(traces))
        keep = np.nonzero(number[self.trace] >= 0)[0]
        order = keep[np.argsort(number[self.trace[keep]], kind="stable")]
        return replace(
            self,
            y=self.y[order],
            n=self.n[order],
            up=self.up[order],
            trace=number[self.trace[order]],
            cell=self.cell[traces],
            drive=None if self.drive is None else self.drive[order],
        )

    def thinned(self, rows: int) -> Traces:
        """About `rows` rows where there are more: fewer traces, and fewer reads of long ramps.

        Traces are left out at random but each cell keeps one; of a ramp every k-th read and its
        last are kept, which is exact as pulses between reads count.
        """
        if len(self.y) <= rows:
            return self
        out = self
        most = max(rows // 200, min(self.cells, rows // 50), 8)
        if self.size > most:
            rng = np.random.default_rng(0)
            order = rng.permutation(self.size)
            rank = np.zeros(self.size, dtype=np.int64)  # how many of its cell came before it
            taken = np.zeros(self.cells, dtype=np.int64)
            for t in order:
                rank[t] = taken[self.cell[t]]
                taken[self.cell[t]] += 1
            chosen = np.sort(order[np.argsort(rank[order], kind="stable")][:most])
            out = self.of(chosen)
        every = -(-len(out.y) // rows)
        if every > 1 and self.drive is None:
            out = out.every(every)
        said = f"{len(out.y)} of {len(self.y)} reads, {out.size} of {self.size} traces, used"
        return replace(out, notes=(*self.notes, said))

    def every(self, k: int) -> Traces:
        """Every k-th row of each ramp and its last."""
        start = np.searchsorted(self.ramp, self.ramp)
        final = np.r_[np.diff(self.ramp) != 0, True]
        keep = ((np.arange(len(self.y)) - start) % k == 0) | final
        keep[self.first] = True
        total = np.cumsum(self.n)[keep]
        n = np.diff(total, prepend=0.0)
        out = replace(self, y=self.y[keep], n=n, up=self.up[keep], trace=self.trace[keep])
        out.n[out.first] = 0.0
        return out

    def without(self, rows: Mask) -> Traces:
        """The reads of some rows as failed; the first of a trace stays."""
        y = self.y.copy()
        rows = rows.copy()
        rows[self.first] = False
        y[rows] = np.nan
        return replace(self, y=y)


def traces_of(data: PulseData, *, driven: bool = False) -> Traces:
    """The traces of measured pulses, with a note on every place where one starts anew.

    `driven` keeps the pulses' amplitudes and widths, which must not vary otherwise.

    Raises:
        ValueError: pulses that do not ascend, or have no polarity, or that vary.
        Unidentified: no two reads with a pulse between them, or reads that are all the same.
    """
    if not driven and data.varies:
        raise ValueError(data.varies)
    code, order = data._order()
    cell = code.numpy()
    drive = None
    if driven and data.amplitude is not None:
        width = torch.full_like(data.g, torch.nan) if data.width is None else data.width
        drive = torch.stack([data.amplitude.abs(), width], dim=1)[order].numpy()
    cycle, pulse, way = (c[order].numpy() for c in (data.cycle, data.pulse, data.polarity))
    g = data.g[order].numpy()
    same = (cell[1:] == cell[:-1]) & (cycle[1:] == cycle[:-1])
    ahead = np.r_[0, np.where(same, np.diff(pulse), 0)]
    _check(data, cell, cycle, pulse, way, ahead, np.r_[False, same])
    new = [True, *(~same).tolist()]
    steps, ways, reads = ahead.tolist(), way.tolist(), np.isfinite(g).tolist()
    turn = [0] * len(g)  # direction of the ramp; 0 before the first pulse of a trace
    split, last, waiting = 0, 0, True
    unread = []
    for i, (step, sign, read) in enumerate(zip(steps, ways, reads, strict=True)):
        if new[i]:
            last, waiting = 0, True
        if waiting:  # a trace begins with a read
            new[i], last, waiting = True, 0, not read
            continue
        if step:
            if last and sign != last and step > 1:
                new[i], split, last, waiting = True, split + 1, 0, not read
                continue
            if step > 64:
                unread.append(step)
            last = sign
        turn[i] = last
    trace = np.cumsum(new) - 1
    for i in range(len(turn) - 2, -1, -1):
        if not turn[i] and not new[i + 1]:
            turn[i] = turn[i + 1]
    up = np.array(turn) > 0
    return _assembled(cell, g, ahead, up, trace, drive, split, unread)


def _assembled(
    cell: Index,
    g: Array,
    ahead: Index,
    up: Mask,
    trace: Index,
    drive: Array | None,
    split: int,
    unread: list[int],
) -> Traces:
    """Traces with two reads at least, in units of the range."""
    finite = np.isfinite(g)
    reads = np.bincount(trace, weights=finite)
    moved = np.bincount(trace, weights=ahead * np.r_[False, trace[1:] == trace[:-1]])
    good = (reads >= 2) & (moved > 0)
    lost = int(reads[~good].sum())
    keep = good[trace]
    if not keep.any():
        raise Unidentified("no two reads with a pulse between them")
    own = g[keep & finite]
    low, high = (float(q) for q in np.quantile(own, [0.005, 0.995]))
    if float(np.ptp(own)) < 1e-9 * float(np.abs(own).max()):
        raise Unidentified(
            "dg_min cannot be identified: every read has the same conductance, so no pulse moved "
            "a cell"
        )
    if not high > low:
        low, high = float(own.min()), float(own.max())
    index = np.unique(trace[keep], return_inverse=True)[1]
    first = np.r_[True, np.diff(index) != 0]
    n = np.where(first, 0, ahead[keep]).astype(np.float64)
    cells = np.unique(cell[keep][first], return_inverse=True)[1]
    notes = []
    if split:
        notes.append(
            f"{split} changes of polarity lie between two reads: how the pulses divide is not "
            "known, so the trace starts anew there"
        )
    if unread:
        notes.append(f"{len(unread)} gaps of {max(unread)} pulses at most are passed unread")
    if lost:
        notes.append(f"{lost} reads without a pulse to or from another left out")
    pulsed = None if drive is None else drive[keep]
    y = (g[keep] - low) / (high - low)
    return Traces(y, n, up[keep], index, cells, low, high - low, tuple(notes), pulsed)


def _check(
    data: PulseData,
    cell: Index,
    cycle: Index,
    pulse: Index,
    way: Index,
    ahead: Index,
    same: Mask,
) -> None:
    for bad, words in (
        (ahead < 0, "pulse must ascend within a cycle"),
        (same & (ahead > 0) & (way == 0), "a pulse has no polarity (0 is none, -1 is down)"),
    ):
        if bad.any():
            i = int(np.nonzero(bad)[0][0])
            raise ValueError(
                f"{words}: cell {data.cells[int(cell[i])]}, cycle {int(cycle[i])} goes from pulse "
                f"{int(pulse[i - 1])} to {int(pulse[i])}, polarity {int(way[i])}"
            )
