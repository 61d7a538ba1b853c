"""Published energies, times and areas beside ours: single figures and whole tables."""

from experiments.tasks.published.rows import Kind as Kind
from experiments.tasks.published.rows import Row as Row
from experiments.tasks.published.rows import Summary as Summary
from experiments.tasks.published.rows import summary as summary
from experiments.tasks.published.tables import tables as tables
from experiments.tasks.published.targets import targets as targets


def rows() -> list[Row]:
    """Every row: the targets, then the tables."""
    return [*targets(), *tables()]
