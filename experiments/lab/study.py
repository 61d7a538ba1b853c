"""What every study is: a question with its runs, and the report that answers it.

A study's own kind of run belongs in a module apart from the study where that draws figures: what a
run's module imports is what its stored results depend on.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from experiments.lab.report import Report, Section, Table
from experiments.lab.run import Row, Run, key
from experiments.lab.store import Store


class Study(ABC):
    """Subclassed once in a study's file; its name is its subcommand."""

    name: ClassVar[str]
    help: ClassVar[str]
    least: ClassVar[dict[str, int]] = {"seeds": 2}
    """Options and the smallest values with which the claims of the report are decided."""

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: B027
        """Declare the study's own options."""

    @abstractmethod
    def runs(self, options: Namespace) -> list[Run]:
        """Everything that is to be computed; raises ValueError for options that make no sense."""

    def more(self, options: Namespace, store: Store) -> list[Run]:
        """What is to be computed next, seeing what is stored: asked again until it is nothing.

        A search that looks at results says its next runs here; they must follow from what is
        stored alone, so that a search which was stopped goes on as it would have.
        """
        return []

    def report(self, options: Namespace, store: Store) -> Report:
        """The answer, from stored runs only; a table of all metrics unless a study says more."""
        return listed(self.name, self.runs(options), store)

    def folder(self, options: Namespace) -> str:
        """Name of the folder of its report, inside the folder of results."""
        return self.name

    def too_small(self, options: Namespace) -> str:
        """Why these options decide no claim, in words; empty where they do."""
        few = [
            f"{getattr(options, name)} {name}, {least} decide"
            for name, least in self.least.items()
            if (getattr(options, name, None) or least) < least
        ]
        return "; ".join(few)


def studies() -> dict[str, Study]:
    """Every study by name: `study.py` of each folder in `experiments.studies`, or one file."""
    package = importlib.import_module("experiments.studies")
    found: dict[str, Study] = {}
    for folder in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = f"{folder.name}.study" if folder.ispkg else folder.name
        study = _study_of(importlib.import_module(name))
        found[study.name] = study
    return dict(sorted(found.items()))


def study_of(path: Path) -> Study:
    """The study of a file of one's own; its folder is where it imports from.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that does not define exactly one study, or cannot be imported.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.stem.isidentifier():
        raise ValueError(f"{path.name}: a study's file needs a name that Python can import")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module = importlib.import_module(path.stem)
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    if Path(module.__file__ or "").resolve() != path.resolve():
        raise ValueError(f"{path.name}: {path.stem} is the name of another module already")
    return _study_of(module)


def _study_of(module: ModuleType) -> Study:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Study)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ValueError(f"{module.__file__} must define one subclass of Study, found {len(found)}")
    return found[0]()


def listed(title: str, runs: Iterable[Run], store: Store) -> Report:
    """What is stored of some runs: a row each with all its metrics, and what is missing."""
    rows: list[tuple[Run, Row]] = []
    missing = []
    for run in dict.fromkeys(runs):
        if run in store:
            rows.append((run, store[run]))
        else:
            missing.append(run.label())
    names = list(dict.fromkeys(name for _, row in rows for name in row.metrics))
    cells = [
        [run.label(), *(f"{row.metrics[n]:.4g}" if n in row.metrics else "" for n in names)]
        for run, row in rows
    ]
    table = Table(["Run", *names], cells, "All metrics of every stored run.")
    said = f"{len(rows)} of {len(rows) + len(missing)} runs are stored."
    failures = [(label, error.strip().splitlines()[-1]) for _, label, error in store.failures()]
    lists = [
        Section(f"Missing ({len(missing)})", ["; ".join(missing)] if missing else []),
        Section("Failed", [f"{label}: `{error}`" for label, error in failures]),
    ]
    return Report(
        title=title,
        subtitle="" if not missing else "Incomplete: " + said,
        summary=[said],
        table=table,
        sections=[Section("Runs", [], [table]), *(s for s in lists if s.text)],
    )


def provenance(runs: Iterable[Run], store: Store, command: str) -> dict[str, str]:
    """How to get the same numbers again: command, runs, computing time, versions, machine."""
    rows: dict[str, Row] = {}
    waiting = list(runs)
    while waiting:
        run = waiting.pop()
        name = key(run)
        if name not in rows and store.has(name):
            rows[name] = store[run]
            waiting += run.needs()
    facts: dict[str, set[str]] = {}
    for row in rows.values():
        for name, value in row.environment.items():
            facts.setdefault(name, set()).add(value)
    told = {name: " and ".join(sorted(values)) for name, values in facts.items()}
    return {
        "Command": f"`{command}`",
        "Stored runs": f"{len(rows)}, those included that others rest on",
        "Computing time": f"{sum(r.seconds for r in rows.values()) / 60:.1f} core minutes",
        "Finished": max((row.finished for row in rows.values()), default="never"),
        "Machine": ", ".join(told.pop(n, "") for n in ("host", "processor")),
        "Commit": told.pop("commit", "unknown"),
        "Versions": ", ".join(f"{name} {version}" for name, version in told.items()),
    }
