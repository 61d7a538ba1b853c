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

from experiments.lab.report import Report
from experiments.lab.run import Row, Run
from experiments.lab.store import Store


class Study(ABC):
    """Subclassed once in a study's file; its name is its subcommand."""

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
    """Every study by name: `study.py` of each folder in `experiments.studies`, or one file."""
    package = importlib.import_module("experiments.studies")
    found: dict[str, Study] = {}
    for folder in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = f"{folder.name}.study" if folder.ispkg else folder.name
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and issubclass(value, Study) and value.__module__ == name:
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
