"""Steps of in-situ rules against torch's digital step and aihwkit's, as ratios within one run.

python benchmarks/bench_rules.py [--repeats N] [--threads N] [--only TEXT] [--cpu]

784-256-128-10, ReRAM-SB, one cell a weight around a perfect zero and converters as aihwkit has
them, batches of 1, 10 and 64, the same inputs and errors at every step; minimum of interleaved
repeats. Density decides, so the coincidences a cell and vector that A (or the only array) is given
are counted beside every number. aihwkit takes part where it can be imported (ReRamSB presets of
its TTv2 and mixed precision); the bars are ratios to its step, for one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from timing import interleaved
from torch import Tensor, nn

import crossbar as xb
from devices import presets

LR = 0.1
SCALED: dict[str, Any] = {"fast_lr": 0.5, "auto_scale": True, "auto_granularity": 1000.0}
RULES = {
    "SGD": xb.Pulsed(xb.ExactBits()),
    "TTv2": xb.TikiTaka(scheme=xb.ExactBits(31), **SCALED),
    "mixed precision": xb.MixedPrecision(),
}
BARS = {("TTv2", 1): 0.4, ("TTv2", 10): 0.6, ("TTv2", 64): 0.6} | {
    ("mixed precision", batch): 1.0 for batch in (1, 10, 64)
}


class Coincidences(xb.Probe):
    """Pulses of the first array of every weight."""

    def __init__(self, first: list[Any]) -> None:
        self.first, self.count = first, 0.0

    def pulsed(self, matrix: Any, given: Any) -> None:
        if any(matrix is m for m in self.first):
            self.count += float((given[0].up + given[0].down).sum())


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 10)
    )


def step_of(model: nn.Module, optimiser: Any, x: Tensor, e: Tensor) -> Callable[[], None]:
    def step() -> None:
        optimiser.zero_grad()
        (model(x) * e).sum().backward()
        optimiser.step()

    return step


def ours(rule: xb.Rule, x: Tensor, e: Tensor) -> tuple[Callable[[], None], float]:
    """A step, and its coincidences a cell and vector."""
    device = presets.reram_sb()
    dac = xb.DAC(7, range=xb.PerVector())
    full = 12 / 2 * dac.v_max * (device.g_max - device.g_min)
    port = xb.Periphery(dac, xb.ADC(9, range=xb.Fixed(full), noise=0.06 / 12))
    chip = xb.Chip(device, xb.SingleCell(w_max=1.0), port)
    model = xb.convert(net(), chip, mode=xb.InSitu(rule=rule, gradient=False), seed=1)
    step = step_of(model, xb.InSituSGD(model, LR), x, e)
    first = [next(iter(w.all()))[1] for w in xb.analog_weights(model).values()]
    probe = Coincidences(first)
    for _ in range(3):
        step()
    with xb.observe(model, probe):
        step()
    cells = sum(torch.Size(m.lines).numel() for m in first)
    return step, probe.count / cells / len(x)


def aihwkit(name: str, x: Tensor, e: Tensor) -> Callable[[], None] | None:
    """Its step under the same preset; None where it is not installed."""
    if importlib.util.find_spec("aihwkit") is None:
        return None
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.optim import AnalogSGD
    from aihwkit.simulator.presets import (
        MixedPrecisionReRamSBPreset,
        ReRamSBPreset,
        TTv2ReRamSBPreset,
    )

    kinds = {
        "SGD": ReRamSBPreset,
        "TTv2": TTv2ReRamSBPreset,
        "mixed precision": MixedPrecisionReRamSBPreset,
    }
    config = kinds[name]()
    config.mapping.max_input_size = config.mapping.max_output_size = 0  # one tile a layer, as ours
    config.mapping.weight_scaling_omega = 0.0
    model = convert_to_analog(net(), config)
    optimiser = AnalogSGD(model.parameters(), lr=LR)
    optimiser.regroup_param_groups(model)
    return step_of(model, optimiser, x, e)


def compare(batch: int, repeats: int, clock: Callable[[], float], only: str) -> None:
    """One row a rule."""
    torch.manual_seed(0)
    x, e = torch.rand(batch, 784), torch.randn(batch, 10) / batch
    twin = net()
    calls = {"torch": step_of(twin, torch.optim.SGD(twin.parameters(), LR), x, e)}
    density = {}
    for name, rule in RULES.items():
        if only in name:
            calls[name], density[name] = ours(rule, x, e)
            if (other := aihwkit(name, x, e)) is not None:
                calls[f"aihwkit {name}"] = other
    seconds = interleaved(calls, repeats, clock)
    base = seconds["torch"]
    for name, dense in density.items():
        shown = f"batch {batch:<3} {name:<16} {dense:5.2f} coincidences a cell and vector: "
        shown += f"{seconds[name] / base:6.1f} digital steps of {base * 1e3:.2f} ms"
        theirs = seconds.get(f"aihwkit {name}")
        if theirs is not None:
            ratio, bar = seconds[name] / theirs, BARS.get((name, batch))
            shown += f" | aihwkit {theirs / base:.1f}; ratio {ratio:.2f}"
            if bar is not None:
                shown += f" (<= {bar:g}{'' if ratio <= bar else ' MISSED'})"
        print(shown, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--cpu", action="store_true", help="time of this process alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if importlib.util.find_spec("aihwkit") is None:
        print("aihwkit is not installed: no comparison with it")
    clock = time.process_time if options.cpu else time.perf_counter
    for batch in (1, 10, 64):
        compare(batch, options.repeats, clock, options.only)


if __name__ == "__main__":
    main()
