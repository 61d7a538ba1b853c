"""What a worker does: one run at a time, of the very code that the parent took fingerprints of.

Nothing here imports torch until a run comes, so that a worker is there within a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

EPOCHS = "experiments-epochs"
"""Topic under which workers tell of epochs."""


class SourceChanged(RuntimeError):
    """The code on this worker is not that of the parent's fingerprint."""


class Prepare(WorkerPlugin):
    """The parent hears Ctrl-C and decides; workers ignore it."""

    name = "experiments-prepare"

    def setup(self, worker: Worker) -> None:  # noqa: D102
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Task:
    """All that a run needs, pickled by the parent: the worker has no store."""

    name: str  # the run's key
    sources: bytes  # of {module: hash of its file}
    run: bytes
    needed: bytes  # of {key: (row, network or None)}
    folder: str | None  # where states of long runs are kept, on the parent's machine


def work(task: Task) -> tuple[bytes | None, float, str | None]:
    """(pickled outcome or None, seconds, traceback or None)."""
    begin = time.perf_counter()
    try:
        import torch

        from experiments.lab.bench import Bench
        from experiments.lab.run import Outcome

        torch.set_num_threads(1)
        tell = _tell(task.name)
        tell(0, 0, {})
        run = pickle.loads(task.run)
        _check(task.sources)
        begin = time.perf_counter()
        bench = Bench(task.name, pickle.loads(task.needed), _folder(task.folder), tell)
        outcome = run.execute(bench)
        if not isinstance(outcome, Outcome):
            raise TypeError(f"execute must return an Outcome, got {outcome!r}")
        found = pickle.dumps(outcome)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # the parent reports it
        said = str(error) if isinstance(error, SourceChanged) else traceback.format_exc()
        return None, time.perf_counter() - begin, said
    return found, time.perf_counter() - begin, None


def _folder(name: str | None) -> Path | None:
    return Path(name) if name is not None and os.access(name, os.W_OK) else None


def _tell(name: str) -> Callable[[int, int, dict[str, float]], None]:
    worker = get_worker()
    return lambda done, of, found: worker.log_event(EPOCHS, (name, done, of, found))


_checked: set[bytes] = set()


def _check(sources: bytes) -> None:
    """Load all code that the run may import, and compare it with what the parent saw.

    Loaded first, so that nothing that is edited later is imported later.
    """
    if sources in _checked:
        return
    wanted: dict[str, str] = pickle.loads(sources)
    for module in wanted:
        with contextlib.suppress(ImportError):  # an optional extra
            importlib.import_module(module)
    changed = sorted(name for name, digest in wanted.items() if digest_of(name) != digest)
    if changed:
        raise SourceChanged(
            f"the source of {', '.join(changed[:3])}{' and others' * (len(changed) > 3)} is not "
            "what it was when the command began; give the command again"
        )
    _checked.add(sources)


def digest_of(module: str) -> str | None:
    """Hash of the bytes of a module's file."""
    spec: Any = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return hashlib.blake2b(Path(spec.origin).read_bytes(), digest_size=12).hexdigest()
