"""What a study declares: runs, each a frozen dataclass that says all about one computation.

The settings are the run: its `repr` is what the store keeps, and together with the code that
computes it, its key. Two studies that declare the same run share its result.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.lab.fingerprint import fingerprint


@dataclass(frozen=True)
class Outcome:
    """What a run found: numbers, lists of numbers, and a trained network where it made one."""

    metrics: dict[str, float]
    curves: dict[str, list[float]]
    network: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Row:
    """One stored result."""

    key: str
    study: str
    kind: str
    settings: str
    metrics: dict[str, float]
    curves: dict[str, list[float]]
    network: bool
    seconds: float
    finished: str
    versions: dict[str, str]


class Stored(Protocol):
    """What a run may read: the results of the runs that it needs."""

    def __getitem__(self, run: Run, /) -> Row:
        """The result of a run."""

    def network(self, run: Run, /) -> dict[str, Tensor]:
        """The state of the network that a run trained."""


class Run(ABC):
    """One computation of a study; subclass as a frozen dataclass whose fields are its settings."""

    def needs(self) -> tuple[Run, ...]:
        """Runs whose results must be stored before this one starts."""
        return ()

    def cost(self) -> float:
        """A guess of the seconds it takes, for the order of work and the time left."""
        return 1.0

    @abstractmethod
    def label(self) -> str:
        """A few words for the progress line."""

    @abstractmethod
    def execute(self, store: Stored) -> Outcome:
        """Compute; the results of `needs()` are in the store."""


def key(run: Run) -> str:
    """Name of a run's result: a hash of its settings and of the code that computes it."""
    text = f"{repr(run)}\n{code_of(run)}\n{torch.__version__}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def code_of(run: Run) -> str:
    """Fingerprint of all code behind a run: its own module, those of its settings, their imports.

    Comments, docstrings and layout do not count; plots and reports do not either, since no run
    imports them.
    """
    return fingerprint(tuple(sorted({type(value).__module__ for value in _parts(run)})))


def _parts(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
