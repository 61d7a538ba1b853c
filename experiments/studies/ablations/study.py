"""Which property of device and periphery costs a network how much, and from which value on?

Varied: one property at a time, of a chip that learns in place and of one that is written. Measured:
the accuracy lost to the same network trained digitally with the same seeds, and the value from
which on more than a point is lost. A loss that falls where a property gets worse, beyond what the
intervals allow, would prove a model wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace

import crossbar as xb
from devices import Arrhenius, ConstantStep, GaussianRead, NeuroSim, PowerLawDrift, StuckAt
from experiments.lab import paths
from experiments.lab.quick import quick
from experiments.lab.report import Check, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.statistics import estimate, paired, signed
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.tasks.data import Digits
from experiments.tasks.families import G_MAX, G_MIN, PULSES, families, pcm
from experiments.tasks.networks import MLP
from experiments.tasks.sweeps import Axis, Sweep, axis
from experiments.tasks.swept import held, in_words, scores, section, specification
from experiments.tasks.training import Recipe

SPAN = G_MAX - G_MIN  # [S]
DAY = 86400.0  # [s]
BAKED = Arrhenius(PowerLawDrift(nu=0.05), e_a=1.0)
FULL = 0.5 * 0.2 * SPAN * 8  # [A] 64 weights of random sign at 0.2 V


@dataclass(frozen=True)
class Property:
    """What is varied, where, and what it is; with a `size`, for each of its values."""

    key: str
    axis: Axis
    about: str
    written: bool = False  # of a chip that is written, not trained on
    size: Axis | None = None


PROPERTIES = (
    Property("states", axis("device.update.dg_min", [SPAN / n for n in (1000, 300, 100, 30, 10)],
             "states", (1000, 300, 100, 30, 10)), "Steps from end to end; fewer are coarser."),
    Property("on/off", axis("device.g_min", [G_MAX / r for r in (50, 20, 10, 5, 2)], "g_max/g_min",
             (50, 20, 10, 5, 2)), "The window shrinks from below; steps keep their size."),
    Property("nonlinearity", axis("device.update", [NeuroSim(300, 300, a, -a) for a in
             (0.01, 0.5, 1.0, 2.0, 3.0, 5.0)], "label ±a", (0.01, 0.5, 1, 2, 3, 5)),
             "NeuroSim's curves, bent oppositely up and down, 300 states."),
    Property("asymmetry", axis("device.update", [ConstantStep(SPAN / 1000, up_down=u) for u in
             (0.0, 0.1, 0.2, 0.5, 1.0)], "up/down", (0, 0.1, 0.2, 0.5, 1)),
             "Up steps larger than down steps, of equal size everywhere."),
    Property("c2c", axis("device.update.sigma_c2c", (0.0, 0.3, 1.0, 3.0, 10.0), "σ of a step"),
             "Noise of every pulse, in parts of its step."),
    Property("d2d", axis("device.update.sigma_d2d", (0.0, 0.1, 0.3, 0.6, 1.0), "σ of cells"),
             "Spread of the step from cell to cell."),
    Property("pulse length", axis("mode.rule.scheme.bl", (63, 31, 15, 7, 3, 1), "BL"),
             "Bits of a pulse train; short ones update coarsely."),
    Property("route", axis("mapping.route", (xb.PushPull(), xb.Reference(), xb.OneSided()),
             "route"), "Which cells of a pair are pulsed."),
    Property("DAC", axis("forward.dac.bits", (8, 6, 4, 3, 2, 1), "DAC bits"),
             "Levels of the inputs, in training and reading."),
    Property("ADC", axis("forward.adc.bits", (8, 7, 6, 5, 4, 3), "ADC bits"),
             "Levels of the outputs, in training and reading."),
    Property("ADC range", axis("forward.adc.range", [xb.Fixed(f * FULL) for f in
             (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)], "full scale / 64 weights",
             (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)),
             "The clipped share stands beside it: where it grows, the converter cuts."),
    Property("tile", axis("tile", ((64, 64), (32, 32), (16, 16), (8, 8)), "tile"),
             "Rows and columns of one array; each has converters of its own."),
    Property("read noise", axis("device.read", [GaussianRead(s) for s in
             (0.001, 0.01, 0.03, 0.1, 0.3)], "σ of the window", (0.001, 0.01, 0.03, 0.1, 0.3)),
             "Noise of every read of every cell.", written=True),
    Property("stuck cells", axis("device.faults", [StuckAt(p / 2, p / 2) for p in
             (0.0, 0.01, 0.03, 0.1, 0.3)], "share", (0, 0.01, 0.03, 0.1, 0.3)),
             "Half off, half on; nothing is done about them.", written=True),
    Property("drift", axis("after", (1.0, 3600.0, 86400.0, 30 * 86400.0, 365.25 * 86400.0),
             "seconds"), "Time since writing; nothing corrects for it.", written=True),
    Property("drift exponent", axis("device.retention", [PowerLawDrift(nu=n) for n in
             (0.0, 0.02, 0.05, 0.1)], "ν after an hour", (0.0, 0.02, 0.05, 0.1)),
             "Decay by t^−ν, equal in all cells.", written=True),
    Property("temperature", axis("after", [DAY * BAKED.acceleration(t) for t in
             (300.0, 325.0, 350.0, 375.0, 400.0)], "K", (300, 325, 350, 375, 400)),
             f"A day at it, as the time at {BAKED.t_ref:g} K that Arrhenius' law with "
             f"{BAKED.e_a:g} eV makes of it; nothing corrects for the drift.", written=True),
    Property("line resistance", axis("wires", [xb.Wires(r, r) for r in (1.0, 10.0, 30.0, 100.0)],
             "Ω a segment", (1.0, 10.0, 30.0, 100.0)), "Wires of arrays of several sizes, unsolved "
             "for; each size's own specification stands in the first table.", written=True,
             size=axis("tile", ((16, 16), (32, 32), (64, 64)), "tile")),
)  # fmt: skip
KEYS = [p.key for p in PROPERTIES]


class Ablations(Study):
    """One property after another."""

    name = "ablations"
    help = "every property of device and periphery, one at a time: from which value on it costs"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--only", choices=KEYS, action="append", help="only this property")
        parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
        parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
        quick(parser, seeds=1, epochs=2)

    def sweeps(self, options: Namespace) -> list[tuple[Property, Sweep]]:
        """One of every property."""
        if options.seeds < 1 or options.epochs < 1:
            raise ValueError("--seeds and --epochs must be >= 1")
        seeds, epochs = options.seeds, options.epochs
        window = {"path": "mapping.w_max", "value": 0.3}
        cells = paths.replace(families()["soft"].chip, **window)
        memory = paths.replace(pcm(), **window)
        recipe = Recipe(epochs=epochs, lr=0.1)
        base = Sweep("", Digits(), MLP(), recipe, cells, PULSES, (), seeds)
        written = replace(base, chip=memory, mode=None)
        hour = replace(written, after=3600.0)
        return [
            (p, replace(hour if p.key == "drift exponent" else written if p.written else base,
                        name=p.key, axes=(p.axis, p.size) if p.size else (p.axis,)))
            for p in PROPERTIES
            if not options.only or p.key in options.only
        ]  # fmt: skip

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return list(dict.fromkeys(run for _, sweep in self.sweeps(options) for run in sweep.runs()))

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        sweeps = self.sweeps(options)
        rows, checks = [], []
        for one, sweep in sweeps:
            digital, found = scores(sweep, store)
            first, *_, last = found.values()
            told = "; ".join(
                f"{size}{in_words(specification(part, store))}" for size, part in _by_size(sweep)
            )
            how = "written" if one.written else "in place"
            worst = signed(paired(digital, last))
            titles = " × ".join(a.title for a in sweep.axes)
            rows.append([one.key, how, titles, told, worst])
            if one.axis.numbers is not None:
                checks.append(_monotone(one, first, last))
        table = Table(
            ["Property", "chip", "varied", "more than 1 point lost at", "last value [points]"],
            rows,
            "Specification with its 95 % interval over seeds; the loss at the last value tried "
            "(of two fields, of both).",
        )
        held_by = {w: _held([s for one, s in sweeps if one.written == w])
                   for w in dict.fromkeys(one.written for one, _ in sweeps)}  # fmt: skip
        return Report(
            title="What each property costs",
            subtitle="One property of device or periphery at a time, against digital training",
            summary=[
                "A network that learns in place on cells with soft bounds, and one that is trained "
                "digitally and written onto phase-change cells; the rate is .1 throughout, so that "
                "a value that wants another rate is shown as worse than it need be."
            ],
            table=table,
            checks=checks,
            held=next(iter(held_by.values())),
            sections=[
                Section("Specifications", [], [table]),
                *(section(sweep, store, one.about) for one, sweep in sweeps),
                *(Section(f"Held, {'written' if w else 'in place'}", [], [t])
                  for w, t in held_by.items()),
            ],
        )  # fmt: skip


def _held(sweeps: list[Sweep]) -> Table:
    """What all of them hold, and all that they vary."""
    table = held(sweeps[0])
    titles = ", ".join(" × ".join(a.title for a in sweep.axes) for sweep in sweeps)
    return replace(table, rows=[["Varied", f"one at a time: {titles}"], *table.rows[1:]])


def _by_size(sweep: Sweep) -> list[tuple[str, Sweep]]:
    """The sweep itself; of two axes, its first one for each value of the second."""
    if len(sweep.axes) == 1:
        return [("", sweep)]
    first, size = sweep.axes
    (field,) = size.fields
    return [
        (f"{name}: ", replace(sweep, axes=(first,), chip=paths.replace(sweep.chip, field, value)))
        for name, (value,) in zip(size.names, size.values, strict=True)
    ]


def _monotone(one: Property, first: list[float], last: list[float]) -> Check:
    gap = paired(first, last)
    return Check(
        f"{one.key}: the worst value is no better than the mildest",
        "the interval of the difference is not above 0",
        f"{signed(gap)} points, mildest {estimate(first).mean:.1f} %",
        None if gap.n == 1 else not gap.low > 0,
    )
