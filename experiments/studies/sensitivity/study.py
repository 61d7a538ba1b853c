"""Which parameters does the accuracy depend on, all of them varied at once (Sobol)?

Varied: every axis of a sweep's file between its smallest and largest number, together. Measured:
the share of the variance of the accuracy that each explains alone and with its interactions.
Shares alone that add up to more than all of it, beyond their intervals, would prove it wrong.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from functools import cache
from pathlib import Path

from experiments.lab.plots import Line, Panel, panels
from experiments.lab.quick import quick
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.sensitivity.sobol import indices, sampled
from experiments.tasks.declared import declared
from experiments.tasks.runs import Evaluate
from experiments.tasks.sweeps import Axis, Sweep
from experiments.tasks.swept import held


class Sensitivity(Study):
    """Sobol's indices of the axes of a file."""

    name = "sensitivity"
    help = "Sobol's indices: which of a sweep's fields the accuracy depends on, all varied at once"
    least = {"samples": 64}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("file", type=Path, help="a sweep whose axes are numbers")
        parser.add_argument(
            "--samples", type=int, default=128,
            help="a power of two; samples × (axes + 2) chips of every seed are read (%(default)s)",
        )  # fmt: skip
        quick(parser, samples=8)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        sweep = declared(options.file)
        points = self.points(sweep, options.samples)
        runs = [self.read(sweep, p, seed) for p in points for seed in range(sweep.seeds)]
        return list(dict.fromkeys(runs))

    def points(self, sweep: Sweep, samples: int) -> list[tuple[float, ...]]:
        """Values of the axes, in the order that the indices need."""
        unit = sampled(len(sweep.axes), samples)
        return [tuple(map(_value, sweep.axes, row)) for row in unit.tolist()]

    def read(self, sweep: Sweep, values: tuple[float, ...], seed: int) -> Evaluate:
        """The network of those values, read on its chip."""
        point = sweep.of_values([(v,) for v in values], [f"{v:g}" for v in values])
        return sweep.read(point, seed)

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        sweep = declared(options.file)
        points, seeds = self.points(sweep, options.samples), range(sweep.seeds)

        @cache
        def accuracy(values: tuple[float, ...]) -> float:
            own = [store[self.read(sweep, values, s)].metrics["accuracy"] for s in seeds]
            return sum(own) / len(own)

        found = [accuracy(point) for point in points]
        shares = indices(len(sweep.axes), found)
        order = sorted(zip(sweep.axes, shares, strict=True), key=lambda p: -p[1].total)
        rows = [
            [axis.title, _between(axis), f"{s.first:.3f} ± {s.first_half:.3f}",
             f"{s.total:.3f} ± {s.total_half:.3f}"]
            for axis, s in order
        ]  # fmt: skip
        table = Table(
            ["Field", "between", "alone", "with interactions"], rows,
            "Shares of the variance of the accuracy, with 95 % intervals (bootstrap).",
        )  # fmt: skip
        alone = sum(s.first for s in shares)
        half = math.sqrt(sum(s.first_half**2 for s in shares))
        spread = f"{min(found):.1f} … {max(found):.1f} %"
        panel = Panel("", "accuracy [%]", "share of points at most this [%]", [
            Line("points", sorted(found),
                 [100 * (k + 1) / len(found) for k in range(len(found))], marker=False)
        ])  # fmt: skip
        first, share = order[0]
        return Report(
            title=f"{sweep.name}: sensitivity",
            subtitle=f"{len(points)} points, {sweep.seeds} seeds",
            summary=[
                f"Accuracies lie in {spread}; **{first.title}** explains most, "
                f"{100 * share.total:.0f} % with its interactions."
            ],
            table=table,
            checks=[Check("Shares of fields alone are no more than all", "sum at most 1",
                          f"{alone:.3f} ± {half:.3f}", alone - half <= 1)],
            held=held(sweep),
            sections=[
                Section("Shares", [], [table]),
                Section("Accuracies", [], [Picture("accuracies", panels([panel], height=3.2),
                                                   f"Accuracy of all points: {spread}.")]),
            ],
        )  # fmt: skip

    def folder(self, options: Namespace) -> str:  # noqa: D102
        return f"{self.name}-{options.file.stem}"


def _ends(axis: Axis) -> tuple[float, float]:
    if axis.numbers is None or len(axis.fields) > 1:
        raise ValueError(f"{axis.title}: sensitivity varies numbers of one field between two ends")
    return min(axis.numbers), max(axis.numbers)


def _between(axis: Axis) -> str:
    low, high = _ends(axis)
    return f"{low:g} … {high:g}{', log' if axis.log else ''}"


def _value(axis: Axis, unit: float) -> float:
    """The value at a place in 0 … 1 between the ends; whole where all values are."""
    low, high = _ends(axis)
    if all(type(value) is int for (value,) in axis.values):  # each whole number as often
        return min(int(low + unit * (high - low + 1)), int(high))
    found = low * (high / low) ** unit if axis.log else low + unit * (high - low)
    return float(f"{found:.12g}")
