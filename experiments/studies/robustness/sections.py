"""Sections of the main job's report: training curves, programmed chips, sweeps, method."""

from __future__ import annotations

from experiments.lab import plots
from experiments.lab.paths import short
from experiments.lab.plots import COLOURS, Line, Panel, band
from experiments.lab.report import Picture, Section, Table
from experiments.lab.statistics import bands, estimate, paired, percent, signed, spreads
from experiments.studies.robustness.plan import AT_YEAR, TIMES, YEAR
from experiments.studies.robustness.results import WAYS, Results, column
from experiments.tasks.training import Best

SHORT = {"digital": "digital", "aware": "hardware-aware"}
TIME_TICKS = {1.0: "1 s", 3600.0: "1 h", 86400.0: "1 d", 30 * 86400.0: "1 mo", YEAR: "1 y"}


def training(results: Results) -> Section:
    """Loss and accuracy over the epochs."""
    plan, store = results.plan, results.store
    items = []
    for network in plan.networks:
        runs = {"digital": [plan.digital(network, seed) for seed in plan.seeds]}
        for key, family in plan.families.items():
            runs[family.name] = [plan.in_situ(network, key, seed) for seed in plan.seeds]
        for curve, label in (("loss", "training loss [nats]"), ("accuracy", "test accuracy [%]")):
            lines = []
            for index, (name, repeats) in enumerate(runs.items()):
                values = [store[run].curves[curve] for run in repeats]
                epochs = range(1, 1 + max(map(len, values)))
                colour = COLOURS[index % len(COLOURS)]
                lines.append(
                    band(name, epochs, values, colour=colour, dashed=index >= len(COLOURS))
                )
            title = f"{network}: {label.split(' [')[0]}"
            items.append(Panel(title, "epoch", label, lines))
    return Section(
        "Training curves",
        [
            "The learning rate falls exponentially to a tenth over the run. The last epoch counts, "
            "not the best one."
        ],
        [
            Picture(
                "training",
                plots.panels(items, height=3.0),
                bands(len(plan.seeds)),
            )
        ],
    )


def programmed(results: Results) -> Section:
    """Phase-change chips as time passes; a second against a year, chip by chip."""
    plan = results.plan
    panels, groups = [], []
    for network in plan.networks:
        lines = []
        for index, (way, words) in enumerate(WAYS.items()):
            rows = results.programmed(network, way)
            lines.append(band(words, TIMES, rows, colour=COLOURS[index]))
            ends = column(rows, 0), column(rows, AT_YEAR)
            groups.append((f"{network}, {SHORT[way]}", *ends, COLOURS[index]))
        digital = estimate(results.digital(network)).mean
        level = (digital, "digital, unprogrammed")
        panels.append(
            Panel(
                network,
                "time since programming",
                "test accuracy [%]",
                lines,
                log_x=True,
                level=level,
                ticks=TIME_TICKS,
            )
        )
    rows = []
    for network in plan.networks:
        for way, words in WAYS.items():
            times = results.programmed(network, way)
            begin, end = column(times, 0), column(times, AT_YEAR)
            rows.append(
                [
                    f"{network}, {words}",
                    percent(estimate(begin)),
                    percent(estimate(end)),
                    signed(paired(begin, end), 2),
                    str(len(begin)),
                ]
            )
    return Section(
        "Programmed onto phase-change cells",
        [
            "Every trained network is written onto several chips. Each chip draws its own writing "
            "errors and its own drift exponent for each cell; nothing corrects for the drift. "
            "Hardware-aware training redraws writing error and read noise at every step, so that "
            "the network learns to live with them."
        ],
        [
            Picture(
                "drift",
                plots.panels(panels),
                bands(len(plan.seeds) * plan.budget.chips, "chip"),
            ),
            Picture(
                "year",
                plots.pairs(groups, names=("1 second", "1 year"), ylabel="test accuracy [%]"),
                "The same chip one second and one year after programming; bold: the mean.",
            ),
            Table(
                [
                    "Network",
                    "1 s [%]",
                    "1 year [%]",
                    "paired difference [points], 95 % CI",
                    "chips",
                ],
                rows,
                spreads(len(plan.seeds) * plan.budget.chips, "chip"),
            ),
        ],
    )


