"""One small SQLite file that keeps every result the moment it exists.

A row is one finished run: its settings, numbers, curves, time taken and environment. Trained
networks lie beside the file, one each in `networks/`, so that a resumed sweep need not retrain.
Two processes on one folder share the work: each claims a run before it starts it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from experiments.lab import schema
from experiments.lab.fingerprint import COUNTED, version
from experiments.lab.run import Outcome, Row, Run, Stored, key

_SHARED = ("nfs", "cifs", "smb", "afs", "sshfs", "ceph", "lustre", "gluster", "gpfs", "beegfs")
"""File systems on which SQLite's locks do not hold between machines."""

_COLUMNS = (
    "runs.key, study, kind, label, settings, metrics, curves, artefacts.key IS NOT NULL, "
    "seconds, finished, facts"
)
_JOINED = (
    "runs JOIN environments ON environment = id LEFT JOIN artefacts ON artefacts.key = runs.key"
)


class StoreError(RuntimeError):
    """The folder or its file cannot be used; the message is one sentence that says why."""


class Store(Stored, AbstractContextManager["Store"]):
    """The results in `folder`; several processes of one machine may write at once.

    Args:
        folder: made where it does not exist.
        write: False opens an existing folder for reading, also one that cannot be written to.
    """

    def __init__(self, folder: Path | str, *, write: bool = True) -> None:
        self.folder = Path(folder)
        self.networks = self.folder / "networks"
        self.file = self.folder / "results.sqlite"
        self.write = write
        with self._explained():
            if write:
                _refuse_shared(self.folder)
                self.networks.mkdir(parents=True, exist_ok=True)
                for folder in (self.networks, self.folder / "states"):
                    _sweep(folder)
                self._db = sqlite3.connect(self.file, timeout=60.0, isolation_level=None)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                schema.prepare(self._db)
            else:
                self._db = self._opened_to_read()

    def _opened_to_read(self) -> sqlite3.Connection:
        if not self.file.is_file():
            raise StoreError(f"there are no results in {self.folder}: {self.file} does not exist")
        path = self.file.resolve().as_uri()
        # a file that nobody can write to has no log beside it, and none can be made
        fixed = not os.access(self.folder, os.W_OK)
        db = sqlite3.connect(f"{path}?mode=ro{'&immutable=1' * fixed}", uri=True, timeout=60.0)
        found = schema.version(db)
        if found != schema.VERSION:
            raise StoreError(
                f"{self.file} has schema {found}, wanted is {schema.VERSION}"
                + ("; open it once for writing to bring it up" if found < schema.VERSION else "")
            )
        return db

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; every result is already in it."""
        self._db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong with files, as one sentence."""
        try:
            yield
        except schema.NewerSchema as error:
            raise StoreError(f"{self.file} has {error}; use the program that wrote it") from None
        except sqlite3.DatabaseError as error:
            said = str(error)
            if "not a database" in said or "malformed" in said or "disk image" in said:
                said = f"{self.file} is damaged or no SQLite file ({said}); move it away"
            elif "full" in said or "disk I/O" in said:
                said = f"no room left to write to {self.file} ({said}); what it held it still holds"
            elif "readonly" in said or "unable to open" in said:
                said = f"{self.folder} cannot be written to ({said}); name another with --out"
            else:
                said = f"{self.file}: {said}"
            raise StoreError(said) from None
        except (FileExistsError, NotADirectoryError):
            raise StoreError(f"{self.folder} is a file; results need a folder") from None
        except PermissionError as error:
            raise StoreError(f"{error.filename or self.folder} cannot be written to") from None
        except OSError as error:
            raise StoreError(f"{error.filename or self.folder}: {error.strerror}") from None

    # ------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM runs WHERE status = 'done'")[0])

    def __contains__(self, run: Run) -> bool:
        return self.has(key(run))

    def has(self, name: str) -> bool:
        """Whether the result of a run of that key is there, its network whole."""
        found = self._one(
            "SELECT bytes FROM runs LEFT JOIN artefacts ON artefacts.key = runs.key "
            "WHERE runs.key = ? AND status = 'done'",
            name,
        )
        if found is None or found[0] is None:
            return found is not None
        try:
            size = self._network_file(name).stat().st_size
        except OSError:
            return False
        return size == found[0] or (found[0] < 0 < size)

    def __getitem__(self, run: Run) -> Row:
        """The result of a run; raises KeyError where there is none."""
        found = self._one(
            f"SELECT {_COLUMNS} FROM {_JOINED} WHERE runs.key = ? AND status = 'done'", key(run)
        )
        if found is None:
            raise KeyError(f"no result in {self.file} for {run!r}")
        return _row(found)

    def rows(self, study: str | None = None, prefix: str = "") -> Iterator[Row]:
        """Every result, of one study or of all, oldest first; `prefix` is a beginning of keys."""
        with self._explained():
            yield from map(
                _row,
                self._db.execute(
                    f"SELECT {_COLUMNS} FROM {_JOINED} WHERE status = 'done' "
                    "AND (?1 IS NULL OR study = ?1) AND substr(runs.key, 1, length(?2)) = ?2 "
                    "ORDER BY finished, runs.rowid",
                    (study, prefix),
                ),
            )

    def index(self, study: str | None = None) -> Iterator[tuple[Any, ...]]:
        """(key, study, label, status, seconds, finished, metrics) of every run, oldest first."""
        with self._explained():
            for *facts, metrics in self._db.execute(
                "SELECT key, study, label, status, seconds, finished, metrics FROM runs "
                "WHERE ?1 IS NULL OR study = ?1 ORDER BY finished, rowid",
                (study,),
            ):
                yield *facts, {k: float(v) for k, v in json.loads(metrics).items()}

    def failures(self) -> list[tuple[str, str, str]]:
        """(key, label, error) of every run that raised and was not done since."""
        with self._explained():
            query = "SELECT key, label, error FROM runs WHERE status = 'failed' ORDER BY finished"
            return list(self._db.execute(query))

    def network(self, run: Run) -> dict[str, Tensor]:
        """The state of the network that a run trained; raises KeyError where it is damaged."""
        path = self._network_file(key(run))
        try:
            state: dict[str, Tensor] = torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise KeyError(f"{path} is damaged or missing ({type(error).__name__})") from None
        return state

    def _one(self, query: str, *values: Any) -> Any:
        with self._explained():
            return self._db.execute(query, values).fetchone()

    def _network_file(self, name: str) -> Path:
        return self.networks / f"{name}.pt"

    # ------------------------------------------------------------------------ writing

    def put(self, study: str, run: Run, outcome: Outcome, seconds: float) -> None:
        """Keep a result; it survives whatever happens to the process afterwards."""
        name = key(run)
        with self._explained():
            size = None
            if outcome.network is not None:
                size = self._write_network(name, outcome.network)
            with self._transaction():
                self._insert(study, run, "done", outcome, None, seconds)
                if size is not None:
                    self._db.execute("INSERT INTO artefacts VALUES (?, ?)", (name, size))

    def put_failure(self, study: str, run: Run, error: str, seconds: float) -> None:
        """Note that a run raised; it is tried again when it is asked for again."""
        with self._explained(), self._transaction():
            self._insert(study, run, "failed", Outcome({}, {}), error, seconds)

    def _insert(
        self, study: str, run: Run, status: str, outcome: Outcome, error: str | None, seconds: float
    ) -> None:
        name, facts = key(run), json.dumps(environment())
        self._db.execute("INSERT OR IGNORE INTO environments (facts) VALUES (?)", (facts,))
        self._db.execute("DELETE FROM runs WHERE key = ?", (name,))
        self._db.execute("DELETE FROM claims WHERE key = ?", (name,))
        self._db.execute(
            "INSERT INTO runs VALUES (?,?,?,?,?,?,?,?,?,?,?,"
            "(SELECT id FROM environments WHERE facts = ?))",
            (
                name,
                study,
                type(run).__name__,
                run.label(),
                repr(run),
                status,
                json.dumps({k: _written(v) for k, v in outcome.metrics.items()}),
                json.dumps({k: [_written(x) for x in v] for k, v in outcome.curves.items()}),
                error,
                seconds,
                datetime.now(UTC).isoformat(timespec="seconds"),
                facts,
            ),
        )

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[None]:
        # what a power cut may lose without harm need not wait for the disk
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write_network(self, name: str, state: dict[str, Tensor]) -> int:
        # Written aside and renamed: a killed process leaves a whole file or none.
        draft = self.networks / f".{name}.{os.getpid()}"
        try:
            with draft.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            size = draft.stat().st_size
            draft.replace(self._network_file(name))
        except RuntimeError as error:  # torch's writer does not say that the disk is full
            raise StoreError(f"{self.networks} cannot take another network: {error}") from None
        finally:
            draft.unlink(missing_ok=True)
        return size

    def prune(self, names: Iterable[str]) -> int:
        """Forget results and their networks; how many there were.

        All or none of the results: one that is left without its network is made again.
        """
        count = 0
        with self._explained():
            with self._transaction():  # one wait for the disk, not one a result
                for name in names:
                    self._network_file(name).unlink(missing_ok=True)
                    count += self._db.execute("DELETE FROM runs WHERE key = ?", (name,)).rowcount
            self._db.execute("VACUUM")
        return count

    # ------------------------------------------------------------------------ sharing

    def claim(self, name: str) -> bool:
        """Say that this process is at a run; False where another living process is."""
        with self._explained(), self._transaction(durable=False):
            found = self._db.execute(
                "SELECT host, pid, started FROM claims WHERE key = ?", (name,)
            ).fetchone()
            if found is not None and tuple(found) != _me() and _lives(*found):
                return False
            self._db.execute("INSERT OR REPLACE INTO claims VALUES (?,?,?,?)", (name, *_me()))
            return True

    def release(self) -> None:
        """Give up what this process has claimed and not stored."""
        with self._explained():
            self._db.execute("DELETE FROM claims WHERE host = ? AND pid = ?", _me()[:2])


