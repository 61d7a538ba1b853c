"""What do the wires of a crossbar cost a network, and what gives the accuracy back?

Varied: the strength κ of the IR drop (line resistance), the compensation, and whether training
went on through the wires; and how steeply cells respond to the voltage that half-selects them
while lines are pulsed. Measured: accuracy on the digits and the error of the logits. Compensation
that left the logits as wrong as it found them, or training through the exact circuit that did no
better than none, would prove the circuit's gradients or its matrices wrong; disturb that steep
cells feel, or that soft-bounds cells feel no more than linear ones, its counts.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace

import crossbar as xb
from devices import ConstantStep, Device, SoftBounds
from devices.part import Update
from experiments.lab.plots import Line, Panel, band, panels
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Row, Run
from experiments.lab.statistics import bands
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.circuit.plots import maps
from experiments.studies.circuit.runs import Fields, Tuned, Wired
from experiments.tasks.data import Digits
from experiments.tasks.networks import CNN, MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

TILE = 64
CELL = Device(1e-6, 100e-6, update=SoftBounds(0.1e-6))
KAPPAS = (0.2, 1.0, 2.0, 4.0, 8.0, 16.0)
TUNED = (4.0, 16.0)
SOLVED = ("exact", "approximate")
STEEPNESS = (16.0, 12.0, 8.0, 6.0, 4.0)  # v/v₀ of the write pulses
LAWS: dict[str, Update] = {
    "constant steps": ConstantStep(0.1e-6),
    "soft bounds": SoftBounds(0.05e-6),
}
METHODS: dict[str, dict[str, bool]] = {
    "none": {},
    "columns calibrated": {"calibrate": True},
    "reordered, columns calibrated": {"reorder": True, "calibrate": True},
    "predistorted": {"predistort": True},
    "reordered, predistorted": {"reorder": True, "predistort": True},
}
UNITS = {
    "wordline voltage": (1e3, "mV"),
    "bitline voltage": (1e3, "mV"),
    "IR-drop loss": (100.0, "% of the applied voltage"),
    "cell current": (1e6, "µA"),
    "wordline current": (1e6, "µA"),
    "bitline current": (1e6, "µA"),
}


def chip(kappa: float, solver: xb.Solver | None = None) -> xb.Chip:
    """64 × 64 tiles whose lines make κ at mid-window conductance; 0: no wires."""
    middle = (CELL.g_min + CELL.g_max) / 2
    r = kappa / (TILE**2 * middle)
    wires = xb.Wires(r, r) if kappa else None
    return xb.Chip(CELL, tile=(TILE, TILE), wires=wires, solver=solver if wires else None)


class Circuit(Study):
    """IR drop in networks."""

    name = "circuit"
    help = "line resistance: accuracy against the IR drop, compensation, training through wires"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=3, help="networks (default: %(default)s)")
        parser.add_argument("--quick", action="store_true", help="one network, nothing tuned")

    def too_small(self, options: Namespace) -> str:  # noqa: D102
        few = options.quick or options.seeds == 1
        return "one network decides nothing" if few else ""

    def digital(self, seed: int) -> Train:
        """The network that is written onto wired chips."""
        return Train(Digits(), CNN((16, 32)), Recipe(epochs=12, batch=32, lr=0.15), seed=seed)

    def wired(self, seed: int, kappa: float, method: str) -> Wired:
        """That network behind wires."""
        return Wired(self.digital(seed), chip(kappa), seed=seed, **METHODS[method])

    def tuned(self, seeds: int) -> dict[tuple[str, float, int], Tuned]:
        """That network trained on through the wires."""
        found = {}
        for seed in range(seeds):
            of, in_situ = self.digital(seed), xb.InSitu(xb.Aggregated(bl=31))
            for kappa in TUNED:
                aware = Tuned(of, chip(kappa), xb.HardwareAware(), 2e-3, seed=seed)
                found["hardware-aware, exact", kappa, seed] = aware
                for name, solver in (("exact", None), ("approximate", xb.Approximate())):
                    run = Tuned(of, chip(kappa, solver), in_situ, 0.05, calibrate=True, seed=seed)
                    found[f"in situ, columns calibrated, {name}", kappa, seed] = run
        return found

    def disturbed(self, seed: int, law: str, steepness: float | None) -> Train:
        """In-situ training whose pulses disturb half-selected cells; None: they do not."""
        write = None
        if steepness is not None:
            write = xb.ParallelWrite(v=1.0, v0=1 / steepness, half_select=True)
        made = xb.Chip(Device(CELL.g_min, CELL.g_max, update=LAWS[law]), write=write)
        recipe = Recipe(epochs=10, batch=32, lr=0.2)
        return Train(Digits(), MLP(), recipe, made, xb.InSitu(xb.Aggregated(bl=31)), seed=seed)

    def fields(self) -> Fields:
        """The array that is drawn."""
        return Fields(32, 40, xb.Wires(8.0, 8.0, 20.0, 20.0), CELL.g_min, CELL.g_max)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.seeds < 1:
            raise ValueError(f"--seeds must be >= 1, got {options.seeds}")
        seeds = 1 if options.quick else options.seeds
        wired = [
            self.wired(seed, kappa, method)
            for seed in range(seeds)
            for kappa in KAPPAS
            for method in METHODS
        ]
        digital = [self.digital(seed) for seed in range(seeds)]
        slow: list[Run] = []
        if not options.quick:
            slow += self.tuned(seeds).values()
            slow += [
                self.disturbed(seed, law, steepness)
                for seed in range(seeds)
                for law in LAWS
                for steepness in (None, *STEEPNESS)
            ]
        return [self.fields(), *digital, *wired, *slow]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        seeds = 1 if options.quick else options.seeds
        rows = {run: store[run] for run in self.runs(options)}
        base = _mean([rows[self.digital(s)].metrics["accuracy"] for s in range(seeds)])

        def values(method: str, kappa: float, metric: str) -> list[float]:
            return [rows[self.wired(s, kappa, method)].metrics[metric] for s in range(seeds)]

        def lines(metric: str) -> list[Line]:
            return [
                band(
                    name,
                    KAPPAS,
                    [[values(name, k, metric)[s] for k in KAPPAS] for s in range(seeds)],
                )
                for name in METHODS
            ]

        table = Table(
            ["Compensation", *(f"κ = {k:g}" for k in KAPPAS)],
            [
                [name, *(f"{_mean(values(name, k, 'accuracy')):.1f} %" for k in KAPPAS)]
                for name in METHODS
            ],
            f"Test accuracy, mean of {seeds} networks; without wires {base:.1f} %.",
        )
        ticks = {k: f"{k:g}" for k in KAPPAS}
        figure = panels(
            [
                Panel("Accuracy", "κ", "test accuracy [%]", lines("accuracy"), log_x=True,
                      level=(base, "without wires"), ticks=ticks),
                Panel("Logits", "κ", "relative error", lines("error"), log_x=True, ticks=ticks),
            ]
        )  # fmt: skip
        sections = [
            Section(
                "Networks behind wires",
                [
                    "A CNN trained digitally is written onto 64 × 64 tiles and read through the "
                    "exact circuit of every tile. κ = N² r ḡ of a full tile: 1 is a loss of nearly "
                    "half the current. Reordering makes the mean drop smaller but the columns less "
                    "alike, so it is shown with what evens the columns out."
                ],
                [
                    Picture("accuracy", figure, bands(seeds, "network")),
                    table,
                ],
            ),
            _map_section(rows[self.fields()], self.fields()),
        ]
        worst = KAPPAS[-1]
        none = _mean(values("none", worst, "accuracy"))
        checks = [
            Check(
                f"{name} recovers accuracy at κ = {worst:g}",
                "at least half of what the wires cost",
                f"{none:.1f} → {_mean(values(name, worst, 'accuracy')):.1f} % of {base:.1f} %",
                _mean(values(name, worst, "accuracy")) >= (none + base) / 2,
            )
            for name in METHODS
            if name != "none"
        ]
        if not options.quick:
            section, more = self._training(seeds, store, none)
            sections.insert(1, section)
            checks += more
            section, more = self._writing(seeds, store)
            sections.insert(2, section)
            checks += more
        return Report(
            title="The circuit",
            subtitle="Line resistance in networks, and what undoes it",
            summary=[
                f"At κ = {worst:g} the wires take a CNN on the digits from {base:.1f} % to "
                f"{none:.1f} %; predistorting the conductances brings it back to "
                f"{_mean(values('predistorted', worst, 'accuracy')):.1f} %."
            ],
            table=table,
            checks=checks,
            sections=sections,
        )

    def _training(self, seeds: int, store: Store, none: float) -> tuple[Section, list[Check]]:
        tuned = self.tuned(seeds)
        names = sorted({(name, kappa) for name, kappa, _ in tuned}, key=lambda n: (n[1], n[0]))
        means, rows = {}, []
        for name, kappa in names:
            found = [store[tuned[name, kappa, s]] for s in range(seeds)]
            before = _mean([row.metrics["before"] for row in found])
            after = means[name, kappa] = _mean([row.metrics["accuracy"] for row in found])
            seconds = _mean([row.seconds for row in found])
            rows.append(
                [name, f"{kappa:g}", f"{before:.1f} %", f"{after:.1f} %", f"{seconds:.0f} s"]
            )
        table = Table(
            ["Training", "κ", "Before", "After", "Time"],
            rows,
            "Three epochs from the digital network, tested through the wires; mean over networks.",
        )
        strong = TUNED[-1]
        aware = means["hardware-aware, exact", strong]
        pair = [means[f"in situ, columns calibrated, {how}", TUNED[0]] for how in SOLVED]
        checks = [
            Check(
                f"Training through the circuit beats compensating nothing at κ = {strong:g}",
                "hardware-aware accuracy above that of the digital network written",
                f"{aware:.1f} % against {none:.1f} %",
                aware > none,
            ),
            Check(
                f"The approximate circuit trains like the exact one at κ = {TUNED[0]:g}",
                "accuracies within 3 points",
                f"{pair[0]:.1f} % exact, {pair[1]:.1f} % approximate",
                abs(pair[0] - pair[1]) <= 3,
            ),
        ]
        text = (
            "In situ every forward and backward read sees the IR drop of the moment; "
            "hardware-aware, gradients reach the float weights through the adjoint circuit. "
            "Training starts from the digital network: from random weights plain SGD hardly moves "
            "at such κ, because the wires take most of the signal."
        )
        return Section("Training through wires", [text], [table]), checks

    def _writing(self, seeds: int, store: Store) -> tuple[Section, list[Check]]:
        def found(law: str, steepness: float | None) -> list[float]:
            runs = [self.disturbed(seed, law, steepness) for seed in range(seeds)]
            return [store[run].metrics["accuracy"] for run in runs]

        lines = [
            band(law, STEEPNESS, [[found(law, s)[k] for s in STEEPNESS] for k in range(seeds)])
            for law in LAWS
        ]
        none = {law: _mean(found(law, None)) for law in LAWS}
        lost = {law: [none[law] - _mean(found(law, s)) for s in STEEPNESS] for law in LAWS}
        figure = panels([Panel("Half-selected cells", "v/v₀", "test accuracy [%]", lines)])
        parts = [math.sinh(s / 2) / math.sinh(s) for s in STEEPNESS]
        table = Table(
            ["Cells", "undisturbed", *(f"v/v₀ = {s:g}" for s in STEEPNESS)],
            [
                ["part of a step at v/2", "", *(f"{part:.2g}" for part in parts)],
                *(
                    [law, f"{none[law]:.1f} %", *(f"{none[law] - d:.1f} %" for d in lost[law])]
                    for law in LAWS
                ),
            ],
            f"Ten epochs in situ; mean of {seeds} networks.",
        )
        text = (
            "Every pulse of a row or column puts half the write voltage on all of its cells, up "
            "and down alike. Where steps depend on the conductance they do not cancel: the cells "
            "are drawn to where up and down steps are equal, and with them the weights to zero."
        )
        checks = [
            Check(
                f"A steep cell is not disturbed (v/v₀ = {STEEPNESS[0]:g})",
                "accuracy within 1.5 points of undisturbed training",
                ", ".join(f"{law} {lost[law][0]:+.1f} points lost" for law in LAWS),
                all(abs(lost[law][0]) <= 1.5 for law in LAWS),
            ),
            Check(
                f"Disturb draws soft-bounds cells to mid-window (v/v₀ = {STEEPNESS[3]:g})",
                "they lose more accuracy than constant steps",
                ", ".join(f"{law} {lost[law][3]:+.1f} points lost" for law in LAWS),
                lost["soft bounds"][3] > lost["constant steps"][3],
            ),
        ]
        picture = Picture("disturb", figure, bands(seeds, "network"))
        return Section("Half-selected cells", [text], [picture, table]), checks


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _map_section(row: Row, run: Fields) -> Section:
    shown = {
        name: ([scale * v for v in row.curves[name]], unit) for name, (scale, unit) in UNITS.items()
    }
    text = (
        f"{run.rows} × {run.cols} random cells, all rows at {run.v:g} V, "
        f"{run.wires.r_wordline} Ω a segment, {run.wires.r_driver} Ω at every terminal: "
        f"κ = {row.metrics['kappa']:.2f}, {row.metrics['loss']:.0%} of the current "
        f"lost, {row.metrics['power'] * 1e3:.2f} mW, Kirchhoff's voltage law to "
        f"{row.metrics['residual']:.0e}."
    )
    return Section(
        "Inside one array",
        [text],
        [Picture("array", maps(shown, run.rows, run.cols), "Fields of one array.")],
    )
