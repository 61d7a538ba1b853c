"""A synfire chain on arrays: which packets survive, and what dead cells do to them?

Varied: spikes of the first packet (jitter 1 ms), cells stuck off, a gain of 1/(1 − p). Measured:
share of packets with more than 50 spikes in 4 ms in the tenth group. Packets of 60 that die on
ideal arrays, or packets of 40 that live, would prove the chain wrong; so would a gain that does not
help.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.plots import Line, Panel, panels
from experiments.lab.quick import quick
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.synfire.runs import Packets

SIZES = (20, 30, 40, 45, 50, 55, 60, 70, 85, 100)
STUCK = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


class Synfire(Study):
    """Survival of packets."""

    name = "synfire"
    help = "a synfire chain on arrays: packets that survive, dead cells, a gain"
    least = {"trials": 20}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--trials", type=int, default=20, help="packets (%(default)s)")
        quick(parser, trials=4)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.trials < 1:
            raise ValueError("--trials must be >= 1")
        sizes = [Packets(a, 1.0, 0.0, False, options.trials) for a in SIZES]
        stuck = [
            Packets(85, 1.0, p, gained, options.trials) for gained in (False, True) for p in STUCK
        ]
        return list(dict.fromkeys([*sizes, *stuck]))

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        rows = {run: store[run] for run in self.runs(options) if isinstance(run, Packets)}

        def alive(run: Packets) -> float:
            return rows[run].metrics["alive"]

        sizes = [Packets(a, 1.0, 0.0, False, options.trials) for a in SIZES]
        by_gain = {
            gained: [Packets(85, 1.0, p, gained, options.trials) for p in STUCK]
            for gained in (False, True)
        }
        names = {False: "no gain", True: "gain 1/(1 − p)"}
        groups = [
            Line(f"{r.spikes} spikes", list(range(1, 11)), rows[r].curves["spikes"])
            for r in sizes
            if r.spikes in (40, 50, 60, 100)
        ]
        survival = [Line("ideal cells", [float(a) for a in SIZES], [alive(r) for r in sizes])]
        dead = [Line(names[k], list(STUCK), [alive(r) for r in by_gain[k]]) for k in names]
        figure = panels(
            [
                Panel("Spikes of each group", "group", "spikes in 4 ms", groups),
                Panel("Packets that live", "spikes of the packet", "share", survival),
                Panel("Dead cells, packets of 85", "stuck off", "share", dead),
            ]
        )
        large = [alive(r) for r in sizes if r.spikes >= 60]
        small = [alive(r) for r in sizes if r.spikes <= 40]
        table = [
            [
                f"{r.spikes}",
                f"{r.stuck:.0%}",
                "yes" if r.gained else "no",
                f"{alive(r):.2f}",
                f"{rows[r].curves['spikes'][-1]:.1f}",
            ]
            for r in rows
        ]
        shown = Table(
            ["Spikes", "Stuck off", "Gain", "Alive", "Spikes of group 10"],
            table,
            f"Of {options.trials} packets each, jitter 1 ms.",
        )
        return Report(
            title="Synfire",
            subtitle="Packets of spikes through ten arrays",
            summary=[
                "Ten groups of 100 neurons, one array of equal weights between two of them. "
                f"{options.trials} packets a point, one chip."
            ],
            table=shown,
            checks=[
                Check(
                    "Packets of 60 spikes and more survive",
                    "at least 95 % of them",
                    f"{min(large):.0%}",
                    min(large) >= 0.95 if options.trials >= 20 else None,
                ),
                Check(
                    "Packets of 40 and fewer die", "all", f"{1 - max(small):.0%}", max(small) == 0
                ),
                Check(
                    "A gain of 1/(1 − p) restores survival up to half the cells",
                    "at least 95 %",
                    f"{min(alive(r) for r in by_gain[True]):.0%}",
                    min(alive(r) for r in by_gain[True]) >= 0.95,
                ),
            ],
            sections=[
                Section("Survival", items=[Picture("synfire", figure, "Means of all packets.")])
            ],
        )
