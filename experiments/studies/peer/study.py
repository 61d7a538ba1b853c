"""Does another emulator train the same network to the same accuracy on the same cells?

Varied: the device, and the emulator: the other one runs in a Python of its own. Held: images,
splits, network, batches, rate, converters. Measured: test accuracy of the last epochs. A
difference of more than two points (five on ReRAM, whose epochs jump by ten) would prove one wrong.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

from experiments.lab.quick import quick
from experiments.lab.report import Check, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import decided, estimate, paired, percent, signed, spreads
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.peer.protocol import CASES
from experiments.studies.peer.runs import Ours, Theirs, version_in

WITHIN = {"ReRAM-SB": 5.0}
"""Points that two emulators may differ by; 2 where nothing is said."""


class Peer(Study):
    """Rows of another emulator beside ours."""

    name = "peer"
    help = "the same training on digits in another emulator, run by a Python that has it"
    least = {"seeds": 2, "epochs": 10}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("simulator", choices=["aihwkit"], help="the other emulator")
        parser.add_argument(
            "--python", default=sys.executable, help="a Python that has it (default: this one)"
        )
        parser.add_argument("--device", choices=list(CASES), action="append", help="only this")
        parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
        parser.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
        quick(parser, seeds=1, epochs=2)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.seeds < 1 or options.epochs < 1:
            raise ValueError("--seeds and --epochs must be >= 1")
        # not resolved: the Python of a virtual environment is a link to another
        python = os.path.abspath(options.python) if os.sep in options.python else options.python
        version, seeds = version_in(python), range(options.seeds)
        found: list[Run] = [Ours("digital", seed, options.epochs) for seed in seeds]
        for device in options.device or CASES:
            found += [Ours(device, seed, options.epochs) for seed in seeds]
            found += [Theirs(device, seed, options.epochs, python, version) for seed in seeds]
        return found

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        ours: dict[str, list[float]] = {}
        theirs: dict[str, list[float]] = {}
        version = ""
        for run in self.runs(options):
            assert isinstance(run, Ours | Theirs)
            side = ours if isinstance(run, Ours) else theirs
            side.setdefault(run.device, []).append(store[run].metrics["accuracy"])
            version = run.version if isinstance(run, Theirs) else version
        digital = percent(estimate(ours["digital"]))
        rows, checks = [], []
        for device, own in theirs.items():
            gap, most = paired(own, ours[device]), WITHIN.get(device, 2.0)
            both = (percent(estimate(side[device])) for side in (ours, theirs))
            rows.append([device, digital, *both, signed(gap)])
            checks.append(
                Check(
                    f"{device}: both emulators end alike",
                    f"within {most:g} points",
                    f"{signed(gap)} points",
                    decided(gap, -most, most),
                )
            )
        headers = ["Device", "digital [%]", "ours [%]", f"aihwkit {version} [%]", "ours above"]
        table = Table(headers, rows, spreads(options.seeds))
        return Report(
            title="Beside aihwkit",
            subtitle=f"aihwkit {version}, {options.seeds} seeds, {options.epochs} epochs",
            summary=[
                "64-128-10 with tanh on digits, batches of 10, rate 0.1, its own converters (7 "
                "bits in, 9 out, noise); the mean of the last five epochs."
            ],
            table=table,
            checks=checks,
            held=Table(
                ["", ""],
                [
                    ["Varied", "the device, the emulator"],
                    ["Held", "images, splits, network, batches, rate, epochs, converters"],
                    ["Not held", "first weights and every draw of pulses and cells"],
                ],
                prose=True,
            ),
            sections=[Section("Accuracy", [], [table])],
        )
