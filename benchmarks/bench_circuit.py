"""Arrays with line resistance: speed and answers against badcrossbar, memory of large arrays.

python benchmarks/bench_circuit.py [--badcrossbar PYTHON] [--threads N] [--repeats N] [--large]

badcrossbar is installed apart, because it pins nothing and needs a C library for its plots:

    apt-get install libcairo2-dev pkg-config      # Debian, for pycairo
    python -m venv /tmp/badcrossbar && /tmp/badcrossbar/bin/pip install badcrossbar==1.1.0
    python benchmarks/bench_circuit.py --badcrossbar /tmp/badcrossbar/bin/python

Cold: one call from conductances to the output currents of 100 input vectors, nothing cached,
float64, the same number of threads for both (it has no cache: every call is cold). Again: 100
other inputs on the same conductances. Minimum of repeats, the two programs in turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from timing import fastest
from torch import nn

import crossbar as xb
from crossbar.wires import Approximate, Exact, Iterative, Newton, Solver, Wires, choose, prepare
from devices import Device, SinhIV, SoftBounds

SIDE = Path(__file__).parent / "badcrossbar_side.py"
OHMS = (1.0, 1.0)
INPUTS = 100


def circuit(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """1 to 100 uS and inputs up to 1 V."""
    draw = torch.Generator().manual_seed(n)
    g = (torch.rand(n, n, generator=draw, dtype=torch.float64) * 0.99 + 0.01) * 1e-4
    return g, torch.rand(INPUTS, n, generator=draw, dtype=torch.float64)


def against_badcrossbar(python: str, threads: int, repeats: int) -> None:
    sizes = (64, 128, 256)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment["OPENBLAS_NUM_THREADS"] = str(threads)
    print(f"\nAgainst badcrossbar, {INPUTS} inputs, float64, {threads} thread(s)")
    print("   cells        badcrossbar      cold               again             max error")
    for n in sizes:
        g, x = circuit(n)
        with tempfile.TemporaryDirectory() as folder:
            given, found = f"{folder}/circuits.npz", f"{folder}/answers.npz"
            np.savez(given, g_0=g.numpy(), v_0=x.T.numpy(), r_0=np.array(OHMS))
            count = repeats if n < 256 else max(1, repeats // 3)
            cold = fastest(lambda g=g, x=x: prepare(g, Wires(*OHMS)).mv(x), 3 * repeats)
            subprocess.run(
                [python, str(SIDE), given, found, str(count)], check=True, env=environment
            )
            theirs = np.load(found)
            cold = min(cold, fastest(lambda g=g, x=x: prepare(g, Wires(*OHMS)).mv(x), 3 * repeats))
            seconds, output = float(theirs["seconds_0"]), torch.from_numpy(theirs["output_0"])
        network = prepare(g, Wires(*OHMS))
        again = fastest(lambda network=network, x=x: network.mv(x), 50)
        error = float((network.mv(x) - output).abs().max() / output.abs().max())
        print(
            f"  {n:4} x {n:<4} {seconds * 1e3:12.1f} ms "
            f"{cold * 1e3:8.2f} ms {seconds / cold:5.1f}x "
            f"{again * 1e3:8.3f} ms {seconds / again:7.0f}x     {error:.1e}"
        )


def kinds(repeats: int) -> None:
    print(f"\nSolvers on 128 x 128, {INPUTS} inputs, float64: from conductances to currents")
    g, x = circuit(128)
    for name, f in {
        "Exact": lambda: prepare(g, Wires(*OHMS)).mv(x),
        "Exact, voltages and currents everywhere": lambda: prepare(g, Wires(*OHMS)).fields(x),
        "Iterative (1e-12)": lambda: prepare(g, Wires(*OHMS), solver=Iterative()).mv(x),
        "Approximate": lambda: prepare(g, Wires(*OHMS), solver=Approximate()).mv(x),
        "Newton, sinh cells, 0.5 V/V0 2": lambda: prepare(
            g, Wires(*OHMS), SinhIV(0.25), Newton()
        ).mv(x / 2),
    }.items():
        print(f"  {name:<44} {fastest(f, repeats) * 1e3:9.2f} ms")
    network = prepare(g, Wires(*OHMS), solver=Approximate())
    print(f"  kappa {network.kappa:.2f}; Approximate states an error of {network.residual:.2%}")


def chosen(repeats: int) -> None:
    """The table of `crossbar.wires.choice`: inputs beyond which elimination is faster."""
    print("\nInputs beyond which Exact is faster than Iterative, measured (the rule's), 8 at once")
    sizes, kappas = (64, 128, 256, 512), (0.1, 1.0, 10.0, 100.0)
    print("  kappa   " + "".join(f"{n:>7} x {n:<7}" for n in sizes))
    rows: dict[float, str] = dict.fromkeys(kappas, "")
    for n in sizes:
        g, x = circuit(n)
        count = repeats if n < 256 else 1
        exact = fastest(lambda g=g: prepare(g, Wires(*OHMS)), count)
        for kappa in kappas:
            r = kappa / (n * n * float(g.mean()))
            network = prepare(g, Wires(r, r), solver=Iterative())
            each = fastest(lambda w=network, x=x: w.mv(x[:8]), count) / 8
            rule = next(
                k for k in range(1, 1000) if isinstance(choose(n, n, kappa=kappa, reads=k), Exact)
            )
            rows[kappa] += f"{exact / each:9.1f} ({rule - 1:2d})  "
    for kappa, row in rows.items():
        print(f"  {kappa:<8g}{row}")


def layers(repeats: int) -> None:
    """A CNN on 8x8 images: 64x64 tiles, 1 ohm segments, batch 32."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    cell = Device(1e-6, 50e-6, update=SoftBounds(0.1e-6))
    x, y = torch.rand(32, 1, 8, 8), torch.randint(0, 10, (32,))
    kinds: dict[str, tuple[Wires | None, Solver | None]] = {
        "no wires": (None, None),
        "exact": (Wires(*OHMS), None),
        "Approximate": (Wires(*OHMS), Approximate()),
    }
    base: list[float] = []
    outputs: dict[str, torch.Tensor] = {}
    print("\nCNN 16-32 channels, 64-10 linear, 64x64 tiles (7 tiles, 14 arrays), 1 ohm, batch 32")
    print("                    inference, cached    in-situ step         hardware-aware step")
    for name, (wires, solver) in kinds.items():
        chip = xb.Chip(cell, tile=(64, 64), wires=wires, solver=solver)
        model = xb.convert(net, chip, mode=xb.InSitu(), seed=1)
        aware = xb.convert(net, chip, mode=xb.HardwareAware(), seed=1)
        with torch.no_grad():
            outputs[name] = model(x)

        def infer(model: nn.Module = model) -> None:
            with torch.no_grad():
                model(x)

        def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()

        in_situ, digital = (
            xb.InSituSGD(model, lr=0.01),
            torch.optim.SGD(aware.parameters(), lr=0.01),
        )
        seconds = [
            fastest(infer, 5 * repeats),
            fastest(lambda m=model, o=in_situ: step(m, o), 2 * repeats),
            fastest(lambda m=aware, o=digital: step(m, o), 2 * repeats),
        ]
        base = base or seconds
        shown = "".join(
            f"{s * 1e3:9.2f} ms {s / b:5.1f}x   " for s, b in zip(seconds, base, strict=True)
        )
        print(f"  {name:<16}{shown}")
    exact, rough = outputs["exact"], outputs["Approximate"]
    error = float((rough - exact).abs().max() / exact.abs().max())
    drop = float((outputs["no wires"] - exact).abs().max() / exact.abs().max())
    print(f"  logits: Approximate differs from exact by {error:.2%}, no wires by {drop:.1%}")
    linear = xb.convert(net, xb.Chip(cell), mode=xb.InSitu(), seed=1)[7]  # 128 x 64, 2 tiles
    g = linear.analog["weight"].matrix.written.g
    arrays = torch.stack([g[:, :64], g[:, 64:]])
    solve = fastest(lambda: prepare(arrays, Wires(*OHMS)), 2 * repeats)
    print(
        f"  where the time goes: one 64x64 array is solved in {solve / 4 * 1e3:.2f} ms of 4 at once"
    )


def large() -> None:
    print("\n1024 x 1024, float64")
    g, x = circuit(1024)
    for name, f in {
        "Iterative, 1 input": lambda: prepare(g, Wires(*OHMS), solver=Iterative()).mv(x[:1]),
        "Exact, all inputs": lambda: prepare(g, Wires(*OHMS)).mv(x),
    }.items():
        start = time.perf_counter()
        f()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"  {name:<24} {seconds:8.2f} s, peak memory of the process {peak:.2f} GiB")
    kappa = prepare(g, Wires(*OHMS), solver=Approximate()).kappa
    print(f"  kappa {kappa:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--badcrossbar", metavar="PYTHON", help="interpreter that has badcrossbar")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--large", action="store_true", help="1024 x 1024 too (half a minute)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        if args.badcrossbar:
            against_badcrossbar(args.badcrossbar, args.threads, args.repeats)
        else:
            print("badcrossbar is not given; see the head of this file for how to install it")
        kinds(args.repeats)
        chosen(args.repeats)
    layers(args.repeats)
    with torch.no_grad():
        if args.large:
            large()


if __name__ == "__main__":
    main()
