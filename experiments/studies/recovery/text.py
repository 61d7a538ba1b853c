"""Python's own documentation strings, as characters."""

from __future__ import annotations

import ast
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from experiments.lab.run import Settings

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))


@dataclass(frozen=True)
class Docstrings(Settings):
    """Those of the modules at the top of the standard library, of which every tenth is held out."""

    def files(self) -> tuple[Path, ...]:
        """The modules, of the Python that runs."""
        return tuple(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))

    def load(self) -> tuple[Tensor, Tensor]:
        """Training and test text, as places in CHARACTERS; others become blanks."""
        return _read(self)


@cache
def _read(docstrings: Docstrings) -> tuple[Tensor, Tensor]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    said: dict[str, None] = {}  # once, whoever repeats it
    for path in docstrings.files():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, kinds):
                said[ast.get_docstring(node) or ""] = None
    texts = list(said)
    place = {c: k for k, c in enumerate(CHARACTERS)}
    train, test = (
        torch.tensor([place.get(c, place[" "]) for c in "\n".join(part)])
        for part in ([t for k, t in enumerate(texts) if k % 10], texts[::10])
    )
    return train, test
