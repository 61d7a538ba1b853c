"""The pair of conductances that keeps a weight best while time passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crossbar.mappings import Curve
from crossbar.states import writing
from devices import Device
from devices._check import at_least, whole
from devices.draw import seeded


def best_curve(
    device: Device,
    seconds: Sequence[float],
    weights: Tensor | None = None,
    *,
    knots: int = 17,
    places: int = 65,
    cells: int = 2000,
    seed: int = 0,
    **options: Any,
) -> Curve:
    """The `Curve` of a device with the least squared error of weights, averaged over times.

    Cells of the device are written to evenly spaced places of the window and left alone; mean m_t
    and variance v_t of what a read finds of them (write error, drift, noise) are measured. For
    each size w of a weight the pair of places a, b is the one of all pairs that has the least

        mean over t of (α_t (m_t(a) − m_t(b)) − w)² + α_t² (v_t(a) + v_t(b))

    with α_t, the digital factor that drift compensation applies at time t, the one that suits all
    weights best; both are found in turn, from lines of several slopes on.

    Args:
        device: that time passes for.
        seconds: times after writing [s], >= 0, that count alike.
        weights: W/w_max whose sizes say how often each occurs; None: normal, 3 σ at w_max.
        knots: sizes that are tabulated, >= 2.
        places: of the window that are tried, >= 2.
        cells: that are simulated at each, >= 2.
        seed: of the simulation.
        options: of `Curve` (route, per_column, …).

    Raises:
        ValueError: no times, or a number out of range.

    Source: Mackin et al., Nat. Commun. 13:3765 (2022), doi:10.1038/s41467-022-31405-1.
    """
    whole("knots", knots, 2)
    whole("places", places, 2)
    whole("cells", cells, 2)
    times = sorted({at_least("seconds", t, 0, "s") for t in seconds})
    if not times:
        raise ValueError("seconds must hold at least one time")
    w = torch.linspace(0, 1, knots, dtype=torch.float64)
    if weights is None:
        often = torch.exp(-0.5 * (3 * w) ** 2)
    else:
        size = weights.detach().abs().double().clamp(max=1).flatten().cpu()
        often = torch.bincount((size * (knots - 1)).round().long(), minlength=knots).double()
    grid = torch.linspace(0, 1, places, dtype=torch.float64)
    mean, variance = _moments(device, [0.0, *times], grid, cells, seed)
    difference = mean.unsqueeze(2) - mean.unsqueeze(1)  # (times, a, b)
    power = difference.square() + variance.unsqueeze(2) + variance.unsqueeze(1)
    once = 1e-9 * grid.repeat(places)  # of equal pairs the one that leaves a cell at the bottom

    def settled(scale: float) -> tuple[float, Tensor, Tensor, float]:
        """From a line of that slope on: the error, both places, the slope at once after writing."""
        a, b = (w * scale * (places - 1)).round().long().clamp(max=places - 1), w.long() * 0
        while True:
            d, p = difference[:, a, b], power[:, a, b]  # (times, knots)
            factor = (often * w * d).sum(1) / (often * p).sum(1).clamp(min=1e-30)
            f = factor[1:].view(-1, 1, 1)
            linear = (f * difference[1:]).mean(0).flatten()
            square = (f.square() * power[1:]).mean(0).flatten()
            error, best = (square + once - 2 * w.unsqueeze(1) * linear).min(1)
            if torch.equal(best, a * places + b):
                return float((often * error).sum()), a, b, float(factor[0])
            a, b = best // places, best % places

    _, a, b, factor = min(
        (settled(2 ** (k / 4)) for k in range(8, -5, -1)), key=lambda found: found[0]
    )
    return Curve(
        plus=tuple(grid[a].tolist()),
        minus=tuple(grid[b].tolist()),
        size=1 / factor,
        **options,
    )


def _moments(
    device: Device, times: Sequence[float], grid: Tensor, cells: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mean and variance (times, places) of what reads find, in units of the window."""
    window, now = device.window, 0.0
    with writing():
        generator = seeded(f"{seed}/curve", torch.device("cpu"))
        state = device.fabricate((len(grid), cells), generator=generator, dtype=torch.float64)
        target = (window.g_min + window.span * grid).unsqueeze(1).expand(-1, cells)
        state = device.program(state, target, generator=generator)
        mean, variance = [], []
        for t in times:
            if t > now:
                state, now = device.advance(state, t - now, generator=generator), t
            seen, std = device.seen(state), device.std(state)
            white = 0 if std is None else std.square().expand(seen.shape).mean(1)
            mean.append((seen.mean(1) - window.g_min) / window.span)
            variance.append((seen.var(1) + white) / window.span**2)
    return torch.stack(mean), torch.stack(variance)
