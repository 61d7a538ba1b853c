"""Your own device: what do my measured pulses say, and what would a network make of such cells?

Given: a file of reads between pulses (docs/pulse-data.md), in almost any form. Fitted: an update
law with spread and noise, chosen by ramps that its fit did not see. Then the main job's network is
trained in place on the fitted device. Measured ramps outside the band of the fitted device would
prove the fit wrong.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

from scipy.stats import t

import crossbar as xb
import devices
from devices import Device, Fit, PulseData, Update
from devices.fitting import LAWS, PartFit
from devices.fitting.reading import plural
from experiments.lab import paths
from experiments.lab.report import Fact, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import estimate, paired, percent, signed
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.device.fit import both
from experiments.studies.device.parts import part_arguments, part_paths, with_parts
from experiments.studies.device.report import (
    checks,
    device_section,
    intervals,
    laws,
    parameters,
    part_sections,
    pictures,
    split,
    states,
)
from experiments.studies.device.runs import Like
from experiments.tasks.budget import budget_arguments, chosen_budget
from experiments.tasks.families import PULSES, chip, families
from experiments.tasks.runs import Train
from experiments.tasks.training import Best, Recipe

READING = (
    *("unit", "read_voltage", "decimal", "amplitude", "width"),
    *("window", "columns", "across", "sheet", "ramps"),
)
"""Options of the command line that say what a file leaves open."""

FITTED, DRAWN = "fitted device", "devices drawn from the fit"
FEWEST = 3  # devices drawn for an interval

WHOLE = xb.InSitu(xb.Deterministic(stochastic=True))
"""How a law that takes whole counts alone is trained on."""


class OwnDevice(Study):
    """Measured pulses fitted, drawn and trained with."""

    name = "device"
    help = "fit a device to your own pulse data and train on it"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument(
            "file", type=Path, help="file of reads between pulses, in almost any form"
        )
        parser.add_argument(
            "--down", type=Path, help="second file: the ramps down, FILE then holds those up"
        )
        parser.add_argument("--unit", help="unit of the reads where no header says it, e.g. uS, uA")
        parser.add_argument(
            "--read-voltage", type=float, metavar="V", help="voltage of a read, for currents [V]"
        )
        parser.add_argument("--decimal", choices=[".", ","], help="decimal sign of the file")
        parser.add_argument("--amplitude", type=float, help="use the pulses of this amplitude only")
        parser.add_argument("--width", type=float, help="use the pulses of this width only")
        parser.add_argument(
            "--window",
            type=float,
            nargs=2,
            metavar=("LOW", "HIGH"),
            help="conductances of the smallest and largest read of a normalised file [S]",
        )
        parser.add_argument(
            "--columns", help="names of the columns, separated by commas; - leaves one out"
        )
        parser.add_argument(
            "--across", choices=["cells", "cycles"], help="what columns side by side are"
        )
        parser.add_argument(
            "--ramps",
            type=int,
            nargs=2,
            metavar=("UP", "DOWN"),
            help="pulses up, then down, of every cycle, where no column says the direction",
        )
        parser.add_argument("--sheet", help="name of the sheet of an .xlsx")
        parser.add_argument(
            "--fix",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="a field of the device that is known (SI units), e.g. g_max=60e-6",
        )
        parser.add_argument(
            "--law", choices=sorted(LAWS), action="append", help="only this family of laws"
        )
        parser.add_argument(
            "--proportional-read",
            action="store_true",
            help="the noise of a read is proportional to the conductance",
        )
        part_arguments(parser)
        budget_arguments(parser)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        trained = _trained(options)
        return [run for runs in trained.values() for run in runs]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        found, data = _fit(options)
        device, parts = _whole(found.device, options)
        trained = _trained(options)
        scores = {
            name: [store[run].metrics["accuracy"] for run in runs] for name, runs in trained.items()
        }
        digital, own, drawn = (scores[n] for n in ("digital", FITTED, DRAWN))
        accuracy = Table(
            ["Trained", "accuracy [%]", "gap to digital [points]"],
            [
                [name, percent(estimate(v)), signed(paired(digital, v))]
                for name, v in scores.items()
                if name != DRAWN
            ]
            + [[DRAWN, percent(estimate(drawn)), "—"]],
        )
        low, high = predicted(drawn)
        span = (
            f"What the fit leaves open is worth **{low:.1f} … {high:.1f} %**: the 95 % interval of "
            f"the accuracy of one more device, from {len(drawn)} drawn from the fit's uncertainty "
            "and trained, each with its own start."
        )
        law = type(found.device.update).__name__
        seen = both(found, data)
        return Report(
            title=f"What {options.file.name} says",
            subtitle=f"{plural(len(data.cells), 'cell')}, {found.reads} reads; {law} fits them",
            summary=[
                f"**{law}** follows whole ramps, both directions, within **{seen.rmse():.2g} %** "
                f"of the range of the reads (root mean square). {found.left_out} reads were left "
                f"out. Trained in place on such cells the MLP reads "
                f"**{estimate(own).mean:.1f} %** of the test images right, "
                f"{signed(paired(digital, own))} points from the digital network.",
                span,
            ],
            facts=[
                Fact(f"{seen.rmse():.2g} %", "error of the curve", "of the range, whole cycle"),
                Fact(f"{states(found):.0f}", "states", "window over the nominal step"),
                Fact(f"{estimate(own).mean:.1f} %", "in place", "on the fitted device"),
                Fact(f"{low:.1f} … {high:.1f} %", "95 % of devices", "that these data allow"),
                Fact(f"{estimate(digital).mean:.1f} %", "digital"),
            ],
            table=parameters(found) if found.parameters else accuracy,
            checks=checks(seen),
            sections=[
                Section("What was read", list(found.notes)),
                Section("Measured against simulated", items=pictures(seen)),
                Section("Noise taken apart", list(found.sentences), split(found)),
                *([intervals(found)] if found.parameters else []),
                *([laws(found)] if found.candidates else []),
                *part_sections(parts),
                Section("Training on it", [span.replace("**", "")], [accuracy]),
                device_section(found, device),
            ],
        )

    def too_small(self, options: Namespace) -> str:
        """What is claimed is about the reads, not about trainings."""
        return ""

    def folder(self, options: Namespace) -> str:  # noqa: D102
        return f"{self.name}-{options.file.stem}"


def _fit(options: Namespace) -> tuple[Fit, PulseData]:
    fixed = []
    for text in options.fix:
        name, _, value = text.partition("=")
        try:
            fixed.append((name.strip(), float(value)))
        except ValueError:
            raise ValueError(f"--fix needs FIELD=VALUE with a number, got {text!r}") from None
    how = tuple((name, getattr(options, name)) for name in READING)
    how = tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in how)
    paths = [options.file, *([options.down] if options.down else [])]
    if not options.file.is_file():
        raise FileNotFoundError(f"{options.file} is no file")
    content = b"".join(path.read_bytes() for path in paths)
    return _fitted(
        options.file,
        options.down,
        content,
        how,
        tuple(fixed),
        tuple(options.law or ()),
        options.proportional_read,
    )


@cache
def _fitted(
    path: Path,
    down: Path | None,
    content: bytes,
    how: tuple[tuple[str, object], ...],
    fixed: tuple[tuple[str, float], ...],
    laws: tuple[str, ...],
    proportional_read: bool,
) -> tuple[Fit, PulseData]:
    """The fit and its data, once per content of the files and set of options."""
    data = PulseData.read_csv(path, down=down, **dict(how))  # type: ignore[arg-type]
    for line in data.account:
        print(f"{path.name}: {line}", file=sys.stderr)
    found = devices.fit(
        data,
        families=[_law(law) for law in laws] or None,
        fixed=dict(fixed),
        proportional_read=proportional_read,
    )
    return found, data


def _law(name: str) -> type[Update]:
    law: type[Update] = getattr(devices, name)
    return law


def _whole(device: Device, options: Namespace) -> tuple[Device, dict[str, PartFit]]:
    """A fitted device with the parts of the other files."""
    return with_parts(device, part_paths(options), options.unit, options.read_voltage)


def predicted(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of one more of these accuracies [%], by Student's t."""
    one = estimate(values)
    half = float(t.ppf(0.975, one.n - 1)) * one.sd * (1 + 1 / one.n) ** 0.5
    return max(one.mean - half, 0.0), min(one.mean + half, 100.0)


