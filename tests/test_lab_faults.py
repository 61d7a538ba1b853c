"""What may go wrong around runs: killed workers, damaged files, full disks, edited code."""

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

import crossbar as xb
from experiments.lab import worker
from experiments.lab.bench import Bench, Checkpoints
from experiments.lab.engine import Engine, RunsFailed
from experiments.lab.fingerprint import behind, fingerprint
from experiments.lab.run import Outcome, Run, Stored, code_of, key
from experiments.lab.schema import VERSION
from experiments.lab.store import Store, StoreError
from experiments.tasks.data import Digits
from experiments.tasks.families import PULSES, families, pcm
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe


@dataclass(frozen=True)
class Fatal(Run):
    """Kills its worker as often as `times` says; notes in `log` that it ran."""

    log: str
    times: int
    number: int = 0

    def label(self) -> str:
        return f"fatal {self.number}"

    def execute(self, store: Stored) -> Outcome:
        with open(self.log, "a") as file:
            file.write(f"{self.number}\n")
        if Path(self.log).read_text().split().count(str(self.number)) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome({"value": 1.0, "nothing": float("nan"), "much": float("inf")}, {})


@dataclass(frozen=True)
class Kept(Run):
    """Keeps a network."""

    value: float
    log: str = ""

    def label(self) -> str:
        return f"kept {self.value:g}"

    def execute(self, store: Stored) -> Outcome:
        with open(self.log, "a") as file:
            file.write(f"{self.value:g}\n")
        return Outcome({"value": self.value}, {}, {"w": torch.full((50,), self.value)})


@dataclass(frozen=True)
class Reads(Run):
    """Reads another's network."""

    of: Kept

    def needs(self) -> tuple[Run, ...]:
        return (self.of,)

    def label(self) -> str:
        return "reads"

    def execute(self, store: Stored) -> Outcome:
        return Outcome({"value": float(store.network(self.of)["w"].sum())}, {})


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(workers=2) as engine:
        yield engine


def test_a_killed_worker_costs_its_run_alone(tmp_path: Path, engine: Engine) -> None:
    log = str(tmp_path / "log")
    runs = [Fatal(log, times=1), *(Fatal(log, times=0, number=n) for n in range(1, 6))]
    with Store(tmp_path / "out") as store:
        engine.execute("test", runs, store)
        assert all(run in store for run in runs)
    ran = sorted(Path(log).read_text().split())
    assert ran[:2] == ["0", "0"]  # once more
    assert len(set(ran)) == 6 and len(ran) <= 8  # and what waited at that worker, perhaps


@pytest.mark.slow
def test_a_run_that_kills_every_worker_is_given_up(tmp_path: Path, engine: Engine) -> None:
    log = str(tmp_path / "log")
    bad, good = Fatal(log, times=99), Fatal(log, times=0, number=1)
    with Store(tmp_path / "out") as store:
        with pytest.raises(RunsFailed, match="its worker died 3 times"):
            engine.execute("test", [bad, good], store)
        assert good in store and bad not in store
        assert [label for _, label, _ in store.failures()] == ["fatal 0"]


def test_numbers_that_json_lacks_come_back(tmp_path: Path, engine: Engine) -> None:
    run = Fatal(str(tmp_path / "log"), times=0)
    with Store(tmp_path) as store:
        engine.execute("test", [run], store)
        found = store[run].metrics
    assert found["nothing"] != found["nothing"] and found["much"] == float("inf")
    database = sqlite3.connect(tmp_path / "results.sqlite")
    (valid,) = database.execute("SELECT min(json_valid(metrics)) FROM runs").fetchone()
    assert valid == 1


@pytest.mark.parametrize("damage", ["truncated", "same length", "gone"])
def test_a_damaged_network_is_made_again(tmp_path: Path, engine: Engine, damage: str) -> None:
    kept = Kept(2.0, str(tmp_path / "log"))
    with Store(tmp_path / "out") as store:
        engine.execute("test", [kept], store)
        path = store.networks / f"{key(kept)}.pt"
        whole = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(whole[:50] if damage == "truncated" else bytes(len(whole)))
        engine.execute("test", [Reads(kept)], store)
        assert store[Reads(kept)].metrics["value"] == 100.0
        assert path.stat().st_size == len(whole)
    assert (tmp_path / "log").read_text().split() == ["2", "2"]


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first = Kept(1.0, str(tmp_path / "log"))
        store.put("test", first, Outcome({"value": 1.0}, {}), 0.0)
        store._db.execute("PRAGMA max_page_count = 14")
        with pytest.raises(StoreError, match="no room left to write to .*still holds"):
            for n in range(2, 300):
                store.put("test", Kept(float(n)), Outcome({}, {"long": [0.5] * 300}), 0.0)
        held = len(store)
        assert store[first].metrics["value"] == 1.0
    with Store(tmp_path) as store:
        assert len(store) == held


