"""The report of the main job: its words, tables and figures, all computed from stored runs."""

from __future__ import annotations

from experiments import plots
from experiments.plots import COLOURS, Line, Panel, band
from experiments.report import Fact, Picture, Report, Section, Table
from experiments.robustness.checks import checks
from experiments.robustness.plan import SWEEPS, TIMES, YEAR, Plan
from experiments.robustness.results import WAYS, Results, column, percent, signed
from experiments.runs import Train
from experiments.stats import estimate, paired
from experiments.store import Store
from experiments.study import provenance
from experiments.training import Best

TIME_TICKS = {1.0: "1 s", 3600.0: "1 h", 86400.0: "1 d", 30 * 86400.0: "1 mo", YEAR: "1 y"}
AT_YEAR = TIMES.index(YEAR)


def report(plan: Plan, store: Store, command: str) -> Report:
    """The whole report."""
    results = Results(plan, store)
    return Report(
        title="What analog training costs",
        subtitle=_subtitle(plan),
        summary=_summary(results),
        facts=_facts(results),
        table=_accuracy_table(results),
        checks=checks(results),
        sections=[
            _accuracy(results),
            _devices(results),
            _training(results),
            _programmed(results),
            _sweeps(results),
            _method(results),
        ],
        provenance=provenance([store[run] for run in plan.all()], command),
    )


def _subtitle(plan: Plan) -> str:
    seeds = len(plan.seeds)
    return (
        f"{' and '.join(plan.networks)} on {type(plan.data).__name__}: trained digitally, in place "
        f"on {len(plan.families)} families of emulated memory cells, and programmed onto "
        f"phase-change chips. {seeds} seed{'s' if seeds > 1 else ''}, {plan.budget.name} budget."
    )


def _summary(results: Results) -> list[str]:
    plan, network = results.plan, results.plan.networks[0]
    digital = results.digital(network)
    scores = {key: estimate(results.in_situ(network, key)) for key in plan.families}
    ranked = sorted((key for key in scores if key != "ideal"), key=lambda key: -scores[key].mean)
    best, worst = ranked[0], ranked[-1]
    ideal = paired(digital, results.in_situ(network, "ideal"))
    aged = []
    for way, words in WAYS.items():
        rows = results.programmed(network, way)
        begin, end = column(rows, 0), column(rows, AT_YEAR)
        aged.append(
            f"{words}, it reads **{estimate(begin).mean:.1f} %** right one second after "
            f"programming and **{estimate(end).mean:.1f} %** a year later "
            f"({signed(paired(begin, end))} points)"
        )
    return [
        f"Trained digitally, the {network} reads **{estimate(digital).mean:.1f} %** of the test "
        "images right. Trained in place on ideal cells, with stochastic pulses and 8-bit "
        f"converters, it reaches **{scores['ideal'].mean:.1f} %**, a difference of "
        f"{signed(ideal)} points. Real cells differ: {plan.families[best].name} comes to "
        f"**{scores[best].mean:.1f} %**, {plan.families[worst].name} ends at "
        f"**{scores[worst].mean:.1f} %**.",
        f"Written onto phase-change cells instead, the same network ages: {aged[0]}; {aged[1]}.",
    ]


def _facts(results: Results) -> list[Fact]:
    plan, network = results.plan, results.plan.networks[0]
    digital = results.digital(network)
    scores = {key: estimate(results.in_situ(network, key)).mean for key in plan.families}
    worst = min(scores, key=lambda key: scores[key])
    aged = results.programmed(network, "digital")
    gap = paired(column(aged, 0), column(aged, AT_YEAR))
    return [
        Fact(f"{estimate(digital).mean:.1f} %", "digital", f"{network}, plain SGD"),
        Fact(f"{scores['ideal']:.1f} %", "in situ, ideal cells", "8-bit converters, BL 31"),
        Fact(f"{scores[worst]:.1f} %", plan.families[worst].name, "the hardest family"),
        Fact(
            f"{gap.mean:+.1f}".replace("-", "−"),
            "points in a year on PCM",
            "digital network, programmed once",
        ),
    ]


