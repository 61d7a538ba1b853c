"""The report of the main job: its words, tables and figures, all computed from stored runs."""

from __future__ import annotations

import crossbar as xb
from experiments.lab import plots
from experiments.lab.paths import short
from experiments.lab.plots import COLOURS
from experiments.lab.report import Fact, Picture, Report, Section, Table
from experiments.lab.statistics import estimate, paired, percent, signed, spreads
from experiments.lab.store import Store
from experiments.studies.robustness.checks import checks
from experiments.studies.robustness.plan import AT_YEAR, Plan
from experiments.studies.robustness.results import WAYS, Results, column
from experiments.studies.robustness.sections import method, programmed, sweeps, training


def report(plan: Plan, store: Store) -> Report:
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
            training(results),
            programmed(results),
            sweeps(results),
            method(results),
        ],
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
    others = []
    for other in plan.networks[1:]:
        means = {k: estimate(results.in_situ(other, k)).mean for k in plan.families if k != "ideal"}
        low = min(means, key=lambda key: means[key])
        others.append(
            f"The {other} stands at **{estimate(results.digital(other)).mean:.1f} %** digitally, "
            f"**{estimate(results.in_situ(other, 'ideal')).mean:.1f} %** on ideal cells and "
            f"**{means[low]:.1f} %** on {plan.families[low].name}."
        )
    return [
        f"Trained digitally, the {network} reads **{estimate(digital).mean:.1f} %** of the test "
        "images right. Trained in place on ideal cells, with stochastic pulses and 8-bit "
        f"converters, it reaches **{scores['ideal'].mean:.1f} %**, a difference of "
        f"{signed(ideal)} points. Real cells differ: {plan.families[best].name} comes to "
        f"**{scores[best].mean:.1f} %**, {plan.families[worst].name} ends at "
        f"**{scores[worst].mean:.1f} %**.",
        f"Written onto phase-change cells instead, the {network} ages: {aged[0]}; {aged[1]}.",
        *others,
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
        headers += [f"{network} [%]", "gap to digital [points]", "clipped [%]"]
        digital = results.digital(network)
        values = [results.in_situ(network, key) for key in plan.families]
        values.append(results.aware(network))
        shares = [
            results.clipped(plan.in_situ(network, key, seed) for seed in plan.seeds)
            for key in plan.families
        ]
        shares.append(results.clipped(plan.aware(network, seed) for seed in plan.seeds))
        rows[0] += [percent(estimate(digital)), "", ""]
        for row, value, share in zip(rows[1:], values, shares, strict=False):
            row += [percent(estimate(value)), signed(paired(digital, value)), f"{share:.2f}"]
        for row, way in zip(rows[-2:], WAYS, strict=True):
            first = column(results.programmed(network, way), 0)
            each = [score for score in digital for _ in range(plan.budget.chips)]
            share = results.clipped(results.chips(network, way))
            row += [percent(estimate(first)), signed(paired(each, first)), f"{share:.2f}"]
    return Table(
        headers,
        rows,
        "Test accuracy, and the difference to the digital network of the same seed; programmed "
        f"networks are repeated on {plan.budget.chips} chips a seed. {spreads(len(plan.seeds))} "
        "Clipped: the largest share of conversions at full scale of any weight, in the last epoch "
        "of training or when scored; where it is more than a per cent a converter limits, not a "
        "cell.",
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
    figure = plots.dots(names, values, xlabel="test accuracy [%]", levels=levels, colours=colours)
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
        [family.name, family.about, f"`{short(family.chip.device.update)}`", _route(family.chip)]
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
                "asymmetry that training feels. Long responses are drawn at every n-th pulse.",
            ),
            Table(["Family", "What it is", "Update law", "Route"], rows, prose=True),
        ],
    )


def _route(chip: xb.Chip) -> str:
    return type(chip.mapping.route).__name__
