"""The runs behind the page of presets: one cell's curves, and many pulses against single ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from devices import Device, Draw, Pulses, State, Update, presets
from experiments.lab.run import Outcome, Run, Stored

CELLS = 200
POINTS = 60
TIMES = (1.0, 10.0, 100.0, 1e3, 1e4, 86400.0, 1e6, 1e7, 31557600.0)
"""Seconds since writing at which retention is shown."""


@dataclass(frozen=True)
class PresetCurves(Run):
    """What one preset does: pulses up and down, steps, noise and time; parts of the window."""

    preset: str

    def label(self) -> str:  # noqa: D102
        return f"{self.preset}: curves"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        device: Device = getattr(presets, self.preset)()
        generator = torch.Generator().manual_seed(0)
        curves: dict[str, list[float]] = {}
        metrics = {"g_min": device.g_min, "g_max": device.g_max}
        if device.update is not None:
            step = device.update.step(device.window)
            metrics["states"] = device.window.span / step
            curves |= _sweeps(device, metrics["states"], generator)
            curves |= _steps(device, generator)
        curves |= _noise(device, generator)
        curves |= _times(device, generator)
        return Outcome(metrics, curves)


@dataclass(frozen=True)
class ManyPulses(Run):
    """Error of pulses given at once against the same pulses one by one, in nominal steps."""

    name: str
    law: Update
    counts: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
    cells: int = 20000

    def label(self) -> str:  # noqa: D102
        return f"{self.name}: many pulses at once"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        device = Device(1e-6, 51e-6, update=self.law)
        curves: dict[str, list[float]] = {"counts": [float(n) for n in self.counts]}
        for way, (up, down) in {"up": (1, 0), "down": (0, 1), "mixed": (1, 1)}.items():
            generator = torch.Generator().manual_seed(0)
            start = _at(device, 0.5, generator, cells=self.cells)
            single, done = start, 0
            mean, std, error = [], [], []
            for n in self.counts:
                for k in range(done, n):
                    turns = [(up, 0), (0, down)] if k % 2 else [(0, down), (up, 0)]
                    for turn in turns:
                        if any(turn):
                            single = device.pulse(
                                single, _pulses(single, *turn), generator=generator
                            )
                done = n
                many = device.pulse(start, _pulses(start, n * up, n * down), generator=generator)
                step = self.law.step(device.window)
                spread = single.g.std()
                mean.append(float((many.g - single.g).mean().abs() / step))
                std.append(float((many.g.std() / spread - 1).abs()))
                error.append(float(spread / step * (2 / self.cells) ** 0.5))
            curves |= {f"{way} mean": mean, f"{way} std": std, f"{way} error": error}
        return Outcome({}, curves)


def _pulses(state: State, up: float, down: float) -> Pulses:
    return Pulses(torch.full_like(state.g, up), torch.full_like(state.g, down))


def _at(device: Device, part: float, generator: torch.Generator, *, cells: int = CELLS) -> State:
    """Cells set to a part of the window, without programming error, freshly written."""
    exact = replace(device, write=None)
    state = exact.fabricate((cells,), generator=generator, dtype=torch.float64)
    target = torch.full_like(state.g, device.g_min + part * device.window.span)
    return exact.program(state, target, generator=generator)


def _part(device: Device, g: Tensor) -> Tensor:
    return (g - device.g_min) / device.window.span


def _sweeps(device: Device, states: float, generator: torch.Generator) -> dict[str, list[float]]:
    """Two sweeps up and down: median and central 80 % of many cells, and one of them."""
    each = max(1, math.ceil(states / POINTS))
    sweep = min(POINTS, max(8, math.ceil(states / each)))
    state = _at(device, 0.0, generator)
    shown = [_part(device, device.seen(state))]
    for up in (True, False, True, False):
        for _ in range(sweep):
            state = device.pulse(
                state, _pulses(state, each * up, each * (not up)), generator=generator
            )
            shown.append(_part(device, device.seen(state)))
    g = torch.stack(shown)
    low, median, high = torch.quantile(g, torch.tensor([0.1, 0.5, 0.9]).double(), dim=1)
    return {
        "pulse": [float(each * k) for k in range(len(shown))],
        "median": median.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "one": g[:, 0].tolist(),
    }


def _steps(device: Device, generator: torch.Generator) -> dict[str, list[float]]:
    """Mean change of one pulse over many cells against the conductance, in parts of the window."""
    where = [k / 20 for k in range(21)]
    found: dict[str, list[float]] = {"at": where, "up": [], "down": []}
    for part in where:
        state = _at(device, part, generator, cells=20 * CELLS)
        for way, turn in (("up", (1, 0)), ("down", (0, 1))):
            moved = device.pulse(state, _pulses(state, *turn), generator=generator)
            found[way].append(float((moved.g - state.g).mean() / device.window.span))
    return found


def _noise(device: Device, generator: torch.Generator) -> dict[str, list[float]]:
    """Write error and read noise against the conductance, in parts of the window."""
    where = [k / 20 for k in range(21)]
    found: dict[str, list[float]] = {"g": where}
    for part in where:
        state = _at(device, part, generator, cells=20 * CELLS)
        if device.write is not None:
            target = torch.full_like(state.g, device.g_min + part * device.window.span)
            wrote = device.write.program(device.window, target, Draw.like(target, generator))
            found.setdefault("write", []).append(float((wrote - target).std()) / device.window.span)
        for name, age in (("second", 1.0), ("day", 86400.0)):
            if device.read is None or (name == "day" and not device.read.ages):
                continue
            aged = state._replace(age=torch.full_like(state.age, age))
            white = device.std(aged)
            assert white is not None
            slow = (device.seen(aged) - aged.g).var()
            total = float((white.square().mean() + slow).sqrt())
            found.setdefault(name, []).append(total / device.window.span)
    return found


def _times(device: Device, generator: torch.Generator) -> dict[str, list[float]]:
    """Mean of many cells against the time since writing, from a quarter, a half and the top."""
    if device.retention is None:
        return {}
    found: dict[str, list[float]] = {"time": list(TIMES)}
    for name, part in (("quarter", 0.25), ("half", 0.5), ("full", 1.0)):
        state = _at(device, part, generator, cells=20 * CELLS)
        found[name] = []
        last = 0.0
        for time in TIMES:
            state = device.advance(state, time - last, generator=generator)
            last = time
            found[name].append(float(_part(device, state.g).mean()))
    return found
