"""In-situ steps against torch's digital ones, as ratios within one run, by pulses per weight.

python benchmarks/bench_update.py [--repeats N] [--threads N] [--only TEXT] [--cpu]

The error never changes: loss = scale · mse(out, out.detach() + e), so that every step has the same
number of pulses, K/w coincidences a weight (counted). Cells: soft bounds, dg_min 0.05 uS of 49 uS,
c2c 0.3, d2d 0.3, push-pull, BL 31, no converters. Minimum of interleaved repeats. The bars are for
one thread and InSitu(gradient=False). aihwkit takes part where it can be imported (dw_min, bounds,
BL and tile matched, one device a weight as always there); the last bars are ratios to it.
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
from torch.utils._python_dispatch import TorchDispatchMode

import crossbar as xb
from devices import Device, PowStep, SoftBounds, Update

STEP, LR = 0.05e-6, 0.1
SYNCS = ("_local_scalar_dense", "nonzero", "unique", "bincount")
NOISE = {"sigma_c2c": 0.3, "sigma_d2d": 0.3}
SOFT, GATHERED = SoftBounds(STEP, **NOISE), PowStep(STEP, **NOISE)
SEQUENTIAL = xb.Sequential(xb.ExactBits())


class Syncs(TorchDispatchMode):
    """Counts the operators at which the host waits for numbers."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(name in func.__name__ for name in SYNCS)
        return func(*args, **(kwargs or {}))


class Counted(xb.ExactBits):
    """Notes the coincidences a weight."""

    def drives(self, sought: Any) -> Any:
        found = super().drives(sought)
        SEEN.extend(found)
        return found


SEEN: list[Any] = []


def step_of(model: nn.Module, optimiser: Any, x: Tensor, e: Tensor, scale: float) -> Any:
    def step() -> None:
        optimiser.zero_grad()
        out = model(x)
        (scale * nn.functional.mse_loss(out, out.detach() + e)).backward()
        optimiser.step()

    return step


def in_situ(net: nn.Module, x: Tensor, e: Tensor, scale: float, law: Update, mode: Any) -> Any:
    chip = xb.Chip(Device(1e-6, 50e-6, update=law))
    model = xb.convert(net, chip, mode=mode, seed=1)
    return step_of(model, xb.InSituSGD(model, LR), x, e, scale)


def density(net: nn.Module, x: Tensor, e: Tensor, scale: float) -> float:
    SEEN.clear()
    in_situ(net, x, e, scale, SOFT, xb.InSitu(Counted()))()
    weights = sum(torch.Size(drive.extent).numel() for drive in SEEN)
    return sum(drive.expected for drive in SEEN) / weights


def aihwkit(net: nn.Module, x: Tensor, e: Tensor, scale: float) -> Any:
    """aihwkit's step with the same window, step and trains; None where it is not installed."""
    if importlib.util.find_spec("aihwkit") is None:
        return None
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.optim import AnalogSGD
    from aihwkit.simulator.configs import SingleRPUConfig, SoftBoundsDevice

    top = 4 * max(float(p.detach().abs().max()) for p in net.parameters())
    device = SoftBoundsDevice(
        dw_min=2 * STEP / 49e-6 * top, dw_min_std=0.3, dw_min_dtod=0.3, w_max=top, w_min=-top,
        w_max_dtod=0.0, w_min_dtod=0.0, up_down_dtod=0.0,
    )  # fmt: skip
    config = SingleRPUConfig(device=device)
    config.forward.is_perfect = config.backward.is_perfect = True
    config.mapping.max_input_size = config.mapping.max_output_size = 0  # one tile a layer, as ours
    model = convert_to_analog(net, config)
    optimiser = AnalogSGD(model.parameters(), lr=LR)
    optimiser.regroup_param_groups(model)
    return step_of(model, optimiser, x, e, scale)


Bars = dict[str, float]


def marked(value: float, bar: float | None) -> str:
    if bar is None:
        return f"{value:.2f}x"
    return f"{value:.2f}x (<= {bar:g}{'' if value <= bar else ' MISSED'})"


