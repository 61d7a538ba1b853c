"""The main job: what does analog training cost, on which device, and what does it withstand?

Varied: the device family and the route of its updates; the way the weights get onto the devices
(trained there, programmed, hardware-aware then programmed); then read noise, stuck cells,
converter bits and time, over the trained networks. Measured: accuracy on test images that nothing
was chosen on. The report's table "What would prove it wrong" lists the claims with their bounds.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.report import Report
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.robustness.plan import Plan
from experiments.studies.robustness.report import report
from experiments.tasks.budget import budget_arguments, chosen_budget, too_small


class Robustness(Study):
    """Digital, in-situ, programmed and hardware-aware training side by side."""

    name = "robustness"
    help = "the main job: analog training against digital training, and what it withstands"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        budget_arguments(parser)
        parser.add_argument(
            "--network", choices=["MLP", "CNN"], action="append", help="only this network"
        )

    def plan(self, options: Namespace) -> Plan:
        """The runs that the options ask for."""
        budget, data, seeds = chosen_budget(options)
        return Plan(data, budget, seeds, options.network)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return self.plan(options).all()

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        return report(self.plan(options), store)

    def too_small(self, options: Namespace) -> str:  # noqa: D102
        return too_small(options)

    def folder(self, options: Namespace) -> str:  # noqa: D102
        budget, _, _ = chosen_budget(options)
        parts = [self.name, options.data if options.data != "digits" else "", budget.name]
        return "-".join(part for part in parts if part and part != "default")
