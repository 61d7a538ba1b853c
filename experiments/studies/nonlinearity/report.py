"""The report of the curves on digits, computed from stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from experiments.lab import plots
from experiments.lab.plots import COLOURS, Line, Panel, band
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.statistics import Estimate, estimate, percent, spreads
from experiments.lab.store import Store
from experiments.tasks.bending import PROTOTYPE, Plan, late
from experiments.tasks.online import Online

HIGH, MIDDLE, LOW = (
    ("HZO FeFET", "EpiRAM", "GST-PCM"),
    ("AlOx/HfO2", "TaOx/HfOx"),
    ("Ag:a-Si", "PCMO"),
)
"""Devices in the order of the prototype: 95 to 96, 67 to 76, 48 to 51 %."""


def report(plan: Plan, store: Store) -> Report:
    """The whole report."""
    digital = estimate([late(store, run) for run in plan.digital])
    bent, retraced = _means(plan.bent, store), _means(plan.retraced, store)
    return Report(
        title="Bent curves, few levels, cycle noise",
        subtitle=(
            "64-54-10 with ReLUs on the digits, in situ, one image at a time, whole pulses for "
            f"every image; {plan.epochs} epochs, {plan.seeds} seeds."
        ),
        summary=[
            f"Trained digitally the network reads **{digital.mean:.1f} %**. On 100 straight levels "
            f"it reaches **{_estimate(plan.straight, store).mean:.1f} %**; curves bent to labels "
            f"±5 leave **{bent[5.0]:.1f} %**, the same bend retraced in depression "
            f"**{retraced[5.0]:.1f} %**: what hurts is the difference between the two directions."
        ],
        table=_table(plan, store, digital),
        checks=checks(plan, store),
        sections=[
            Section(
                "Accuracy",
                [
                    "100 straight, noiseless levels but for what is varied; a weight is one cell "
                    "against a fixed reference. The prototype is an independent program for the "
                    "same task with a learning rate of its own: its shapes are compared, not its "
                    "values."
                ],
                [_sweeps(plan, store, digital), _table(plan, store, digital)],
            ),
            _materials(plan, store),
            _layers(plan, store),
        ],
    )


def checks(plan: Plan, store: Store) -> list[Check]:
    """The shapes of the curves, as claims."""
    levels, nearest = _means(plan.levels, store), _means(plan.nearest, store)
    bent, retraced = _means(plan.bent, store), _means(plan.retraced, store)
    noise, spread = _means(plan.noise, store), _means(plan.spread, store)
    straight = _estimate(plan.straight, store).mean
    devices = _means(plan.materials, store)
    groups = [[devices[name] for name in group] for group in (HIGH, MIDDLE, LOW)]
    falling = list(bent.values())
    return [
        Check(
            "Asymmetric labels +a/−a: accuracy falls with a",
            "every step down from label 1",
            _row(falling),
            all(a > b for a, b in pairwise(falling[1:])) and falling[0] > falling[2],
        ),
        Check(
            "The same bend in both directions is nearly free",
            "within 3 points of straight curves up to label 5",
            _row(list(retraced.values())),
            min(retraced.values()) > straight - 3,
        ),
        Check(
            "Asymmetry, not nonlinearity, is what costs",
            "label 5: equal above opposite labels by more than 15 points",
            f"{retraced[5.0] - bent[5.0]:.1f} points",
            retraced[5.0] - bent[5.0] > 15,
        ),
        Check(
            "The number of levels has a knee between 16 and 32",
            "8 levels lose 5 points or more against 512, 16 at least 1, 32 at most 2.5",
            ", ".join(f"{n}: {levels[512] - levels[n]:.1f}" for n in (8, 16, 32)),
            levels[512] - levels[8] >= 5
            and levels[512] - levels[16] >= 1
            and levels[512] - levels[32] <= 2.5,
        ),
        Check(
            "Cycle noise has a cliff between 2 and 5 % of the range a pulse",
            "up to 1 % at most 2.5 points lost, 2 to 5 % more than 25, chance at 10 %",
            _row(list(noise.values())),
            straight - noise[0.01] <= 2.5 and noise[0.02] - noise[0.05] > 25 and noise[0.1] < 20,
        ),
        Check(
            "A spread of the labels from cell to cell is nearly free",
            "at most 2.5 points below no spread up to 2",
            _row(list(spread.values())),
            min(spread.values()) > bent[1.0] - 2.5,
        ),
        Check(
            "Nearest rounding needs finer levels than stochastic rounding",
            "8 to 64 levels: at least 10 points lower at each",
            _row(list(nearest.values())),
            all(levels[n] - nearest[n] >= 10 for n in (8, 16, 32, 64)),
        ),
        Check(
            "The devices fall into the prototype's groups",
            "every one of a group above every one of the next",
            "; ".join(f"{min(g):.0f} to {max(g):.0f} %" for g in groups),
            all(min(a) > max(b) for a, b in pairwise(groups)),
        ),
    ]


def _estimate(run: Online, store: Store) -> Estimate:
    return estimate(store[run].curves["accuracy"])


def _means(runs: Mapping[Any, Online], store: Store) -> dict[Any, float]:
    return {value: _estimate(run, store).mean for value, run in runs.items()}


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


def _sweeps(plan: Plan, store: Store, digital: Estimate) -> Picture:
    def sheet(
        title: str, xlabel: str, lines: Mapping[str, Mapping[float, Online]], key: str, scale: float
    ) -> Panel:
        drawn = []
        for name, runs in lines.items():
            repeats = [store[run].curves["accuracy"] for run in runs.values()]
            x = [scale * value for value in runs]
            drawn.append(band(name, x, list(zip(*repeats, strict=True)), colour=colours[name]))
        first = [scale * value for value in next(iter(lines.values()))]
        drawn.append(Line("prototype", first, PROTOTYPE[key], colour=COLOURS[7], dashed=True))
        return Panel(
            title,
            xlabel,
            "test accuracy [%]",
            drawn,
            log_x=key != "bent",
            ylim=(0.0, 100.0),
            level=(digital.mean, "digital"),
            ticks={} if key == "bent" else {value: f"{value:g}" for value in first},
        )

    both = {"stochastic rounding": plan.levels, "nearest rounding": plan.nearest}
    labels = {"opposite labels +a/−a": plan.bent, "equal labels +a/+a": plan.retraced}
    noise = {"stochastic rounding": plan.noise}
    # panels share one legend, so a name has one colour in all of them
    colours = dict(zip([*labels, *both], COLOURS, strict=False))
    return Picture(
        "curves",
        plots.panels(
            [
                sheet("Nonlinearity", "label a", labels, "bent", 1),
                sheet("Levels", "pulses from end to end", both, "levels", 1),
                sheet("Cycle noise", "noise of a pulse [% of the range]", noise, "noise", 100),
            ],
            columns=3,
            height=3.2,
        ),
        "Mean over seeds, bands from the lowest to the highest; dashed: the prototype.",
    )


def _table(plan: Plan, store: Store, digital: Estimate) -> Table:
    rows = [["digital", percent(digital), "97.3"]]
    sweeps = (
        ("{:g} levels", plan.levels, PROTOTYPE["levels"]),
        ("{:g} levels, nearest rounding", plan.nearest, None),
        ("labels +{0:g}/−{0:g}", plan.bent, PROTOTYPE["bent"]),
        ("labels +{0:g}/+{0:g}", plan.retraced, PROTOTYPE["retraced"]),
        ("cycle noise {:.1%}", plan.noise, PROTOTYPE["noise"]),
        ("labels ±1, spread {:g} from cell to cell", plan.spread, PROTOTYPE["spread"]),
    )
    for name, runs, theirs in sweeps:
        for place, (value, run) in enumerate(runs.items()):
            other = "" if theirs is None else f"{theirs[place]:.1f}"
            rows.append([name.format(value), percent(_estimate(run, store)), other])
    return Table(
        ["Cell", "this emulator [%]", "prototype [%]"],
        rows,
        f"Test accuracy over the last 3 epochs. {spreads(plan.seeds)}",
    )


def _materials(plan: Plan, store: Store) -> Section:
    names = list(plan.materials)
    values = [store[run].curves["accuracy"] for run in plan.materials.values()]
    return Section(
        "The devices of NeuroSim's table, in this task",
        [
            "Stochastic rounding, real-valued activities and errors: kinder than NeuroSim's own "
            "protocol to devices with few levels."
        ],
        [
            Picture(
                "devices",
                plots.dots(names, {"digits": values}, xlabel="test accuracy [%]", levels={}),
                "Every dot is one network, the bar and the number the mean.",
            )
        ],
    )


def _layers(plan: Plan, store: Store) -> Section:
    rows = []
    for name, (batched, runs) in plan.layers.items():
        layers = estimate([late(store, run) for run in runs])
        rows.append([name, percent(_estimate(batched, store)), percent(layers)])
    return Section(
        "The same by the drop-in layers",
        [
            "The sweeps compute all seeds of a cell together on one stack of arrays. Three of "
            "them again with `AnalogLinear` and `InSituSGD`, two seeds each: 100 levels, "
            "straight; labels ±5; labels +5/+5."
        ],
        [Table(["Cell", "batched [%]", "drop-in layers [%]"], rows)],
    )
