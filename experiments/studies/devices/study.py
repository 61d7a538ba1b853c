"""Every preset on one page: what does each published device do under pulses, reads and time?

Varied: the preset. Measured: the response to alternating sweeps, the step against the conductance,
write error and read noise, retention; and for the laws the error of many pulses given at once. A
curve that contradicts the one its docstring announces, or an error beyond a tenth of a step, would
prove the library wrong.
"""

from __future__ import annotations

import inspect
from argparse import ArgumentParser, Namespace

from devices import (
    ExpStep,
    NeuroSim,
    PiecewiseStep,
    PowStep,
    QuerliozStep,
    SoftBounds,
    presets,
)
from experiments.lab.plots import COLOURS, Line, Panel, panels
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Row, Store
from experiments.lab.study import Study
from experiments.studies.devices.runs import ManyPulses, PresetCurves

STEP, NOISE = 0.5e-6, 0.3
LAWS = {
    "soft bounds": SoftBounds(STEP, sigma_c2c=NOISE),
    "NeuroSim 2.4/−4.88": NeuroSim(97, 100, 2.4, -4.88, sigma_c2c=0.005),
    "exponential": ExpStep(STEP, sigma_c2c=NOISE),
    "power 2": PowStep(STEP, sigma_c2c=NOISE, gamma_up=2.0, gamma_down=2.0),
    "Querlioz": QuerliozStep(STEP, sigma_c2c=NOISE),
    "tabulated": PiecewiseStep(STEP, sigma_c2c=NOISE, up=(1.8, 1.0, 0.2), down=(0.2, 1.0, 1.8)),
}
FAMILIES = {
    "basic": "Ideal",
    "training": "Fitted for in-situ training",
    "neurosim": "NeuroSim's benchmark devices",
    "inference": "Programmed for inference",
    "spiking": "Spiking and dynamical experiments",
}


class Devices(Study):
    """The page of presets."""

    name = "devices"
    help = "draw every preset: pulses, steps, noise, retention"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument(
            "--preset", choices=sorted(_functions()), action="append", help="only this preset"
        )

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        curves = [PresetCurves(name) for name in options.preset or _functions()]
        if options.preset:
            return list(curves)
        return [*curves, *(ManyPulses(name, law) for name, law in LAWS.items())]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        rows = {run: store[run] for run in self.runs(options)}
        curves = {run.preset: row for run, row in rows.items() if isinstance(run, PresetCurves)}
        many = {run.name: row for run, row in rows.items() if isinstance(run, ManyPulses)}
        sections = []
        for module, title in FAMILIES.items():
            own = [n for n in curves if _functions()[n].__module__.rsplit(".", 1)[-1] == module]
            for name in own:
                head = title if name == own[0] else ""
                sections.append(_section(name, curves[name], head))
        worst = {name: _worst(row) for name, row in many.items()}
        table = _table(curves)
        return Report(
            title="The device library",
            subtitle="Published cells as they behave in this emulator",
            summary=[
                "Conductances, steps and noise are parts of each device's window g_max − g_min. "
                "Sweeps show the median of 200 cells with the central 80 % around it, as reads see "
                "them. Constants, sources and what could not be confirmed are in the text beside "
                "each figure."
            ],
            table=table,
            checks=[
                Check(
                    f"{name}: pulses at once are the same pulses one by one",
                    "mean within a tenth of a step, std within 10 %, beyond 4 standard errors",
                    f"mean off by {mean:.3f} steps, std by {std:.1%} at worst",
                    holds,
                )
                for name, (mean, std, holds) in worst.items()
            ],
            sections=[
                Section("All at a glance", items=[table]),
                *([_many_section(many)] if many else []),
                *sections,
            ],
        )


def _functions() -> dict[str, object]:
    return {n: f for n, f in vars(presets).items() if inspect.isfunction(f)}


def _siemens(g: float) -> str:
    for scale, unit in ((1e-3, "mS"), (1e-6, "µS"), (1e-9, "nS")):
        if g >= scale:
            return f"{g / scale:.3g} {unit}"
    return f"{g:g} S"


