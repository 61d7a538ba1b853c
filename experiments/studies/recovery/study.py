"""What does hardware-aware training recover of what a chip costs, and which part of it does?

Varied: how a digital network is trained on for its chip (not at all; with neither, either or both
of clipping and weight noise; as many steps each). Measured: accuracy of a ResNet-20 on digits,
perplexity of a 6-layer character transformer on Python's documentation strings, after a second, a
day and a month. Training that recovers less than half of what plain conversion loses, or that does
better without one of its two parts, would prove the recipe (Joshi et al., Nat. Commun. 11:2473)
wrong here.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import pairwise
from statistics import fmean

import crossbar as xb
from experiments.lab.plots import Panel, band, panels
from experiments.lab.quick import quick
from experiments.lab.report import Check, Fact, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import Estimate, decided, estimate, paired, percent, signed, spreads
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.recovery.runs import TIMES, Images, OnChip, Pretrained, Task, Text

AFTER = ("1 s", "1 day", "1 month")
BOTH, PLAIN = "clip + noise", "as it is"
CLIP, NOISE = xb.Clip(sigmas=2.0), (xb.AdditiveNoise(0.1),)
WAYS: dict[str, tuple[xb.Clip | None, tuple[xb.Modifier, ...]]] = {
    BOTH: (CLIP, NOISE),
    "clip": (CLIP, ()),
    "noise": (None, NOISE),
    "none": (None, ()),
}
TASKS: dict[str, tuple[Task, str, float, float]] = {
    # unit of losses, what plain conversion is to lose at least, what counts as no difference
    "digits": (Images(), "points", 5.0, 0.5),
    "text": (Text(), "% perplexity", 10.0, 1.0),
}
Losses = dict[str, list[list[float]]]
"""By way: of every seed the losses at TIMES."""


class Recovery(Study):
    """Two networks, five ways onto a chip, three times."""

    name = "recovery"
    help = "hardware-aware training: what clipping and weight noise recover over a month"
    least = {"seeds": 3, "percent": 100}

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
        parser.add_argument(
            "--percent", type=int, default=100, help="of all training steps (default: %(default)s)"
        )
        parser.add_argument(
            "--only", choices=TASKS, help="digits: the ResNet-20, text: the transformer alone"
        )
        quick(parser, seeds=1, percent=2)

    def plan(self, options: Namespace) -> dict[str, tuple[list[Pretrained], dict[str, list[Run]]]]:
        """By network: the digital ones, and those on chips by their way."""
        for name in ("seeds", "percent"):
            if getattr(options, name) < 1:
                raise ValueError(f"--{name} must be >= 1")
        found = {}
        for name in [options.only] if options.only else TASKS:
            task = TASKS[name][0]
            first, then = (max(1, steps * options.percent // 100) for steps in task.steps)
            digital = [Pretrained(task, first, seed) for seed in range(options.seeds)]
            ways: dict[str, list[Run]] = {PLAIN: [OnChip(of, 0) for of in digital]}
            for way, parts in WAYS.items():
                ways[way] = [OnChip(of, then, *parts) for of in digital]
            found[name] = digital, ways
        return found

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        found: list[Run] = []
        for digital, ways in self.plan(options).values():
            found += [*digital, *(run for runs in ways.values() for run in runs)]
        return found

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        checks: list[Check] = []
        rows: list[list[str]] = []
        facts, lines, figures = [], [], []
        for name, (digital, ways) in self.plan(options).items():
            task, unit, limit, margin = TASKS[name]
            scores = [store[run].metrics["score"] for run in digital]
            losses: Losses = {
                way: [
                    [task.loss(s, d) for s in store[run].curves["score"]]
                    for run, d in zip(runs, scores, strict=True)
                ]
                for way, runs in ways.items()
            }
            checks += _checks(name, losses, unit, limit, margin)
            rows += [
                [name, way, *(percent(estimate(_at(found, k))) for k in range(len(TIMES)))]
                for way, found in losses.items()
            ]
            lines.append(f"{name} (digital {fmean(scores):.2f}): {_order(losses, unit)}")
            back = estimate(_recovered(losses, len(TIMES) - 1))
            facts.append(Fact(f"{100 * back.mean:.0f} %", f"recovered after a month, {name}"))
            bands = [band(way, list(TIMES), found) for way, found in losses.items()]
            figures.append(Panel(name, "after [s]", f"loss [{unit}]", bands, log_x=True))
        table = Table(
            ["Task", "Trained on with", *AFTER],
            rows,
            "Losses against the digital network: points of accuracy, percent of perplexity. "
            + spreads(options.seeds),
        )
        return Report(
            title="Recovery",
            subtitle="What hardware-aware training recovers of what a chip costs",
            summary=[
                "Phase-change cells written in one go (error: 10 % of the window), their drift "
                "compensated tile by tile, 8-bit converters. The networks are trained on for as "
                "many steps each way, on arrays whose only noise is the one that is named.",
                *lines,
            ],
            table=table,
            facts=facts,
            checks=checks,
            sections=[
                Section("Losses", lines, [Picture("losses", panels(figures), "Bands: all seeds."),
                                          table])
            ],
        )  # fmt: skip


def _at(found: list[list[float]], k: int) -> list[float]:
    return [seed[k] for seed in found]


def _recovered(losses: Losses, k: int) -> list[float]:
    """The part of the plain network's loss that is gone, of every seed."""
    each = zip(_at(losses[PLAIN], k), _at(losses[BOTH], k), strict=True)
    return [1 - found / plain if plain else 0.0 for plain, found in each]


def _less(losses: Losses, way: str, other: str) -> Estimate:
    """How much less a way loses than another, over all times."""
    before, after = ([fmean(seed) for seed in losses[w]] for w in (way, other))
    return paired(before, after)


def _checks(name: str, losses: Losses, unit: str, limit: float, margin: float) -> list[Check]:
    lost = [estimate(_at(losses[PLAIN], k)) for k in range(len(TIMES))]
    least = min(lost, key=lambda one: one.mean)
    found = [
        Check(
            f"{name}: plain conversion loses",
            f"at least {limit:g} {unit} at all times",
            signed(least),
            decided(least, low=limit),
        )
    ]
    for k, after in enumerate(AFTER):
        back = estimate(_recovered(losses, k))
        found.append(
            Check(
                f"{name}: {BOTH} recovers after {after}",
                "more than half of it",
                signed(back, 2),
                decided(back, low=0.5),
            )
        )
    for way in WAYS:
        if way != BOTH:
            gain = _less(losses, BOTH, way)
            found.append(
                Check(
                    f"{name}: {BOTH} is at least as good as {way}",
                    f"loses at most {margin:g} {unit} more over all times",
                    f"{signed(gain)} less",
                    decided(gain, low=-margin),
                )
            )
    return found


def _order(losses: Losses, unit: str) -> str:
    """All ways from the least loss to the most; ≈ where the 95 % interval holds zero."""
    ranked = sorted(losses, key=lambda way: fmean(map(fmean, losses[way])))
    said = f"{ranked[0]} ({fmean(map(fmean, losses[ranked[0]])):.1f} {unit})"
    for better, worse in pairwise(ranked):
        sign = "<" if _less(losses, better, worse).low > 0 else "≈"
        said += f" {sign} {worse} ({fmean(map(fmean, losses[worse])):.1f})"
    return said
