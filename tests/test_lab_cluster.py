"""A scheduler started apart: the same results as here, modules of one's own included."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from experiments.lab.engine import Engine, NoCluster, execute
from experiments.lab.run import Outcome, key
from experiments.lab.store import Store
from experiments.tasks.data import Digits
from experiments.tasks.families import pcm
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Evaluate, Train
from experiments.tasks.training import Recipe

OWN = """
from dataclasses import dataclass
from experiments.lab.run import Outcome, Run

@dataclass(frozen=True)
class Own(Run):
    number: int

    def label(self):
        return f"own {self.number}"

    def execute(self, store):
        return Outcome({"value": 2.0 * self.number}, {})
"""


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if "own" not in p),
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
    worker += ["--no-dashboard", "--memory-limit", "0"]
    dask += ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    commands = [dask, worker, worker]
    started = [subprocess.Popen(command, env=environment, **quiet) for command in commands]
    try:
        yield address, [psutil.Process(p.pid) for p in started[1:]]
    finally:
        for process in started:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


@pytest.mark.slow
def test_workers_elsewhere_give_the_same_results(
    tmp_path: Path,
    scheduler: tuple[str, list[psutil.Process]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, workers = scheduler
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own_runs.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "own")
    import own_runs  # noqa: PLC0415

    trained = [Train(Digits(), MLP((8,)), Recipe(2, 100, 0.2), seed=n) for n in range(4)]
    runs = [Evaluate(of, pcm(), seed=of.seed) for of in trained]
    own = [own_runs.Own(n) for n in range(3)]
    with Store(tmp_path / "apart") as store, Engine(scheduler=address) as engine:
        engine.execute("test", own, store)  # the workers are there
        assert [store[run].metrics["value"] for run in own] == [0.0, 2.0, 4.0]
        victims = [p for p in workers[0].children() if "spawn_main" in " ".join(p.cmdline())]
        assert victims
        for victim in victims:
            victim.kill()  # its keeper starts another
        engine.execute("test", runs, store)
        apart = [store[run].metrics for run in runs]
    with Store(tmp_path / "here") as store:
        execute("test", runs, store, workers=1)
        assert [store[run].metrics for run in runs] == apart
        assert all((tmp_path / "apart/networks" / f"{key(of)}.pt").read_bytes() for of in trained)


def test_a_scheduler_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.lab.engine.CONNECT", 0.5)
    trained = Train(Digits(), MLP((8,)), Recipe(1, 100, 0.2))
    with Store(tmp_path) as store:
        with pytest.raises(NoCluster, match="no scheduler answers at tcp://127.0.0.1:9") as error:
            execute("test", [trained], store, scheduler="tcp://127.0.0.1:9")
        store.put("test", trained, Outcome({}, {}), 0.0)
    assert "\n" not in str(error.value)
