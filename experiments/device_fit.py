"""Pulse data beside the same pulses on a fitted device: what the report of a measurement draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices import Device, Fit, PulseData, Pulses
from devices.fitting.data import DOWN, UP, Blocks

BINS = 16
FEWEST = 8
"""Steps in a bin that is shown."""


def repeated(device: Device, blocks: Blocks, *, seed: int = 0) -> Tensor:
    """The same pulses on as many cells of a device, from the same first reads; (times, blocks) [S].

    Missing reads are missing here too.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = int(blocks.cell.max()) + 1
    made = device.fabricate((cells,), generator=generator, dtype=torch.float64)

    def spread(leaf: object) -> object:
        if isinstance(leaf, Tensor):
            return leaf[blocks.cell] if leaf.dim() else leaf
        return type(leaf)(*(spread(x) for x in leaf)) if isinstance(leaf, tuple) else leaf

    start = blocks.y[0].clone()
    state = made._replace(g=start, update=spread(made.update), read=spread(made.read))
    out = torch.empty_like(blocks.y)
    out[0] = start
    for t in range(1, len(out)):
        up, down = ((blocks.kind[t] == kind).double() for kind in (UP, DOWN))
        state = device.pulse(state, Pulses(up, down), generator=generator)
        noise = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        std = device.std(state)
        out[t] = device.seen(state) + (0.0 if std is None else std * noise)
    return out.masked_fill(blocks.y.isnan(), torch.nan)


@dataclass(frozen=True)
class Shown:
    """Curves of one set of traces; conductances in µS."""

    pulse: list[float]
    mean: list[float]
    low: list[float]  # central 80 % of the traces
    high: list[float]
    steps: dict[int, tuple[list[float], list[float], list[float]]]  # kind: g, mean step, its std


def shown(y: Tensor, blocks: Blocks) -> Shown:
    """Mean curve, step against conductance and its scatter, outliers beyond 6 MAD left out."""
    micro = 1e6 * y
    levels = torch.tensor([0.1, 0.9], dtype=torch.float64)
    first = blocks.kind[:, :1]
    alike = (blocks.kind == first).all(0)  # traces given the same pulses as the first one
    curve = micro[:, alike]
    low, high = torch.nanquantile(curve, levels, dim=1)
    mean = curve.nanmedian(1).values
    seen = ~mean.isnan()
    steps = {}
    for kind in (UP, DOWN):
        step, before = micro.diff(dim=0), micro[:-1]
        keep = (blocks.kind[1:] == kind) & ~step.isnan()
        steps[kind] = _binned(before[keep], step[keep])
    at = torch.arange(len(mean))[seen].double()
    return Shown(at.tolist(), mean[seen].tolist(), low[seen].tolist(), high[seen].tolist(), steps)


def _binned(g: Tensor, step: Tensor) -> tuple[list[float], list[float], list[float]]:
    ends = torch.quantile(g, torch.tensor([0.01, 0.99], dtype=g.dtype))
    edges = torch.linspace(float(ends[0]), float(ends[1]), BINS + 1, dtype=g.dtype)
    rows = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        here = step[(g >= a) & (g < b)]
        if len(here) < FEWEST:
            continue
        middle = here.median()
        limit = 6 * 1.4826 * (here - middle).abs().median() + 1e-12
        here = here[(here - middle).abs() <= limit]
        rows.append((float(a + b) / 2, float(here.mean()), float(here.std())))
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    at, mean, std = (list(c) for c in columns)
    return at, mean, std


def both(found: Fit, data: PulseData) -> tuple[Shown, Shown]:
    """The measured traces, and the fitted device under the same pulses."""
    blocks = data.blocks()
    return shown(blocks.y, blocks), shown(repeated(found.device, blocks), blocks)
