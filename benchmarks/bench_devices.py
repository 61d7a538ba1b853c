"""Device laws against drawing as many normals, one thread, minimum of repeats within one run.

python benchmarks/bench_devices.py [--repeats N] [--large N]

The closed-form laws are to stay within 3x; the others are reported. `--large` is the side of the
array that is fabricated, programmed and aged (4096 is the requirement, 5 s).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from timing import interleaved

from devices import (
    ConstantStep,
    Device,
    ExpStep,
    LinearStep,
    NeuroSim,
    PCMWrite,
    PiecewiseStep,
    PowerLawDrift,
    PowStep,
    Pulses,
    QuerliozStep,
    SoftBounds,
    SoftBoundsReference,
    State,
    StochasticSwitch,
    StuckAt,
    Update,
    VolatileStep,
)

SIDE, STEP, LIMIT = 1024, 0.05e-6, 3.0
SPREAD = {"sigma_c2c": 0.3, "sigma_d2d": 0.3}
CLOSED: dict[str, Update] = {
    "constant step": ConstantStep(STEP, **SPREAD),
    "soft bounds": SoftBounds(STEP, **SPREAD),
    "soft bounds, reference": SoftBoundsReference(STEP, **SPREAD),
    "linear step": LinearStep(STEP, gamma_up=0.3, gamma_down=0.3, **SPREAD),
    "NeuroSim 2.4/-4.88": NeuroSim(97, 100, 2.4, -4.88, sigma_c2c=0.035),
    "volatile": VolatileStep(**SPREAD),
}
OTHERS: dict[str, Update] = {
    "binary switching": StochasticSwitch(),
    "exponential step": ExpStep(STEP, **SPREAD),
    "power step": PowStep(STEP, **SPREAD),
    "Querlioz": QuerliozStep(STEP, **SPREAD),
    "tabulated": PiecewiseStep(STEP, up=(1.5, 1, 0.5), down=(0.5, 1, 1.5), **SPREAD),
}


def pulsing(repeats: int) -> None:
    shape = (SIDE, SIDE)
    mean = 0.6 * torch.rand(shape)
    given = {
        "exact (1, 0)": Pulses(torch.ones(shape), torch.zeros(shape)),
        "moments 0.3": Pulses(mean, mean / 3, mean, mean / 3),
        "exact (7, 5)": Pulses(torch.full(shape, 7.0), torch.full(shape, 5.0)),
    }
    for kind, pulses in given.items():
        calls: dict[str, Callable[[], object]] = {"randn": lambda: torch.randn(shape)}
        for name, law in {**CLOSED, **OTHERS}.items():
            device = Device(1e-6, 51e-6, update=law)
            state = device.fabricate(shape)
            state = state._replace(g=1e-6 + 50e-6 * torch.rand(shape))
            calls[name] = lambda d=device, s=state, p=pulses: d.pulse(s, p)
        seconds = interleaved(calls, repeats)
        base = seconds.pop("randn")
        print(f"\nPulsing {SIDE}x{SIDE} cells, {kind}; randn of them {base * 1e3:.2f} ms")
        for name, value in seconds.items():
            verdict = ("ok" if value <= LIMIT * base else f"above {LIMIT:g}") * (name in CLOSED)
            print(f"  {name:<26} {value * 1e3:8.2f} ms  {value / base:6.2f}x randn  {verdict}")


def large(side: int) -> None:
    device = Device(
        1e-6,
        51e-6,
        update=SoftBounds(STEP, sigma_d2d=0.3, sigma_up_down=0.05, sigma_bounds=0.3),
        retention=PowerLawDrift(nu=0.05, sigma_d2d=0.3),
        write=PCMWrite(),
        faults=StuckAt(p_off=0.01),
    )
    print(f"\n{side}x{side} cells with spread in rates, bounds, drift exponent and stuck cells")
    target = torch.full((side, side), 20e-6)
    seconds: dict[str, list[float]] = {}

    def timed(name: str, f: Callable[[], State]) -> State:
        start = time.perf_counter()
        out = f()
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return out

    for _ in range(3):  # the first also waits for the system to hand out the memory
        fresh = timed("fabricate", lambda: device.fabricate((side, side)))
        programmed = timed("program", lambda s=fresh: device.program(s, target))  # type: ignore[misc]
        timed("advance", lambda s=programmed: device.advance(s, 3600.0))  # type: ignore[misc]
    for name, took in seconds.items():
        print(f"  {name:<26} {min(took):8.2f} s  (first {took[0]:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--large", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pulsing(options.repeats)
    large(options.large)


if __name__ == "__main__":
    main()
