"""The report of the comparison with NeuroSim, computed from stored runs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from experiments.lab import plots
from experiments.lab.plots import COLOURS, Line, Panel, band
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import bands, estimate, percent, spreads
from experiments.lab.store import Store
from experiments.studies.neurosim.plan import (
    BENT,
    FROZEN,
    HIGH,
    LEVELS,
    LISTED,
    LOW,
    MIDDLE,
    NOISE,
    RETRACED,
    SOFTWARE,
    Plan,
)
from experiments.tasks.materials import MATERIALS

CHANCE = 15.0  # [%] a network that never learns stays below
COLLAPSED = 30.0  # [%] what label ±5 leaves at most


def report(plan: Plan, store: Store) -> Report:
    """The whole report."""
    named = plan.named()
    scores = {name: store[run].curves["accuracy"] for name, run in named.items()}
    means = {name: estimate(values).mean for name, values in scores.items()}
    shipped = {name: store[run].curves["accuracy"] for name, run in plan.shipped.items()}
    worst = max(
        abs(means[name] - listed.accuracy)
        for name, listed in LISTED.items()
        if listed.below is None
    )
    size = plan.software
    sections = [_method()]
    if plan.shipped:
        sections = [
            _materials(scores, shipped),
            _sweeps(plan, scores),
            _curves(plan, store),
            *sections,
        ]
    return Report(
        title="Against NeuroSim",
        subtitle=(
            "MLP NeuroSim's learning protocol with this emulator's cells: 400-100-10, binarised "
            f"20x20 digits, {size.epochs} epochs of single images, {size.seeds} seeds."
        ),
        summary=[
            f"NeuroSim's own code, run on the same data, was listed beforehand. The {len(LISTED)} "
            f"figures are met to **{worst:.1f} points** at most where the network learns at all."
        ],
        table=_listed(scores),
        checks=[*_agreement(means), *(_orderings(means, shipped) if plan.shipped else [])],
        sections=sections,
    )


def _listed(scores: Mapping[str, list[float]]) -> Table:
    rows = []
    for name, listed in LISTED.items():
        found = estimate(scores[name])
        wanted = f"< {listed.below:g}" if listed.below else f"± {listed.within:g}"
        gap = f"{found.mean - listed.accuracy:+.1f}".replace("-", "−")
        rows.append([name, f"{listed.accuracy:.1f}", percent(found), gap, wanted])
    return Table(
        ["Cell", "NeuroSim [%]", "this emulator [%]", "difference [points]", "allowed"],
        rows,
        f"Test accuracy over the last 5 epochs. {spreads(len(scores[SOFTWARE]))} "
        "NeuroSim: 3 seeds.",
    )


def _agreement(means: Mapping[str, float]) -> list[Check]:
    return [
        Check(
            f"{name}: NeuroSim gives {listed.accuracy:.1f} %",
            f"below {listed.below:g} %" if listed.below else f"within {listed.within:g} points",
            f"{means[name]:.1f} %",
            listed.holds(means[name]),
        )
        for name, listed in LISTED.items()
    ]


def _orderings(means: Mapping[str, float], shipped: Mapping[str, list[float]]) -> list[Check]:
    bent = [means[f"label +{a:g}/−{a:g}"] for a in BENT]
    flat = means["linear, 100 levels"]
    retraced = min(means[f"label +{a:g}/+{a:g}"] for a in RETRACED if a <= 4)
    groups = [[means[m.name] for m in group] for group in (HIGH, MIDDLE, LOW)]
    frozen = [estimate(shipped[name]).mean for name in FROZEN]
    return [
        Check(
            "Opposite labels +a/−a: accuracy falls with a",
            "every step down",
            " > ".join(f"{value:.1f}" for value in bent),
            all(a > b for a, b in pairwise(bent)),
        ),
        Check(
            "Opposite labels ±5 collapse",
            f"below {COLLAPSED:g} %",
            f"{bent[BENT.index(5.0)]:.1f} %",
            bent[BENT.index(5.0)] < COLLAPSED,
        ),
        Check(
            "Equal labels +a/+a are harmless up to 4",
            "within 2 points of straight curves",
            f"{retraced - flat:+.1f} points at worst".replace("-", "−"),
            retraced > flat - 2,
        ),
        Check(
            "Corrected devices fall into NeuroSim's groups",
            "every one of a group above every one of the next",
            "; ".join(f"{min(g):.0f} to {max(g):.0f} %" for g in groups),
            all(min(a) > max(b) for a, b in pairwise(groups)),
        ),
        Check(
            f"As shipped, {', '.join(FROZEN)} never learn",
            f"below {CHANCE:g} %",
            f"at most {max(frozen):.1f} %",
            max(frozen) < CHANCE,
        ),
    ]


def _materials(scores: Mapping[str, list[float]], shipped: Mapping[str, list[float]]) -> Section:
    rows, dots = [], {"corrected": [], "as shipped": []}
    for material in MATERIALS:
        name, law = material.name, material.law
        both = [scores[name], shipped.get(name, [])]
        dots["corrected"].append(both[0])
        dots["as shipped"].append(both[1])
        rows.append(
            [
                name,
                f"{law.states_up}/{law.states_down}",
                f"{law.nl_up:+g}/{law.nl_down:+g}".replace("-", "−"),
                f"{100 * law.sigma_c2c:g}",
                f"{material.on_off:g}",
                *(percent(estimate(values)) if values else "" for values in both),
            ]
        )
    return Section(
        "The devices of NeuroSim's table",
        [
            "**As shipped**, a cell is read through an access resistance of 15 kΩ (none for the "
            "FeFET), and the first write forgets to add the lowest conductance, so that weights "
            "start too low by 2/(on/off − 1). **Corrected**, neither happens. The 10 % rows are "
            "frozen: outputs saturate, every change is below half a pulse and nothing is written."
        ],
        [
            Picture(
                "devices",
                plots.dots(
                    [m.name for m in MATERIALS], dots, xlabel="test accuracy [%]", levels={}
                ),
                "Every dot is one network, the bar and the number the mean.",
            ),
            Table(
                [
                    "Device",
                    "levels",
                    "labels",
                    "noise [%]",
                    "on/off",
                    "corrected [%]",
                    "shipped [%]",
                ],
                rows,
            ),
        ],
    )


def _sweeps(plan: Plan, scores: Mapping[str, list[float]]) -> Section:
    def line(label: str, x: tuple[float, ...], names: list[str]) -> Line:
        return band(label, x, list(zip(*(scores[name] for name in names), strict=True)))

    def theirs(x: tuple[float, ...], names: list[str]) -> Line:
        known = [(a, LISTED[n].accuracy) for a, n in zip(x, names, strict=True) if n in LISTED]
        return Line("NeuroSim", *zip(*known, strict=True), colour=COLOURS[1], dashed=True)

    levels = [f"linear, {n} levels" for n in LEVELS]
    noise = [f"linear, noise {100 * s:g} %" for s in NOISE]
    percents = tuple(100 * s for s in NOISE)
    bent = [f"label +{a:g}/−{a:g}" for a in BENT]
    retraced = [f"label +{a:g}/+{a:g}" for a in RETRACED]
    axis = {"ylabel": "test accuracy [%]", "ylim": (0.0, 100.0)}
    ours = "this emulator"
    sheets = [
        Panel(
            "Levels of straight curves",
            "pulses from end to end",
            lines=[line(ours, LEVELS, levels), theirs(LEVELS, levels)],
            log_x=True,
            ticks={n: str(n) for n in LEVELS},
            **axis,
        ),
        Panel(
            "Cycle noise",
            "noise of one pulse [% of the range]",
            lines=[line(ours, percents, noise), theirs(percents, noise)],
            **axis,
        ),
        Panel(
            "Opposite labels +a/−a",
            "label a",
            lines=[line(ours, BENT, bent), theirs(BENT, bent)],
            **axis,
        ),
        Panel(
            "Equal labels +a/+a",
            "label a",
            lines=[line(ours, RETRACED, retraced), theirs(RETRACED, retraced)],
            **axis,
        ),
    ]
    rows = [
        [
            name,
            percent(estimate(scores[name])),
            f"{LISTED[name].accuracy:.1f}" if name in LISTED else "",
        ]
        for sweep in (plan.levels, plan.noise, plan.bent, plan.retraced)
        for name in sweep
    ]
    return Section(
        "What levels, noise and bent curves cost under this protocol",
        [
            "100 levels, straight and noiseless but for what is varied. Opposite labels start "
            "fast in both directions; with equal ones depression retraces potentiation. With 16 "
            "levels and fewer the output layer never changes at the usual rates: its largest "
            "change is below half a pulse."
        ],
        [
            Picture("sweeps", plots.panels(sheets), bands(len(scores[SOFTWARE]))),
            Table(["Cell", "this emulator [%]", "NeuroSim [%]"], rows),
        ],
    )


def _curves(plan: Plan, store: Store) -> Section:
    def sheet(title: str, runs: Mapping[str, Run]) -> Panel:
        lines = []
        for name, run in runs.items():
            epoch = store[run].curves["epoch"]
            lines.append(Line(name, range(1, 1 + len(epoch)), epoch, marker=False))
        return Panel(title, "epoch", "test accuracy [%]", lines, ylim=(0.0, 100.0))

    return Section(
        "Training",
        ["Accuracy after every epoch, mean over seeds."],
        [
            Picture(
                "devices-training",
                plots.panels(
                    [
                        sheet("Corrected", dict(list(plan.corrected.items())[1:])),
                        sheet("As shipped", plan.shipped),
                    ],
                    height=3.4,
                ),
                "Label ±6 and PCMO rise first and collapse as writes die out at the bounds.",
            )
        ],
    )


def _method() -> Section:
    return Section(
        "Method",
        [
            "Protocol and figures come from a study of MLP NeuroSim V3.0 on the same data. Cells "
            "are written by `Device.pulse` with exact counts, one image at a time; the read-out "
            "through 8-bit converters of half the needed range, the one-bit hidden layer and the "
            "rounding of pulses are NeuroSim's.",
            "**One difference is kept.** NeuroSim adds noise σ√n once after n pulses; here the "
            "noise of each pulse is damped by those that follow it. For straight curves the two "
            "are the same; on bent ones ours is smaller by the factor by which the curve "
            "contracts over the pulses of one write. Wire resistance is left out.",
        ],
    )
