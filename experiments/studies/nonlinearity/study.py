"""Bent curves, few levels and cycle noise, learnt image by image with whole pulses.

Varied: nonlinearity labels, opposite or equal; the number of levels under stochastic and nearest
rounding; cycle noise; spread of the labels; NeuroSim's devices. Measured: test accuracy. It is
wrong where equal labels hurt as opposite ones do, where 8 levels suffice, or where cycle noise
has no cliff between 2 and 5 % of the range.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.quick import quick
from experiments.lab.report import Report
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.nonlinearity.report import report
from experiments.tasks.bending import Plan


class Nonlinearity(Study):
    """Curves of accuracy against the properties of the update."""

    name = "nonlinearity"
    help = "what asymmetric curves, few levels and cycle noise cost, image by image"
    least = {"seeds": 3, "epochs": 16}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--epochs", type=int, default=16, help="default: %(default)s")
        parser.add_argument("--seeds", type=int, default=10, help="default: %(default)s")
        quick(parser, epochs=3, seeds=1)

    def plan(self, options: Namespace) -> Plan:
        """The runs that the options ask for."""
        if options.epochs < 3:
            raise ValueError(f"--epochs must be >= 3, got {options.epochs}")
        if options.seeds < 1:
            raise ValueError(f"--seeds must be >= 1, got {options.seeds}")
        return Plan(options.epochs, options.seeds)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return list(self.plan(options).all())

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        return report(self.plan(options), store)
