"""One reservoir on one task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, GaussianRead, GaussianWrite, VolatileStep
from experiments.lab.run import Outcome, Run, Stored

WASH, FIT, TRAIN = 200, 1500, 2000
RIDGES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)


def signals(task: str, horizon: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of as many steps."""
    n = WASH + 2 * TRAIN
    if task == "mackey-glass":
        x = sp.tasks.mackey_glass(n + horizon + 500 * (1 + seed))[500 * (1 + seed) :]
        return x[:n] - 0.9, x[horizon : n + horizon]
    draw = torch.Generator().manual_seed(seed)
    u = 0.5 * torch.rand(n + 11, generator=draw, dtype=torch.float64)
    if task == "second order":
        return u[:n], sp.tasks.second_order(u)[:n]
    return u[10:-1], sp.tasks.narma(u)[1:]


def fitted(states: Tensor, y: Tensor, error: float, seed: int) -> float:
    """RMSE/std on the test half of a readout written with an error; ridge by validation."""
    found = {}
    for ridge in RIDGES:
        fit = sp.Readout(states[:FIT], y[:FIT], ridge=ridge, error=error)
        found[sp.tasks.nrmse(fit(states[FIT:TRAIN]), y[FIT:TRAIN])] = ridge
    fit = sp.Readout(states[:TRAIN], y[:TRAIN], ridge=found[min(found)], error=error)
    if error:
        fit = fit.write(xb.Chip(Device(0.0, 1e-4, write=GaussianWrite(error))), seed=seed)
    return sp.tasks.nrmse(fit(states[TRAIN:]), y[TRAIN:])


@dataclass(frozen=True)
class Echo(Run):
    """An echo-state network of 200 on arrays whose cells are read with noise."""

    task: str
    horizon: int
    noise: float  # of each cell's read, relative to the window
    error: float  # of the readout, relative to its largest weight
    seed: int

    def label(self) -> str:  # noqa: D102
        return f"{self.task} {self.horizon}, {self.noise:.2%} read noise"

    def cost(self) -> float:  # noqa: D102
        return 4.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        u, y = signals(self.task, self.horizon, self.seed)
        cell = Device(0.0, 1e-4, read=GaussianRead(self.noise) if self.noise else None)
        how = {"signs": True, "scale": 0.8} if self.noise else {}
        net = sp.EchoState(200, chip=xb.Chip(cell), seed=self.seed, **how)
        states, y, u = net.run(u)[WASH:], y[WASH:], u[WASH:]
        error = fitted(states, y, self.error, self.seed)
        return Outcome({"error": error, "taps": sp.tap_error(u, y, TRAIN)}, {})


@dataclass(frozen=True)
class Volatile(Run):
    """Delayed inputs that an array projects onto 200 volatile cells."""

    task: str
    taps: int
    noise: float  # of the states
    error: float
    seed: int

    def label(self) -> str:  # noqa: D102
        return f"volatile cells, {self.task}, {self.noise:.1%}"

    def cost(self) -> float:  # noqa: D102
        return 6.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        u, y = signals(self.task, 1, self.seed)
        law = VolatileStep(tau=3.0, eta=2.0, reach=2.0, v_write=1.5, sigma_tau=0.5)
        net = sp.VolatileReservoir(
            Device(0.0, 1e-6, update=law),
            200,
            taps=self.taps,
            v_swing=0.5 if self.taps > 1 else 0.3,
            read_noise=self.noise,
            seed=self.seed,
        )
        states, y, u = net.run(u)[WASH:], y[WASH:], u[WASH:]
        error = fitted(states, y, self.error, self.seed)
        return Outcome({"error": error, "taps": sp.tap_error(u, y, TRAIN)}, {})
