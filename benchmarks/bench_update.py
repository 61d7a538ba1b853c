"""In-situ steps against torch's digital ones, as ratios within one run, by pulses per weight.

python benchmarks/bench_update.py [--repeats N] [--threads N] [--only TEXT]

The error never changes: loss = scale · mse(out, out.detach() + e), so that every step has the same
number of pulses, K/w coincidences a weight (counted). Cells: soft bounds, dg_min 0.05 uS of 49 uS,
c2c 0.3, d2d 0.3, push-pull, BL 31, no converters. Minimum of interleaved repeats. The bars are for
one thread and InSitu(gradient=False). aihwkit takes part where it can be imported (dw_min, bounds
and BL matched).
"""

from __future__ import annotations

import argparse
import importlib.util
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

    def drive(self, *args: Any) -> Any:
        found = super().drive(*args)
        SEEN.append(found)
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
    model = convert_to_analog(net, config)
    optimiser = AnalogSGD(model.parameters(), lr=LR)
    optimiser.regroup_param_groups(model)
    return step_of(model, optimiser, x, e, scale)


Bars = dict[str, float]


def compare(
    title: str, net: nn.Module, batch: int, wanted: float, bars: Bars, repeats: int
) -> None:
    """One row: ratios to torch's SGD at the wanted pulses a weight; a bar for each that has one."""
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
    if (theirs := aihwkit(net, x, e, scale)) is not None:
        calls["aihwkit"] = theirs
    with Syncs() as syncs:
        calls["in situ"]()
    seconds = interleaved(calls, repeats)
    base = seconds.pop("torch")
    shown = [f"{title:<24} K/w {wanted:<5g}  torch {base * 1e3:7.2f} ms "]
    for name, value in seconds.items():
        bar = bars.get(name)
        mark = "" if bar is None else f" (<= {bar:g}{'' if value <= bar * base else ' MISSED'})"
        shown.append(f"{name} {value / base:.2f}x{mark}")
    print("  ".join(shown), f" syncs {syncs.count}", flush=True)


def square(n: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n, n))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, 256), nn.Sigmoid(), nn.Linear(256, 128), nn.Sigmoid(), nn.Linear(128, 10)
    )


# the bar of one layer by its pulses per weight, at batch 64
LARGE = {
    1024: {0.01: 2.0, 0.04: 2.8, 0.15: 4.3, 0.6: 6.5, 2.4: 7.0, 10.0: 7.0},
    2048: {0.007: 1.4, 0.11: 3.2, 1.7: 7.5},
}
SMALL = {1: 4.0, 10: 4.0, 64: 3.0}  # by batch, at 0.02 pulses a weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose title contains it")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if importlib.util.find_spec("aihwkit") is None:
        print("aihwkit is not installed: no comparison with it")
    for n, rows in LARGE.items():
        for wanted, bar in rows.items():
            title, bars = f"{n} x {n}, B 64, {wanted:g}", {"in situ": bar}
            if n == 1024 and wanted <= 0.04:
                bars["sequential"] = 3.0
            if n == 1024 and wanted <= 0.01:
                bars["another law"] = 2.8
            if args.only in title:
                compare(title, square(n), 64, wanted, bars, args.repeats)
    for batch, bar in SMALL.items():
        title = f"784-256-128-10, B {batch}"
        if args.only in title:
            compare(title, small(), batch, 0.02, {"in situ": bar}, 10 * args.repeats)


if __name__ == "__main__":
    main()