def compare(
    title: str,
    net: nn.Module,
    batch: int,
    wanted: float,
    bars: Bars,
    theirs: Bars,
    repeats: int,
    clock: Callable[[], float],
) -> None:
    """One row: ratios to torch's SGD at the wanted pulses a weight, then ratios to aihwkit's step.

    Args:
        bars: the bars of the ratios to torch; theirs: those of the ratios to aihwkit.
    """
    torch.manual_seed(0)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]  # type: ignore[attr-defined]
    x = torch.rand(batch, layers[0].in_features)
    e = torch.randn(batch, layers[-1].out_features)
    scale = wanted / density(net, x, e, 1.0)
    twin = xb.to_digital(xb.convert(net, xb.Chip(), seed=0))
    calls: dict[str, Callable[[], object]] = {
        "torch": step_of(twin, torch.optim.SGD(twin.parameters(), LR), x, e, scale),
        "in situ": in_situ(net, x, e, scale, SOFT, xb.InSitu(gradient=False)),
        "with gradient": in_situ(net, x, e, scale, SOFT, xb.InSitu()),
        "exact bits": in_situ(net, x, e, scale, SOFT, xb.InSitu(xb.ExactBits(), gradient=False)),
    }
    if wanted < 1:
        mode = xb.InSitu(SEQUENTIAL, gradient=False)
        calls["sequential"] = in_situ(net, x, e, scale, SOFT, mode)
        mode = xb.InSitu(gradient=False)
        calls["another law"] = in_situ(net, x, e, scale, GATHERED, mode)
    if (other := aihwkit(net, x, e, scale)) is not None:
        calls["aihwkit"] = other
    with Syncs() as syncs:
        calls["in situ"]()
    seconds = interleaved(calls, repeats, clock)
    base = seconds.pop("torch")
    shown = [f"{title:<24} K/w {wanted:<5g}  torch {base * 1e3:7.2f} ms "]
    shown += [f"{name} {marked(s / base, bars.get(name))}" for name, s in seconds.items()]
    shown.append(f"syncs {syncs.count}")
    if other is not None and theirs:
        shown.append("| of aihwkit's step:")
        shown += [f"{k} {marked(seconds[k] / seconds['aihwkit'], b)}" for k, b in theirs.items()]
    print("  ".join(shown), flush=True)


def square(n: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n, n))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, 256), nn.Sigmoid(), nn.Linear(256, 128), nn.Sigmoid(), nn.Linear(128, 10)
    )


# the bars of one layer by its pulses per weight, at batch 64: of torch's step, of aihwkit's
LARGE = {
    1024: {
        0.01: (2.0, 0.7),
        0.04: (2.8, 0.75),
        0.15: (4.3, 1.0),
        0.6: (6.5, 1.0),
        2.4: (7.0, 0.6),
        10.0: (7.0, 0.25),
    },
    2048: {0.007: (1.4, 0.5), 0.11: (3.2, 0.85), 1.7: (7.5, 0.75)},
}
SMALL = {1: 4.0, 10: 4.0, 64: 3.0}  # by batch, at 0.02 pulses a weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose title contains it")
    parser.add_argument("--cpu", action="store_true", help="CPU time, for a machine others use")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu else time.perf_counter
    if importlib.util.find_spec("aihwkit") is None:
        print("aihwkit is not installed: no comparison with it")
    for n, rows in LARGE.items():
        for wanted, (bar, share) in rows.items():
            title = f"{n} x {n}, B 64, {wanted:g}"
            bars, theirs = {"in situ": bar}, {"in situ": share}
            if wanted <= 0.04:
                theirs["sequential"] = 1.0
                if n == 1024:
                    bars["sequential"] = 3.0
            if wanted <= 0.01:
                bars["another law"] = {1024: 2.8, 2048: 1.8}[n]
                theirs["another law"] = 1.0
            if args.only in title:
                compare(title, square(n), 64, wanted, bars, theirs, args.repeats, clock)
    for batch, bar in SMALL.items():
        title = f"784-256-128-10, B {batch}"
        if args.only in title:
            bars = {"in situ": bar}
            compare(title, small(), batch, 0.02, bars, {}, 10 * args.repeats, clock)


if __name__ == "__main__":
    main()
