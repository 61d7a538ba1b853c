"""Linear equations on 4-bit cells: for which matrices does an array save iterations?

Varied: the condition number of A = I + α G/√n, one or two slices a weight. Measured: iterations of
refinement and of flexible GMRES, eight array products a correction, to a residual of 1e-10, beside
GMRES that has no array; the spectral radius of I − A Ã⁻¹. Convergence where that radius is well
above 1, or an answer that does not hold in float64, would prove the solver wrong.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.plots import Line, Panel, panels
from experiments.lab.report import Check, Picture, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.solver.runs import MOST, Solved

ALPHAS = (0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96)
WAYS = ("refinement", "gmres")


class Solver(Study):
    """Iterations against the condition number."""

    name = "solver"
    help = "linear equations on arrays: iterations against the condition number"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("--size", type=int, default=512, help="default: %(default)s")
        parser.add_argument(
            "--noise", type=float, default=0.01, help="read noise over the window (%(default)s)"
        )

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        if options.size < 2 or options.noise < 0:
            raise ValueError("--size must be >= 2 and --noise >= 0")
        return [
            Solved(options.size, alpha, slices, options.noise, 8)
            for slices in (1, 2)
            for alpha in ALPHAS
        ]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        rows = {run: store[run] for run in self.runs(options) if isinstance(run, Solved)}
        lines, table = [], []
        for slices in (1, 2):
            own = [row for run, row in rows.items() if run.slices == slices]
            for way in WAYS:
                ended = [row for row in own if row.metrics[f"{way} ends"]]
                kappa = [row.metrics["condition"] for row in ended]
                count = [row.metrics[way] for row in ended]
                name = f"{way}, {slices} slice{'s' * (slices > 1)}"
                lines.append(Line(name, kappa, count, dashed=slices == 1))
            if slices == 2:
                kappa = [row.metrics["condition"] for row in own]
                lines.append(Line("GMRES, no array", kappa, [r.metrics["no array"] for r in own]))
        for run, row in rows.items():
            found = [
                f"{row.metrics[way]:.0f}" if row.metrics[f"{way} ends"] else "—" for way in WAYS
            ]
            table.append(
                [
                    f"{run.slices} × 4 bits",
                    f"{row.metrics['condition']:.1f}",
                    f"{row.metrics['radius']:.2f}",
                    *found,
                    f"{row.metrics['no array']:.0f}",
                ]
            )
        headers = ["Cells", "Condition", "Radius", "Refinement", "GMRES", "GMRES, no array"]
        shown = Table(
            headers, table, f"Iterations to 1e-10; — where {MOST} did not do or it ended."
        )
        easy = [row for run, row in rows.items() if run.slices == 2 and run.alpha <= 0.5]
        hopeless = [row for row in rows.values() if row.metrics["radius"] > 1.5]
        figure = panels(
            [Panel("Iterations to 1e-10", "condition number", "iterations", lines, log_x=True)],
            columns=1,
        )
        return Report(
            title="Equations",
            subtitle="What an array of 4-bit cells saves a solver",
            summary=[
                f"{options.size} × {options.size}, A = I + α G/√n; write error 0.3 %, read noise "
                f"{options.noise:.1%} of the window, 8-bit converters."
            ],
            table=shown,
            checks=[
                Check(
                    "Two slices solve what is well conditioned",
                    "both ways end at 1e-10 up to α = 0.5",
                    f"{sum(r.metrics[f'{w} ends'] > 0 for r in easy for w in WAYS)} "
                    f"of {2 * len(easy)}",
                    all(row.metrics[f"{way} ends"] for row in easy for way in WAYS),
                ),
                Check(
                    "Refinement does not end where the array is too far from its matrix",
                    "never where the radius is above 1.5",
                    f"{sum(row.metrics['refinement ends'] > 0 for row in hopeless):.0f} "
                    f"of {len(hopeless)}",
                    not any(row.metrics["refinement ends"] for row in hopeless)
                    if hopeless
                    else None,
                ),
            ],
            sections=[
                Section(
                    "Iterations",
                    items=[
                        Picture("iterations", figure, "Points that are left out did not end."),
                        shown,
                    ],
                )
            ],
        )
