"""The device of binary cells."""

from __future__ import annotations

import numpy as np

from devices.device import Device
from devices.fitting.compare import Candidate
from devices.fitting.data import PulseData
from devices.fitting.result import Fit, Parameter, scaled
from devices.fitting.switching import switches
from devices.fitting.traces import Traces
from devices.read.gaussian import GaussianRead
from devices.update.binary import StochasticSwitch
from devices.write.gaussian import GaussianWrite


def binary(data: PulseData, traces: Traces, middle: float) -> Fit:
    """Two levels that pulses switch between; the scatter of a written state is write error."""
    found = switches(traces, middle)
    low, high = float(traces.conductance(found.off)), float(traces.conductance(found.on))
    low = max(low, 0.0)
    span, unit = high - low, traces.span
    scatter = float(np.sqrt((found.off_scatter**2 + found.on_scatter**2) / 2)) * unit
    read = None
    parameters = {
        "g_min": Parameter(low, low, low, "S"),
        "g_max": Parameter(high, high, high, "S"),
        "p_up": scaled(found.up),
        "p_down": scaled(found.down),
        "write": Parameter(scatter / span, scatter / span, scatter / span),
    }
    noise = {}
    said = [
        f"written states scatter by {found.off_scatter * unit:.3g} S (off) and "
        f"{found.on_scatter * unit:.3g} S (on): error of writing, in the device's write part, the "
        "same for both"
    ]
    if found.read is None:
        said.append(
            "the read noise is unknown: no state is read twice without a pulse between, and the "
            "scatter of the states is no measure of it; the device reads without noise"
        )
    else:
        own = found.read
        read = GaussianRead(own.value * unit / span)
        parameters["read"] = scaled(own, unit / span)
        noise["read"] = scaled(own, unit, "S")
    tiny = 1e-6
    law = StochasticSwitch(p_up=max(found.up.value, tiny), p_down=max(found.down.value, tiny))
    device = Device(low, high, update=law, read=read, write=GaussianWrite(scatter / span))
    side = np.where(traces.y > middle, found.on, found.off)
    error = float(np.sqrt(np.nanmean((traces.y - side) ** 2)) / np.ptp(traces.y[traces.seen]))
    one = Candidate(StochasticSwitch.__name__, 4, error, False, True, "two levels")
    lost = int((~np.isfinite(data.g.numpy())).sum())
    notes = (*data.account, *traces.notes)
    return Fit(
        device, parameters, noise, tuple(said), (one,), error, len(data), lost, notes, None, None
    )
