"""Reservoirs on arrays: when do they beat the best linear tapped delay, and what stops them?

Varied: task (NARMA-10, Mackey-Glass at four horizons, a second-order system), read noise of the
cells, the readout's write error, static against volatile cells. Measured: RMSE/std on 2,000 steps,
beside the best of 10 to 40 linear taps. A reservoir that loses to taps on ideal arrays would prove
it empty.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from statistics import fmean

from experiments.lab.plots import Line, Panel, band, panels
from experiments.lab.quick import quick
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.reservoir.runs import Echo, Volatile

NOISES = (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03)
HORIZONS = (1, 6, 17, 84)


class Reservoir(Study):
    """Errors against read noise."""

    name = "reservoir"
    help = "reservoirs on arrays against linear taps: read noise, write error, volatile cells"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
        quick(parser, seeds=1)

    def _groups(self, options: Namespace) -> dict[str, list[Run]]:
        seeds = range(options.seeds)
        made: dict[str, list[Run]] = {}
        for noise in NOISES:
            made[f"NARMA-10, {noise:.2%}"] = [Echo("narma", 1, noise, 0.0, s) for s in seeds]
        made["NARMA-10, readout written with 1 %"] = [Echo("narma", 1, 0.0, 0.01, s) for s in seeds]
        for horizon in HORIZONS:
            for noise in (0.0, 0.01):
                name = f"Mackey-Glass {horizon}, {noise:.2%}"
                made[name] = [Echo("mackey-glass", horizon, noise, 0.0, s) for s in seeds]
        made["Second order, volatile cells"] = [
            Volatile("second order", 1, 0.0, 0.0, s) for s in seeds
        ]
        made["NARMA-10, delays on volatile cells, 1 % and 1 %"] = [
            Volatile("narma", 12, 0.01, 0.01, s) for s in seeds
        ]
        return made

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.seeds < 1:
            raise ValueError("--seeds must be >= 1")
        return [run for group in self._groups(options).values() for run in group]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        groups = self._groups(options)
        rows = {run: store[run] for runs in groups.values() for run in runs}

        def values(name: str, metric: str = "error") -> list[float]:
            return [rows[run].metrics[metric] for run in groups[name]]

        def mean(name: str, metric: str = "error") -> float:
            return fmean(values(name, metric))

        table = [
            [
                name,
                f"{mean(name):.3f}",
                f"{min(values(name)):.3f} … {max(values(name)):.3f}",
                f"{mean(name, 'taps'):.3f}",
                "yes" if mean(name) < mean(name, "taps") else "no",
            ]
            for name in groups
        ]
        shown = Table(
            ["Task and cells", "RMSE/std", "Range", "Best taps", "Beats them"],
            table,
            "With read noise weights are ±1 and the input scale is 0.8; without, normal and 0.1.",
        )
        narma = [f"NARMA-10, {noise:.2%}" for noise in NOISES]
        curve = band(
            "echo states", list(NOISES[1:]), list(zip(*map(values, narma[1:]), strict=True))
        )
        taps = mean(narma[0], "taps")
        lines = [
            Line(
                f"{n:.0%} noise",
                [float(h) for h in HORIZONS],
                [mean(f"Mackey-Glass {h}, {n:.2%}") for h in HORIZONS],
            )
            for n in (0.0, 0.01)
        ]
        linear = [mean(f"Mackey-Glass {h}, 0.00%", "taps") for h in HORIZONS]
        lines.append(Line("linear taps", [float(h) for h in HORIZONS], linear, dashed=True))
        figure = panels(
            [
                Panel(
                    "NARMA-10",
                    "read noise of a cell",
                    "RMSE/std",
                    [curve],
                    log_x=True,
                    level=(taps, "linear taps"),
                ),
                Panel("Mackey-Glass", "horizon", "RMSE/std", lines, log_x=True),
            ]
        )
        losing = [n for n in NOISES if mean(f"NARMA-10, {n:.2%}") >= taps]
        stops = f"read noise of {losing[0]:.2%}" if losing else "none of these"

        def wins(name: str) -> bool:
            return mean(name) < mean(name, "taps")

        late = [f"Mackey-Glass {h}, 1.00%" for h in (17, 84)]
        onto = "NARMA-10, delays on volatile cells, 1 % and 1 %"
        written = "NARMA-10, readout written with 1 %"
        return Report(
            title="Reservoirs",
            subtitle="Echo states and volatile cells against linear taps",
            summary=[f"NARMA-10 is lost to linear taps ({taps:.3f}) from {stops} on."],
            table=shown,
            checks=[
                Check(
                    "On ideal arrays the reservoir beats taps",
                    f"below {taps:.3f}",
                    f"{mean(narma[0]):.3f}",
                    wins(narma[0]),
                ),
                Check(
                    "And with 0.1 % read noise",
                    f"below {taps:.3f}",
                    f"{mean(narma[2]):.3f}",
                    wins(narma[2]),
                ),
                Check(
                    "With 1 % at Mackey-Glass horizons 17 and 84",
                    "both",
                    ", ".join(f"{mean(n):.3f}" for n in late),
                    all(map(wins, late)),
                ),
                Check(
                    "A readout written with 1 % error",
                    "at most 0.5",
                    f"{mean(written):.3f}",
                    mean(written) <= 0.5,
                ),
                Check(
                    "Second-order system on volatile cells",
                    "at most 0.1",
                    f"{mean('Second order, volatile cells'):.3f}",
                    mean("Second order, volatile cells") <= 0.1,
                ),
                Check(
                    "Delays on volatile cells with 1 % noise and error",
                    "at most 0.26",
                    f"{mean(onto):.3f}",
                    mean(onto) <= 0.26,
                ),
            ],
            sections=[
                Section("Errors", items=[Picture("reservoirs", figure, "Band: all seeds."), shown])
            ],
        )
