"""The data of the site's speed page: analog over digital steps by batch and pulses, as ratios.

python benchmarks/bench_speed.py [--size N] [--repeats N] [--threads N] [--to docs/data/speed.json]

One layer N x N against nn.Linear and torch's SGD, forward, backward and step. Cells: soft bounds,
0.05 uS of 49 uS, c2c 0.3, d2d 0.3, push-pull, BL 31. CPU time of this process, minimum of
interleaved repeats; with --to the ratios are written with the machine, versions, date and command.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from bench_update import LR, SOFT, density, in_situ, square, step_of
from timing import interleaved
from torch import Tensor, nn

import crossbar as xb
from devices import Device, GaussianRead

BATCHES = (1, 4, 16, 64, 256)
PULSES = {"few": 0.02, "many": 2.4}  # coincidences a weight and step
READ = xb.Chip(
    Device(1e-6, 50e-6, update=SOFT, read=GaussianRead(0.01)),
    forward=xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8)),
)


def reading(model: nn.Module, x: Tensor) -> Callable[[], object]:
    def read() -> None:
        with torch.no_grad():
            model(x)

    return read


def digital(net: nn.Module) -> nn.Module:
    """A copy of its own."""
    return xb.to_digital(xb.convert(net, xb.Chip(), seed=0))


def rows(size: int, batch: int, repeats: int) -> dict[str, float]:
    """Ratios of one batch by what is done; and the pulses a weight that either regime expects."""
    torch.manual_seed(0)
    net, x, e = square(size), torch.rand(batch, size), torch.randn(batch, size)
    once = density(net, x, e, 1.0)
    scales = {name: wanted / once for name, wanted in PULSES.items()}
    twin, aware = digital(net), xb.convert(net, READ, seed=0)
    programmed = xb.convert(net, READ, xb.Programmed(), seed=0)
    sgd = [torch.optim.SGD(model.parameters(), 1e-6) for model in (twin, aware)]
    calls: dict[str, Callable[[], object]] = {
        "torch read": reading(digital(net), x),
        "torch step": step_of(twin, sgd[0], x, e, 1.0),
        "read, hardware-aware": reading(xb.convert(net, READ, seed=0), x),
        "read, programmed": reading(programmed, x),
        "step, hardware-aware": step_of(aware, sgd[1], x, e, 1.0),
    }
    found = {}
    for name, scale in scales.items():
        mode = xb.InSitu(gradient=False)
        calls[f"step, in situ, {name} pulses"] = in_situ(net, x, e, scale, SOFT, mode)
        found[f"{name}: pulses a weight"] = density(net, x, e, scale)
    seconds = interleaved(calls, repeats, time.process_time)
    for name in list(calls)[2:]:
        found[name] = seconds[name] / seconds[f"torch {name.split(',')[0]}"]
    return found


def machine() -> str:
    """The processor's name and its cores."""
    name = platform.processor() or platform.machine()
    if (listed := Path("/proc/cpuinfo")).exists():
        fields = (line.partition(":") for line in listed.read_text().splitlines())
        name = next((v.strip() for key, _, v in fields if key.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    before = os.getloadavg()[0]
    measured: dict[str, Any] = {}
    for batch in BATCHES:
        measured[str(batch)] = found = rows(args.size, batch, args.repeats)
        print(f"B {batch:<4}" + "  ".join(f"{k} {v:.3g}" for k, v in found.items()), flush=True)
    said = {
        "command": " ".join(["python benchmarks/bench_speed.py", *sys.argv[1:]]),
        "date": f"{date.today():%d %B %Y}",
        "machine": machine(),
        "threads": args.threads,
        "load": round(before, 1),  # processes that wanted a core when it began
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "size": args.size,
        "rate": LR,
        "ratios": measured,
    }
    if args.to:
        args.to.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
