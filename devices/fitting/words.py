"""A sentence on every kind of noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from devices.fitting.result import Parameter
from devices.fitting.shooting import Shot

WHAT = {
    "read": "white noise of a read, gone at the next read",
    "coloured read": "slow noise of the reads, which comes back to the cell's own value",
    "pulse": "noise of every pulse, which stays and adds up in training; relative to the step",
    "ramp to ramp": "difference of the step from ramp to ramp, pulses of a ramp alike; relative",
    "up against down": "difference between the ways up and down of a ramp; relative to the step",
    "drift over cycles": "change of the step with every cycle of a cell; relative",
    "cell to cell": "spread of the step from cell to cell; relative",
}


def sentences(noise: Mapping[str, Parameter], shot: Shot, tau: float) -> list[str]:
    """What was found of every kind, in words."""
    reach = float(np.ptp(shot.traces.y[shot.traces.seen])) * shot.traces.span
    out = []
    for name, part in noise.items():
        unit = f" µS ({part.value / reach:.2%} of the range of the reads)" if part.unit else ""
        if name == "coloured read" and part.value:
            unit += f", memory {tau:.0f} pulses"
        value, low, high = (
            f"{v * (1e6 if part.unit else 1):.3g}" for v in (part.value, part.low, part.high)
        )
        if not np.isfinite(part.high):
            found = "these data cannot show it; taken as 0"
        elif name == "drift over cycles" and part.covers(0):
            found = f"{value}, may be none, between {low} and {high}"
        elif part.low == 0:
            found = f"{value}{unit}, may be 0 and is at most {high}"
        else:
            found = f"{value}{unit}, between {low} and {high}"
        out.append(f"{name}: {found} ({WHAT[name]})")
    kept = ["coloured read", "ramp to ramp", "up against down", "drift over cycles"]
    kept = [n for n in kept if n in noise and noise[n].low * noise[n].high > 0]
    if kept:
        out.append(f"not in the device, which has no part for it: {', '.join(kept)}")
    return out
