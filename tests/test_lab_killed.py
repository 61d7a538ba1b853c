"""SIGKILL, fifty times, of the command and of its workers: nothing is lost or different."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch

from experiments.lab.engine import share
from experiments.lab.store import Store
from tests._killed import runs

KILLS = 50
HERE = Path(__file__).resolve().parent


def started(out: Path, log: Path, workers: int = 2) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(HERE.parent), *sys.path])
    main = "from tests._killed import main; main()"
    command = [sys.executable, "-c", main, str(out), str(log), str(workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=HERE.parent, env=environment, **quiet)


def lines(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def spawned(process: psutil.Process) -> list[psutil.Process]:
    """Its workers, which run trainings."""
    found = []
    for child in process.children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "killed"
    draw, killed = random.Random(0), Counter[str]()
    process = started(out, log)
    try:
        while sum(killed.values()) < KILLS:
            before, limit = len(lines(log)), time.monotonic() + 400
            while len(lines(log)) <= before and time.monotonic() < limit:  # it gets on
                assert process.poll() is None, "it ended before all kills: too little work"
                time.sleep(0.02)
            assert len(lines(log)) > before, f"nothing went on after {dict(killed)}"
            time.sleep(0.2 * draw.random())
            family = psutil.Process(process.pid)
            workers = spawned(family)
            if sum(killed.values()) % 2 and workers:
                draw.choice(workers).send_signal(signal.SIGKILL)
                killed["worker"] += 1
                continue
            others = family.children(recursive=True)
            process.kill()
            process.wait()
            killed["command"] += 1
            patience = 5 / share()  # where other programs leave less, what ends takes longer
            _, left = psutil.wait_procs(others, timeout=patience)
            assert not left, f"{left} lived on for {patience:.0f} s"
            process = started(out, log)
        assert process.wait(timeout=600) == 0
    finally:
        process.kill()
        process.wait()
    assert min(killed.values()) >= KILLS // 2 - 5
    again = Counter(lines(log))
    assert max(again.values()) == 1, "an epoch whose state was kept was computed again"
    assert not list((out / "states").iterdir())

    whole, other = tmp_path / "whole", tmp_path / "log of whole"
    assert started(whole, other, workers=1).wait(timeout=600) == 0
    with Store(out, write=False) as one, Store(whole, write=False) as two:
        for mine, his in zip(runs(str(log)), runs(str(other)), strict=True):
            assert repr(mine).replace(str(log), str(other)) == repr(his)
            a, b = one[mine], two[his]
            assert a.metrics == b.metrics and a.curves == b.curves
            states = one.network(mine), two.network(his)
            assert states[0].keys() == states[1].keys()
            for name, value in states[0].items():
                same = states[1][name]
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, same), name
                else:
                    assert value == same, name
