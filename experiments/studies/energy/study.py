"""Is it worth it? Joules of training and inference, beside the accuracy they reach.

Varied: how the same network learns digits. Measured: joules by phase and event with their range,
joules until an accuracy is reached, and the same work on processors and in the brain. Held equal:
network, data, epochs, batch, rate of the in-situ ways (which is not tuned for each), converters,
costs. An inference that costs less than its own conversions would prove the ledger wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import crossbar as xb
from crossbar.ledger.bill import si
from experiments.lab.plots import Line, Panel, band, panels
from experiments.lab.quick import quick
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Row, Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.lab.tradeoffs import Offer, breakdown, front, pareto
from experiments.studies.energy.runs import (
    DIGITAL,
    PROGRAMMED,
    REFRESHED,
    VECTORS,
    WAYS,
    Averages,
    Cancelled,
    Trained,
)
from experiments.tasks.energy import COSTS

BATCHES = (1, 16, 64)
REACHED = 80
"""Accuracy until which joules are told apart [%]."""


class Energy(Study):
    """Joules beside accuracy."""

    name = "energy"
    help = "joules of training and inference on digits, beside accuracy and other machines"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
        parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
        quick(parser, epochs=2, seeds=1)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.epochs < 1 or options.seeds < 1:
            raise ValueError("--epochs and --seeds must be >= 1")
        seeds = range(options.seeds)
        trained = [Trained(way, options.epochs, seed=s) for way in WAYS for s in seeds]
        averages = [Averages(options.epochs, s) for s in seeds]
        return [*trained, *averages, *(Cancelled(b) for b in BATCHES)]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        rows = {run: store[run] for run in self.runs(options)}
        own = {
            way: [row for run, row in rows.items() if isinstance(run, Trained) and run.way == way]
            for way in WAYS
        }
        title = f"of the {COSTS.boundary}, {COSTS.name}"
        table = Table(
            ["Way", "Accuracy", "Training", "Range", f"To {REACHED} %", "Inference", "Range"],
            [
                [
                    way,
                    f"{_mean(each, 'accuracy'):.1f} %",
                    si(_mean(each, "training"), "J"),
                    _range(each, "training"),
                    _reached(each),
                    si(_mean(each, "inference"), "J"),
                    _range(each, "inference"),
                ]
                for way, each in own.items()
            ],
            f"Joules {title}; training of {options.epochs} epochs, inference of one image; range: "
            "deviations of kinds of events in quadrature.",
        )
        phases = ("forward", "backward", "update", "program")
        by_phase = Table(
            ["Way", *phases],
            [
                [way, *(si(_mean(each, f"phase {phase}"), "J") for phase in phases)]
                for way, each in own.items()
            ],
            f"Joules of training by phase, {title}.",
        )
        sections = [
            Section("Joules beside accuracy", items=[table]),
            Section("Accuracy against energy", items=_paretos(own, title)),
            Section("Where the joules go", items=[*_breakdowns(own, title), by_phase]),
            Section("A week of drift", [_week(own[REFRESHED])]),
            Section("Other machines", items=[self._machines(own), self._moved(own[DIGITAL])]),
            Section("Converters", items=[self._bits(own[PROGRAMMED])]),
            Section("What averages would err", items=self._averages(rows)),
            Section("Pulses that cancel", items=[self._cancelled(rows)]),
        ]
        analog = [row for way, each in own.items() if way.startswith("in situ") for row in each]
        return Report(
            title="Energy",
            subtitle="What learning digits costs, and what it reaches",
            summary=[
                "64-64-10, batches of 16, cells of the resistive processing unit, converters of 8 "
                f"bits, one rate for all in-situ ways; costs {COSTS.name}, V/2 writes. Every joule "
                "is counted in the run whose accuracy stands beside it."
            ],
            table=table,
            checks=[
                Check(
                    "An inference costs more than its conversions",
                    "total above the ADC's joules in every way on arrays",
                    f"{sum(r.metrics['inference'] > r.metrics['event adc'] for r in analog)} of "
                    f"{len(analog)}",
                    all(r.metrics["inference"] > r.metrics["event adc"] for r in analog),
                ),
                Check(
                    "The covariance of x² and G is the smallest part of an average's error",
                    "mean x² × mean G errs least of three averages, in every seed",
                    *_covariance([r for run, r in rows.items() if isinstance(run, Averages)]),
                ),
            ],
            sections=sections,
        )

    @staticmethod
    def _machines(own: dict[str, list[Row]]) -> Table:
        """The same work elsewhere."""
        shown = []
        for way, each in own.items():
            macs, training = _mean(each, "macs"), _mean(each, "training macs")
            events = xb.costs.brain.joules(macs)
            shown.append(
                [
                    way,
                    f"{_mean(each, 'accuracy'):.1f} %",
                    *(si(m.joules(macs, 4 * macs), "J") for m in (xb.costs.H100, xb.costs.CPU)),
                    si(events["vesicle"].value, "J"),
                    f"{si(events['event'].low, 'J')} … {si(events['event'].high, 'J')}",
                    *(si(m.joules(training), "J") for m in (xb.costs.H100, xb.costs.CPU)),
                ]
            )
        h100, cpu = xb.costs.H100, xb.costs.CPU
        headers = ["Way", "Accuracy", "H100, image", "CPU, image", "Vesicles", "Brain's power",
                   "H100, training", "CPU, training"]  # fmt: skip
        return Table(
            headers,
            shown,
            f"System, by roofline: {h100.name} at {h100.utilisation:.0%}, {cpu.name} at "
            f"{cpu.utilisation:.0%} of their peak; an image alone fetches each weight (4 bytes). "
            "Brain: a multiplication a synaptic event. Boundaries differ from the macro's.",
        )

    @staticmethod
    def _moved(rows: list[Row]) -> Table:
        """What a machine pays to bring weights to its arithmetic."""
        size = 4 * _mean(rows, "macs")  # bytes: each weight is used once an image
        multiplied = size / 4 * xb.costs.digital_45nm.energy["digital_mac"].value
        shown = [
            [name, f"{1e12 * cost.value:.3g} pJ",
             f"{1e12 * cost.low:.3g} … {1e12 * cost.high:.3g} pJ", si(size * cost.value, "J"),
             si(size * cost.value / 64, "J"), f"{size * cost.value / multiplied:.2g}"]
            for name, cost in xb.costs.MEMORY.items()
        ]  # fmt: skip
        return Table(
            ["Weights lie in", "A byte", "Range", "An image", "Of a batch of 64",
             "Over its multiplications"],
            shown,
            f"{size / 1024:.0f} KB of weights of 4 bytes, brought once an image, or once a batch; "
            f"its fp32 multiplications at 45 nm take {si(multiplied, 'J')}.",
        )  # fmt: skip

    @staticmethod
    def _bits(rows: list[Row]) -> Picture:
        """Where energy and accuracy cross."""
        bits = rows[0].curves["bits"]

        def mean(name: str) -> list[float]:
            return [sum(v) / len(rows) for v in zip(*(r.curves[name] for r in rows), strict=True)]

        pico = [1e12 * j for j in mean("joules by bits")]
        figure = panels(
            [
                Panel("Energy of an image", "bits of the output", "pJ", [Line("", bits, pico)]),
                Panel("Accuracy", "bits of the output", "%",
                      [Line("", bits, mean("accuracy by bits"))]),
            ]
        )  # fmt: skip
        return Picture("bits", figure, f"{PROGRAMMED}; joules of the {COSTS.boundary}.")

    @staticmethod
    def _averages(rows: dict[Run, Row]) -> list[Picture | Table]:
        """Each definition of an average apart."""
        own = [row for run, row in rows.items() if isinstance(run, Averages)]
        layers = range(len(next(iter(own[0].curves.values()))))
        shown, lines = [], []
        for name in own[0].curves:
            errors = [[abs(e) for e in row.curves[name]] for row in own]
            every = [e for each in errors for e in each]
            shown.append([name, f"{sum(every) / len(every):.1f} %", f"{max(every):.1f} %"])
            lines.append(band(name, list(layers), errors))
        names = [f"layer {k + 1}" for k in layers]
        panel = Panel("", "", "error [%]", lines, categories=names)
        what = "Array joules of a convolutional network's layers against Σ V² G of every cell."
        return [
            Picture("averages", panels([panel]), f"{what} Band: seeds."),
            Table(["Average", "Mean error of a layer", "Largest"], shown, what),
        ]

    @staticmethod
    def _cancelled(rows: dict[Run, Row]) -> Table:
        """Ours over NeuroSim's, and why."""
        names = ("ratio", "cancellation", "rounding", "joules ratio, pulsed cells", "joules ratio")
        shown = [
            [f"{run.batch}", f"{run.lr:g}", f"{row.metrics['step']:.2g}",
             *(f"{row.metrics[name]:.2f}" for name in names)]
            for run, row in rows.items() if isinstance(run, Cancelled)
        ]  # fmt: skip
        return Table(
            ["Batch", "Rate", "Step of a weight", "Ratio", "Pulses/|net|", "|net|/⌈|net|⌉",
             "Joules, pulsed cells", "with half-selected"],
            shown,
            "Pulses drawn in the first epoch over ⌈|net change|/step⌉ of each weight and step, the "
            "period of the net being one step; below 1 rounding up outweighs cancellation. Joules "
            "over V² G t of those rounded pulses: of the cells that are pulsed, and of all that a "
            "V/2 write stresses.",
        )  # fmt: skip


