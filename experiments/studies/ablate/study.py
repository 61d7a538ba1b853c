"""Any one field of the chip, varied: which property of the hardware costs the accuracy?

Varied: one field by its dotted path. Measured, for every value: the accuracy of a network trained
on that chip (in situ, or hardware-aware and programmed where the cell has no update law), and of
the network trained on the unchanged chip and put onto that one. A field that changes nothing
shows differences whose intervals contain zero; that a difference is real is wrong where they do.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from typing import Any

import crossbar as xb
from experiments.lab import paths, plots
from experiments.lab.paths import short
from experiments.lab.plots import COLOURS, Panel, band
from experiments.lab.report import Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import bands, estimate, paired, percent, signed, spreads
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.tasks.budget import budget_arguments, chosen_budget, too_small
from experiments.tasks.runs import Evaluate, Train
from experiments.tasks.sweeps import chosen_chip, chosen_mode, possible
from experiments.tasks.training import Best, Recipe

TRAINED, MET = "trained here", "moved here"

WRITES = ("device.update", "write", "backward", "mode")
"""What only training sees: a network that is moved reads the same whatever it is."""

IN_SITU = ("device.write", *WRITES)
"""The same for cells that were trained in place, and are not written again."""


@dataclass(frozen=True)
class Setting:
    """One value of the field: the chip and mode with it."""

    name: str
    chip: xb.Chip
    mode: xb.Mode


class Ablate(Study):
    """One dotted path, some values, a trained network for each."""

    name = "ablate"
    help = "vary one field of the chip, such as device.update.sigma_c2c, and train for each value"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument(
            "field",
            help="dotted path into the chip, or into the mode as mode.…: forward.adc.bits, "
            "device.update.sigma_c2c, mapping.route, mode.rule.scheme.bl",
        )
        parser.add_argument(
            "values",
            nargs="+",
            help="Python literals or public constructor calls: 0.3, None, 'PushPull()'",
        )
        parser.add_argument(
            "--chip",
            default="soft",
            help="what is varied: a family of the main job, a preset, or a constructor call of a "
            "Device or Chip (default: %(default)s)",
        )
        parser.add_argument("--mode", help="how it is trained, such as 'InSitu(ExactBits(bl=10))'")
        parser.add_argument(
            "--after",
            type=float,
            default=1.0,
            help="seconds since the last write at which it is read (default: %(default)s)",
        )
        parser.add_argument("--network", choices=["MLP", "CNN"], default="MLP")
        budget_arguments(parser)

    def settings(self, options: Namespace) -> tuple[Setting, list[Setting]]:
        """The unchanged chip and the changed ones.

        Raises:
            ValueError, TypeError: a path, a value or a chip that cannot be.
        """
        if not (0 <= options.after < math.inf):
            raise ValueError(f"--after must be a time >= 0 s, got {options.after}")
        base = chosen_chip(options.chip)
        mode = chosen_mode(options.mode, base)
        varied: list[Setting] = []
        for text, value in zip(options.values, map(paths.parse, options.values), strict=True):
            if options.field.startswith("mode."):
                changed = base, paths.replace(mode, options.field.removeprefix("mode."), value)
            else:
                changed = paths.replace(base, options.field, value), mode
            if changed in [(v.chip, v.mode) for v in varied]:
                raise ValueError(f"the value {text} stands there twice")
            possible(*changed)
            varied.append(Setting(text, *changed))
        return Setting("unchanged", base, mode), varied

    def moved(self, options: Namespace, base: Setting) -> bool:
        """Whether the field can change what a network reads that was trained elsewhere."""
        blind = IN_SITU if isinstance(base.mode, xb.InSitu) else WRITES
        return not any(f"{options.field}.".startswith(f"{path}.") for path in blind)

    def train(self, options: Namespace, setting: Setting, seed: int) -> Train:
        """The network trained on a chip."""
        budget, data, _ = chosen_budget(options)
        task = budget.tasks[options.network]
        recipe = Recipe(epochs=task.epochs, lr=Best(budget.rates))
        return Train(data, task.network, recipe, setting.chip, setting.mode, seed)

    def trained(self, options: Namespace, setting: Setting, seed: int) -> Evaluate:
        """The network trained on a chip, read there."""
        of = self.train(options, setting, seed)
        return Evaluate(of, setting.chip, (options.after,), seed)

    def met(self, options: Namespace, base: Setting, setting: Setting, seed: int) -> Evaluate:
        """The network trained on the unchanged chip, read on another one."""
        return replace(self.trained(options, base, seed), chip=setting.chip)

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        base, varied = self.settings(options)
        _, _, seeds = chosen_budget(options)
        moved = self.moved(options, base)
        runs: list[Run] = []
        for seed in range(seeds):
            runs += [self.trained(options, setting, seed) for setting in varied]
            if moved:
                runs += [self.met(options, base, setting, seed) for setting in varied]
        return runs

    def folder(self, options: Namespace) -> str:  # noqa: D102
        return f"{self.name}-{options.field}"

    def too_small(self, options: Namespace) -> str:  # noqa: D102
        return too_small(options)

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        base, varied = self.settings(options)
        _, data, count = chosen_budget(options)
        seeds = range(count)
        training = [[self.train(options, s, seed) for seed in seeds] for s in varied]
        ways = {TRAINED: [[self.trained(options, s, seed) for seed in seeds] for s in varied]}
        if self.moved(options, base):
            ways[MET] = [[self.met(options, base, s, seed) for seed in seeds] for s in varied]
        scores = {
            way: [[store[run].metrics["last"] for run in repeats] for repeats in runs]
            for way, runs in ways.items()
        }
        names = [
            f"{s.name} (unchanged)" if (s.chip, s.mode) == (base.chip, base.mode) else s.name
            for s in varied
        ]
        means = [estimate(values).mean for values in scores[TRAINED]]
        best, worst = names[means.index(max(means))], names[means.index(min(means))]
        rates = [store[runs[0]].metrics["lr"] for runs in training]
        table = _table(options.field, names, scores, rates)
        return Report(
            title=f"What {options.field} does",
            subtitle=(
                f"{options.network} on {type(data).__name__}, {count} seed"
                f"{'s' if count > 1 else ''}, everything but `{options.field}` as in "
                f"`{short(base.chip)}`, trained as `{short(base.mode)}`."
            ),
            summary=[
                f"Of the values tried, `{best}` reads **{max(means):.1f} %** of the test images "
                f"right and `{worst}` **{min(means):.1f} %**."
            ],
            table=table,
            sections=[
                Section(
                    "Accuracy",
                    [
                        "**Trained here**: on a chip with this value, at the learning rate that "
                        "did best on a validation part of the training images. **Moved here**: "
                        "trained on the unchanged chip, then put onto this one"
                        + (
                            "."
                            if MET in ways
                            else f"; not applicable here, since `{options.field}` acts in training "
                            "alone: cells that were trained keep what they hold."
                        ),
                        "**Held equal**: data, network, epochs, the order of images, the first "
                        "weights and every other field; each seed's chip is the same in every row. "
                        "The learning rate is chosen anew for each value.",
                    ],
                    [_accuracy(options.field, names, scores), table],
                ),
                Section("Training", [], [_curves(store, names, training)]),
            ],
        )


def _table(
    field: str, names: list[str], scores: dict[str, list[list[float]]], rates: list[float]
) -> Table:
    headers = [field, "learning rate"]
    first = next((k for k, name in enumerate(names) if name.endswith("(unchanged)")), 0)
    rows: list[list[str]] = [[f"`{n}`", f"{rate:g}"] for n, rate in zip(names, rates, strict=True)]
    for how, values in scores.items():
        headers += [f"{how} [%]", f"to {names[first]} [points]"]
        for row, value in zip(rows, values, strict=True):
            row += [percent(estimate(value)), signed(paired(values[first], value))]
    if MET not in scores:
        headers.append(f"{MET} [%]")
        for row in rows:
            row.append("not applicable")
    return Table(
        headers,
        rows,
        spreads(len(next(iter(scores.values()))[0])),
    )


def _accuracy(field: str, names: list[str], scores: dict[str, list[list[float]]]) -> Picture:
    panel = Panel(
        "",
        field,
        "test accuracy [%]",
        [
            band(how, range(len(names)), list(zip(*values, strict=True)), colour=colour)
            for (how, values), colour in zip(scores.items(), COLOURS, strict=False)
        ],
        categories=names,
    )
    return Picture(
        "accuracy",
        plots.panels([panel], height=3.4),
        bands(len(next(iter(scores.values()))[0])),
    )


def _curves(store: Store, names: list[str], training: list[list[Train]]) -> Picture:
    panels = []
    for curve, label in (("loss", "training loss [nats]"), ("accuracy", "test accuracy [%]")):
        lines = []
        for name, runs in zip(names, training, strict=True):
            values: list[Any] = [store[run].curves[curve] for run in runs]
            epochs = range(1, 1 + max(map(len, values)))
            colour = COLOURS[names.index(name) % len(COLOURS)]
            lines.append(band(name, epochs, values, colour=colour))
        panels.append(Panel("", "epoch", label, lines))
    return Picture(
        "training",
        plots.panels(panels, height=3.0),
        bands(len(training[0])),
    )
