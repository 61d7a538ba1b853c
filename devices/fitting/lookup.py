"""No law: a device of the measured steps themselves, and how well it predicts other cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from devices.device import Device
from devices.fitting.data import NOTHING, UP, Blocks, PulseData, Unidentified
from devices.fitting.filter import FLOOR
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
        data: reads after single pulses, or the path of a CSV file in the format of
            docs/pulse-data.md.
        nodes: conductances at which the distribution is tabulated.
        quantiles: numbers that describe it.

    Raises:
        Unidentified: a cell without up or without down pulses between reads.
    """
    if not isinstance(data, PulseData):
        data = PulseData.read_csv(data)
    blocks = data.blocks()
    law, y = tabulated(blocks, data.cells, nodes=nodes, quantiles=quantiles)
    reads = y[~y.isnan()]
    return Device(max(float(reads.min()), 0.0), float(reads.max()), update=law)


def tabulated(
    blocks: Blocks, labels: Sequence[object], *, nodes: int = NODES, quantiles: int = QUANTILES
) -> tuple[LookupStep, Tensor]:
    """The law of the measured steps, and the reads without those that were left out.

    Raises:
        Unidentified: a cell without up or without down pulses between reads.
    """
    y, kind, cell = blocks
    y = _without_spikes(y)
    cells: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, label in enumerate(labels):
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
    return LookupStep.from_pulses(cells, nodes=nodes, quantiles=quantiles), y


def predicted(train: Blocks, test: Blocks, outlier: float) -> Tensor:
    """Log-likelihood of every cell of `test` if it is a copy of one of `train` at random (cells,).

    Each read is predicted from the read before it by mean and variance of the tabulated steps (the
    normal with these moments, as for the laws; a read beyond `outlier` standard deviations counts
    as one there), pulses without a read between them one after the other. The tables do not tell
    the noise of reads from that of pulses, so neither does this. A node's variance is at least the
    median of all cells' there: few steps in a node may agree by chance.

    Raises:
        Unidentified: a cell of `train` whose steps cannot be tabulated.
    """
    law, _ = tabulated(train, range(int(train.cell.max()) + 1))
    first, spacing = law.nodes[0], law.nodes[1] - law.nodes[0]
    values = torch.tensor([law.up, law.down], dtype=torch.float64)  # (2, C, nodes, quantiles)
    a, b = values[..., :-1], values[..., 1:]
    mean = ((a + b) / 2).mean(-1)
    variance = ((a * a + a * b + b * b) / 3).mean(-1) - mean.square()
    variance = torch.maximum(variance, variance.median(1, keepdim=True).values)
    still = train.y.diff(dim=0)[train.kind[1:] == NOTHING]
    again = 2.2 * float(still.abs().nanmedian()) ** 2 if bool((~still.isnan()).any()) else 0.0
    mean = torch.cat([mean, torch.zeros_like(mean[:1])]).flatten()
    variance = torch.cat([variance, torch.full_like(variance[:1], again)]).flatten() + FLOOR**2

    tables, last = values.shape[1], len(law.nodes) - 1
    row = torch.arange(tables)[:, None] * (last + 1)
    g = test.y[0].expand(tables, -1)
    spread, score = torch.zeros_like(g), torch.zeros_like(g)
    for y, kind in zip(test.y[1:], test.kind[1:], strict=True):
        at = ((g - first) / spacing).clamp(0, last)
        left = at.long().clamp(max=last - 1)
        share, index = at - left, left + row + kind * (tables * (last + 1))
        g = g + torch.lerp(mean[index], mean[index + 1], share)
        spread = spread + torch.lerp(variance[index], variance[index + 1], share)
        seen = ~y.isnan()
        z2 = ((y - g).square() / spread).clamp(max=outlier**2)
        score = score - 0.5 * torch.where(seen, z2 + torch.log(2 * math.pi * spread), 0.0)
        g, spread = torch.where(seen, y, g), torch.where(seen, 0.0, spread)
    cells = int(test.cell.max()) + 1
    total = torch.zeros(tables, cells, dtype=torch.float64).index_add_(1, test.cell, score)
    return total.logsumexp(0) - math.log(tables)


def _without_spikes(y: Tensor) -> Tensor:
    """Reads that stand out from both neighbours the same way, by ten typical jumps, as missing."""
    ahead, behind = y[1:-1] - y[2:], y[1:-1] - y[:-2]
    typical = y.diff(dim=0).abs().nanmedian()
    spike = (ahead * behind > 0) & (torch.minimum(ahead.abs(), behind.abs()) > 10 * typical)
    out = y.clone()
    out[1:-1][spike] = torch.nan
    return out