def _paretos(own: dict[str, list[Row]], title: str) -> list[Picture]:
    """Accuracy against the joules of an image, and of training."""
    found = []
    for what, of in (("inference", "an image"), ("training", "training")):
        offers = [Offer(w, _mean(e, what), _mean(e, "accuracy")) for w, e in own.items()]
        best = ", ".join(offer.name for offer in front(offers))
        seen = "; ".join(f"{o.name}: {si(o.x, 'J')}, {o.y:.1f} %" for o in offers)
        figure = pareto(offers, f"J of {of}, {COSTS.boundary}", "accuracy [%]")
        caption = f"Accuracy against joules {title}, of {of}. None betters: {best}."
        found.append(Picture(f"pareto-{what}", figure, caption, f"{seen}."))
    return found


def _breakdowns(own: dict[str, list[Row]], title: str) -> list[Picture]:
    """Shares of events in an image, of phases in training."""
    found = []
    for what, prefix, of in (
        ("inference", "event ", "an image"),
        ("training", "phase ", "training"),
    ):
        parts: dict[str, dict[str, float]] = {}
        for way, each in own.items():
            names = {name for row in each for name in row.metrics if name.startswith(prefix)}
            shares = {n.removeprefix(prefix): _mean(each, n) for n in sorted(names)}
            parts[f"{way}, {si(_mean(each, what), 'J')}"] = shares
        seen = "; ".join(
            f"{way}: {max(p, key=lambda k: p[k])} {100 * max(p.values()) / sum(p.values()):.0f} %"
            for way, p in parts.items()
        )
        figure = breakdown(parts, f"share of the joules of {of} [%]")
        caption = f"What the joules {title} of {of} are made of."
        found.append(Picture(f"parts-{what}", figure, caption, f"The largest parts: {seen}."))
    return found


