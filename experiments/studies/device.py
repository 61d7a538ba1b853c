"""Your own device: what do my measured pulses say, and what would a network make of such cells?

Given: a CSV file of reads between pulses (docs/pulse-data.md). Fitted: an update law with spread
and noise, chosen among all families by cells its fit did not see. Then the main job's network is
trained in place on the fitted device. A measured curve outside the band of the fitted device would
prove the fit wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from functools import cache
from pathlib import Path

import crossbar as xb
import devices
from devices import Fit, LookupStep, PulseData, Update
from devices.fitting import FAMILIES
from devices.fitting.data import DOWN, UP
from experiments import paths
from experiments.budget import budget_arguments, chosen_budget
from experiments.device_fit import Shown, both
from experiments.families import PULSES, chip, families
from experiments.plots import COLOURS, Line, Panel, panels
from experiments.report import Check, Fact, Picture, Report, Section, Table
from experiments.run import Run
from experiments.runs import Train
from experiments.stats import estimate, paired, percent, signed
from experiments.store import Store
from experiments.study import Study, provenance
from experiments.training import Best, Recipe

LAWS: dict[str, type[Update]] = {family.name: family.law for family in FAMILIES}
LAWS[LookupStep.__name__] = LookupStep

WHOLE = xb.InSitu(xb.Deterministic(stochastic=True))
"""How a law that takes whole counts alone is trained on."""


class OwnDevice(Study):
    """Measured pulses fitted, drawn and trained with."""

    name = "device"
    help = "fit a device to your own pulse data and train on it"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("file", type=Path, help="CSV file, see docs/pulse-data.md")
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
        found = _fit(options)
        data = PulseData.read_csv(options.file)
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
        measured, fitted = both(found, data)
        rows = [store[run] for runs in trained.values() for run in runs]
        return Report(
            title=f"What {options.file.name} says",
            subtitle=f"{len(data.cells)} cells, {found.reads} reads; {law} fits them",
            summary=[
                f"**{law}** describes the data {_how(found)}. "
                f"{found.left_out} reads were left out as outliers. Trained in place on such cells "
                f"the MLP reads **{estimate(own).mean:.1f} %** of the test images right, "
                f"{signed(paired(digital, own))} points from the digital network."
            ],
            facts=[
                Fact(f"{_states(found):.0f}", "states", "window over the nominal step"),
                Fact(f"{estimate(own).mean:.1f} %", "in place", "on the fitted device"),
                Fact(f"{estimate(digital).mean:.1f} %", "digital"),
            ],
            table=_parameters(found) if found.parameters else accuracy,
            checks=[_check(measured, fitted)],
            sections=[
                Section("Measured against fitted", items=[_picture(measured, fitted)]),
                *([_intervals(found)] if found.parameters else []),
                *([_families(found)] if found.candidates else []),
                Section("Training on it", items=[accuracy]),
                _device(found),
            ],
            provenance=provenance(rows, options.command),
        )

    def folder(self, options: Namespace) -> str:  # noqa: D102
        return f"{self.name}-{options.file.stem}"


def _fit(options: Namespace) -> Fit:
    fixed = []
    for text in options.fix:
        name, _, value = text.partition("=")
        try:
            fixed.append((name.strip(), float(value)))
        except ValueError:
            raise ValueError(f"--fix needs FIELD=VALUE with a number, got {text!r}") from None
    content = options.file.read_bytes()
    return _fitted(
        options.file, content, tuple(fixed), tuple(options.law or ()), options.proportional_read
    )


@cache
def _fitted(
    path: Path,
    content: bytes,
    fixed: tuple[tuple[str, float], ...],
    laws: tuple[str, ...],
    proportional_read: bool,
) -> Fit:
    """The fit, once per content of the file and set of options."""
    return devices.fit(
        path,
        families=[LAWS[law] for law in laws] or None,
        fixed=dict(fixed),
        proportional_read=proportional_read,
    )


def _trained(options: Namespace) -> dict[str, list[Train]]:
    """Digital, on ideal cells, and on the fitted device."""
    found = _fit(options)
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


def _how(found: Fit) -> str:
    if found.solution is None:
        return "best: its steps are the measured ones themselves, as no family of laws does as well"
    return f"with {len(found.parameters)} parameters"


def _states(found: Fit) -> float:
    assert found.device.update is not None
    return found.device.window.span / found.device.update.step(found.device.window)


def _device(found: Fit) -> Section:
    if found.solution is None:
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
        ["95 % confidence intervals. Spreads are from cell to cell unless named c2c."],
        [_parameters(found)],
    )


def _families(found: Fit) -> Section:
    rows = []
    for c in found.candidates:
        score = f"{c.held_out:+.4f} ± {c.error:.4f}".replace("-", "−")
        verdict = "as good as the best" if c.equivalent else c.reason or ""
        rows.append([c.name, str(c.parameters), "—" if c.reason else score, verdict])
    rows[0][3] = "chosen"
    return Section(
        "Which law",
        [
            "Each family predicts cells that its fit did not see: log-likelihood per read relative "
            "to the best one, with its standard error. Among those within one standard error the "
            "one with the fewest parameters is chosen."
        ],
        [Table(["Family", "parameters", "unseen data", ""], rows)],
    )


def _picture(measured: Shown, fitted: Shown) -> Picture:
    blue, red, green, yellow, *_ = COLOURS
    curves = [
        Line("measured", s.pulse, s.mean, s.low, s.high, colour, dashed)
        for s, colour, dashed in ((measured, blue, False), (fitted, red, True))
    ]
    steps, noise = [], []
    for kind, word, colour in ((UP, "up", green), (DOWN, "down", yellow)):
        for s, who, dashed in ((measured, "measured", False), (fitted, "fitted", True)):
            at, mean, std = s.steps[kind]
            steps.append(Line(f"{word}, {who}", at, mean, colour=colour, dashed=dashed))
            noise.append(Line(f"{word}, {who}", at, std, colour=colour, dashed=dashed))
    curves[1] = replace(curves[1], label="fitted")
    figure = panels(
        [
            Panel("Response", "pulses", "conductance [µS]", curves),
            Panel("Step", "conductance [µS]", "mean step [µS]", steps),
            Panel("Scatter of the step", "conductance [µS]", "std [µS]", noise),
        ]
    )
    return Picture(
        "fit",
        figure,
        "Response: median and central 80 % of the cells. The fitted device (dashed) was given the "
        "same pulses from the same first reads, with its own cells and noise. The scatter holds "
        "pulse noise, read noise and spread between cells in both.",
    )


def _check(measured: Shown, fitted: Shown) -> Check:
    pairs = zip(measured.mean, fitted.low, fitted.high, strict=True)
    inside = [low <= g <= high for g, low, high in pairs]
    share = sum(inside) / len(inside)
    return Check(
        "the measured median curve lies in the fitted device's central 80 %",
        "at least nine reads of ten",
        f"{share:.0%} of the reads",
        share >= 0.9,
    )
