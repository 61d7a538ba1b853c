"""What a run finds at its place of work: the results it needs, and a place to keep its state."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.lab.run import Row, Run, Stored, Watch

Tell = Callable[[int, int, dict[str, float]], None]
"""Told of every epoch: how many are done, of how many, what was found."""

Needed = dict[str, tuple[Row, dict[str, Tensor] | None]]


class Bench(Stored):
    """The results of a run's needs, wherever the store is."""

    def __init__(
        self,
        name: str,
        needed: Needed,
        folder: Path | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._name, self._needed, self._folder, self._tell = name, needed, folder, tell

    def __getitem__(self, run: Run) -> Row:  # noqa: D105
        return self._found(run)[0]

    def network(self, run: Run) -> dict[str, Tensor]:  # noqa: D102
        state = self._found(run)[1]
        if state is None:
            raise KeyError(f"{run!r} keeps no network")
        return state

    def _found(self, run: Run) -> tuple[Row, dict[str, Tensor] | None]:
        # by settings: the parent took the fingerprints
        if repr(run) not in self._needed:
            raise KeyError(f"needs() does not name {run!r}")
        return self._needed[repr(run)]

    def watch(self, run: Run) -> Watch:  # noqa: D102
        path = None if self._folder is None else self._folder / f"{self._name}.pt"
        return Checkpoints(path, self._tell)


class Checkpoints(Watch):
    """Keeps the state of a run in a file now and then; the file ends with the run's result."""

    every = 20.0
    """Seconds between states, so that short runs write none."""

    def __init__(self, path: Path | None, tell: Tell | None = None) -> None:
        self._path, self._tell = path, tell
        self._last = time.monotonic()

    def resume(self) -> dict[str, Any] | None:  # noqa: D102
        if self._path is None or not self._path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self._path, weights_only=True)
        except Exception:  # a damaged file is worth no more than none
            return None
        return state

    def epoch(  # noqa: D102
        self, done: int, of: int, found: dict[str, float], state: Callable[[], Any]
    ) -> None:
        if self._tell is not None:
            self._tell(done, of, found)
        if self._path is None or time.monotonic() - self._last < self.every:
            return
        draft = self._path.with_name(f".{self._path.stem}.{os.getpid()}")
        try:
            torch.save(state(), draft)
            draft.replace(self._path)
        except (OSError, RuntimeError):  # a full disk costs the state, not the run
            draft.unlink(missing_ok=True)
        self._last = time.monotonic()