def test_a_disk_that_is_full_for_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with Store(tmp_path) as store:
        with pytest.raises(StoreError, match="No space left on device"):
            store.put("test", Kept(1.0), Outcome({}, {}, {"w": torch.zeros(2)}), 0.0)
        assert not list(store.networks.iterdir()) and len(store) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: out.write_text("x"), "is a file; results need a folder"),
        (lambda out: (out / "results.sqlite").write_text("no database" * 99), "damaged or no SQL"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path: Path, spoil, message: str) -> None:
    out = tmp_path / "out"
    if "file" not in message:
        out.mkdir()
    spoil(out)
    with pytest.raises(StoreError, match=message) as error:
        Store(out)
    assert "\n" not in str(error.value)


def test_a_folder_is_read_without_a_trace(tmp_path: Path) -> None:
    run = Kept(1.0)
    with Store(tmp_path) as store:
        store.put("test", run, Outcome({"value": 3.0}, {}), 0.0)
    before = sorted(p.name for p in tmp_path.iterdir())
    with Store(tmp_path, write=False) as store:
        assert store[run].metrics["value"] == 3.0
        with pytest.raises(StoreError, match="cannot be written to"):
            store.put("test", run, Outcome({}, {}), 0.0)
    assert sorted(p.name for p in tmp_path.iterdir() if "-" not in p.name) == before
    with pytest.raises(StoreError, match="there are no results in"):
        Store(tmp_path / "nowhere", write=False)


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        (store.networks / ".abc.999999999").write_bytes(b"half")
        mine = store.networks / f".abc.{os.getpid()}"
        mine.write_bytes(b"being written")
    with Store(tmp_path):
        assert [p.name for p in (tmp_path / "networks").iterdir()] == [mine.name]


def test_claims_of_the_dead_are_free(tmp_path: Path) -> None:
    with Store(tmp_path) as one, Store(tmp_path) as two:
        assert one.claim("a") and two.claim("a")  # the same process
        me = psutil.Process()
        for pid, started, free in (
            (me.pid, me.create_time() - 50.0, True),  # the number of an earlier process
            (999_999_999, 0.0, True),
            (os.getppid(), psutil.Process(os.getppid()).create_time(), False),
        ):
            host = one._db.execute("SELECT host FROM claims").fetchone()[0]
            one._db.execute("REPLACE INTO claims VALUES ('b', ?, ?, ?)", (host, pid, started))
            assert two.claim("b") is free
        one.release()
        assert one._db.execute("SELECT count(*) FROM claims").fetchone()[0] == 1  # the parent's


def test_an_older_file_is_brought_up(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "results.sqlite")
    database.execute(
        "CREATE TABLE results (key TEXT PRIMARY KEY, study TEXT NOT NULL, kind TEXT NOT NULL, "
        "settings TEXT NOT NULL, metrics TEXT NOT NULL, curves TEXT NOT NULL, "
        "network INTEGER NOT NULL, seconds REAL NOT NULL, finished TEXT NOT NULL, "
        "versions TEXT NOT NULL) STRICT"
    )
    row = ("k", "s", "Kept", "Kept(value=1.0)", '{"a": NaN, "b": 2.0}', '{"c": [1.0, -Infinity]}')
    for name, network in (("k", 1), ("l", 0)):
        values = (name, *row[1:], network, 1.5, "2026-01-01", '{"torch": "2.13"}')
        database.execute("INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?)", values)
    database.commit()
    database.close()
    with Store(tmp_path) as store:
        assert store._db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        first, second = store.rows()
        assert first.metrics["a"] != first.metrics["a"] and first.metrics["b"] == 2.0
        assert first.curves == {"c": [1.0, float("-inf")]}
        assert first.network and not second.network
        assert first.environment == {"torch": "2.13"}
        assert not store.has("k") and store.has("l")  # the network of k is not there
    with Store(tmp_path) as store:
        store._db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreError, match="use the program that wrote it"):
        Store(tmp_path)


