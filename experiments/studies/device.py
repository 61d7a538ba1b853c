"""Your own device: what do my measured pulses say, and what would a network make of such cells?

Given: a file of reads between pulses (docs/pulse-data.md), in almost any form. Fitted: an update
law with spread and noise, chosen by ramps that its fit did not see. Then the main job's network is
trained in place on the fitted device. Measured ramps outside the band of the fitted device would
prove the fit wrong.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

import crossbar as xb
import devices
from devices import Fit, PulseData, Update
from devices.fitting import LAWS
from experiments import paths
from experiments.budget import budget_arguments, chosen_budget
from experiments.device_fit import Both, both
from experiments.families import PULSES, chip, families
from experiments.plots import COLOURS, Line, Panel, panels
from experiments.report import Check, Fact, Picture, Report, Section, Table
from experiments.run import Run
from experiments.runs import Train
from experiments.stats import estimate, paired, percent, signed
from experiments.store import Store
from experiments.study import Study, provenance
from experiments.training import Best, Recipe

READING = (
    *("unit", "read_voltage", "decimal", "amplitude", "width"),
    *("window", "columns", "across", "sheet"),
)
"""Options of the command line that say what a file leaves open."""

WHOLE = xb.InSitu(xb.Deterministic(stochastic=True))
"""How a law that takes whole counts alone is trained on."""


class OwnDevice(Study):
    """Measured pulses fitted, drawn and trained with."""

    name = "device"
    help = "fit a device to your own pulse data and train on it"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("file", type=Path, help="file of reads, see docs/pulse-data.md")
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
        budget_arguments(parser)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        trained = _trained(options)
        return [run for runs in trained.values() for run in runs]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        found, data = _fit(options)
        trained = _trained(options)
        scores = {
            name: [store[run].metrics["accuracy"] for run in runs] for name, runs in trained.items()
        }
        digital, own = scores["digital"], scores["fitted device"]
        accuracy = Table(
            ["Trained", "accuracy [%]", "gap to digital [points]"],
            [
                [name, percent(estimate(v)), signed(paired(digital, v))]
                for name, v in scores.items()
            ],
        )
        law = type(found.device.update).__name__
        seen = both(found, data)
        rows = [store[run] for runs in trained.values() for run in runs]
        return Report(
            title=f"What {options.file.name} says",
            subtitle=f"{len(data.cells)} cells, {found.reads} reads; {law} fits them",
            summary=[
                f"**{law}** follows whole ramps, both directions, within **{seen.rmse():.2g} %** "
                f"of the range of the reads (root mean square). {found.left_out} reads were left "
                f"out. Trained in place on such cells the MLP reads "
                f"**{estimate(own).mean:.1f} %** of the test images right, "
                f"{signed(paired(digital, own))} points from the digital network."
            ],
            facts=[
                Fact(f"{seen.rmse():.2g} %", "error of the curve", "of the range, whole cycle"),
                Fact(f"{_states(found):.0f}", "states", "window over the nominal step"),
                Fact(f"{estimate(own).mean:.1f} %", "in place", "on the fitted device"),
                Fact(f"{estimate(digital).mean:.1f} %", "digital"),
            ],
            table=_parameters(found) if found.parameters else accuracy,
            checks=_checks(seen),
            sections=[
                Section("What was read", list(found.notes)),
                Section("Measured against simulated", items=_pictures(seen)),
                Section("Noise taken apart", list(found.sentences), _split(found)),
                *([_intervals(found)] if found.parameters else []),
                *([_families(found)] if found.candidates else []),
                Section("Training on it", items=[accuracy]),
                _device(found),
            ],
            provenance=provenance(rows, options.command),
        )

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


def _trained(options: Namespace) -> dict[str, list[Train]]:
    """Digital, on ideal cells, and on the fitted device."""
    found, _ = _fit(options)
    budget, data, seeds = chosen_budget(options)
    task = budget.tasks["MLP"]
    recipe = Recipe(epochs=task.epochs, lr=Best(budget.rates))
    digital = [Train(data, task.network, recipe, seed=seed) for seed in range(seeds)]
    out = {"digital": digital}
    for name, on in {
        "ideal cells": families()["ideal"].chip,
        "fitted device": chip(found.device),
    }.items():
        own = paths.replace(on, "mapping.w_max", task.w_max)
        update = own.device.update
        mode = WHOLE if update is not None and update.whole else PULSES
        out[name] = [replace(run, chip=own, mode=mode) for run in digital]
    return out


def _states(found: Fit) -> float:
    assert found.device.update is not None
    return found.device.window.span / found.device.update.step(found.device.window)


def _device(found: Fit) -> Section:
    if not found.parameters:
        return Section("The device", ["`devices.lookup_device(path)` makes it from the same file."])
    text = "This text evaluates to the device (import devices)."
    return Section("The device", [f"`{found.device!r}`", text])


def _parameters(found: Fit) -> Table:
    rows = []
    for name, p in found.parameters.items():
        rows.append([name, f"{p.value:.4g}", f"{p.low:.4g}", f"{p.high:.4g}", p.unit or "—"])
    return Table(["Parameter", "estimate", "from", "to", "unit"], rows)


def _intervals(found: Fit) -> Section:
    return Section(
        "Parameters",
        [
            "95 % confidence intervals. `read` is in parts of the window g_max − g_min, "
            "`sigma_c2c` is noise of a pulse in parts of its step, `sigma_d2d` the spread of the "
            "step from cell to cell in parts of the mean; g_min and g_max without an interval "
            "are the range that the reads explored."
        ],
        [_parameters(found)],
    )


def _families(found: Fit) -> Section:
    rows = []
    for c in found.candidates:
        error = f"{100 * c.error:.3g}" if math.isfinite(c.error) else "—"
        verdict = "; ".join(filter(None, ["as good as the best" if c.equivalent else "", c.reason]))
        rows.append([c.name, str(c.parameters), error, verdict])
    rows[0][3] = "; ".join(filter(None, ["chosen", found.candidates[0].reason]))
    how = (
        "Each curve predicts ramps that its fit did not see, from their start on."
        if found.candidates[0].held_out
        else "Fewer than three traces: no ramp can be held out, so the number of parameters is "
        "weighed against the error over all reads (BIC with the reads that correlation leaves)."
    )
    return Section(
        "Which law",
        [f"{how} Of the curves as good as the best, the one with the fewest numbers is taken."],
        [Table(["Law", "numbers", "error of ramps [% of the range]", ""], rows)],
    )


def _split(found: Fit) -> list[Table]:
    if not found.noise:
        return []
    rows = [
        [name, f"{p.value:.3g}", f"{p.low:.3g}", f"{p.high:.3g}", p.unit or "of the step"]
        for name, p in found.noise.items()
    ]
    return [Table(["Noise", "estimate", "from", "to", "unit"], rows)]


def _pictures(seen: Both) -> list[Picture]:
    blue, red, green, *_ = COLOURS
    first = seen.trace == seen.trace[0]
    last = seen.trace == seen.trace.max()
    curves = []
    for own, name in ((first, "first trace"), (last, "last trace")):
        x = seen.pulse[own].tolist()
        lines = [
            Line("measured", x, seen.measured[own].tolist(), colour=blue, marker=False),
            Line(
                "simulated",
                x,
                seen.mean[own].tolist(),
                seen.low[own].tolist(),
                seen.high[own].tolist(),
                red,
                True,
                False,
            ),
        ]
        curves.append(Panel(name, "pulses", "conductance [µS]", lines))
    if first.sum() == last.sum() == len(seen.trace):
        curves.pop()
    rest = []
    for title, x, label in (
        ("Residuals against conductance", seen.mean, "conductance [µS]"),
        ("Residuals against pulse number", seen.pulse, "pulses of the trace"),
    ):
        lines = []
        for way, word, colour in ((True, "up", green), (False, "down", COLOURS[3])):
            own = seen.up == way
            if own.any():
                at, mean, low, high = _binned(x[own], seen.residual[own])
                lines.append(Line(word, at, mean, low, high, colour))
        rest.append(Panel(title, label, "measured − simulated [% of the range]", lines))
    return [
        Picture(
            "fit",
            panels(curves),
            f"Whole traces, both directions. The device is given the same pulses from the same "
            f"first read: mean and central 90 % of what 100 cells read. Over all {len(seen.trace)} "
            f"reads shown the error is {seen.rmse():.2g} % of the range.",
        ),
        Picture(
            "residuals",
            panels(rest),
            "What the mean of the device leaves of the reads: mean and central 80 % in bins. A "
            "curve that follows the data scatters around 0.",
        ),
    ]


def _binned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], ...]:
    order = np.argsort(x, kind="stable")
    rows = []
    for part in np.array_split(order, min(16, max(1, len(order) // 6))):
        own = y[part]
        rows.append((float(x[part].mean()), float(own.mean()), *np.quantile(own, [0.1, 0.9])))
    return tuple([float(v) for v in column] for column in zip(*rows, strict=True))


def _checks(seen: Both) -> list[Check]:
    out = []
    for way, word in ((True, "potentiation"), (False, "depression")):
        own = seen.up == way
        if own.any():
            share = seen.inside(own)
            out.append(
                Check(
                    f"{word}: reads lie in the central 90 % of what the device reads",
                    "at least eight of ten",
                    f"{share:.0%}, error {seen.rmse(own):.2g} % of the range",
                    share >= 0.8,
                )
            )
    for k, word in ((0, "up"), (1, "down")):
        measured, drawn = seen.scatter["measured"][k], seen.scatter["simulated"][k]
        if math.isfinite(measured) and math.isfinite(drawn):
            ratio = drawn / measured if measured else math.inf
            out.append(
                Check(
                    f"scatter of a read about the mean of its neighbours, {word}",
                    "within a factor 1.5 of the measured one",
                    f"{measured:.3g} µS measured, {drawn:.3g} µS simulated",
                    1 / 1.5 <= ratio <= 1.5,
                )
            )
    return out
