"""What a study declares: runs, each a frozen dataclass that says all about one computation.

The settings are the run: its `repr` is what the store keeps, and together with the code that
computes it, its key. Two studies that declare the same run share its result.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from experiments.store import Store

_OURS = ("crossbar", "devices", "experiments")


@dataclass(frozen=True)
class Outcome:
    """What a run found: numbers, lists of numbers, and a trained network where it made one."""

    metrics: dict[str, float]
    curves: dict[str, list[float]]
    network: dict[str, Tensor] | None = None


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
    def execute(self, store: Store) -> Outcome:
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
    return _fingerprint(tuple(sorted({type(value).__module__ for value in _parts(run)})))


def _parts(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)


@cache
def _fingerprint(modules: tuple[str, ...]) -> str:
    seen: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in seen or path is None:
            continue
        seen[name], imported = _read(path)
        waiting += imported
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(seen.values()):
        digest.update(name.encode())
    return digest.hexdigest()


def _source(module: str) -> Path | None:
    known = sys.modules.get(module)
    origin = getattr(known, "__file__", None)
    if origin is None:
        spec = importlib.util.find_spec(module)
        origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of a source file without its docstrings, and the modules of ours that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()
    digest = hashlib.blake2b(ast.dump(tree).encode(), digest_size=12).hexdigest()
    ours = sorted(n for n in imported if n.split(".")[0] in _OURS and _is_module(n))
    return digest, tuple(ours)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_module(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent is a module, so the name is something inside it
        return False
