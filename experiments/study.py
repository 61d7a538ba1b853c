"""What every study is: a question with its runs, and the report that answers it.

A study's own kind of run belongs in a module apart from the study: worker processes import the
run's module alone, and what a run imports is what its stored results depend on.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import ClassVar

from experiments.report import Report
from experiments.run import Run
from experiments.store import Row, Store


class Study(ABC):
    """One file in `experiments.studies` with one final subclass; its name is its subcommand."""

    name: ClassVar[str]
    help: ClassVar[str]

    @abstractmethod
    def arguments(self, parser: ArgumentParser) -> None:
        """Declare the study's own options."""

    @abstractmethod
    def runs(self, options: Namespace) -> list[Run]:
        """Everything that is to be computed; raises ValueError for options that make no sense."""

    @abstractmethod
    def report(self, options: Namespace, store: Store) -> Report:
        """The answer, from stored runs only."""

    def folder(self, options: Namespace) -> str:
        """Name of the folder of its report, inside the folder of results."""
        return self.name


def studies() -> dict[str, Study]:
    """Every study by name, found by importing the modules of `experiments.studies`."""
    package = importlib.import_module("experiments.studies")
    found: dict[str, Study] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and issubclass(value, Study)
                and value.__module__ == module.name
            ):
                found[value.name] = value()
    return dict(sorted(found.items()))


def provenance(rows: Iterable[Row], command: str) -> dict[str, str]:
    """How to get the same numbers again: command, runs, computing time, package versions."""
    rows = list(rows)
    versions = rows[-1].versions if rows else {}
    return {
        "Command": f"`{command}`",
        "Stored runs": f"{len(rows)}",
        "Computing time": f"{sum(row.seconds for row in rows) / 60:.1f} core minutes",
        "Finished": max((row.finished for row in rows), default="never"),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
