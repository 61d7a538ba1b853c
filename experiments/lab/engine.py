"""Executes declared runs on worker processes; what the store already holds is not run again.

Each worker computes with one torch thread (small networks are bound by calls, not by arithmetic,
so two processes beat two threads) and writes its result into the store itself. Killing this
process therefore loses no finished result: a worker that is busy stores what it computes, finds
its pipe closed, and ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from experiments.lab.progress import Progress
from experiments.lab.run import Run, key
from experiments.lab.store import Store


class RunsFailed(RuntimeError):
    """Some runs raised; all others are stored."""


@dataclass
class Plan:
    """Runs that are still to be done, in an order in which each one's needs come first."""

    waiting: dict[str, Run] = field(default_factory=dict)
    blocked: dict[str, set[str]] = field(default_factory=dict)
    stored: int = 0

    @classmethod
    def of(cls, runs: Iterable[Run], store: Store) -> Plan:
        """The given runs and all they need, less what is stored."""
        plan = cls()
        seen: set[str] = set()

        def visit(run: Run) -> None:
            name = key(run)
            if name in seen:
                return
            seen.add(name)
            if run in store:
                plan.stored += 1
                return
            needs = run.needs()
            for need in needs:
                visit(need)
            plan.waiting[name] = run
            plan.blocked[name] = {key(need) for need in needs} & plan.waiting.keys()

        for run in runs:
            visit(run)
        return plan

    def next(self) -> Run | None:
        """The longest run among those that need nothing any more."""
        free = [name for name in self.waiting if not self.blocked[name]]
        if not free:
            return None
        name = max(free, key=lambda n: self.waiting[n].cost())
        return self.waiting.pop(name)

    def done(self, run: Run) -> None:
        """Free the runs that waited for this one."""
        name = key(run)
        for needs in self.blocked.values():
            needs.discard(name)

    def drop(self, run: Run) -> list[Run]:
        """Take out the runs that can no longer be done because this one failed."""
        lost: list[Run] = []
        names = [key(run)]
        while names:
            name = names.pop()
            for other in [n for n in self.waiting if name in self.blocked[n]]:
                lost.append(self.waiting.pop(other))
                names.append(other)
        return lost

    def cost(self) -> float:
        """Guessed seconds of all that waits."""
        return sum(run.cost() for run in self.waiting.values())


def execute(study: str, runs: Iterable[Run], store: Store, *, workers: int | None = None) -> None:
    """Do all runs (and what they need) that the store does not hold, with a progress line.

    Raises:
        RunsFailed: some runs raised an error; the message holds the first few tracebacks.
        KeyboardInterrupt: passed on after the workers have been stopped.
    """
    plan = Plan.of(runs, store)
    if not plan.waiting:
        return
    count = min(workers or cores(), len(plan.waiting))
    errors: list[str] = []
    with Progress(len(plan.waiting), plan.stored, plan.cost(), count) as progress:
        pool = _Pool(study, store.folder, count)
        try:
            while plan.waiting or pool.busy:
                for idle in pool.idle():
                    run = plan.next()
                    if run is None:
                        break
                    pool.give(idle, run)
                    progress.started(run)
                for run, seconds, error in pool.finished(timeout=0.5):
                    if error is None:
                        plan.done(run)
                        progress.finished(run, seconds)
                    else:
                        lost = plan.drop(run)
                        errors.append(f"{run!r}\n{error}")
                        progress.failed(run, lost)
                progress.tick()
        finally:
            pool.close()
    if errors:
        shown = "\n\n".join(errors[:3]) + ("\n\n..." if len(errors) > 3 else "")
        raise RunsFailed(f"{len(errors)} runs failed:\n\n{shown}")


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Worker processes, each with a pipe of its own: a dead parent is an end of file."""

    def __init__(self, study: str, folder: Path, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.busy: dict[Connection, Run] = {}
        self._workers: dict[Connection, BaseProcess] = {}
        for _ in range(count):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, study, folder), daemon=True)
            worker.start()
            theirs.close()
            self._workers[ours] = worker

    def idle(self) -> list[Connection]:
        return [pipe for pipe in self._workers if pipe not in self.busy]

    def give(self, pipe: Connection, run: Run) -> None:
        self.busy[pipe] = run
        pipe.send(run)

    def finished(self, timeout: float) -> list[tuple[Run, float, str | None]]:
        """(run, seconds, traceback or None) of each run that ended within the timeout."""
        ended = []
        for pipe in wait(list(self.busy), timeout):
            assert isinstance(pipe, Connection)
            run = self.busy.pop(pipe)
            try:
                seconds, error = pipe.recv()
            except EOFError:
                code = self._workers.pop(pipe).exitcode
                raise RunsFailed(f"a worker died (exit code {code}) during {run!r}") from None
            ended.append((run, seconds, error))
        return ended

    def close(self) -> None:
        """Stop the workers; what they had not finished is lost, what they had is stored."""
        for pipe, worker in self._workers.items():
            if pipe in self.busy:
                worker.terminate()
            pipe.close()
        for worker in self._workers.values():
            worker.join()


def _work(pipe: Connection, study: str, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and decides
    torch.set_num_threads(1)
    with Store(folder) as store:
        while True:
            try:
                run: Run = pipe.recv()
            except EOFError:
                return
            begin = time.perf_counter()
            try:
                outcome = run.execute(store)
                seconds = time.perf_counter() - begin
                store.put(study, run, outcome, seconds)
                error = None
            except Exception:  # reported by the parent with its traceback
                seconds, error = time.perf_counter() - begin, traceback.format_exc()
            try:
                pipe.send((seconds, error))
            except OSError:  # the parent is gone; the result is stored
                return
