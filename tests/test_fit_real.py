"""Measurements of other people, by default: the curve beside SciPy's, the noise beside the direct.

CrossSim's cell (BSD-3) and aihwkit's ramp (MIT), with their licences in tests/data/pulses.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

import devices
from devices import Device, PulseData, Pulses

DATA = Path(__file__).parent / "data" / "pulses"
NAMES = ("real_39_ramps_thinned.csv", "real_1000_up_down_every_10.csv")
each = pytest.mark.parametrize("name", [pytest.param(NAMES[0], marks=pytest.mark.slow), NAMES[1]])


@functools.cache
def fitted(name: str) -> tuple[PulseData, devices.Fit]:
    data = PulseData.read_csv(DATA / name)
    return data, devices.fit(data)


def cycles(data: PulseData) -> list[np.ndarray]:
    """Row numbers of every cycle."""
    return [np.flatnonzero(data.cycle.numpy() == c) for c in np.unique(data.cycle.numpy())]


def simulated(device: Device, data: PulseData) -> np.ndarray:
    """Mean of 300 devices given the file's pulses, every cycle from its own first read."""
    out, one = np.empty(len(data)), torch.ones(300, dtype=torch.float64)
    for rows in cycles(data):
        state = device.fabricate(
            (300,), generator=torch.Generator().manual_seed(0), dtype=one.dtype
        )
        state = state._replace(g=float(data.g[rows[0]]) * one)
        for k in rows:
            n = 0 if k == rows[0] else float(data.pulse[k] - data.pulse[k - 1])
            up = n if data.polarity[k] > 0 else 0.0
            generator = torch.Generator().manual_seed(int(k))
            given = Pulses(up * one, (n - up) * one)
            state = device.pulse(state, given, generator=generator) if n else state
            out[k] = float(state.g.mean())
    return out


def curve(data: PulseData, up, down) -> np.ndarray:
    """Pulse by pulse by two functions of g in units of the range, all cycles side by side."""
    runs, y = cycles(data), scaled(data)
    way, count = data.polarity.numpy(), data.pulse.numpy()
    g = np.array([y[rows[0]] for rows in runs])
    out = np.empty(len(y))
    out[[rows[0] for rows in runs]] = g
    for k in range(1, max(map(len, runs))):
        here = [c for c, rows in enumerate(runs) if len(rows) > k]
        at = np.array([runs[c][k] for c in here])
        n = count[at] - count[[runs[c][k - 1] for c in here]]
        for m in range(int(n.max())):
            own = g[here]
            after = np.clip(own + np.where(way[at] > 0, up(own), -down(own)), -1.0, 2.0)
            g[here] = np.where(m < n, after, own)
        out[at] = g[here]
    return out


def scaled(data: PulseData) -> np.ndarray:
    g = data.g.numpy()
    return (g - g.min()) / np.ptp(g)


NODES = np.linspace(0, 1, 6)


def straight(p):
    return (
        lambda g: np.exp(p[0]) * (1 + p[1] * (g - 0.5)),
        lambda g: np.exp(p[2]) * (1 + p[3] * (g - 0.5)),
    )


def pieces(p):
    return lambda g: np.interp(g, NODES, np.exp(p[:6])), lambda g: np.interp(
        g, NODES, np.exp(p[6:])
    )


def powers(p):
    low, high = -np.exp(p[4]), 1 + np.exp(p[5])
    return (
        lambda g: np.exp(p[0]) * (np.maximum(high - g, 0) / (high - 0.5)) ** np.exp(p[1]),
        lambda g: np.exp(p[2]) * (np.maximum(g - low, 0) / (0.5 - low)) ** np.exp(p[3]),
    )


@functools.cache
def by_scipy(name: str) -> dict[str, float]:
    """RMSE of laws by SciPy's least squares alone, from the first read of each cycle."""
    data, _ = fitted(name)
    y = scaled(data)
    pulses = sum(int(np.ptp(data.pulse.numpy()[rows])) for rows in cycles(data))
    size = np.log(np.abs(np.diff(y)).sum() / pulses / 3)
    starts = {
        "straight": (straight, [size, -1.0, size, 1.0]),
        "PiecewiseStep": (pieces, [size] * 12),
        "PowStep": (powers, [size, 0.0, size, 0.0, -1.5, -1.5]),
    }
    out = {}
    for law, (make, start) in starts.items():
        best = least_squares(
            lambda p, make=make: curve(data, *make(p)) - y, start, x_scale="jac", max_nfev=40
        )
        out[law] = float(np.sqrt(np.mean(best.fun**2)))
    return out


@pytest.mark.slow
@each
def test_the_default_command_finds_the_curve_that_scipy_finds(name: str) -> None:
    data, found = fitted(name)
    g = data.g.numpy()
    error = float(np.sqrt(np.mean((simulated(found.device, data) - g) ** 2)) / np.ptp(g))
    scipy = by_scipy(name)
    law = type(found.device.update).__name__
    same = scipy.get(law, scipy["straight"])
    assert error <= 1.3 * same, (law, error, scipy)
    assert error <= 1.3 * min(scipy.values()), (law, error, scipy)


@each
def test_read_noise_is_within_a_factor_of_two_of_the_direct_estimate(name: str) -> None:
    # direct: differences of neighbouring reads of a ramp, what their neighbours share taken off
    data, found = fitted(name)
    terms = []
    for rows in cycles(data):
        for way in (1, -1):
            own = data.g.numpy()[rows[data.polarity.numpy()[rows] == way]]
            trend = np.convolve(own, np.ones(21) / 21, mode="valid")
            step = np.diff(own[10:-10] - trend)
            terms.append(-np.mean(step[1:] * step[:-1]))
    direct = float(np.sqrt(np.mean(terms)))
    assert 0.5 < found.noise["read"].value / direct < 2, (found.noise["read"], direct)


def test_read_noise_of_a_binary_cell_is_that_of_its_repeated_reads() -> None:
    rng, rows = np.random.default_rng(0), []
    for k in range(300):
        level = (100e-6 if k % 2 else 5e-6) * (1 + 0.05 * rng.standard_normal())
        rows += [(k, 1 if k % 2 else -1, level + 0.3e-6 * rng.standard_normal()) for _ in range(2)]
    pulse, way, g = (torch.tensor(c) for c in zip(*rows, strict=True))
    found = devices.fit(PulseData(("A",) * 600, torch.zeros(600).long(), pulse, way, g.double()))
    reads = g.numpy()
    direct = float((reads[1::2] - reads[::2]).std() / 2**0.5)
    assert 1 / 1.5 < found.noise["read"].value / direct < 1.5


def test_a_fit_prints_what_it_found() -> None:
    found = fitted(NAMES[1])[1]
    head, *lines = str(found).splitlines()
    assert head.startswith(f"{type(found.device.update).__name__}: 200 reads")
    step = found.parameters["dg_min"]
    assert f"{step.value:.4g} ({step.low:.3g} … {step.high:.3g}) S" in lines[0]
    assert [line[2:] for line in lines if line.startswith("- ")] == list(found.sentences)
