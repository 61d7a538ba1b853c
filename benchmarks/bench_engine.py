"""Start-up of the experiments' engine and what it adds to a run, on an otherwise idle machine.

Wanted on 2 cores: a cluster within 1.5 s, a first result within 5 s, under 10 ms a run.
"""

import tempfile
import time
from dataclasses import dataclass

from experiments.lab.engine import Engine
from experiments.lab.run import Outcome, Run
from experiments.lab.store import Store


@dataclass(frozen=True)
class Nothing(Run):
    """A run that takes no time."""

    number: int

    def label(self) -> str:
        return f"nothing {self.number}"

    def execute(self, store: object) -> Outcome:
        return Outcome({"value": float(self.number)}, {})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store, Engine(2) as engine:
        begin = time.perf_counter()
        engine._started(2)
        print(f"cluster {time.perf_counter() - begin:.2f} s")
        engine.execute("bench", [Nothing(0)], store)
        print(f"first result {time.perf_counter() - begin:.2f} s")
        begin = time.perf_counter()
        engine.execute("bench", [Nothing(n) for n in range(1, 501)], store)
        print(f"{(time.perf_counter() - begin) / 500 * 1e3:.1f} ms a run")
