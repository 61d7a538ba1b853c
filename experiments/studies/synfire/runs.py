"""Packets through one chain."""

from __future__ import annotations

from dataclasses import dataclass

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, StuckAt
from experiments.lab.run import Outcome, Run, Stored

ALIVE = 50
"""Spikes of the last group in 4 ms from which a packet has survived."""


@dataclass(frozen=True)
class Packets(Run):
    """So many packets of one size through ten groups of 100 whose cells are stuck off by chance."""

    spikes: int
    jitter: float  # [ms]
    stuck: float
    gained: bool  # whether arrays are read with a gain of 1/(1 − stuck)
    trials: int
    seed: int = 0

    def label(self) -> str:  # noqa: D102
        return f"{self.spikes} spikes, {self.stuck:.0%} stuck"

    def cost(self) -> float:  # noqa: D102
        return 0.15 * self.trials

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        cell = Device(0.0, 1e-5, faults=StuckAt(p_off=self.stuck) if self.stuck else None)
        counts = sp.Synfire().run(
            self.spikes,
            self.jitter,
            trials=self.trials,
            chip=xb.Chip(cell, xb.Unipolar()),
            gain=1 / (1 - self.stuck) if self.gained else 1.0,
            seed=self.seed,
        )
        share = float((counts[:, -1] > ALIVE).double().mean())
        return Outcome({"alive": share}, {"spikes": counts.double().mean(0).tolist()})
