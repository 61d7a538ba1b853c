"""What counting costs: reads and in-situ steps with the ledger over those without, in one run.

python benchmarks/bench_ledger.py [--size N] [--batch B] [--repeats N]

Cells: soft bounds, push-pull, 8-bit converters, BL 31; one thread, CPU time of this process,
minimum of interleaved repeats. Bars: a step at most 1.25, a read at most 1.15.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

import torch
from timing import interleaved
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds

BARS = {
    **{"read": 1.15, "read, no converters": 1.15},
    **{"step, few pulses": 1.25, "step, many pulses": 1.25, "step, no converters": 1.25},
}
RATES = {"few": 1e-6, "many": 1e-5}  # about 0.2 and 2 coincidences a weight
CELL = Device(
    1e-6,
    50e-6,
    update=SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3),
    read=GaussianRead(0.01),
)
CONVERTERS = xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.size}², B = {options.batch}, one thread")
    with ExitStack() as stack:
        measure(options, stack)


def measure(options: argparse.Namespace, stack: ExitStack) -> None:
    for name in BARS:
        chip = xb.Chip(CELL, forward=xb.Periphery() if "no" in name else CONVERTERS)
        net = nn.Linear(options.size, options.size)
        calls = {}
        for counted in (False, True):
            model = xb.convert(net, chip, mode=xb.InSitu(), seed=0)
            rate = next((lr for word, lr in RATES.items() if word in name), 1e-6)
            optimiser = xb.InSituSGD(model, lr=rate)
            torch.manual_seed(0)
            x = torch.randn(options.batch, options.size, requires_grad=True)
            if counted:
                stack.enter_context(xb.ledger(model))

            def read(model=model, x=x):
                with torch.no_grad():
                    model(x)

            def step(model=model, optimiser=optimiser, x=x):
                optimiser.zero_grad()
                model(x).square().sum().backward()
                optimiser.step()

            calls[str(counted)] = read if name.startswith("read") else step
        found = interleaved(calls, options.repeats, time.process_time)
        ratio = found["True"] / found["False"]
        verdict = "holds" if ratio <= BARS[name] else "FAILS"
        print(f"{name:22s} {1e3 * found['False']:7.2f} ms  {ratio:.3f}  <= {BARS[name]}  {verdict}")


if __name__ == "__main__":
    main()
