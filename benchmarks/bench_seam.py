"""What an analog layer costs over torch.nn: ratios within one run, and host synchronisations.

python benchmarks/bench_seam.py [--rounds N] [--size N] [--device cpu]

One thread; the two sides of a line take turns and the minimum of the rounds counts. By default
glibc returns large tensors to the system and maps them anew, so that both sides pay for page faults
as well; to leave these out, keep the memory (the settings are printed):

    MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_MMAP_THRESHOLD_=33554432 \\
        python benchmarks/bench_seam.py
"""

from __future__ import annotations

import argparse
import copy
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from timing import interleaved
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite, SoftBounds

CONVERTERS = xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8))
CELL = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6), read=GaussianRead(0.01))
NOISY = xb.Chip(CELL, forward=CONVERTERS)
WRITTEN = xb.Chip(
    Device(1e-6, 50e-6, read=GaussianRead(0.01), write=GaussianWrite(0.01)), forward=CONVERTERS
)

Call = Callable[[], object]
Use = Callable[[nn.Module, Tensor], Call]


def forward(layer: nn.Module, x: Tensor, times: int = 1) -> Call:
    def run() -> None:
        with torch.no_grad():
            for _ in range(times):
                layer(x)

    return run


def both_ways(layer: nn.Module, x: Tensor) -> Call:
    """Forward and backward, of the input too, with the gradients of the round before dropped."""
    x = x.clone().requires_grad_()

    def run() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).sum().backward()

    return run


def stepping(layer: nn.Module, x: Tensor) -> Call:
    """The same with a step of torch's SGD before the next forward."""
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e-6)
    backward = both_ways(layer, x)

    def run() -> None:
        backward()
        optimiser.step()

    return run


def compare(
    row: str, digital: Call, analog: Call, rounds: int, device: str, unit: float, name: str
) -> None:
    """One line: the two take turns."""
    calls = {"nn.Linear": digital, "analog": analog}
    if device != "cpu":

        def finished(call: Call) -> Call:
            return lambda: (call(), torch.accelerator.synchronize())

        calls = {key: finished(call) for key, call in calls.items()}
    seconds = interleaved(calls, rounds)
    times = "".join(f"{t * unit:10.2f} {name}" for t in seconds.values())
    print(f"  {row:<56}{times}{seconds['analog'] / seconds['nn.Linear']:7.2f}x", flush=True)


def heading(title: str) -> None:
    print(f"\n{title}\n  {'':<56}{'nn.Linear':>13}{'analog':>13}{'ratio':>8}")


def speed(size: int, rounds: int, device: str) -> None:
    digital = nn.Linear(size, size, device=device)
    batches = {b: torch.randn(b, size, device=device) for b in (1, 64)}

    def line(row: str, how: Use, b: int, mode: xb.Mode | None = None) -> None:
        # layers of its own: what one line leaves in a layer is no business of another's
        torch_, analog = copy.deepcopy(digital), xb.convert(digital, NOISY, mode, seed=0)
        calls = how(torch_, batches[b]), how(analog, batches[b])
        compare(f"{row}, B = {b}", *calls, rounds, device, 1e3, "ms")

    heading(f"{size} x {size}, 8-bit DAC and ADC, Gaussian read noise")
    for b in batches:
        line("hardware-aware forward, weight unchanged", forward, b)
    line("hardware-aware forward and backward", both_ways, 64)
    for b in batches:
        line("hardware-aware forward, backward, step of SGD", stepping, b)
    for b in batches:
        line("programmed forward", forward, b, xb.Programmed())

    heading("16 x 16, no converters, no noise: the overhead of a call")
    small, x, times = nn.Linear(16, 16, device=device), torch.randn(1, 16, device=device), 500
    bare = xb.convert(small, xb.Chip(), seed=0)
    calls = forward(small, x, times), forward(bare, x, times)
    compare("hardware-aware forward, B = 1", *calls, rounds, device, 1e6 / times, "us")


WAITS = {
    "_local_scalar_dense",  # item(), bool(), float()
    "equal",
    "nonzero",  # sizes that depend on values
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave",
    "bincount",
}


class Waits(TorchDispatchMode):
    """Operators at which the host waits for the device, counted.

    tolist() and numpy() of a tensor that is on the CPU go by no operator and are not seen; from an
    accelerator they are copies to the host, which are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.seen[name] += 1
        elif name.startswith("index") and isinstance(args[1], (list, tuple)):
            self.seen["mask"] += any(t is not None and t.dtype == torch.bool for t in args[1])
        elif name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            target = args[0] if name == "copy_" else out
            if source.device.type != "cpu" and target.device.type == "cpu":
                self.seen["copy to the host"] += 1
        return out


def waits(device: str) -> None:
    print("\nHost synchronisations of one use of a 64 x 64 layer, B = 8, after a first one")
    print(f"  {'':<56}{'forward':>10}{'backward':>10}")
    ideal = xb.Chip(forward=CONVERTERS)
    modes = {
        "nn.Linear": None,
        "hardware-aware": (NOISY, xb.HardwareAware()),
        "hardware-aware, cells drawn (write error)": (WRITTEN, xb.HardwareAware()),
        "programmed": (NOISY, xb.Programmed()),
        "in situ": (NOISY, xb.InSitu()),
        "in situ, no read noise": (ideal, xb.InSitu()),
        "in situ, gradient=False": (NOISY, xb.InSitu(gradient=False)),
    }
    for name, how in modes.items():
        layer: nn.Module = nn.Linear(64, 64, device=device)
        if how is not None:
            layer = xb.convert(layer, how[0], mode=how[1], seed=0)
        x = torch.randn(8, 64, device=device, requires_grad=True)
        layer(x).sum().backward()
        layer.zero_grad()
        with Waits() as there:
            loss = layer(x).sum()
        with Waits() as back:
            loss.backward()
        counts = f"{there.seen.total():10}{back.seen.total():10}"
        kinds = ", ".join(sorted(+(there.seen + back.seen)))
        print(f"  {name:<56}{counts}  {kinds}".rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, minimum of {arguments.rounds} rounds")
    for variable in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        print(f"{variable}: {os.environ.get(variable, 'not set')}")
    speed(arguments.size, arguments.rounds, arguments.device)
    waits(arguments.device)
