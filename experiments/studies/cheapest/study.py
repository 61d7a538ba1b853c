"""What is the least demanding device that meets a target? A search by Optuna over declared values.

Varied: the axes of a sweep's file, whose values stand from the dearest to the cheapest. Measured:
mean accuracy over the seeds, and the price: the mean place on the axes, from 1 (all dearest) to 0
(all cheapest), or the joules of an image over those of the dearest. A cheapest setting whose
seeds' interval does not lie above the target is said to be open.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path

from experiments.lab.quick import quick
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run, Stored
from experiments.lab.statistics import decided, estimate, percent
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.lab.tradeoffs import Offer, pareto
from experiments.studies.cheapest.search import Place, Tried, search
from experiments.tasks.declared import declared
from experiments.tasks.sweeps import Sweep
from experiments.tasks.swept import held


class Cheapest(Study):
    """The search and what it found."""

    name = "cheapest"
    help = "the least demanding of a sweep's settings that meets a target, searched by Optuna"
    least = {"trials": 20}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument(
            "file", type=Path, help="a sweep, the values of each axis from dear to cheap"
        )
        parser.add_argument("--target", type=float, default=95.0, help="accuracy wanted [%%] (95)")
        parser.add_argument("--trials", type=int, default=60, help="default: %(default)s")
        parser.add_argument(
            "--price", choices=["demand", "energy"], default="demand",
            help="mean place on the axes, or joules of an image (default: %(default)s)",
        )  # fmt: skip
        quick(parser, trials=8)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if not 0 < options.target <= 100:
            raise ValueError(f"--target must be a percentage, got {options.target}")
        if options.trials < 1:
            raise ValueError(f"--trials must be >= 1, got {options.trials}")
        sweep = declared(options.file)
        search([2], lambda _: 0.0, lambda _: None, 0.0, 1)  # the package is there
        return self.reads(sweep, (0,) * len(sweep.axes))

    def reads(self, sweep: Sweep, place: Place) -> list[Run]:
        """One setting, every seed."""
        point = sweep.of_indices(place)
        return [sweep.read(point, seed) for seed in range(sweep.seeds)]

    def more(self, options: Namespace, store: Store) -> list[Run]:  # noqa: D102
        sweep = declared(options.file)
        _, missing = self.searched(options, sweep, store)
        return [run for place in missing for run in self.reads(sweep, place)]

    def searched(
        self, options: Namespace, sweep: Sweep, store: Stored
    ) -> tuple[list[Tried], list[Place]]:
        """What was tried, and what is to be computed to go on."""
        dearest = (0,) * len(sweep.axes)

        def mean(place: Place, name: str) -> float | None:
            try:
                own = [store[run].metrics[name] for run in self.reads(sweep, place)]
            except KeyError:
                return None
            return sum(own) / len(own)

        def price(place: Place) -> float:
            if options.price == "demand":
                return _demand(sweep, place)
            own, most = mean(place, "energy"), mean(dearest, "energy")
            if own is None or most is None:
                raise ValueError("--price energy: the joules of these settings cannot be told")
            return own / most

        sizes = [len(axis.values) for axis in sweep.axes]
        return search(
            sizes, price, lambda place: mean(place, "accuracy"), options.target, options.trials
        )

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        sweep = declared(options.file)
        tried, _ = self.searched(options, sweep, store)
        by_price = sorted(tried, key=lambda t: (t.price, -t.accuracy))
        met = [t for t in by_price if t.accuracy >= options.target]
        shown = [*met[:10], *(t for t in by_price if t not in met)][:20]
        headers = [*(axis.title for axis in sweep.axes), "price", "accuracy [%]", "target"]
        table = Table(headers, [self._cells(options, sweep, t, store) for t in shown],
                      "The cheapest that meet the target first; mean ± standard deviation over "
                      f"{sweep.seeds} seeds.")  # fmt: skip
        every = math.prod(len(axis.values) for axis in sweep.axes)
        said = f"None of {len(tried)} settings tried (of {every}) meets {options.target:g} %."
        checks = []
        if met:
            names = sweep.of_indices(met[0].place).names
            best = ", ".join(f"{a.title} {n}" for a, n in zip(sweep.axes, names, strict=True))
            said = (
                f"**{best}** is the cheapest of {len(tried)} settings tried (of {every}) that "
                f"meets {options.target:g} %: {met[0].accuracy:.1f} %."
            )
            own = estimate(self._accuracies(sweep, met[0], store))
            checks = [Check("The cheapest setting meets the target", f"≥ {options.target:g} %",
                            f"{percent(own)} %, 95 % from {own.low:.1f}",
                            decided(own, low=options.target))]  # fmt: skip
        offers = [Offer("", t.price, t.accuracy) for t in tried]
        picture = Picture("tried", pareto(offers, f"price ({options.price})", "accuracy [%]"),
                          "Every setting tried.")  # fmt: skip
        return Report(
            title=f"{sweep.name}: the cheapest at {options.target:g} %",
            subtitle=f"{len(tried)} settings of {every}, {sweep.seeds} seeds",
            summary=[said],
            table=table,
            checks=checks,
            held=held(sweep),
            sections=[Section("Settings", [said], [picture, table])],
        )

    def _accuracies(self, sweep: Sweep, tried: Tried, store: Stored) -> list[float]:
        return [store[run].metrics["accuracy"] for run in self.reads(sweep, tried.place)]

    def _cells(self, options: Namespace, sweep: Sweep, tried: Tried, store: Stored) -> list[str]:
        found = percent(estimate(self._accuracies(sweep, tried, store)))
        met = "met" if tried.accuracy >= options.target else "missed"
        return [*sweep.of_indices(tried.place).names, f"{tried.price:.3f}", found, met]

    def folder(self, options: Namespace) -> str:  # noqa: D102
        return f"{self.name}-{options.file.stem}"


def _demand(sweep: Sweep, place: Place) -> float:
    """1 where every value is the first of its axis, 0 where every one is the last."""
    shares = [
        1 - k / max(1, len(axis.values) - 1) for axis, k in zip(sweep.axes, place, strict=True)
    ]
    return sum(shares) / len(shares)