def _accuracy_table(results: Results) -> Table:
    plan = results.plan
    headers = ["How it was trained"]
    rows = [["digital"], *([family.name] for family in plan.families.values())]
    rows += [["hardware-aware, before programming"], ["PCM 1 s, digital then programmed"]]
    rows += [["PCM 1 s, hardware-aware then programmed"]]
    for network in plan.networks:
        headers += [f"{network} [%]", "gap to digital [points]"]
        digital = results.digital(network)
        values = [results.in_situ(network, key) for key in plan.families]
        values.append(results.aware(network))
        rows[0] += [percent(estimate(digital)), ""]
        for row, value in zip(rows[1:], values):
            row += [percent(estimate(value)), signed(paired(digital, value))]
        for row, way in zip(rows[-2:], WAYS):
            first = column(results.programmed(network, way), 0)
            each = [score for score in digital for _ in range(plan.budget.chips)]
            row += [percent(estimate(first)), signed(paired(each, first))]
    return Table(
        headers,
        rows,
        "Test accuracy, mean ± standard deviation over seeds (over chips and seeds where "
        "programmed), and the mean difference to the digital network of the same seed with its "
        "95 % confidence interval.",
    )


def _accuracy(results: Results) -> Section:
    plan = results.plan
    names = [family.name for family in plan.families.values()]
    names += [f"PCM 1 s, {words}" for words in WAYS.values()]
    values = {
        network: [results.in_situ(network, key) for key in plan.families]
        + [column(results.programmed(network, way), 0) for way in WAYS]
        for network in plan.networks
    }
    levels = {}
    for network in plan.networks:
        mean = estimate(results.digital(network)).mean
        levels[network] = (mean, f"digital {mean:.1f}")
    colours = [COLOURS[0]] * len(plan.families) + [COLOURS[2]] * len(WAYS)
    figure = plots.dots(
        names, values, xlabel="test accuracy [%]", levels=levels, colours=colours
    )
    return Section(
        "Accuracy by device",
        [
            "All networks start from the same initial weights per seed and see the images in the "
            "same order. Each was given the learning rate that did best on a validation part of "
            "the training images; the test images decided nothing."
        ],
        [
            Picture(
                "accuracy",
                figure,
                "Every dot is one trained network (blue: trained in place) or one programmed chip "
                "(green); the bar and the number are the mean, the dotted line is the digital "
                "network.",
            ),
            _accuracy_table(results),
        ],
    )


def _devices(results: Results) -> Section:
    plan, store = results.plan, results.store
    traces = []
    for key, family in plan.families.items():
        curves = store[plan.response(key)].curves
        device = family.chip.device
        traces.append(
            plots.Trace(
                family.name,
                curves["mean"],
                curves["std"],
                curves["cell"],
                (device.g_min, device.g_max),
            )
        )
    rows = [
        [family.name, family.about, f"`{family.chip.device.update!r}`", _route(family.chip)]
        for family in plan.families.values()
    ]
    return Section(
        "The devices",
        [
            "A family is a law of how one pulse changes the conductance, with its noise, and the "
            "route by which a wanted change of weight reaches the two cells of a pair."
        ],
        [
            Picture(
                "responses",
                plots.responses(traces),
                "Up pulses, then as many down pulses: mean of 20 cells (blue), one standard "
                "deviation between cells (band), one cell (yellow). The down half shows the "
                "asymmetry that training feels.",
            ),
            Table(["Family", "What it is", "Update law", "Route"], rows, prose=True),
        ],
    )


def _route(chip: object) -> str:
    return f"`{chip.mapping.route!r}`"  # type: ignore[attr-defined]


