"""A lookup device straight from pulse data: no law, the measured steps themselves."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from devices.device import Device
from devices.fitting.data import NOTHING, UP, PulseData, Unidentified
from devices.lookup import LookupStep


def lookup_device(data: PulseData | str | Path, *, nodes: int = 16, quantiles: int = 21) -> Device:
    """The device whose cells repeat the measured distribution of ΔG at every G.

    One table per measured cell, which is its spread from cell to cell; mean and noise both depend
    on G, with the shape they have. The window is that of the reads. Noise of the reads is in the
    tables, where it counts as noise of the pulses: where it matters, repeat every read and average,
    or fit a law (`devices.fit`), which tells the two apart. Single reads further than the data's
    own jumps from both neighbours are left out.

    Args:
        data: reads after single pulses, or the path of a CSV file in the format of
            docs/pulse-data.md.
        nodes: conductances at which the distribution is tabulated.
        quantiles: numbers that describe it.

    Raises:
        Unidentified: a cell without up or without down pulses between reads.
    """
    if not isinstance(data, PulseData):
        data = PulseData.read_csv(data)
    y, kind, cell = data.blocks()
    y = _without_spikes(y)
    cells: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, label in enumerate(data.cells):
        own, way = y[:, cell == index], kind[1:, cell == index]
        before, after = own[:-1], own[1:]
        keep = (way != NOTHING) & ~before.isnan() & ~after.isnan()
        up = (way == UP)[keep]
        if not bool(up.any()) or bool(up.all()):
            raise Unidentified(
                f"cell {label} has no {'up' if not bool(up.any()) else 'down'} pulse between two "
                "reads: its steps cannot be tabulated"
            )
        cells.append((before[keep], after[keep], up))
    law = LookupStep.from_pulses(cells, nodes=nodes, quantiles=quantiles)
    reads = y[~y.isnan()]
    return Device(max(float(reads.min()), 0.0), float(reads.max()), update=law)


def _without_spikes(y: Tensor) -> Tensor:
    """Reads that stand out from both neighbours the same way, by ten typical jumps, as missing."""
    ahead, behind = y[1:-1] - y[2:], y[1:-1] - y[:-2]
    typical = y.diff(dim=0).abs().nanmedian()
    spike = (ahead * behind > 0) & (torch.minimum(ahead.abs(), behind.abs()) > 10 * typical)
    out = y.clone()
    out[1:-1][spike] = torch.nan
    return out
