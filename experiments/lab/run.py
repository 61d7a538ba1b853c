"""What a study declares: runs, each a frozen dataclass that says all about one computation.

The settings are the run: its `repr` is what the store keeps, and together with the code that
computes it and the files it reads, its key. Two studies that declare the same run share its result.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.lab.fingerprint import COUNTED, fingerprint, version


@dataclass(frozen=True)
class Outcome:
    """What a run found: numbers, lists of numbers, and a trained network where it made one.

    Numbers of numpy and of tensors with one element are taken as such.
    """

    metrics: dict[str, float]
    curves: dict[str, list[float]]
    network: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        metrics = {name: _number(name, value) for name, value in self.metrics.items()}
        curves = {}
        for name, values in self.curves.items():
            if not isinstance(values, Iterable):
                raise TypeError(f"{name!r} must be a list of numbers, got {values!r}")
            curves[name] = [_number(name, value) for value in values]
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "curves", curves)


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name!r} must be a number, got {value!r}") from None


@dataclass(frozen=True)
class Row:
    """One stored result."""

    key: str
    study: str
    kind: str
    label: str
    settings: str
    metrics: dict[str, float]
    curves: dict[str, list[float]]
    network: bool
    seconds: float
    finished: str
    environment: dict[str, str]


class Watch:
    """What a long run tells while it goes on; this one listens to nothing and keeps nothing."""

    def resume(self) -> dict[str, Any] | None:
        """The state that was last kept of this very run, if it was interrupted."""
        return None

    def epoch(self, done: int, of: int, found: dict[str, float], state: Callable[[], Any]) -> None:
        """So many epochs are over; `state` gives all that is needed to go on from here."""


class Stored(ABC):
    """What a run may read: the results of the runs that it needs."""

    @abstractmethod
    def __getitem__(self, run: Run) -> Row:
        """The result of a run; raises KeyError where there is none."""

    @abstractmethod
    def network(self, run: Run) -> dict[str, Tensor]:
        """The state of the network that a run trained."""

    def watch(self, run: Run) -> Watch:
        """Who is told of the epochs of a run."""
        return Watch()


class Settings(ABC):
    """Settings that stand for files: what these hold is part of the key."""

    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """The files that are read."""


class Run(ABC):
    """One computation of a study; subclass as a frozen dataclass whose fields are its settings."""

    def needs(self) -> tuple[Run, ...]:
        """Runs whose results must be stored before this one starts."""
        return ()

    def cost(self) -> float:
        """A guess of the seconds it takes, for the order of work and the time left."""
        return 1.0

    def disk(self) -> float:
        """A guess of the bytes that its result takes."""
        return 2e3

    @abstractmethod
    def label(self) -> str:
        """A few words for the progress line."""

    @abstractmethod
    def execute(self, store: Stored) -> Outcome:
        """Compute; the results of `needs()` are in the store."""


def key(run: Run) -> str:
    """Name of a run's result: a hash of its settings, its files and the code that computes it."""
    settings = repr(run)
    if " at 0x" in settings:
        raise ValueError(f"settings must have a repr that evaluates back to them, got {settings}")
    versions = " ".join(version(package) for package in COUNTED)
    contents = " ".join(_digest(*_stamp(path)) for path in _files(run))
    text = f"{settings}\n{code_of(run)}\n{versions}\n{contents}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def code_of(run: Run) -> str:
    """Fingerprint of all code behind a run: its own module, those of its settings, their imports.

    Plots and reports do not count, since no run imports them.
    """
    return fingerprint(modules_of(run))


def modules_of(run: Run) -> tuple[str, ...]:
    """The modules that define a run and its settings."""
    return tuple(sorted({type(value).__module__ for value in _parts(run)}))


def _parts(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts(item)


def _files(run: Run) -> Iterator[Path]:
    for value in _parts(run):
        if isinstance(value, Settings):
            yield from value.files()


def _stamp(path: Path) -> tuple[Path, int, int]:
    facts = path.stat()
    return path, facts.st_size, facts.st_mtime_ns


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