def _row(found: Any) -> Row:
    *texts, metrics, curves, network, seconds, finished, facts = found
    return Row(
        *texts,
        {k: float(v) for k, v in json.loads(metrics).items()},
        {k: [float(x) for x in v] for k, v in json.loads(curves).items()},
        bool(network),
        seconds,
        finished,
        json.loads(facts),
    )


def _written(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(float(value))


@cache
def _me() -> tuple[str, int, float]:
    return platform.node(), os.getpid(), round(psutil.Process().create_time(), 2)


def _lives(host: str, pid: int, started: float) -> bool:
    if host != platform.node():  # of before this machine was renamed: shared disks are refused
        return False
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < 0.1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _sweep(folder: Path) -> None:
    """Remove what killed processes were writing."""
    for draft in folder.glob(".*.*"):
        pid = draft.name.rpartition(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            draft.unlink(missing_ok=True)


def _refuse_shared(folder: Path) -> None:
    path = folder.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if path.is_relative_to(m.mountpoint)]
    if not mounts:
        return
    mount = max(mounts, key=lambda m: len(m.mountpoint))
    if any(word in mount.fstype.lower() for word in _SHARED):
        raise StoreError(
            f"{folder} lies on a disk that machines share ({mount.fstype}), where two writers "
            "spoil the file; name a folder of a local disk with --out"
        )


@cache
def environment() -> dict[str, str]:
    """What results depend on beside settings and code: versions, machine, commit."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("analog-crossbar", *COUNTED)},
        "host": platform.node(),
        "processor": _processor(),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
