"""Numbers of a plan, looked up in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.studies.robustness.plan import Plan
from experiments.tasks.runs import Evaluate, Train

WAYS = {"digital": "trained digitally", "aware": "trained hardware-aware"}
"""How the networks that are programmed were trained."""


@dataclass(frozen=True)
class Results:
    """The stored results of a plan, one entry per repeat."""

    plan: Plan
    store: Store

    def accuracy(self, make: Callable[[int], Train]) -> list[float]:
        """Test accuracy of every seed [%]."""
        return [self.store[make(seed)].metrics["accuracy"] for seed in self.plan.seeds]

    def digital(self, network: str) -> list[float]:
        """Accuracy of the digital network, per seed."""
        return self.accuracy(lambda seed: self.plan.digital(network, seed))

    def in_situ(self, network: str, family: str) -> list[float]:
        """Accuracy after training on the devices, per seed."""
        return self.accuracy(lambda seed: self.plan.in_situ(network, family, seed))

    def aware(self, network: str) -> list[float]:
        """Accuracy of the hardware-aware network before programming, per seed."""
        return self.accuracy(lambda seed: self.plan.aware(network, seed))

    def clipped(self, runs: Iterable[Run]) -> float:
        """Largest share of conversions at full scale of any weight of these runs [%]."""
        metrics = [self.store[run].metrics.items() for run in runs]
        shares = [v for found in metrics for name, v in found if name.startswith("clipped ")]
        return max(shares, default=0.0)

    def chips(self, network: str, way: str) -> list[Evaluate]:
        """Every programming of the networks of all seeds."""
        make = self.plan.digital if way == "digital" else self.plan.aware
        return [
            self.plan.programmed(make(network, seed), copy)
            for seed in self.plan.seeds
            for copy in range(self.plan.budget.chips)
        ]

    def programmed(self, network: str, way: str) -> list[list[float]]:
        """Accuracy at each of the times, one list per chip of each seed."""
        return [self.store[run].curves["accuracy"] for run in self.chips(network, way)]

    def evaluated(self, make: Callable[[int], Evaluate]) -> list[list[float]]:
        """Accuracy at the run's times, one list per seed."""
        return [self.store[make(seed)].curves["accuracy"] for seed in self.plan.seeds]


def column(rows: Sequence[Sequence[float]], index: int) -> list[float]:
    """One entry of every row."""
    return [row[index] for row in rows]
