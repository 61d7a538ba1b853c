"""Analog layers against torch.nn, one thread, minimum of repeats, as ratios within one run.

python benchmarks/bench_layers.py [--repeats N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from timing import interleaved
from torch import Tensor, nn

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds, presets


def show(title: str, seconds: dict[str, float], base: str, notes: dict[str, str]) -> None:
    print(f"\n{title}\n  {base:<44} {seconds[base] * 1e3:8.2f} ms")
    for name, value in seconds.items():
        if name != base:
            note = notes.get(name, "")
            print(f"  {name:<44} {value * 1e3:8.2f} ms  {value / seconds[base]:6.2f}x  {note}")


def forward(repeats: int) -> None:
    n, batch = 1024, 256
    x = torch.rand(batch, n)
    digital = nn.Linear(n, n)
    cell = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6), read=GaussianRead(0.01))
    converters = xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8))
    calls: dict[str, Callable[[], object]] = {"nn.Linear": lambda: digital(x)}
    notes = {}
    for rows in (None, 256):
        for device, label in ((presets.ideal(), "8 bit"), (cell, "8 bit, Gaussian read")):
            chip = xb.Chip(device, forward=converters, tile=rows and (rows, n))
            layer = xb.convert(digital, chip, mode=xb.InSitu(), seed=0)
            name = f"{label}, {'untiled' if rows is None else f'{rows}-row tiles'}"
            calls[name] = lambda layer=layer: layer(x)
            tiles = n // (rows or n)
            notes[name] = f"{tiles} tile{'s' * (tiles > 1)}, {tiles * n} ADC channels"
    with torch.no_grad():
        seconds = interleaved(calls, repeats)
    show(f"Forward {n}x{n}, batch {batch}", seconds, "nn.Linear", notes)


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(784, 256), nn.Sigmoid(), nn.Linear(256, 128), nn.Sigmoid(), nn.Linear(128, 10)
    )


def stepper(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, t: Tensor):
    def step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), t).backward()
        optimiser.step()

    return step


def training(repeats: int) -> None:
    x, t = torch.rand(64, 784), torch.randint(0, 10, (64,))
    digital = mlp()
    calls: dict[str, Callable[[], object]] = {
        "torch.optim.SGD": stepper(digital, torch.optim.SGD(digital.parameters(), 0.05), x, t)
    }
    spread = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3))
    notes = {}
    for route in (xb.Reference(), xb.PushPull()):
        for scheme, device in (
            (xb.Expected(), presets.ideal()),
            (xb.Aggregated(), spread),
            (xb.ExactBits(), spread),
        ):
            chip = xb.Chip(device, mapping=xb.Differential(route))
            model = xb.convert(mlp(), chip, mode=xb.InSitu(scheme), seed=0)
            name = f"{type(scheme).__name__}, {type(route).__name__}"
            calls[name] = stepper(model, xb.InSituSGD(model, lr=0.05), x, t)
            cell = "ideal cells" if device is not spread else "soft bounds, c2c and d2d"
            notes[name] = f"3 tiles, no ADC, {cell}"
    seconds = interleaved(calls, repeats)
    show("Training step of 784-256-128-10, batch 64", seconds, "torch.optim.SGD", notes)
    sequential(digital, spread, x, t)


def sequential(digital: nn.Module, device: Device, x: Tensor, t: Tensor) -> None:
    """The exact order of pulses walks through the samples; where its time goes."""
    chip = xb.Chip(device, mapping=xb.Differential(xb.Reference()))
    model = xb.convert(mlp(), chip, mode=xb.InSitu(xb.Sequential()), seed=0)
    step = stepper(model, xb.InSituSGD(model, lr=0.05), x, t)
    base = stepper(digital, torch.optim.SGD(digital.parameters(), 0.05), x, t)
    seconds = interleaved({"torch.optim.SGD": base, "Sequential(ExactBits)": step}, 2)
    show("Sequential, batch 64", seconds, "torch.optim.SGD", {})
    with torch.profiler.profile() as profile:
        step()
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, minimum of {arguments.repeats} repeats")
    forward(arguments.repeats)
    training(arguments.repeats)