@pytest.mark.parametrize("package", [False, True])
def test_the_key_follows_modules_of_ones_own(
    tmp_path: Path, package: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    top = "own_package" if package else "own_law"
    folder = tmp_path / top if package else tmp_path
    folder.mkdir(exist_ok=True)
    helper = ".own_maths" if package else "own_maths"
    (folder / "own_law.py").write_text(f"def law():\n    from {helper} import value\n")

    def of(text: str) -> str:
        (folder / "own_maths.py").write_text(text)
        for cached in (fingerprint, behind):
            cached.cache_clear()
        return fingerprint((f"{top}.own_law" if package else top,))

    first = of("def value(): return 1.0\n")
    assert of('def value():\n    """A word."""\n    return 1.0  # note\n') == first
    assert of("def value(): return 2.0\n") != first
    assert of("def value(): return 1.0\n") == first
    assert list((tmp_path / "cache").rglob("sources-*.json"))


def test_a_package_that_refuses_to_be_imported_stops_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("assert False, 'another platform'\n")
    (tmp_path / "own_guarded_law.py").write_text("import elsewhere.part\n")
    fingerprint.cache_clear(), behind.cache_clear()
    assert "own_guarded_law" in behind(("own_guarded_law",))


def test_packages_of_an_environment_below_count_by_their_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `venv --system-site-packages`, or installed with `--user`: not read module by module."""
    folder = tmp_path / "lib" / "python3" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "own_installed.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(folder)
    behind.cache_clear()
    assert behind(("own_installed",)) == {}


def test_a_worker_refuses_code_that_the_parent_did_not_see() -> None:
    module = "experiments.tasks.networks"
    right = {module: worker.digest_of(module)}
    worker._check(pickle.dumps(right))
    with pytest.raises(worker.SourceChanged, match=r"source of experiments\.tasks\.networks is"):
        worker._check(pickle.dumps({module: "0" * 24}))


def test_settings_without_a_repr_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="repr that evaluates back"):
        key(Kept(1.0, log=object()))  # type: ignore[arg-type]
    assert code_of(Kept(1.0)) == code_of(Kept(2.0))


TRAININGS = {
    "digital": (None, None),
    "in situ": (families()["soft"].chip, PULSES),
    "hardware-aware": (pcm(), xb.HardwareAware()),
}


class Stopped(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("name", TRAININGS)
def test_an_interrupted_training_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    chip, mode = TRAININGS[name]
    run = Train(Digits(), MLP((8,)), Recipe(epochs=3, batch=100, lr=0.2), chip, mode, seed=3)
    told: list[int] = []

    class Kill(Checkpoints):
        every = 0.0

        def epoch(self, done: int, *rest: object) -> None:
            super().epoch(done, *rest)  # type: ignore[arg-type]
            if done == 2:
                raise Stopped

    class Killed(Bench):
        def watch(self, run: Run) -> Checkpoints:
            return Kill(tmp_path / "state.pt")

    class Resumed(Bench):
        def watch(self, run: Run) -> Checkpoints:
            return Checkpoints(tmp_path / "state.pt", lambda done, *_: told.append(done))

    whole = run.execute(Bench("x", {}))
    with pytest.raises(Stopped):
        run.execute(Killed("x", {}))
    torch.manual_seed(99)
    again = run.execute(Resumed("x", {}))
    assert told == [3]  # nothing before the state is computed again
    assert again.metrics == whole.metrics and again.curves == whole.curves
    assert whole.network is not None and again.network is not None
    for field, value in whole.network.items():
        other = again.network[field]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


def test_a_damaged_state_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no state")
    assert Checkpoints(tmp_path / "state.pt").resume() is None


TWO = """
import sys
from test_experiments_runner import Number, Sum
from experiments.lab.fingerprint import behind, fingerprint
from experiments.lab.engine import execute
from experiments.lab.store import Store
if __name__ == "__main__":
    folder, log = sys.argv[1:]
    runs = [Number(float(n), log, seconds=0.3) for n in range(24)]
    with Store(folder) as store:
        execute("test", [Sum(tuple(runs))], store, workers=1)
        assert store[Sum(tuple(runs))].metrics["value"] == sum(range(24))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_two_processes_share_the_work(tmp_path: Path, kill: bool) -> None:
    script, log, out = tmp_path / "script.py", tmp_path / "log", str(tmp_path / "out")
    script.write_text(TWO)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, str(script), out, str(log)]
    both = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) for _ in range(2)]
    if kill:
        while not log.exists() or len(log.read_text().split()) < 6:
            assert both[0].poll() is None
        both[0].kill()  # and not waited for: the other sees that it is dead
    assert both[1].wait(timeout=200) == 0
    if kill:
        both[0].wait()
    else:
        assert both[0].wait(timeout=200) == 0
    ran = log.read_text().split()
    assert len(set(ran)) == 24
    assert len(ran) == 24 or (kill and len(ran) <= 28)  # what was lost on its way is done again
