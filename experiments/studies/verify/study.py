"""Published figures beside ours: one table, each row with its criterion, failures left in it.

Nothing is varied or trained: energies, times and areas that follow from published counts and
constants. A row that is red is one where this emulator and the publication differ by more than the
tolerance that was written down before.
"""

from __future__ import annotations

from argparse import Namespace

from experiments.lab.report import Check, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.tasks.published import Row, rows


class Verify(Study):
    """The table; `table.csv` beside the report is the same for machines."""

    name = "verify"
    help = "published figures beside ours: source, setting, published, ours, verdict"

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return []

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        found = rows()
        told = ["source", "setting", "unit", "published", "ours", "tolerance", "verdict", "reason"]
        table = Table(told, [_cells(row) for row in found], prose=True)
        count = {v: sum(row.verdict == v for row in found) for v in ("green", "red", "shown")}
        said = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
        return Report(
            title="Published figures",
            subtitle=f"{len(found)} rows: {said}",
            summary=[
                f"Of {len(found)} published figures {count['green']} are met within the tolerance "
                f"that was written down before, {count['red']} are not; {count['shown']} are shown "
                "where nothing is claimed."
            ],
            table=table,
            checks=[
                Check(
                    f"{row.source}, {row.setting}",
                    f"{row.published:g} {row.unit}" if row.published is not None else "stated",
                    "not computed" if row.ours is None else f"{row.ours:.4g} {row.unit}",
                    row.verdict == "green",
                )
                for row in found
                if row.verdict != "shown"
            ],
            sections=[Section("All rows", [], [table])],
        )


def _cells(row: Row) -> list[str]:
    numbers = ["" if n is None else f"{n:.5g}" for n in (row.published, row.ours, row.tolerance)]
    return [row.source, row.setting, row.unit, *numbers, row.verdict, row.reason]