def _table(curves: dict[str, Row]) -> Table:
    rows = []
    for name, row in curves.items():
        low, high = row.metrics["g_min"], row.metrics["g_max"]
        c = row.curves
        steps = f"{c['up'][10]:.2%} / {-c['down'][10]:.2%}" if "up" in c else "write-only"
        read = f"{c['second'][10]:.2%}" if "second" in c else "—"
        write = f"{c['write'][10]:.2%}" if "write" in c else "exact"
        day = f"{c['half'][5] - 0.5:+.1%}" if "half" in c else "—"
        states = f"{row.metrics['states']:.0f}" if "states" in row.metrics else "—"
        ratio = f"{high / low:.3g}" if low else "∞"
        window = f"{_siemens(low)} … {_siemens(high)}"
        rows.append([name, window, ratio, states, steps, write, read, day])
    headers = ["Preset", "Window", "On/off", "States", "Step up/down", "Write", "Read", "A day"]
    return Table(
        headers,
        rows,
        "Steps, write error, read noise (one second after writing) and the shift in a day at "
        "mid-window, in parts of the window.",
    )


def _section(name: str, row: Row, family: str) -> Section:
    c = row.curves
    blue, red, green, yellow, violet, sky, brown, grey = COLOURS
    shown = []
    if "pulse" in c:
        band = Line("median", c["pulse"], c["median"], c["low"], c["high"], blue)
        one = Line("one cell", c["pulse"], c["one"], colour=sky, dashed=True)
        shown.append(Panel("Alternating sweeps", "pulses", "conductance", [band, one]))
        steps = [Line("up", c["at"], c["up"], colour=green)]
        steps.append(Line("down", c["at"], c["down"], colour=red))
        shown.append(Panel("Mean change of one pulse", "conductance", "step", steps))
    names = {
        "write": ("write error", brown),
        "second": ("read noise at 1 s", yellow),
        "day": ("read noise at a day", violet),
    }
    noise = [Line(t, c["g"], c[key], colour=k) for key, (t, k) in names.items() if key in c]
    if noise:
        top = 1.15 * max(max(line.y) for line in noise)
        shown.append(Panel("Noise", "conductance", "std", noise, ylim=(0, top or 1)))
    if "time" in c:
        starts = {
            "full": ("from the top", blue),
            "half": ("a half", grey),
            "quarter": ("a quarter", sky),
        }
        kept = [Line(text, c["time"], c[key], colour=k) for key, (text, k) in starts.items()]
        shown.append(Panel("Retention", "time since writing [s]", "conductance", kept, log_x=True))
    doc = inspect.getdoc(_functions()[name]) or ""
    words = [" ".join(p.split()) for p in doc.split("\n\n") if not p.lstrip().startswith("|")]
    facts = [line.strip("| ").split(" | ") for line in doc.splitlines() if line.startswith("| ")]
    items: list[Picture | Table] = []
    if len(facts) > 1:
        items.append(Table(facts[0], facts[1:], prose=True))
    if shown:
        items.append(Picture(name, panels(shown), words[0]))
    return Section(f"{family}: {name}" if family else name, words, items)


def _worst(row: Row) -> tuple[float, float, bool]:
    """Largest error of mean [steps] and std, and whether all are within their bounds."""
    c, mean, std, holds = row.curves, 0.0, 0.0, True
    for way in ("up", "down", "mixed"):
        for m, s, error in zip(c[f"{way} mean"], c[f"{way} std"], c[f"{way} error"], strict=True):
            mean, std = max(mean, m), max(std, s)
            holds = holds and m <= 0.1 + 4 * error and s <= 0.1 + 4 / 20000**0.5
    return mean, std, holds


def _many_section(many: dict[str, Row]) -> Section:
    ways = {"up": "Up only", "down": "Down only", "mixed": "As many up as down"}
    shown = []
    for way, title in ways.items():
        lines = [Line(n, r.curves["counts"], r.curves[f"{way} mean"]) for n, r in many.items()]
        shown.append(Panel(f"{title}: mean", "pulses at once", "error [steps]", lines, log_x=True))
    for way, title in ways.items():
        lines = [Line(n, r.curves["counts"], r.curves[f"{way} std"]) for n, r in many.items()]
        shown.append(Panel(f"{title}: spread", "pulses at once", "error", lines, log_x=True))
    caption = (
        "Error of pulses given in one call against the same pulses given singly, from mid-window "
        "with 30 % cycle noise: mean in nominal steps (1 % of the window), relative standard "
        "deviation. What is left is the sampling error of 20,000 cells and the approximations."
    )
    picture = Picture("many-pulses", panels(shown, columns=3), caption)
    text = (
        "The affine laws have a closed form for any number of pulses; the others follow their mean "
        "flow. Both must agree with single pulses."
    )
    return Section("Many pulses at once", [text], [picture])
