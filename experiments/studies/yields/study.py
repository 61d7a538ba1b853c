"""How many chips meet the specification? One network on a thousand chips of one kind.

Varied: the chip, by its seed alone: write errors, spread, stuck cells. Measured: test accuracy
of each. Accuracies of two halves of the chips that differ by more than chance would prove the
chips not alike.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace

from scipy.stats import ks_2samp

from experiments.lab import paths
from experiments.lab.paths import short
from experiments.lab.plots import Line, Panel, panels
from experiments.lab.quick import quick
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import clopper_pearson
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.yields.runs import Chips
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.sweeps import chosen_chip
from experiments.tasks.training import Recipe

BLOCK = 50  # chips a run


class Yield(Study):
    """The distribution of accuracy over chips."""

    name = "yield"
    help = "a network on a thousand chips: the share that meets a specification"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--chip", default="pcm", help="as for ablate (default: %(default)s)")
        parser.add_argument("--stuck", type=float, default=0.01, help="share of stuck cells (0.01)")
        parser.add_argument("--chips", type=int, default=1000, help="default: %(default)s")
        parser.add_argument("--spec", type=float, default=95.0, help="accuracy wanted [%%] (95)")
        parser.add_argument("--after", type=float, default=1.0, help="seconds since writing (1)")
        quick(parser, chips=100)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        count = options.chips
        if count < 2:
            raise ValueError(f"--chips must be >= 2, got {count}")
        if not 0 <= options.after < math.inf:
            raise ValueError(f"--after must be a time >= 0 s, got {options.after}")
        if not 0 < options.spec <= 100:
            raise ValueError(f"--spec must be a percentage, got {options.spec}")
        if not 0 <= options.stuck <= 1:
            raise ValueError(f"--stuck must be a share in 0 … 1, got {options.stuck}")
        chip, half = chosen_chip(options.chip), options.stuck / 2
        if options.stuck:
            stuck = paths.parse(f"StuckAt(p_off={half}, p_on={half})")
            chip = paths.replace(chip, "device.faults", stuck)
        of = Train(Digits(), MLP(), Recipe(epochs=15, lr=0.3))
        return [
            Chips(of, chip, first, min(BLOCK, count - first), options.after)
            for first in range(0, count, BLOCK)
        ]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        runs = self.runs(options)
        found = [a for run in runs for a in store[run].curves["accuracy"]]
        count, hits = len(found), sum(a > options.spec for a in found)
        low, high = clopper_pearson(hits, count)
        said = (
            f"**{100 * hits / count:.1f} % [{100 * low:.1f}, {100 * high:.1f}]** of {count} chips "
            f"read more than {options.spec:g} % of the test images right."
        )
        ordered = sorted(found)
        shares = [100 * (count - n) / count for n in range(count)]
        line = Line("chips", ordered, shares, marker=False)
        level = (100 * hits / count, f"above {options.spec:g} %")
        panel = Panel("", "test accuracy [%]", "chips that read at least this [%]", [line],
                      level=level)  # fmt: skip
        first = runs[0]
        assert isinstance(first, Chips)
        ends = [ordered[min(int(q * count), count - 1)] for q in (0.01, 0.1, 0.5, 0.9)]
        table = Table(
            ["Chips", "yield [%]", "95 % interval", "1 % below", "10 % below", "median"],
            [[f"{count}", f"{100 * hits / count:.1f}", f"{100 * low:.1f} … {100 * high:.1f}",
              *(f"{v:.2f}" for v in ends[:3])]],
            "Clopper and Pearson's exact interval; accuracies in percent.",
        )  # fmt: skip
        p = ks_2samp(found[: count // 2], found[count // 2 :]).pvalue
        alike = Check("The chips are alike", "halves differ by chance alone, p > 0.001",
                      f"p = {p:.3g} (Kolmogorov and Smirnov)", bool(p > 0.001))  # fmt: skip
        return Report(
            title="Yield",
            subtitle=f"One network on {count} chips",
            summary=[said],
            table=table,
            checks=[alike],
            held=Table(["", ""], [
                ["Varied", "the chip's seed"],
                ["Held", f"one network, trained digitally: `{short(first.of)}`"],
                ["Chip", f"`{short(first.chip)}`"],
                ["Read", f"{options.after:g} s after writing"],
            ], prose=True),
            sections=[
                Section("Accuracy of the chips", [said],
                        [Picture("yield", panels([panel], height=3.2),
                                 "Share of chips that read at least so many images right."), table])
            ],
        )  # fmt: skip
