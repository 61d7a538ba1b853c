"""Measured ramps beside the same pulses on a fitted device: what the report of a fit draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from devices import Device, Fit, PulseData, Pulses, State
from devices.fitting.look import without_spikes
from devices.fitting.traces import Traces, traces_of

Array = NDArray[np.float64]

COPIES = 100
"""Devices that are given the pulses of every measured trace."""

ROWS = 20_000
"""Reads that are shown at most."""


@dataclass(frozen=True)
class Both:
    """Reads of whole traces and what copies of the device read; conductances in µS."""

    pulse: Array  # pulses of the trace before each read
    trace: NDArray[np.int64]
    up: NDArray[np.bool_]
    measured: Array
    mean: Array  # of the copies, without read noise
    low: Array  # central 90 % of what copies read
    high: Array
    scatter: dict[str, tuple[float, float]]  # of measured and simulated reads, up and down

    @property
    def reach(self) -> float:
        """Range of the reads [µS]."""
        return float(np.ptp(self.measured))

    @property
    def residual(self) -> Array:
        """Read − mean of the copies, in percent of the range."""
        return (self.measured - self.mean) / self.reach * 100

    def rmse(self, ramps: NDArray[np.bool_] | None = None) -> float:
        """Root mean square residual of all reads or of some, in percent of the range."""
        own = self.residual if ramps is None else self.residual[ramps]
        return float(np.sqrt(np.mean(own**2))) if len(own) else float("nan")

    def inside(self, ramps: NDArray[np.bool_]) -> float:
        """Part of the reads of some ramps within the copies' central 90 %."""
        own = (self.measured >= self.low) & (self.measured <= self.high)
        return float(own[ramps].mean()) if ramps.any() else float("nan")


def both(found: Fit, data: PulseData, *, seed: int = 0) -> Both:
    """The measured traces, and the device under the same pulses from the same first reads."""
    traces = shown(data)
    mean, reads = simulated(found.device, traces, seed=seed)
    y = 1e6 * traces.conductance(traces.y)
    seen = traces.seen
    count = np.cumsum(traces.n)
    pulse = count - count[traces.first][traces.trace]
    low, high = np.quantile(1e6 * reads, [0.05, 0.95], axis=1)
    scattered = {
        "measured": scatter(traces, y[:, None]),
        "simulated": scatter(traces, 1e6 * reads),
    }
    return Both(
        pulse[seen],
        traces.trace[seen],
        traces.up[seen],
        y[seen],
        1e6 * mean[seen],
        low[seen],
        high[seen],
        scattered,
    )


def shown(data: PulseData) -> Traces:
    """Whole traces of the data, some of them where there are many reads."""
    traces, _ = without_spikes(traces_of(data, driven=bool(data.varies)))
    return traces.thinned(ROWS)


def simulated(device: Device, traces: Traces, *, seed: int = 0) -> tuple[Array, Array]:
    """Mean conductance and reads of `COPIES` devices at every row [S]; (rows,), (rows, copies).

    A copy starts from the first read less a noise of its own, for that read had one too.
    """
    generator = torch.Generator().manual_seed(seed)
    begin = traces.first
    length = np.diff(np.r_[begin, len(traces.y)])
    start = torch.tensor(traces.conductance(traces.y[begin]))[:, None].expand(-1, COPIES)
    state = device.fabricate((traces.size, COPIES), generator=generator, dtype=torch.float64)
    state = state._replace(g=start.clone())
    std = device.std(state)
    if std is not None:
        noise = std * torch.randn(start.shape, generator=generator, dtype=torch.float64)
        state = state._replace(g=(start - noise).clamp_min(0.0))
    mean = np.empty(len(traces.y))
    reads = np.empty((len(traces.y), COPIES))
    for k in range(int(length.max())):
        here = length > k
        rows = begin[here] + k
        n, up = np.zeros(traces.size), _rising(traces, here, rows)
        n[here] = traces.n[rows]
        if n.any() and traces.drive is not None:
            state = _driven(device, state, traces, here, rows, generator)
        elif n.any():
            given = [torch.tensor(np.where(way, n, 0.0))[:, None] for way in (up, ~up)]
            pulses = Pulses(*(t.expand(-1, COPIES).contiguous() for t in given))
            state = device.pulse(state, pulses, generator=generator)
        seen, std = device.seen(state), device.std(state)
        if std is not None:
            noise = torch.randn(seen.shape, generator=generator, dtype=torch.float64)
            seen = seen + std * noise
        mean[rows] = state.g.mean(1).numpy()[here]
        reads[rows] = seen.numpy()[here]
    return mean, reads


def _driven(
    device: Device,
    state: State,
    traces: Traces,
    here: NDArray[np.bool_],
    rows: NDArray[np.int64],
    generator: torch.Generator,
) -> State:
    """The copies after pulses of one row's amplitude and width in every trace."""
    assert traces.drive is not None and device.update is not None
    width = getattr(device.update, "width", 1e-6)
    n, v, t = (np.zeros(traces.size) for _ in range(3))
    n[here], (v[here], t[here]) = traces.n[rows], traces.drive[rows].T
    v = np.where(n > 0, np.where(_rising(traces, here, rows), v, -v), 0.0)
    t = np.where(np.isfinite(t) & (t > 0), t, width)
    for k in range(int(n.max())):
        for one in np.unique(t[n > k]):
            volts = torch.tensor(np.where((n > k) & (t == one), v, 0.0))[:, None]
            state = device.drive(state, volts.expand(-1, COPIES), float(one), generator=generator)
    return state


def _rising(traces: Traces, here: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Direction of one row in every trace; down in traces that have ended."""
    out = np.zeros(traces.size, dtype=bool)
    out[here] = traces.up[rows]
    return out


def scatter(traces: Traces, y: Array) -> tuple[float, float]:
    """Robust scatter of a read about the mean of its neighbours in the ramp, up and down [µS]."""
    out = []
    same = traces.ramp[2:] == traces.ramp[:-2]
    seen = traces.seen[2:] & traces.seen[1:-1] & traces.seen[:-2]
    for way in (True, False):
        rows = np.nonzero(same & seen & (traces.up[2:] == way))[0] + 1
        away = y[rows] - (y[rows - 1] + y[rows + 1]) / 2
        own = np.abs(away - np.median(away)) if len(rows) else np.full(1, np.nan)
        out.append(1.4826 * float(np.median(own)))
    return out[0], out[1]
