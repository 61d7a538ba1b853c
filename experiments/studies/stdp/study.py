"""Plasticity on devices: which window do cells make of a rule, and what do they learn by it?

Varied: the cell's law and its weight under pair-based STDP; the power of a threshold memristor
under overlapping waveforms; spreads, dead cells and homeostasis of a winner-take-all net on digits.
Measured: weight change against delay beside the rule's law, accuracy without labels. A window on
cells of constant step that is not the law would prove it wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.plots import Line, Panel, panels
from experiments.lab.quick import quick
from experiments.lab.rasters import weight_maps
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.stdp.runs import CELLS, DELAYS, Overlap, Unsupervised, Window

STARTS = (0.2, 0.5, 0.8)
ALPHAS = (1.0, 3.0)


class Stdp(Study):
    """Windows and digits."""

    name = "stdp"
    help = "spike-timing-dependent plasticity on devices: windows, waveforms, digits without labels"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
        parser.add_argument(
            "--images", type=int, default=1347, help="training images of each (%(default)s)"
        )
        quick(parser, seeds=1, images=130)

    def _digits(self, options: Namespace) -> dict[str, Unsupervised]:
        n, images = options.seeds, options.images
        made = {"ideal cells": Unsupervised(n, images)}
        for s in (0.1, 0.25):
            made[f"cells and neurons spread {s:.0%}"] = Unsupervised(n, images, s, s)
            made[f"the same without homeostasis ({s:.0%})"] = Unsupervised(
                n, images, s, s, homeostasis=0.0
            )
        made["10 % of the cells stuck off"] = Unsupervised(n, images, stuck=0.1)
        return made

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.seeds < 1 or not 1 <= options.images <= 1347:
            raise ValueError("--seeds must be >= 1 and --images in [1, 1347]")
        windows = [Window(cell, start) for cell in CELLS for start in STARTS]
        return [*windows, *map(Overlap, ALPHAS), *self._digits(options).values()]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        rows = {run: store[run] for run in self.runs(options)}
        digits, delays = self._digits(options), list(map(float, DELAYS))
        items = []
        for cell in CELLS:
            lines = [
                Line(f"from {s:g}", delays, rows[Window(cell, s)].curves["moved"], marker=False)
                for s in STARTS
            ]
            law = rows[Window(cell, 0.5)].curves["law"]
            lines.append(Line("rule", delays, law, dashed=True, marker=False))
            items.append(Panel(cell.capitalize(), "t_post − t_pre [ms]", "ΔW", lines))
        overlaps = [
            Line(f"α = {a:g}", rows[Overlap(a)].curves["delay"], rows[Overlap(a)].curves["moved"])
            for a in ALPHAS
        ]
        volts_panel = Panel("Overlapping voltages", "t_post − t_pre [ms]", "Δx, scaled", overlaps)
        table = [
            [
                name,
                f"{rows[run].metrics['accuracy']:.3f}",
                f"{rows[run].metrics['least']:.3f}",
            ]
            for name, run in digits.items()
        ]
        shown = Table(
            ["Digits, 50 columns", "Mean accuracy", "Worst seed"],
            table,
            f"{options.seeds} seeds, {options.images} images each; labels only name the columns.",
        )
        ideal = rows[digits["ideal cells"]]
        flat = ideal.curves["weights"]
        columns = [flat[64 * k : 64 * k + 64] for k in range(50)]
        names = [f"{label:.0f}" for label in ideal.curves["labels"]]
        off = max(rows[Window("constant step", s)].metrics["off"] for s in STARTS)
        volts = max(rows[Overlap(a)].metrics["off"] for a in ALPHAS)
        whole = options.images == 1347 and options.seeds >= 5

        def gain(s: float) -> float:
            kept, alone = (
                rows[digits[f"cells and neurons spread {s:.0%}"]],
                rows[digits[f"the same without homeostasis ({s:.0%})"]],
            )
            return kept.metrics["accuracy"] - alone.metrics["accuracy"]

        return Report(
            title="Plasticity",
            subtitle="Spike-timing-dependent plasticity on devices",
            summary=[
                f"Digits without labels: {ideal.metrics['accuracy']:.1%} after {options.images} "
                f"images, mean of {options.seeds} seeds."
            ],
            table=shown,
            checks=[
                Check(
                    "Constant steps give the rule's window",
                    "within 1e-12",
                    f"{off:.1e}",
                    off < 1e-12,
                ),
                Check(
                    "Overlapping voltages give e^(−α|Δt|/τ)",
                    "within 1 %",
                    f"{volts:.2%}",
                    volts < 0.01,
                ),
                Check(
                    "Digits without labels, one epoch",
                    "80 % at least",
                    f"{ideal.metrics['accuracy']:.1%}",
                    ideal.metrics["accuracy"] >= 0.8 if whole else None,
                ),
                Check(
                    "Homeostasis gains at 10 % spread",
                    "10 points",
                    f"{100 * gain(0.1):.1f}",
                    gain(0.1) >= 0.1 if whole else None,
                ),
                Check(
                    "Homeostasis gains at 25 % spread",
                    "40 points",
                    f"{100 * gain(0.25):.1f}",
                    gain(0.25) >= 0.4 if whole else None,
                ),
            ],
            sections=[
                Section(
                    "Windows",
                    items=[
                        Picture("windows", panels(items), "One pair of spikes, by pulses."),
                        Picture("overlaps", panels([volts_panel], columns=1), "By voltages."),
                    ],
                ),
                Section(
                    "What the columns learned",
                    items=[
                        Picture(
                            "weights",
                            weight_maps(columns, (8, 8), names),
                            "Weights of the first chip, under the class each column got.",
                        )
                    ],
                ),
            ],
        )
