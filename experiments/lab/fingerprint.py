"""Fingerprints of source code: what a stored result depends on beside its settings."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path

_OURS = ("crossbar", "devices", "experiments")


@cache
def fingerprint(modules: tuple[str, ...]) -> str:
    """Hash of the source of these modules and of all of ours that they import.

    Comments, docstrings and layout do not count.
    """
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
