"""Many chips of one kind with one trained network on each."""

from __future__ import annotations

from dataclasses import dataclass

import crossbar as xb
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.runs import Train
from experiments.tasks.training import score


@dataclass(frozen=True)
class Chips(Run):
    """The network written onto chips `first` … `first + count − 1`, each read `after` seconds."""

    of: Train
    chip: xb.Chip
    first: int
    count: int
    after: float = 0.0

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.of,)

    def cost(self) -> float:  # noqa: D102
        return 0.03 * self.count

    def label(self) -> str:  # noqa: D102
        return f"chips {self.first} to {self.first + self.count - 1}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.of.data.load()
        trained, accuracy = self.of.trained(store, images), []
        for seed in range(self.first, self.first + self.count):
            model = xb.convert(trained, self.chip, mode=xb.HardwareAware(), seed=seed)
            xb.program(model)
            if self.after:
                xb.advance(model, self.after)
            accuracy.append(score(model, images.x_test, images.y_test)[0])
        return Outcome({"accuracy": sum(accuracy) / len(accuracy)}, {"accuracy": accuracy})
