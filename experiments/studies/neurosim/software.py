"""The same network in floating point: NeuroSim's reference row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.neurosim import CLASSES, HIDDEN, ROWS, outcome, pictures


@dataclass(frozen=True)
class Software(Run):
    """400-100-10 with sigmoids on the binarised digits, weights added in float, kept in [−1, 1]."""

    rates: tuple[float, float] = (0.4, 0.2)
    epochs: int = 100
    seeds: int = 10

    def cost(self) -> float:  # noqa: D102
        return 0.04 * self.epochs * self.seeds

    def label(self) -> str:  # noqa: D102
        return "floating point"

    @torch.inference_mode()
    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        train, test = pictures()
        targets = F.one_hot(train.y, CLASSES).float()
        streams = [torch.Generator().manual_seed(seed) for seed in range(self.seeds)]
        first = _first_weights(streams, ROWS, HIDDEN)
        second = _first_weights(streams, HIDDEN, CLASSES)
        rate1, rate2 = self.rates
        count = len(train.y)
        accuracy = []
        for _ in range(self.epochs):
            drawn = torch.stack([torch.randint(count, (count,), generator=s) for s in streams], 1)
            for images in drawn:
                x = train.x[images][:, None]  # (seeds, 1, pixels)
                a1 = torch.sigmoid(x @ first)
                a2 = torch.sigmoid(a1 @ second)
                e2 = 2 * a2 * (1 - a2) * (targets[images][:, None] - a2)
                e1 = a1 * (1 - a1) * (e2 @ second.mT)
                first.baddbmm_(x.mT, e1, alpha=rate1).clamp_(-1, 1)
                second.baddbmm_(a1.mT, e2, alpha=rate2).clamp_(-1, 1)
            right = (torch.sigmoid(test.x @ first) @ second).argmax(2) == test.y
            accuracy.append(100 * right.float().mean(1))
        return outcome(accuracy, {})


def _first_weights(streams: list[torch.Generator], rows: int, columns: int) -> Tensor:
    return torch.stack([torch.randint(7, (rows, columns), generator=s) / 3 - 1 for s in streams])
