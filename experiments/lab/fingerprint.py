"""Fingerprints of source code: what a stored result depends on beside its settings.

Followed are the imports of all code that a person may edit: this project and modules of the
user's own, wherever they lie. Installed packages count by their version instead (`VERSIONS`).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_OURS = ("crossbar", "devices", "experiments")
_INSTALLED = tuple(
    Path(sysconfig.get_paths()[kind]).resolve()
    for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)

COUNTED = ("torch", "numpy", "scipy", "scikit-learn")
"""Packages whose version is part of a result's key."""


@cache
def version(package: str) -> str:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def fingerprint(modules: tuple[str, ...]) -> str:
    """Hash of the source of these modules and of all that they import and a person may edit.

    Comments, docstrings and layout do not count. Taken once a process: what is edited afterwards
    is not what runs.
    """
    digest = hashlib.blake2b(digest_size=12)
    for _, source in sorted(behind(modules).items()):
        digest.update(source.encode())
    return digest.hexdigest()


@cache
def behind(modules: tuple[str, ...]) -> dict[str, str]:
    """The same modules by name, each with the hash of its source."""
    known = _Known()
    seen: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        path = _source(name)
        if path is not None:
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            seen[name], imported = known.read(path, package)
            waiting += imported
    known.keep()
    return seen


class _Known:
    """What was read of sources before, by their bytes: parsing all of them takes seconds."""

    def __init__(self) -> None:
        reader = Path(__file__).read_bytes() + sys.version.encode()
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        name = f"sources-{hashlib.blake2b(reader, digest_size=6).hexdigest()}.json"
        self._path = Path(cache) / "analog-crossbar" / name
        self._new = False
        self._found: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self._found = json.loads(self._path.read_text())

    def read(self, path: Path, package: str) -> tuple[str, list[str]]:
        source = path.read_bytes()
        name = f"{package} {hashlib.blake2b(source, digest_size=12).hexdigest()}"
        if name not in self._found:
            self._found[name], self._new = _read(source, package), True
        digest, imported = self._found[name]
        return digest, imported

    def keep(self) -> None:
        if not self._new:
            return
        with contextlib.suppress(OSError):  # no place to keep it is no harm
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(self._found))
            draft.replace(self._path)


def _source(module: str) -> Path | None:
    """The file of a module that a person may edit; None for all others."""
    return _file(module) if _is_editable(module.split(".")[0]) else None


@cache
def _is_editable(package: str) -> bool:
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    homes = getattr(sys.modules.get(package), "__path__", None) or getattr(
        spec, "submodule_search_locations", None
    )
    path = _file(package) or next((Path(home).resolve() for home in homes or ()), None)
    # of this environment, of one that it rests on, or of the person's own for all of them
    installed = path and (
        any(path.is_relative_to(folder) for folder in _INSTALLED)
        or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    )
    return path is not None and (package in _OURS or not installed)


def _file(module: str) -> Path | None:
    known = sys.modules.get(module)
    origin = getattr(known, "__file__", None)
    if known is None:
        try:
            spec = importlib.util.find_spec(module)
        except Exception:  # the parent is no package, or not there, or refuses to be imported
            return None
        origin = spec.origin if spec else None
    return Path(origin).resolve() if origin and origin.endswith(".py") else None


def _read(source: bytes, package: str) -> tuple[str, list[str]]:
    """Hash of a source file without its docstrings, and the modules that it may import."""
    tree = ast.parse(source)
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(home if node.level else []), *([node.module or ""])]).strip(".")
            imported.add(base)
            imported.update(f"{base}.{alias.name}" for alias in node.names)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[:1] = [ast.Pass()] if len(body) == 1 else []
    digest = hashlib.blake2b(ast.dump(tree).encode(), digest_size=12).hexdigest()
    return digest, sorted(imported - {""})


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