def _week(rows: list[Row]) -> str:
    """What keeping a drifting network costs."""
    aged, kept = _mean(rows, "aged accuracy"), _mean(rows, "accuracy")
    return (
        f"Rewriting a network whose cells lose t^−0.05 once a day costs "
        f"**{si(_mean(rows, 'refresh'), 'J')}** a week, and standing by "
        f"{si(_mean(rows, 'standing by'), 'J')}; before the last rewriting it reads "
        f"{aged:.1f} % of the test images right, after it {kept:.1f} %. A digital factor for each "
        f"tile instead, measured again every day by {VECTORS} known inputs, costs "
        f"**{si(_mean(rows, 'compensation'), 'J')}** a week and reads "
        f"{_mean(rows, 'compensated accuracy'):.1f} %."
    )


def _mean(rows: list[Row], name: str) -> float:
    return sum(row.metrics.get(name, 0.0) for row in rows) / len(rows)


def _range(rows: list[Row], name: str) -> str:
    return " … ".join(si(_mean(rows, f"{name} {end}"), "J") for end in ("low", "high"))


def _reached(rows: list[Row]) -> str:
    """Mean joules of the seeds that get there, at the end of the epoch that does."""
    found = []
    for row in rows:
        pairs = zip(row.curves["accuracy"], row.curves["joules"], strict=True)
        found += [next((j for a, j in pairs if a >= REACHED), None)]
    there = [j for j in found if j is not None]
    share = "" if len(there) == len(rows) else f" ({len(there)} of {len(rows)})"
    return si(sum(there) / len(there), "J") + share if there else "not reached"


def _covariance(rows: list[Row]) -> tuple[str, bool]:
    """How many seeds say so."""
    names = list(rows[0].curves)
    means = [[sum(map(abs, row.curves[n])) / len(row.curves[n]) for n in names] for row in rows]
    right = sum(m[0] == min(m) for m in means)
    return f"{right} of {len(rows)}", right == len(rows)
