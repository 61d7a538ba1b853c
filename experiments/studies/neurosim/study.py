"""Against an independent simulator: NeuroSim's learning protocol on this emulator's cells.

Varied: the cell, every row of NeuroSim's device table as shipped and corrected, then levels, cycle
noise and nonlinearity labels one at a time. Measured: test accuracy, against what NeuroSim's own
code reaches on the same data. It is wrong where a listed figure is missed by more than 3 points
(5 under 3.5 % cycle noise) or an ordering of its devices is not found.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.quick import quick
from experiments.lab.report import Report
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.neurosim.plan import Plan
from experiments.studies.neurosim.report import report


class NeuroSimStudy(Study):
    """NeuroSim's device table and sweeps."""

    name = "neurosim"
    help = "NeuroSim's learning protocol on this emulator's cells, against NeuroSim's own results"
    least = {"seeds": 3, "epochs": 100}  # as NeuroSim's own figures

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument(
            "--listed", action="store_true", help="only the cells with a figure of NeuroSim's own"
        )
        parser.add_argument("--epochs", type=int, default=100, help="default: %(default)s")
        parser.add_argument("--seeds", type=int, default=10, help="default: %(default)s")
        quick(parser, listed=True, epochs=5, seeds=1)

    def plan(self, options: Namespace) -> Plan:
        """The runs that the options ask for."""
        for name in ("epochs", "seeds"):
            if getattr(options, name) < 1:
                raise ValueError(f"--{name} must be >= 1, got {getattr(options, name)}")
        return Plan(options.epochs, options.seeds, listed_only=options.listed)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return list(self.plan(options).all())

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        return report(self.plan(options), store)
