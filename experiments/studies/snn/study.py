"""Spiking networks on arrays: what do more time steps repair, and what not?

Varied: errors of writing and noise of reading, time steps, networks trained by surrogate gradients
or converted from ReLUs. Measured: accuracy on digits against T, the error of time-mean currents
beside σ√(Σx²)/√T. Static errors that shrink with T, or read noise that does not, would prove it
wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from statistics import fmean

from experiments.lab.plots import Line, Panel, band, panels
from experiments.lab.quick import quick
from experiments.lab.rasters import membranes, raster
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.snn.runs import TIMES, Currents, OnChip, Shown, Trained

SIGMAS = (0.2, 0.5)
CHIPS = ((0.0, 0.0), (0.05, 0.0), (0.2, 0.0), (0.0, 0.1), (0.0, 0.2), (0.0, 0.5))


class Snn(Study):
    """Accuracy against time steps."""

    name = "snn"
    help = "spiking networks on arrays: time steps against static errors and read noise"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
        parser.add_argument("--epochs", type=int, default=25, help="default: %(default)s")
        quick(parser, seeds=1, epochs=3)

    def _nets(self, options: Namespace, converted: bool) -> list[Trained]:
        return [Trained(converted, seed, options.epochs) for seed in range(options.seeds)]

    def _currents(self) -> list[Currents]:
        return [Currents(sigma, static) for sigma in SIGMAS for static in (False, True)]

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.seeds < 1 or options.epochs < 1:
            raise ValueError("--seeds and --epochs must be >= 1")
        made: list[Run] = [*self._currents()]
        for converted in (False, True):
            nets = self._nets(options, converted)
            made += nets
            made += [OnChip(net, *errors) for net in nets for errors in CHIPS]
        return [*made, Shown(self._nets(options, False)[0])]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        rows = {run: store[run] for run in self.runs(options)}

        def name(write: float, read: float) -> str:
            return f"write {write:.0%}" if write else f"read {read:.0%}" if read else "ideal"

        times, items, table, means = [float(t) for t in TIMES], [], [], {}
        for converted in (False, True):
            nets = self._nets(options, converted)
            lines = []
            best = fmean(rows[net].metrics["accuracy"] for net in nets)
            for errors in CHIPS:
                found = [rows[OnChip(net, *errors)].curves["accuracy"] for net in nets]
                lines.append(band(name(*errors), times, found))
                mean = [fmean(column) for column in zip(*found, strict=True)]
                means[converted, errors] = mean[TIMES.index(16)]
                kind = "converted" if converted else "surrogate"
                table.append([kind, name(*errors), *(f"{a:.3f}" for a in mean)])
            means[converted, None] = best
            title = "Converted from ReLUs" if converted else "Surrogate gradients"
            items.append(
                Panel(title, "time steps", "accuracy", lines, log_x=True, level=(best, "float"))
            )
        steps = [float(t) for t in Currents(0.2, True).steps]
        lines = []
        for run in self._currents():
            kind = "static" if run.static else "read"
            lines.append(Line(f"{kind} {run.sigma:.0%}", steps, rows[run].curves["error"]))
            if not run.static:
                law = [rows[run].metrics["law"] / t**0.5 for t in steps]
                lines.append(Line("1/√T", steps, law, dashed=True, marker=False, colour="grey"))
        currents = Panel("Time-mean current", "time steps", "error", lines, log_x=True)
        shown = Table(
            ["Network", "Cells", *(f"T = {t}" for t in TIMES)],
            table,
            f"Mean accuracy of {options.seeds} seeds; errors relative to the window of a cell.",
        )
        one = rows[Shown(self._nets(options, False)[0])]
        ratio = max(
            abs(error / (rows[run].metrics["law"] / t**0.5) - 1)
            for run in self._currents()
            if not run.static
            for t, error in zip(steps, rows[run].curves["error"], strict=True)
        )
        flat = max(
            max(c) / min(c) - 1
            for c in (rows[run].curves["error"] for run in self._currents() if run.static)
        )
        gap = means[True, None] - means[True, (0.0, 0.0)]
        lost = means[False, None] - means[False, (0.05, 0.0)]
        enough = options.seeds >= 5 and options.epochs >= 25
        metrics = Table(
            ["Per digit, T = 16 (modelled)", "Count"],
            [
                ["Dense synaptic operations", f"{one.metrics['dense']:.0f}"],
                ["Effective multiplications", f"{one.metrics['multiplies']:.0f}"],
                ["Effective accumulations", f"{one.metrics['accumulates']:.0f}"],
                ["Silent neuron steps", f"{one.metrics['silent']:.1%}"],
                ["Footprint [bytes]", f"{one.metrics['bytes']:.0f}"],
            ],
            "NeuroBench's metrics, counted on the emulation.",
        )
        v = {f"neuron {k}": one.curves[f"v{k}"] for k in range(2)}
        clock = [float(k) for k in range(len(one.curves["v0"]))]
        return Report(
            title="Time steps",
            subtitle="What they repair in spiking networks on arrays",
            summary=[
                f"Surrogate gradients: {means[False, None]:.1%} in float at T = 16, "
                f"{means[False, (0.05, 0.0)]:.1%} with 5 % write error. Converted: "
                f"{means[True, None]:.1%} as ReLUs, {means[True, (0.0, 0.0)]:.1%} at T = 16."
            ],
            table=shown,
            checks=[
                Check("Read noise averages as 1/√T", "within 15 %", f"{ratio:.1%}", ratio < 0.15),
                Check("Static errors do not", "within 0.1 %", f"{flat:.2%}", flat < 1e-3),
                Check(
                    "Surrogate net with 5 % write error",
                    "2 points at most",
                    f"{100 * lost:.1f}",
                    lost <= 0.02 if enough else None,
                ),
                Check(
                    "Conversion at T = 16",
                    "1 point at most",
                    f"{100 * gap:.1f}",
                    gap <= 0.01 if enough else None,
                ),
            ],
            sections=[
                Section(
                    "Time steps",
                    items=[
                        Picture("accuracy", panels(items), "Bands: all seeds."),
                        Picture(
                            "currents",
                            panels([currents], columns=1),
                            "Error of a layer's outputs, averaged over time, of ten chips.",
                        ),
                        shown,
                    ],
                ),
                Section(
                    "One digit",
                    items=[
                        Picture(
                            "raster",
                            raster(one.curves["times"], one.curves["neurons"], xlabel="time step"),
                            "Spikes of the hidden layer.",
                        ),
                        Picture(
                            "membranes",
                            membranes(clock, v, threshold=1.0, xlabel="time step"),
                            "The two that spike most.",
                        ),
                        metrics,
                    ],
                ),
            ],
        )
