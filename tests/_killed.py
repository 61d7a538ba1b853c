"""A command whose processes are killed: trainings that keep their state after every epoch.

python _killed.py OUT LOG [WORKERS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.lab.bench import Checkpoints
from experiments.lab.engine import execute
from experiments.lab.run import Outcome, Run, Stored, Watch
from experiments.lab.store import Store
from experiments.tasks.data import Digits
from experiments.tasks.families import PULSES, families
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe


class Noted(Watch):
    """Notes every epoch whose state is on disk."""

    def __init__(self, watch: Watch, seed: int, log: str) -> None:
        self.watch, self.seed, self.log = watch, seed, log

    def resume(self) -> dict[str, Any] | None:
        return self.watch.resume()

    def epoch(self, done: int, of: int, found: dict[str, float], state: Callable[[], Any]) -> None:
        Checkpoints.every = 0.0
        self.watch.epoch(done, of, found, state)
        with open(self.log, "a") as file:
            file.write(f"{self.seed}:{done}\n")


class Telling(Stored):
    """The results that a run may read, and `Noted`."""

    def __init__(self, store: Stored, seed: int, log: str) -> None:
        self.store, self.seed, self.log = store, seed, log

    def __getitem__(self, run: Run) -> Any:
        return self.store[run]

    def network(self, run: Run) -> Any:
        return self.store.network(run)

    def watch(self, run: Run) -> Watch:
        return Noted(self.store.watch(run), self.seed, self.log)


@dataclass(frozen=True)
class Long(Train):
    """A training that notes its epochs in a file."""

    log: str = ""

    def execute(self, store: Stored) -> Outcome:
        return super().execute(Telling(store, self.seed, self.log))


def runs(log: str, epochs: int = 40) -> list[Long]:
    """Three digital trainings and three in place."""
    recipe = Recipe(epochs=epochs, batch=100, lr=0.2)
    chips = [(None, None), (families()["soft"].chip, PULSES)]
    return [
        Long(Digits(), MLP((8,)), recipe, chip, mode, seed=3 * k + n, log=log)
        for n in range(3)
        for k, (chip, mode) in enumerate(chips)
    ]


def main() -> None:
    """Arguments: the folder of results, the file of notes, workers."""
    out, log, workers = sys.argv[1:]
    with Store(out) as store:
        execute("killed", runs(log), store, workers=int(workers))
