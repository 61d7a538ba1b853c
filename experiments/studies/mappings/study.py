"""Differential or offset, one device or six a weight: what does a mapping cost, and what is it for?

Varied: the mapping, everything else alike. Measured: accuracy on digits, trained in situ where
pulses can and hardware-aware where they cannot; devices a weight, converters a tile, the share of
conversions at full scale. A trainable mapping that does not learn, or a converter that clips much,
would prove the emulator or its defaults wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import crossbar as xb
from devices import Device, SoftBounds
from experiments.lab.quick import quick
from experiments.lab.report import Check, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import estimate
from experiments.lab.store import Row, Store
from experiments.lab.study import Study
from experiments.studies.mappings.runs import Trained
from experiments.tasks.training import Recipe

CELL = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3))
FREE = Device(1e-6, 50e-6)
TRAINABLE: dict[str, xb.Mapping] = {
    "push-pull pair": xb.Differential(),
    "pair, scale of each column": xb.Differential(per_column=True),
    "pair, power-of-two scale": xb.Differential(binary=True),
    "pair, two converters": xb.Differential(converters=2),
    "pair beside a reference": xb.Differential(xb.Reference()),
    "one-sided pair": xb.Differential(xb.OneSided()),
    "offset column": xb.OffsetColumn(),
    "single cell, digital offset": xb.SingleCell(),
    "three pairs, pulsed alike": xb.Devices(count=3),
    "three pairs, by a counter": xb.Arbitrated(count=3),
    "significance pairs": xb.Significance(transfer_every=54),
}
WRITTEN: dict[str, xb.Mapping] = {
    "pair, written": xb.Differential(),
    "pair, 1 % clipped": xb.Differential(quantile=0.99),
    "bit slices 4-4": xb.Slices((4, 4)),
    "bit slices 1-1-2-4": xb.Slices((1, 1, 2, 4)),
    "block floating point 2-2": xb.Slices((2, 2), per_column=True, binary=True),
}


class Mappings(Study):
    """One network on every mapping."""

    name = "mappings"
    help = "every mapping on digits: accuracy, devices, converters, clipping"
    least = {"seeds": 2, "epochs": 30}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=3, help="chips (default: %(default)s)")
        parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
        quick(parser, seeds=1, epochs=2)

    def named(self, options: Namespace) -> dict[str, list[Trained]]:
        """The runs of every mapping."""
        if options.seeds < 1 or options.epochs < 1:
            raise ValueError("--seeds and --epochs must be >= 1")
        seeds, epochs = options.seeds, options.epochs
        recipe = Recipe(epochs=epochs, lr=0.15)
        found = {}
        for maps, cell, in_situ in ((TRAINABLE, CELL, True), (WRITTEN, FREE, False)):
            for name, mapping in maps.items():
                found[name] = [
                    Trained(cell, mapping, in_situ, seed, recipe) for seed in range(seeds)
                ]
        return found

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return [run for runs in self.named(options).values() for run in runs]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        found = {name: [store[r] for r in runs] for name, runs in self.named(options).items()}
        table = _table(found)
        worst = {
            name: min(row.metrics["accuracy"] for row in found[name])
            for name in TRAINABLE
            if "reference" not in name
        }
        least = min(worst, key=lambda name: worst[name])
        clipped = max(
            (row.metrics["clipped"], name) for name, rows in found.items() for row in rows
        )
        return Report(
            title="Mappings",
            subtitle="One network on digits, one way of laying weights on cells after another",
            summary=[
                "64-54-10 with cells of 980 steps and 30 % spread, 8-bit converters with the "
                "default range, tiles of 32 rows. The upper mappings are trained by pulses, the "
                "lower ones hardware-aware and then written on cells without an update law."
            ],
            table=table,
            checks=[
                Check(
                    "Every mapping that pulses train learns digits",
                    "at least 80 % on every chip",
                    f"least {worst[least]:.1f} % ({least})",
                    worst[least] >= 80.0,
                ),
                Check(
                    "The default range of the converters is not what limits",
                    "at most 5 % of a layer's conversions at full scale",
                    f"{clipped[0]:.2f} % ({clipped[1]})",
                    clipped[0] <= 5.0,
                ),
            ],
            sections=[Section("All mappings", items=[table])],
        )


def _table(found: dict[str, list[Row]]) -> Table:
    rows = []
    for name, stored in found.items():
        metrics = stored[0].metrics
        rows.append(
            [
                name,
                "pulses" if name in TRAINABLE else "written",
                f"{estimate([r.metrics['accuracy'] for r in stored]).mean:.1f}",
                f"{min(r.metrics['accuracy'] for r in stored):.1f}",
                f"{metrics['devices']:.0f}",
                f"{metrics['adcs']:.0f}",
                f"{max(r.metrics['clipped'] for r in stored):.2f}",
                f"{max(r.metrics['clipped training'] for r in stored):.2f}",
                f"{metrics['pulses']:,.0f}" if name in TRAINABLE else "—",
            ]
        )
    headers = [
        "Mapping",
        "Trained by",
        "Accuracy",
        "Least",
        "Devices a weight",
        "Converters a tile",
        "Clipped",
        "Clipped in training",
        "Pulses a weight",
    ]
    return Table(headers, rows, "Accuracy and the clipped share of the worse layer in percent.")
