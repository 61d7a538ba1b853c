"""Runs, their keys, the store and the runner: nothing is lost, nothing is computed twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from experiments.lab.engine import Engine, RunsFailed
from experiments.lab.plan import Plan
from experiments.lab.run import Outcome, Run, code_of, key
from experiments.lab.store import Store


@dataclass(frozen=True)
class Number(Run):
    """Takes `seconds` and notes in `log` that it ran."""

    value: float
    log: str
    seconds: float = 0.0

    def label(self) -> str:
        return f"number {self.value:g}"

    def execute(self, store: Store) -> Outcome:
        time.sleep(self.seconds)
        with open(self.log, "a") as file:
            file.write(f"{self.value:g}\n")
        if self.value < 0:
            raise ArithmeticError("negative on purpose")
        weights = {"w": torch.full((2,), self.value)}
        return Outcome({"value": self.value}, {"twice": [self.value, self.value]}, weights)


@dataclass(frozen=True)
class Sum(Run):
    """Adds up what other runs stored."""

    of: tuple[Number, ...]

    def needs(self) -> tuple[Run, ...]:
        return self.of

    def label(self) -> str:
        return "sum"

    def execute(self, store: Store) -> Outcome:
        total = sum(float(store.network(run)["w"][0]) for run in self.of)
        return Outcome({"value": total}, {})


def calls(log: Path) -> list[str]:
    return sorted(log.read_text().split()) if log.exists() else []


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(workers=2) as engine:
        yield engine


def test_needs_are_done_first_and_nothing_twice(tmp_path: Path, engine: Engine) -> None:
    log = tmp_path / "log"
    numbers = tuple(Number(float(n), str(log)) for n in range(4))
    with Store(tmp_path) as store:
        engine.execute("test", [Sum(numbers), Sum(numbers[:2]), numbers[0]], store)
        assert store[Sum(numbers)].metrics["value"] == 6.0
        assert store[Sum(numbers[:2])].metrics["value"] == 1.0
        assert calls(log) == ["0", "1", "2", "3"]
        engine.execute("test", [Sum(numbers), *numbers], store)
        assert calls(log) == ["0", "1", "2", "3"]
        assert len(store) == 6


def test_a_row_holds_settings_times_and_versions(tmp_path: Path) -> None:
    run = Number(3.0, str(tmp_path / "log"))
    with Store(tmp_path) as store:
        assert run not in store
        with pytest.raises(KeyError, match="no result"):
            store[run]
        store.put("test", run, run.execute(store), 1.5)
        row = store[run]
    assert eval(row.settings, {"Number": Number}) == run
    assert (row.study, row.kind, row.seconds) == ("test", "Number", 1.5)
    assert row.curves == {"twice": [3.0, 3.0]}
    assert row.environment["torch"] == torch.__version__


def test_a_lost_network_file_is_computed_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = Number(1.0, str(log))
    with Store(tmp_path) as store:
        store.put("test", run, run.execute(store), 0.0)
        assert run in store
        (tmp_path / "networks" / f"{key(run)}.pt").unlink()
        assert run not in store


def test_a_failing_run_spares_the_others_and_is_reported(tmp_path: Path, engine: Engine) -> None:
    log = tmp_path / "log"
    good, bad = Number(1.0, str(log)), Number(-1.0, str(log))
    with Store(tmp_path) as store:
        with pytest.raises(RunsFailed, match="negative on purpose") as error:
            engine.execute("test", [Sum((good, bad)), good], store)
        assert "1 runs failed" in str(error.value)
        assert good in store and bad not in store and Sum((good, bad)) not in store


def test_key_depends_on_settings_and_code() -> None:
    a, b = Number(1.0, "x"), Number(1.0, "x")
    assert key(a) == key(b)
    assert key(a) != key(Number(2.0, "x"))
    assert code_of(a) == code_of(Number(2.0, "y"))


def test_plan_takes_the_longest_free_run_first(tmp_path: Path) -> None:
    class Slow(Number):
        def cost(self) -> float:
            return 100.0

    log = str(tmp_path / "log")
    quick, slow = Number(1.0, log), Slow(2.0, log)
    last = Sum((quick,))
    with Store(tmp_path) as store:
        plan = Plan([last, slow], store.has)
    assert plan.next() == (key(slow), slow)
    assert plan.next() == (key(quick), quick)
    assert plan.next() is None
    plan.done(key(quick))
    assert plan.next() == (key(last), last)


SCRIPT = """
import sys
from test_experiments_runner import Number, Sum
from experiments.lab.engine import execute
from experiments.lab.store import Store
if __name__ == "__main__":
    folder, log = sys.argv[1:]
    runs = [Number(float(n), log, seconds=0.2) for n in range(20)]
    with Store(folder) as store:
        try:
            execute("test", [Sum(tuple(runs))], store, workers=2)
        except KeyboardInterrupt:
            print("interrupted with", len(store))
            sys.exit(130)
        print("finished with", len(store))
"""


def started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches, also where the tests themselves run in the background.

    A shell starts background jobs with SIGINT ignored, which children would inherit.
    """
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    "blow", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_interrupted_work_resumes_where_it_stopped(tmp_path: Path, blow: signal.Signals) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, str(script), str(tmp_path), str(log)]
    environment = {**os.environ, "PYTHONPATH": path}
    process = started(command, environment)
    deadline = time.monotonic() + 60
    while len(calls(log)) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    left = psutil.Process(process.pid).children(recursive=True)
    assert len(left) >= 2
    process.send_signal(blow)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if blow == signal.SIGINT else -signal.SIGKILL)
    assert not psutil.wait_procs(left, timeout=5)[1]
    database = sqlite3.connect(tmp_path / "results.sqlite")
    stored = database.execute("SELECT count(*) FROM runs").fetchone()[0]
    logged = len(calls(log))
    # every run that wrote its line is stored but for those on their way here
    assert 1 <= stored <= 20 and logged - stored <= 4
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert "finished with 21" in again.stdout
    assert f"{stored} already stored" in again.stdout
    assert len(calls(log)) - logged == 20 - stored


@pytest.mark.slow
def test_the_command_says_what_is_kept_and_how_to_resume(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "experiments",
        "ablate",
        "forward.adc.bits",
        "4",
        "8",
        "--quick",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = started([*command, "--out", str(tmp_path)], environment)
    deadline = time.monotonic() + 400
    stored = 0
    while not stored and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        if (tmp_path / "results.sqlite").exists():
            with Store(tmp_path) as store:
                stored = len(store)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"results are kept in {tmp_path / 'results.sqlite'}" in out
    assert "go on where it stopped: python -m experiments ablate forward.adc.bits 4 8" in out
    with Store(tmp_path) as store:
        assert len(store) >= stored >= 1