def sweeps(results: Results) -> Section:
    """One property of the chip after another changed under the trained networks."""
    plan = results.plan
    windows = ", ".join(f"{n}: w_max {plan.budget.tasks[n].w_max:g}" for n in plan.networks)
    items = []
    for network in plan.networks:
        names = list(plan.trained(network, 0))
        panels = []
        for sweep in plan.sweeps:
            lines = []
            for index, name in enumerate(names):
                levels = [
                    column(
                        results.evaluated(
                            lambda seed, n=network, w=name, s=sweep, v=value: plan.swept(
                                n, s, v, plan.trained(n, seed)[w]
                            )
                        ),
                        0,
                    )
                    for value in sweep.levels
                ]
                repeats = [list(repeat) for repeat in zip(*levels, strict=True)]
                lines.append(band(name, sweep.levels, repeats, colour=COLOURS[index]))
            panels.append(
                Panel(
                    sweep.title,
                    sweep.unit,
                    "test accuracy [%]",
                    lines,
                    categories=sweep.names,
                    ylim=(0, 102),
                )
            )
        panels.append(_aging(results, network, names))
        items.append(
            Picture(
                f"sweeps-{network.lower()}",
                plots.panels(panels, columns=3, height=2.7),
                f"{network}: one property of the chip changed under the trained network, all "
                "others as in training. As time passes the in-situ cells drift with exponents "
                f"0.05 ± 30 %, the phase-change cells with their own. {bands(len(plan.seeds))}",
            )
        )
    return Section(
        "What the trained networks withstand",
        [
            "A network trained in place keeps its devices: the same cells get more noise, stuck "
            "cells, coarser converters. The programmed ones are written onto a phase-change chip "
            "that has the property, and read one second later. No network was trained again.",
            "**Held equal**: the weight at full window, that of the in-situ networks "
            f"({windows}), also where networks are programmed and in the hardware-aware training; "
            "larger weights of the digital network are cut off by it. A wider window would let "
            "every stuck cell stand for a larger weight, and the comparison would be one of "
            "windows. Not equal: the cells themselves, phase-change where programmed.",
        ],
        items,
    )


def _aging(results: Results, network: str, names: list[str]) -> Panel:
    plan = results.plan
    lines = []
    for index, name in enumerate(names):
        of = [plan.trained(network, seed)[name] for seed in plan.seeds]
        rows = results.evaluated(lambda seed, runs=of: plan.aged(network, runs[seed]))
        lines.append(band(name, TIMES, rows, colour=COLOURS[index]))
    return Panel(
        "Time",
        "time since the last write",
        "test accuracy [%]",
        lines,
        log_x=True,
        ylim=(0, 102),
        ticks=TIME_TICKS,
    )


def method(results: Results) -> Section:
    """The search for learning rates, and the settings in full."""
    plan, store = results.plan, results.store
    items: list[Picture | Table] = []
    panels, rows = [], []
    for network in plan.networks:
        runs = {"digital": plan.digital(network, 0), "hardware-aware": plan.aware(network, 0)}
        for key, family in plan.families.items():
            runs[family.name] = plan.in_situ(network, key, 0)
        lines, rates = [], set[float]()
        for index, (name, run) in enumerate(runs.items()):
            assert isinstance(run.recipe.lr, Best)
            found = [trial.late_accuracy(store[trial]) for trial in run.trials()]
            rates.update(run.recipe.lr.grid)
            tried = zip(run.recipe.lr.grid, found, strict=True)
            lines.append(
                Line(
                    name,
                    run.recipe.lr.grid,
                    found,
                    colour=COLOURS[index % len(COLOURS)],
                    dashed=index >= len(COLOURS),
                )
            )
            rows.append(
                [f"{network}, {name}", f"{store[run].metrics['lr']:g}", f"{run.recipe.epochs}"]
                + [", ".join(f"{rate:g}: {accuracy:.1f}" for rate, accuracy in tried)]
            )
        panels.append(
            Panel(
                network,
                "learning rate",
                "validation accuracy [%]",
                lines,
                log_x=True,
                ticks={rate: f"{rate:g}" for rate in sorted(rates)},
            )
        )
    items.append(
        Picture(
            "rates",
            plots.panels(panels),
            "The search: seed 0, accuracy on the held-out fifth of the training images, mean of "
            "the last three epochs.",
        )
    )
    items.append(
        Table(["Setting", "chosen rate", "epochs", "validation accuracy [%] by rate"], rows)
    )
    example = plan.in_situ(plan.networks[0], "ideal", 0)
    return Section(
        "How it was done",
        [
            f"Plain SGD, batches of {example.recipe.batch}, cross-entropy; in place, every step's "
            f"outer product reaches the cells as `{short(example.mode)}`.",
            f"The chip of the ideal cells is `{short(example.chip)}`; the others differ in the "
            "device and the route.",
            f"The phase-change chip is `{short(plan.pcm)}`.",
        ],
        items,
    )