def _trained(options: Namespace) -> dict[str, list[Train]]:
    """Digital, on ideal cells, on the fitted device, and on devices drawn from the fit."""
    found, _ = _fit(options)
    budget, data, seeds = chosen_budget(options)
    task = budget.tasks["MLP"]
    recipe = Recipe(epochs=task.epochs, lr=Best(budget.rates))
    digital = [Train(data, task.network, recipe, seed=seed) for seed in range(seeds)]
    out = {"digital": digital}

    def on(one: xb.Chip, run: Train) -> Train:
        own = paths.replace(one, "mapping.w_max", task.w_max)
        update = own.device.update
        return replace(run, chip=own, mode=WHOLE if update and update.whole else PULSES)

    ideal, fitted = families()["ideal"].chip, chip(_whole(found.device, options)[0])
    out["ideal cells"] = [on(ideal, run) for run in digital]
    out[FITTED] = [on(fitted, run) for run in digital]
    draws = range(max(FEWEST, seeds + 2)) if found.draw else range(max(FEWEST, seeds))
    out[DRAWN] = []
    for seed in draws:
        device = found.drawn(seed) if found.draw else found.device
        one = chip(_whole(device, options)[0])
        run, first = on(one, replace(digital[0], seed=seed)), out[FITTED][0]
        out[DRAWN].append(Like(**{f.name: getattr(run, f.name) for f in fields(run)}, other=first))
    return out
