"""Mappings, converters and tiles over the plain pair, as ratios of one run, on CPU time.

python benchmarks/bench_mapping.py [--repeats N] [--size N] [--batch N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from bench_layers import show
from timing import interleaved
from torch import nn

import crossbar as xb
from devices import Device, SoftBounds

PLAIN = "a pair, 8-bit converters"
LIMITS = {
    "four slices": 4.5,
    "calibrated": 1.5,
    "shared by 8": 1.5,
    "mismatched gains and offsets": 1.5,
    "SAR with mismatch": 1.5,
    "256-row tiles": 2.0,
}


def chips(size: int) -> dict[str, xb.Chip]:
    """What is compared, by name."""
    cell = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6))
    dac, free = xb.DAC(8), Device(1e-6, 50e-6)

    def chip(adc: Any = None, mapping: Any = None, device: Any = cell, **rest: Any) -> xb.Chip:
        port = xb.Periphery(rest.pop("dac", dac), adc or xb.ADC(8))
        return xb.Chip(device, mapping or xb.Differential(), forward=port, **rest)

    return {
        PLAIN: chip(),
        "four slices": chip(mapping=xb.Slices((2, 2, 2, 2)), device=free),
        "two converters": chip(mapping=xb.Differential(converters=2)),
        "offset column": chip(mapping=xb.OffsetColumn()),
        "three pairs": chip(mapping=xb.Devices(count=3)),
        "significance": chip(mapping=xb.Significance()),
        "calibrated": chip(xb.ADC(8, range=xb.Calibrated())),
        "shared by 8": chip(xb.ADC(8, sigma_gain=0.01, shared=8)),
        "mismatched gains and offsets": chip(xb.ADC(8, sigma_gain=0.01, sigma_offset=0.01)),
        "SAR with mismatch": chip(xb.SAR(bits=8, sigma_unit=0.01)),
        "managed": chip(xb.ADC(8, range=xb.Managed())),
        "learned": chip(xb.ADC(8, range=xb.Learned())),
        "compressing": chip(xb.ADC(8, compression=0.1)),
        "offset lines": chip(dac=xb.DAC(8, sigma_offset=0.01)),
        "pulse widths": chip(dac=xb.PulseWidth(8)),
        "inputs of 2 bits a time": chip(dac=xb.SerialDAC(8, width=2)),
        "256-row tiles": chip(tile=(256, size)),
    }


def main() -> None:
    """Print the table; the ratios of LIMITS have their limit beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n = options.size
    net, x = nn.Linear(n, n, bias=False), torch.randn(options.batch, n)
    calls: dict[str, Callable[[], object]] = {"nn.Linear": lambda: net(x)}
    for name, chip in chips(n).items():
        layer = xb.convert(net, chip, mode=xb.Programmed(), seed=0)
        if chip.forward.calibrated:
            xb.calibrate(layer, [x])
        calls[name] = lambda layer=layer: layer(x)
    with torch.no_grad():
        seconds = interleaved(calls, options.repeats, time.process_time)
    notes = {name: f"limit {limit}x" for name, limit in LIMITS.items()}
    digital = seconds.pop("nn.Linear")
    show(f"Read of {n}x{n}, batch {options.batch}", seconds, PLAIN, notes)
    tiled = seconds["256-row tiles"] / digital
    print(f"  nn.Linear {digital * 1e3:.2f} ms; 256-row tiles {tiled:.2f}x nn.Linear")


if __name__ == "__main__":
    main()
