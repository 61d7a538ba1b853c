"""What a rule costs on one kind of cell: pulses, reads, memory and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

import crossbar as xb
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import DataSet
from experiments.tasks.networks import Network
from experiments.tasks.training import batches


class Pulsed(xb.Probe):
    """Counts the pulses of single devices, of each array."""

    def __init__(self) -> None:
        self.count: dict[Any, float] = {}

    def pulsed(self, matrix: Any, given: Any) -> None:  # noqa: D102
        n = sum(float((p.up + p.down).sum()) for p in given if p is not None)
        self.count[matrix] = self.count.get(matrix, 0.0) + n


@dataclass(frozen=True)
class Cost(Run):
    """A few steps at the start of training, counted, and as many more timed."""

    data: DataSet
    network: Network
    chip: xb.Chip
    rule: xb.Rule
    batch: int
    lr: float
    steps: int = 40

    def label(self) -> str:  # noqa: D102
        return f"cost of {type(self.rule).__name__}"

    def cost(self) -> float:  # noqa: D102
        return self.steps * 0.06

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.data.load().held_out()
        net = self.network.build(images.shape, classes=10, seed=0)
        model = xb.convert(net, self.chip, mode=xb.InSitu(rule=self.rule), seed=0)
        optimiser = xb.InSituSGD(model, self.lr)
        draw = torch.Generator().manual_seed(0)
        chosen = list(batches(images.x_train, images.y_train, self.batch, draw))[: 2 * self.steps]

        def trained(part: list[Any]) -> None:
            for x, y in part:
                optimiser.zero_grad()
                F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
                optimiser.step()

        probe = Pulsed()
        with xb.observe(model, probe):
            trained(chosen[: self.steps])
        start = time.process_time()
        trained(chosen[self.steps :])
        seconds = (time.process_time() - start) / max(len(chosen) - self.steps, 1)
        weights = xb.analog_weights(model).values()
        size = sum(torch.Size(w.matrix.lines).numel() for w in weights)
        vectors = self.steps * self.batch
        pulses = {"main": 0.0, "others": 0.0}
        memory = reads = 0.0
        for weight in weights:
            own = [m for _, m in weight.all()]
            for k, matrix in enumerate(own):
                kind = "main" if k == len(own) - 1 else "others"
                pulses[kind] += probe.count.get(matrix, 0.0) / size / vectors
            cost = self.rule.cost(own, self.batch)
            memory += cost.bytes * torch.Size(weight.matrix.lines).numel() / size
            reads += cost.reads
        return Outcome(
            {
                "pulses": pulses["main"],
                "other pulses": pulses["others"],
                "arrays": float(len(own) - 1),
                "bytes": memory,
                "reads": reads,
                "ms": 1e3 * seconds,
            },
            {},
        )