def _training(results: Results) -> Section:
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
                "Mean over seeds; bands span the lowest and highest seed.",
            )
        ],
    )


def _programmed(results: Results) -> Section:
    plan = results.plan
    panels, groups = [], []
    for network in plan.networks:
        lines = []
        for index, (way, words) in enumerate(WAYS.items()):
            rows = results.programmed(network, way)
            lines.append(band(words, TIMES, rows, colour=COLOURS[index]))
            groups.append(
                (f"{network}, {way}", column(rows, 0), column(rows, AT_YEAR), COLOURS[index])
            )
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
                "Mean over chips and seeds; bands span the lowest and highest chip.",
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
                "Mean ± standard deviation over chips.",
            ),
        ],
    )


def _sweeps(results: Results) -> Section:
    plan = results.plan
    items = []
    for network in plan.networks:
        names = list(plan.trained(network, 0))
        panels = []
        for sweep in SWEEPS:
            lines = []
            for index, name in enumerate(names):
                levels = [
                    column(
                        results.evaluated(
                            lambda seed, n=network, w=name, s=sweep, v=value: plan.swept(
                                s, v, plan.trained(n, seed)[w]
                            )
                        ),
                        0,
                    )
                    for value in sweep.levels
                ]
                repeats = [list(repeat) for repeat in zip(*levels)]
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
                plots.panels(panels, height=2.8),
                f"{network}: one property of the chip changed under the trained network, all "
                "others as in training. Mean over seeds; bands span the lowest and highest seed.",
            )
        )
    return Section(
        "What the trained networks withstand",
        [
            "A network trained in place keeps its devices: the same cells get more noise, stuck "
            "cells, coarser converters. The programmed ones are written onto a phase-change chip "
            "that has the property, and read one second later. No network was trained again."
        ],
        items,
    )


def _aging(results: Results, network: str, names: list[str]) -> Panel:
    plan = results.plan
    lines = []
    for index, name in enumerate(names):
        of = [plan.trained(network, seed)[name] for seed in plan.seeds]
        if name.startswith("in situ"):
            rows = results.evaluated(lambda seed, runs=of: plan.aged(runs[seed]))
        else:
            rows = results.programmed(network, "aware" if "aware" in name else "digital")
        lines.append(band(name, TIMES, rows, colour=COLOURS[index]))
    return Panel(
        "Time",
        "time since the last write; in-situ cells drift with ν = 0.05 ± 30 %",
        "test accuracy [%]",
        lines,
        log_x=True,
        ylim=(0, 102),
        ticks=TIME_TICKS,
    )


def _method(results: Results) -> Section:
    plan, store = results.plan, results.store
    items: list[Picture | Table] = []
    panels, rows = [], []
    for network in plan.networks:
        runs = {"digital": plan.digital(network, 0), "hardware-aware": plan.aware(network, 0)}
        for key, family in plan.families.items():
            runs[family.name] = plan.in_situ(network, key, 0)
        lines = []
        for index, (name, run) in enumerate(runs.items()):
            assert isinstance(run.recipe.lr, Best)
            found = [sum(c[-3:]) / len(c[-3:]) for c in _validation(store, run)]
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
                + [", ".join(f"{r:g}: {f:.1f}" for r, f in zip(run.recipe.lr.grid, found))]
            )
        panels.append(
            Panel(
                network,
                "learning rate",
                "validation accuracy [%]",
                lines,
                categories=[f"{rate:g}" for rate in runs["digital"].recipe.lr.grid],  # type: ignore[union-attr]
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
            f"outer product reaches the cells as `{example.mode!r}`.",
            f"The chip of the ideal cells is `{example.chip!r}`; the other families differ in the "
            "device and the route.",
            f"The phase-change chip is `{plan.pcm!r}`.",
        ],
        items,
    )


def _validation(store: Store, run: Train) -> list[list[float]]:
    return [store[trial].curves["accuracy"] for trial in run.trials()]
