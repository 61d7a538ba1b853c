"""A sweep of one's own in a TOML file (docs/sweeps.md): grid, ranges, random and paired values.

Varied: what the file says, everything else alike. Measured: accuracy against the same network
trained digitally with the same seeds. What would prove it wrong is the reader's to say.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from experiments.lab.report import Report
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.tasks.declared import declared
from experiments.tasks.swept import held, section


class DeclaredSweep(Study):
    """The axes of a file."""

    name = "sweep"
    help = "vary any fields of a chip as a TOML file declares it"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        parser.add_argument("file", type=Path, help="the sweep, see docs/sweeps.md")

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return declared(options.file).runs()

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        sweep = declared(options.file)
        found = section(sweep, store)
        return Report(
            title=sweep.name,
            subtitle=f"{len(sweep.points())} points, {sweep.seeds} seeds",
            summary=list(found.text),
            table=found.items[-1],
            held=held(sweep),
            sections=[found],
        )

    def folder(self, options: Namespace) -> str:  # noqa: D102
        return f"{self.name}-{options.file.stem}"
