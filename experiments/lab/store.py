"""One small SQLite file that keeps every result the moment it exists.

A row is one finished run: its settings, numbers, curves, time taken and package versions. Trained
networks lie beside the file, one each in `networks/`, so that a resumed sweep need not retrain.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from experiments.lab.run import Outcome, Row, Run, key

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY,     -- hash of settings and code
    study TEXT NOT NULL,      -- the study that computed it first
    kind TEXT NOT NULL,       -- class of the run
    settings TEXT NOT NULL,   -- repr of the run: evaluates back to it
    metrics TEXT NOT NULL,    -- JSON object of numbers
    curves TEXT NOT NULL,     -- JSON object of lists of numbers
    network INTEGER NOT NULL, -- 1: networks/<key>.pt holds a trained network
    seconds REAL NOT NULL,
    finished TEXT NOT NULL,   -- UTC
    versions TEXT NOT NULL    -- JSON object, package to version
) STRICT
"""


class Store:
    """The results in `folder`; several processes may write at once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.networks = self.folder / "networks"
        self.networks.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "results.sqlite"
        self._db = sqlite3.connect(self.file, timeout=60.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_SCHEMA)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; every result is already in it."""
        self._db.close()

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM results").fetchone()[0])

    def __contains__(self, run: Run) -> bool:
        name = key(run)
        found = self._db.execute("SELECT network FROM results WHERE key = ?", (name,)).fetchone()
        return found is not None and (not found[0] or self._network_file(name).is_file())

    def __getitem__(self, run: Run) -> Row:
        """The result of a run; raises KeyError where there is none."""
        found = self._db.execute("SELECT * FROM results WHERE key = ?", (key(run),)).fetchone()
        if found is None:
            raise KeyError(f"no result in {self.file} for {run!r}")
        name, study, kind, settings, metrics, curves, network, seconds, finished, versions = found
        return Row(
            name,
            study,
            kind,
            settings,
            json.loads(metrics),
            json.loads(curves),
            bool(network),
            seconds,
            finished,
            json.loads(versions),
        )

    def put(self, study: str, run: Run, outcome: Outcome, seconds: float) -> None:
        """Keep a result; it survives whatever happens to the process afterwards."""
        name = key(run)
        if outcome.network is not None:
            self._write_network(name, outcome.network)
        self._db.execute(
            "INSERT OR REPLACE INTO results VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                name,
                study,
                type(run).__name__,
                repr(run),
                json.dumps(outcome.metrics),
                json.dumps(outcome.curves),
                int(outcome.network is not None),
                seconds,
                datetime.now(UTC).isoformat(timespec="seconds"),
                json.dumps(versions()),
            ),
        )

    def network(self, run: Run) -> dict[str, Tensor]:
        """The state of the network that a run trained."""
        state: dict[str, Tensor] = torch.load(self._network_file(key(run)), weights_only=True)
        return state

    def _network_file(self, name: str) -> Path:
        return self.networks / f"{name}.pt"

    def _write_network(self, name: str, state: dict[str, Tensor]) -> None:
        # Written aside and renamed: a killed process leaves a whole file or none.
        draft = self.networks / f".{name}.{os.getpid()}"
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._network_file(name))


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in ("analog-crossbar", "torch", "numpy", "scipy", "scikit-learn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
