"""Which rule of in-situ learning suits which device?

Varied: the rule and the device, everything else alike (network, converters, one cell a weight, the
scale); each rule's rate is chosen for each device on a part of the training images. Measured: the
accuracy that is lost to the same network trained digitally, pulses and reads, arrays, digital
memory, time; and the 20 × 20 programming task, against aihwkit's figures. A rule of two arrays
that is no better than plain pulses on a device that is asymmetric and noisy would prove it wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from statistics import fmean

import crossbar as xb
from devices import Device, presets
from experiments.lab.plots import Line, Panel, panels
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import estimate, paired, signed, spreads
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.rules.runs import Cost
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.programming import Programming
from experiments.tasks.runs import Train
from experiments.tasks.training import Best, Recipe

FILTERED = {"fast_lr": 0.5, "auto_scale": True, "auto_granularity": 200.0}
RULES: dict[str, tuple[xb.Rule, str]] = {
    "SGD": (xb.Pulsed(xb.ExactBits()), "steps are small and alike up and down: nothing is cheaper"),
    "Tiki-Taka": (
        xb.TikiTakaV1(),
        "a second array is affordable, no digital memory is, and symmetry points are known",
    ),
    "TTv2": (
        xb.TikiTaka(**FILTERED),  # type: ignore[arg-type]
        "symmetry points are known well (an error below a tenth of the window)",
    ),
    "c-TTv2": (
        xb.ChoppedTikiTaka(**FILTERED),  # type: ignore[arg-type]
        "symmetry points are known badly, or wander",
    ),
    "AGAD": (
        xb.AGAD(**FILTERED),  # type: ignore[arg-type]
        "symmetry points are not known at all; three numbers a weight are affordable",
    ),
    "mixed precision": (
        xb.MixedPrecision(),
        "a digital gradient of every weight is affordable: least sensitive to the device",
    ),
}
MORE: dict[str, tuple[xb.Rule, str]] = {
    "RIDER": (
        xb.TrackedTikiTaka(**FILTERED),  # type: ignore[arg-type]
        "as AGAD, without its waiting and with one number a weight less",
    ),
    "Manhattan": (xb.Manhattan(), "only signs can be sent, or pulses come in one size"),
    "momentum": (xb.Momentum(), "a velocity of every weight is affordable, gradients are noisy"),
    "carry": (xb.PeriodicCarry(), "cells write exactly and steps are coarse"),
    "residual": (xb.Residual(2, 0.5, 300), "steps are coarse and more arrays come cheap"),
    "low rank": (xb.LowRank(4, 10), "writes wear the cells"),
}
DEVICES: dict[str, Device] = {
    "ideal RPU": presets.idealised_rpu(),
    "RPU": presets.gokmen_vlasov(),
    "ReRAM": presets.reram_sb(),
    "ReRAM, 21 states": presets.reram_array_om(),
    "capacitor": presets.capacitor(),
}
RATES = {"Manhattan": (0.001, 0.003), "momentum": (0.01, 0.03)}
SIGMAS = (0.0, 0.1, 0.5)


class Rules(Study):
    """Accuracy lost to digital, and what it costs."""

    name = "rules"
    help = "rules of in-situ learning: what they lose to digital training, and what they cost"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
        parser.add_argument("--epochs", type=int, default=5, help="default: %(default)s")
        size = parser.add_mutually_exclusive_group()
        size.add_argument("--quick", action="store_true", help="two devices, one seed and epoch")
        size.add_argument("--full", action="store_true", help="all rules, 20 epochs")

    def too_small(self, options: Namespace) -> str:  # noqa: D102
        few = options.quick or options.seeds == 1
        return "one seed decides nothing" if few else ""

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.seeds < 1 or options.epochs < 1:
            raise ValueError("--seeds and --epochs must be >= 1")
        found: list[Run] = []
        for device in self.devices(options):
            for rule in self.rules(options):
                found += [self.trained(options, rule, device, seed) for seed in self.seeds(options)]
                found.append(self.cost(options, rule, device))
        found += [self.digital(options, seed) for seed in self.seeds(options)]
        return found + list(self.programming(options))

    def rules(self, options: Namespace) -> dict[str, tuple[xb.Rule, str]]:
        """By name, with the line that says when to use each."""
        return RULES | MORE if options.full else RULES

    def devices(self, options: Namespace) -> list[str]:
        """By name."""
        return ["RPU", "ReRAM, 21 states"] if options.quick else list(DEVICES)

    def seeds(self, options: Namespace) -> range:
        """Of networks, chips and batches."""
        return range(1 if options.quick else options.seeds)

    def recipe(self, options: Namespace, rates: tuple[float, ...]) -> Recipe:
        """Batches of 10 at a constant rate."""
        epochs = 20 if options.full else 1 if options.quick else options.epochs
        return Recipe(epochs=epochs, batch=10, lr=Best(rates), decay=1.0)

    def chip(self, device: str) -> xb.Chip:
        """One cell a weight, 7 bits in and 9 bits out."""
        port = xb.Periphery(xb.DAC(7, range=xb.PerVector()), xb.ADC(9))
        return xb.Chip(DEVICES[device], xb.OffsetColumn(w_max=1.0), port)

    def trained(self, options: Namespace, rule: str, device: str, seed: int) -> Train:
        """One network."""
        mode = xb.InSitu(rule=self.rules(options)[rule][0])
        recipe = self.recipe(options, RATES.get(rule, (0.03, 0.1)))
        return Train(Digits(), MLP((48,)), recipe, self.chip(device), mode, seed)

    def digital(self, options: Namespace, seed: int) -> Train:
        """Its digital twin."""
        return Train(Digits(), MLP((48,)), self.recipe(options, (0.03, 0.1)), seed=seed)

    def cost(self, options: Namespace, rule: str, device: str) -> Cost:
        """At one rate for all devices."""
        rate = max(RATES.get(rule, (0.1,)))
        own = self.rules(options)[rule][0]
        return Cost(Digits(), MLP((48,)), self.chip(device), own, 10, rate)

    def programming(self, options: Namespace) -> list[Programming]:
        """Each rule at each error of the symmetry points that it could see."""
        steps = 200 if options.quick else 20_000 if options.full else 4_000
        return [
            Programming(rule, 20, sigma, 8, steps)
            for rule in RULES
            for sigma in SIGMAS
            if sigma == 0 or rule not in ("SGD", "mixed precision")
        ]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        seeds, devices = self.seeds(options), self.devices(options)
        digital = [_late(store, self.digital(options, seed)) for seed in seeds]
        gaps = {
            (rule, device): paired(
                digital,
                [_late(store, self.trained(options, rule, device, seed)) for seed in seeds],
            )
            for rule in self.rules(options)
            for device in devices
        }
        table = [[r, *(signed(gaps[r, d]) for d in devices)] for r in self.rules(options)]
        costs = []
        for rule, (_, when) in self.rules(options).items():
            rows = [store[self.cost(options, rule, d)].metrics for d in devices]
            means = {k: fmean(row[k] for row in rows) for k in rows[0]}
            costs.append(
                [
                    rule,
                    f"{means['pulses']:.3g}",
                    f"{means['other pulses']:.3g}",
                    f"{means['reads']:.3g}",
                    f"{means['arrays']:.0f}",
                    f"{means['bytes']:.1f}",
                    f"{means['ms']:.1f}",
                    f"Use when {when}.",
                ]
            )
        told = {run: store[run].metrics for run in self.programming(options)}
        lines = []
        for rule in RULES:
            own = [(run.sigma_r, m["median"]) for run, m in told.items() if run.rule == rule]
            if len(own) == 1:  # it has no symmetry point to mistake
                own = [(sigma, own[0][1]) for sigma in SIGMAS]
            lines.append(Line(rule, [s for s, _ in own], [e for _, e in own]))
        error = {(run.rule, run.sigma_r): m["median"] for run, m in told.items()}
        panel = Panel("RMS(W − T)", "error of the symmetry point", "", lines)
        hard = [d for d in devices if "states" in d]
        better = [
            gaps[rule, d].mean > gaps["SGD", d].mean
            for rule in ("TTv2", "c-TTv2", "AGAD", "mixed precision")
            for d in hard
        ]
        return Report(
            title="Rules",
            subtitle="What learning in place loses to digital training",
            summary=[
                f"Digits, 64-48-10, batches of 10; digital {estimate(digital).mean:.1f} %. Of "
                "the last three epochs the mean; rates chosen on a fifth of the training images."
            ],
            table=Table(
                ["Rule", *devices],
                table,
                "Accuracy less that of the digital twin [points]. "
                + spreads(len(self.seeds(options))),
            ),
            checks=[
                Check(
                    "Coarse, noisy cells need more than plain pulses",
                    "every other rule ends above SGD on 21 states",
                    f"{sum(better)} of {len(better)}",
                    None if options.quick else all(better),
                ),
                Check(
                    "A wrong symmetry point breaks TTv2 and not AGAD",
                    "RMS(W − T) at an error of .5: TTv2 above .4, AGAD below .15",
                    f"{error['TTv2', 0.5]:.3f}, {error['AGAD', 0.5]:.3f}",
                    None
                    if options.quick
                    else error["TTv2", 0.5] > 0.4 and error["AGAD", 0.5] < 0.15,
                ),
            ],
            sections=[
                Section(
                    "Costs",
                    [
                        "Pulses of single devices, a weight and vector, means over the devices; "
                        "lines read, of both layers, a vector; digital bytes a weight; a step of "
                        "ten vectors on one core [ms]."
                    ],
                    [
                        Table(
                            [
                                "Rule",
                                "Pulses",
                                "On other arrays",
                                "Reads",
                                "Arrays more",
                                "Bytes",
                                "ms",
                                "When",
                            ],
                            costs,
                            prose=True,
                        )
                    ],
                ),
                Section(
                    "Programming a matrix",
                    [
                        "20 × 20 weights, 20 states, single vectors at rate .1, against the error "
                        "with which the symmetry points of the fast array are known."
                    ],
                    [
                        Picture(
                            "programming",
                            panels([panel], columns=1),
                            "Medians of eight replicas; rules of one array have no symmetry point.",
                        )
                    ],
                ),
            ],
        )


def _late(store: Store, run: Train) -> float:
    return run.late_accuracy(store[run])
