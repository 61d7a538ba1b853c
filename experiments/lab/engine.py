"""Executes declared runs on the workers of a Dask cluster; what the store holds is not run again.

By default the cluster is this machine, one process of one thread a core: small networks are bound
by calls, not by arithmetic, so two processes beat two threads. Results come back here, to the one
writer of this process; a killed worker costs the run it was at, which is then done again.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import distributed
from distributed import Client, Future, LocalCluster

from experiments.lab import worker
from experiments.lab.fingerprint import behind
from experiments.lab.plan import Plan
from experiments.lab.progress import Progress
from experiments.lab.run import Run, key, modules_of
from experiments.lab.store import Store

Epochs = Callable[[Run, int, dict[str, float]], None]
"""Called in the parent with every epoch of every run, as it goes: run, number, what was found."""

_SETTINGS = {
    "distributed.scheduler.worker-ttl": None,  # a long step of a run is no reason to end it
    "distributed.scheduler.allowed-failures": 2,
    "distributed.admin.tick.limit": "1h",  # a busy machine is not worth a warning
}


CONNECT = 10.0
"""Seconds that a scheduler has to answer."""


class RunsFailed(RuntimeError):
    """Some runs raised; all others are stored."""


class NoCluster(RuntimeError):
    """The scheduler that was named does not answer, or its workers cannot do the work."""


class Engine(AbstractContextManager["Engine"]):
    """Workers that are started with the first run that is to be done, and end with the context.

    Args:
        workers: processes on this machine; one per core where None.
        scheduler: address of a running Dask scheduler, such as tcp://10.0.0.1:8786, in place of
            workers of its own.
        epochs: told of every epoch.
    """

    def __init__(
        self,
        workers: int | None = None,
        scheduler: str | None = None,
        epochs: Epochs | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"--workers must be >= 1, got {workers}")
        self.workers, self.scheduler, self.epochs = workers, scheduler, epochs
        self._client: Client | None = None
        self._cluster: LocalCluster | None = None
        self.told: queue.SimpleQueue[tuple[str, int, int, dict[str, float]]] = queue.SimpleQueue()
        self._log = _Losses()

    def __exit__(self, *error: object) -> None:
        self.close()

    def execute(self, study: str, runs: Iterable[Run], store: Store) -> None:
        """Do all runs (and what they need) that the store does not hold, with a progress line.

        Raises:
            RunsFailed: some runs raised an error; the message holds the first few tracebacks.
            StoreError: the results cannot be written any more.
            KeyboardInterrupt: passed on.
        """
        plan = Plan(runs, store.has)
        if not plan.waiting:
            return
        count = self.workers or min(cores(), len(plan.waiting))
        with Progress(len(plan.waiting), plan.stored, plan.cost(), count) as progress:
            try:
                client = self._started(count)
                errors = _Work(self, client, study, plan, store, progress).all()
            except BaseException:
                self.close()
                raise
            finally:
                with suppress(Exception):  # of a store that failed already
                    store.release()
        if errors:
            shown = "\n\n".join(errors[:3]) + ("\n\n..." if len(errors) > 3 else "")
            raise RunsFailed(f"{len(errors)} runs failed:\n\n{shown}")

    def size(self) -> int:
        """Workers that are there."""
        assert self._client is not None
        info = self._client.scheduler_info(n_workers=-1)
        return max(1, sum(w["nthreads"] for w in info["workers"].values()))

    @property
    def local(self) -> bool:
        """Whether the workers are of this machine and see its files."""
        return self.scheduler is None

    def lost(self) -> list[str]:
        """Workers that died since the last call, in words."""
        return self._log.taken()

    def _started(self, count: int) -> Client:
        if self._client is not None:
            return self._client
        dask.config.set(_SETTINGS)
        if self.scheduler is None:
            self._cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
            keeper = logging.getLogger("distributed.nanny")
            keeper.setLevel(logging.WARNING)
            keeper.addHandler(self._log)
            keeper.propagate = False
        try:
            self._client = Client(
                self._cluster or self.scheduler, set_as_default=False, timeout=CONNECT
            )
        except (OSError, ValueError, TimeoutError) as error:
            raise NoCluster(
                f"no scheduler answers at {self.scheduler} ({type(error).__name__})"
            ) from None
        self._client.register_plugin(worker.Prepare())
        self._client.subscribe_topic(worker.EPOCHS, lambda event: self.told.put(event[1]))
        return self._client

    def close(self) -> None:
        """End the workers; what they are doing is lost, all else is stored."""
        client, cluster, self._client, self._cluster = self._client, self._cluster, None, None
        logging.getLogger("distributed.nanny").removeHandler(self._log)
        if cluster is not None:
            for nanny in cluster.workers.values():
                with suppress(Exception):
                    nanny.auto_restart = False
                    os.kill(nanny.pid, signal.SIGKILL)
        with suppress(Exception):
            if client is not None:
                client.close(timeout=2)
        with suppress(Exception):
            if cluster is not None:
                cluster.close(timeout=5)


def execute(
    study: str,
    runs: Iterable[Run],
    store: Store,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """`Engine.execute` with workers of its own."""
    with Engine(workers, scheduler) as engine:
        engine.execute(study, runs, store)


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(seconds: float = 0.3) -> float:
    """The part of a core that other programs leave, by working for so long."""
    wall, busy = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        pass
    spent = time.perf_counter() - wall
    return min(1.0, max((time.process_time() - busy) / spent, 0.05))


class _Work:
    """One plan on its way through a cluster."""

    poll = 0.5  # [s] between looks at what other processes do

    def __init__(
        self,
        engine: Engine,
        client: Client,
        study: str,
        plan: Plan,
        store: Store,
        progress: Progress,
    ) -> None:
        self.engine, self.client, self.study = engine, client, study
        self.plan, self.store, self.progress = plan, store, progress
        self.errors: list[str] = []
        self._running: dict[str, tuple[Run, Future]] = {}
        self._elsewhere: dict[str, Run] = {}  # another process is at it
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._sources: dict[tuple[str, ...], bytes] = {}
        self._looked = self._counted = 0.0
        self._size = 1

    def all(self) -> list[str]:
        """Do everything; the errors."""
        while self.plan.waiting or self._running or self._elsewhere:
            self._fill()
            self._take()
            self._look()
            self._listen()
            self.progress.tick()
        return self.errors

    def _listen(self) -> None:
        """Pass on what workers tell, and that some died."""
        while not self.engine.told.empty():
            name, done, of, found = self.engine.told.get()
            if name not in self._running:
                continue
            run = self._running[name][0]
            self.progress.working(name, run, done / of if of else 0.0)
            if done and self.engine.epochs is not None:
                self.engine.epochs(run, done, found)
        for words in self.engine.lost():
            self.progress.say(words)

    def _fill(self) -> None:
        """Give every worker a run and one to go on with."""
        if time.monotonic() - self._counted > 1.0:  # workers elsewhere come and go
            self._counted, self._size = time.monotonic(), self.engine.size()
        room = 2 * self._size - len(self._running)
        while room > 0 and (found := self.plan.next()) is not None:
            name, run = found
            if self.store.has(name):  # another process was faster
                self._finish(name, run, 0.0)
            elif not self.store.claim(name):
                self._elsewhere[name] = run
            elif (needed := self._needed(name, run)) is not None:
                self._submit(name, run, needed)
                room -= 1

    def _needed(self, name: str, run: Run) -> bytes | None:
        """The stored results of a run's needs; None where one is damaged and done anew first."""
        found = {}
        for need in run.needs():
            try:
                row = self.store[need]
                found[repr(need)] = row, self.store.network(need) if row.network else None
            except KeyError:
                self.store.prune([key(need)])
                self.progress.say(f"damaged, done again: {need.label()}")
                self.plan.require(name, run, need)
                return None
        return cloudpickle.dumps(found)

    def _submit(self, name: str, run: Run, needed: bytes) -> None:
        modules = modules_of(run)
        if modules not in self._sources:
            names = [m for m in behind(modules) if m != "__main__"]
            if not self.engine.local:
                for module in filter(_by_value, names):  # such travel with the runs
                    cloudpickle.register_pickle_by_value(sys.modules[module])
                names = [m for m in names if not _by_value(m)]
            digests = {m: worker.digest_of(m) for m in names}
            self._sources[modules] = pickle.dumps(digests)
        folder = str(self.store.folder.resolve() / "states") if self.engine.local else None
        if folder is not None:
            Path(folder).mkdir(exist_ok=True)
        task = worker.Task(name, self._sources[modules], cloudpickle.dumps(run), needed, folder)
        future = self.client.submit(worker.work, task, key=name, pure=False)
        self._running[name] = run, future
        future.add_done_callback(lambda _: self._ended.put(name))

    def _take(self) -> None:
        """Store what has ended."""
        try:
            names = [self._ended.get(timeout=0.2 if self._running else 0.0)]
        except queue.Empty:
            if not self._running and self._elsewhere:
                time.sleep(0.2)
            return
        while not self._ended.empty():
            names.append(self._ended.get())
        for name in names:
            run, future = self._running.pop(name)
            outcome, seconds, error = self._result(future)
            future.release()
            if outcome is not None:
                self.store.put(self.study, run, outcome, seconds)
                (self.store.folder / "states" / f"{name}.pt").unlink(missing_ok=True)
                self._finish(name, run, seconds)
            else:
                assert error is not None
                self.store.put_failure(self.study, run, error, seconds)
                self.errors.append(f"{run!r}\n{error}")
                self.progress.failed(name, run, self.plan.drop(name))

    def _result(self, future: Future) -> tuple[Any, float, str | None]:
        try:
            found, seconds, error = future.result()
        except distributed.KilledWorker:
            died = _SETTINGS["distributed.scheduler.allowed-failures"]
            return None, 0.0, f"its worker died {died + 1} times (out of memory?)"
        except Exception as raised:
            return None, 0.0, f"{type(raised).__name__}: {raised}"
        return None if found is None else pickle.loads(found), seconds, error

    def _finish(self, name: str, run: Run, seconds: float) -> None:
        self.plan.done(name)
        self.progress.finished(name, run, seconds)

    def _look(self) -> None:
        """What other processes have done of the runs that they claimed."""
        if time.monotonic() - self._looked < self.poll:
            return
        self._looked = time.monotonic()
        for name, run in list(self._elsewhere.items()):
            if self.store.has(name):
                del self._elsewhere[name]
                self._finish(name, run, 0.0)
            elif self.store.claim(name):  # the other one is gone, or it failed there
                del self._elsewhere[name]
                self.plan.put_back(name, run)


def _by_value(module: str) -> bool:
    """Whether workers elsewhere lack a module: those of the user's own."""
    own = module.split(".")[0] not in ("crossbar", "devices", "experiments")
    return own and module in sys.modules


class _Losses(logging.Handler):
    """What the keeper of the workers says of those that died."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:  # noqa: D102
        text = record.getMessage()
        if "killed by signal" in text or "exited with" in text:
            self._said.put("a worker died; the run it was at is done again")

    def taken(self) -> list[str]:
        """What was said since the last call."""
        words = []
        while not self._said.empty():
            words.append(self._said.get())
        return words
