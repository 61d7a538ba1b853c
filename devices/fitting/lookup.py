"""No law: a device of the measured steps themselves, and how well their means predict ramps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from devices.device import Device
from devices.fitting.data import PulseData, Unidentified
from devices.fitting.families import Piecewise
from devices.fitting.look import without_spikes
from devices.fitting.shooting import Curve
from devices.fitting.traces import Array, Mask, Traces, traces_of
from devices.update.lookup import LookupStep

NODES, QUANTILES = 16, 21
"""Conductances at which a distribution of steps is tabulated, and numbers that describe it."""


def lookup_device(
    data: PulseData | str | Path, *, nodes: int = NODES, quantiles: int = QUANTILES
) -> Device:
    """The device whose cells repeat the measured distribution of ΔG at every G.

    One table per measured cell, which is its spread from cell to cell; mean and noise both depend
    on G, with the shape they have. The window is that of the reads. Noise of the reads is in the
    tables, where it counts as noise of the pulses: where it matters, repeat every read and average,
    or fit a law (`devices.fit`), which tells the two apart. Single reads further than the data's
    own jumps from both neighbours are left out.

    Args:
        data: reads after single pulses, or the path of a text file in a form of docs/pulse-data.md.
        nodes: conductances at which the distribution is tabulated.
        quantiles: numbers that describe it.

    Raises:
        Unidentified: a cell without up or without down pulses between reads.
    """
    if not isinstance(data, PulseData):
        data = PulseData.read_csv(data)
    traces, _ = without_spikes(traces_of(data))
    cells: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    before, after, single = _steps(traces)
    owner = traces.cell[traces.trace]
    g = traces.conductance
    for index, label in enumerate(data.cells[: traces.cells]):
        own = single & (owner == index)
        up = traces.up[own]
        if not up.any() or up.all():
            raise Unidentified(
                f"cell {label} has no {'up' if not up.any() else 'down'} pulse between two "
                "reads: its steps cannot be tabulated"
            )
        cells.append((torch.tensor(g(before[own])), torch.tensor(g(after[own])), torch.tensor(up)))
    law = LookupStep.from_pulses(cells, nodes=nodes, quantiles=quantiles)
    reads = g(traces.y[traces.seen])
    return Device(max(float(reads.min()), 0.0), float(reads.max()), update=law)


def _steps(traces: Traces) -> tuple[Array, Array, Mask]:
    """Reads before and after every pulse, and which rows are one pulse between two reads."""
    before = np.r_[np.nan, traces.y[:-1]]
    same = np.r_[False, traces.trace[1:] == traces.trace[:-1]]
    return before, traces.y, same & (traces.n == 1) & np.isfinite(before) & traces.seen


class Table(Piecewise):
    """The mean measured step at every node."""

    def size(self, theta: Array, x: Array, up: bool) -> Array:  # noqa: D102
        half = len(self.at)
        return np.interp(x, self.at, np.maximum(theta[:half] if up else theta[half:], 1e-7))


def means(traces: Traces) -> Array:
    """Mean steps at the nodes, up then down; a node without reads takes its neighbours' mean.

    Raises:
        Unidentified: fewer than eight single pulses of a direction.
    """
    before, after, single = _steps(traces)
    at = np.linspace(0, 1, NODES)
    out = []
    for way, sign in ((True, 1.0), (False, -1.0)):
        own = single & (traces.up == way)
        if own.sum() < 8:
            raise Unidentified(
                f"{int(own.sum())} single {'up' if way else 'down'} pulses lie between two reads: "
                "their steps cannot be tabulated"
            )
        # around the middle of the step, so that read noise does not make it
        node = np.abs(((before + after) / 2)[own, None] - at).argmin(1)
        count = np.bincount(node, minlength=NODES)
        total = np.bincount(node, weights=sign * (after - before)[own], minlength=NODES)
        filled = count > 0
        out.append(np.interp(at, at[filled], total[filled] / count[filled]))
    return np.concatenate(out)


def table_error(traces: Traces, held: bool, weight: float) -> tuple[float, int]:
    """Root mean square error of whole ramps by mean measured steps, in units of x, and its size.

    Of unseen ramps where `held`; `weight` is that of first reads.

    Raises:
        Unidentified: too few single pulses of a direction.
    """
    family = Table(NODES)
    parts = [np.arange(k, traces.size, 4) for k in range(min(4, traces.size))] if held else []
    total = 0.0
    for left in parts or [np.arange(traces.size)]:
        kept = traces.of(np.setdiff1d(np.arange(traces.size), left)) if parts else traces
        test = traces.of(left)
        start = test.y[test.first].copy()
        _, mean, _ = Curve(family, means(kept), test).begun(start, None, weight)
        total += float(np.sum((test.y[test.seen] - mean) ** 2))
    return float(np.sqrt(total / traces.seen.sum())), 2 * traces.cells * NODES * QUANTILES
