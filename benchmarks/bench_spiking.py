"""A spiking layer 784-400 over (T = 100, B = 64) against SpikingJelly's on nn.Linear, CPU time.

Forward, unsigned 1-bit inputs, uniform read noise. Where SpikingJelly is not installed its step is
computed by a loop of torch's operators. Ratios of one run, interleaved; the best of each.

    python benchmarks/bench_spiking.py
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import torch
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, GaussianRead
from devices.part import Read, Window

T, B, ROUNDS, LIMIT = 100, 64, 20, 1.5


class Step(nn.Module):
    """SpikingJelly's LIFNode, multi-step, tau=2, decay_input=True, v_reset=0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, out = torch.zeros_like(x[0]), []
        for now in x:
            v = v + (now - v) / 2.0
            s = (v >= 1.0).to(v.dtype)
            v = (1.0 - s) * v
            out.append(s)
        return torch.stack(out)


def reference() -> tuple[str, Callable[[torch.Tensor], object]]:
    if importlib.util.find_spec("spikingjelly") is None:
        return "its step in torch", Step()
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode(step_mode="m")

    def run(x: torch.Tensor) -> object:
        node.reset()
        return node(x)

    return "SpikingJelly", run


class PerCell(Read):
    """Noise that differs from cell to cell: a second product."""

    def std(self, window: Window, g: torch.Tensor, p: object, age: torch.Tensor) -> torch.Tensor:
        return 0.01 * g


def main() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(784, 400)
    x = (torch.rand(T, B, 784) < 0.1).float()
    lines = xb.Periphery(xb.DAC(bits=1, range=xb.Fixed(1.0), signed=False))
    membrane, reset = sp.SpikingJelly(2.0), sp.To()

    def ours(device: Device) -> Callable[[], object]:
        layer = xb.convert(plain, xb.Chip(device, forward=lines), mode=xb.Programmed(), seed=0)
        net = sp.Sequential(layer, sp.LIF(membrane, reset=reset))
        return lambda: net(x)

    name, neuron = reference()
    ways = {
        f"nn.Linear + {name}": lambda: neuron(plain(x)),
        "ideal cells": ours(Device(1e-6, 50e-6)),
        "read noise": ours(Device(1e-6, 50e-6, read=GaussianRead(0.01))),
        "noise per cell": ours(Device(1e-6, 50e-6, read=PerCell())),
    }
    best = dict.fromkeys(ways, float("inf"))
    with torch.no_grad():
        for _ in range(ROUNDS + 1):
            for way, run in ways.items():
                start = time.process_time()
                run()
                best[way] = min(best[way], time.process_time() - start)
    base = best[f"nn.Linear + {name}"]
    for way, seconds in best.items():
        print(f"{way:32s} {1e3 * seconds:8.1f} ms   {seconds / base:5.2f}x")
    verdict = "within" if best["read noise"] <= LIMIT * base else "above"
    print(f"uniform read noise is {verdict} {LIMIT}x")


if __name__ == "__main__":
    main()
