"""Runs that several published studies are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

import crossbar as xb
from devices import Device, SoftBounds
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.runs import Train
from experiments.tasks.training import score


@dataclass(frozen=True)
class Clipped(Train):
    """Training that clips weights beyond so many standard deviations of their column."""

    sigmas: float = 2.5

    def optimiser(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:  # noqa: D102
        made = super().optimiser(model, lr)
        xb.Clip(sigmas=self.sigmas).after(made, model)
        return made


@dataclass(frozen=True)
class Written(Run):
    """A trained network written onto chips `0` … `chips − 1`, read after some times [s].

    An ADC that is calibrated sees the training images; with `compensated` one digital factor for
    the whole model, measured right after writing, is measured again at every time.
    """

    of: Train
    chip: xb.Chip
    chips: int = 5
    after: tuple[float, ...] = (0.0,)
    compensated: bool = False

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.of,)

    def cost(self) -> float:  # noqa: D102
        return 0.03 * self.chips * len(self.after)

    def label(self) -> str:  # noqa: D102
        return f"{self.chips} chips of {self.of.label()}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.of.data.load()
        trained = self.of.trained(store, images)
        means = [0.0] * len(self.after)
        for seed in range(self.chips):
            model = xb.convert(trained, self.chip, mode=xb.HardwareAware(), seed=seed)
            xb.reseed(model, seed)  # a hardware-aware network would keep its seed
            xb.program(model)
            if self.chip.forward.calibrated:
                xb.calibrate(model, [images.x_train])
            compensation, now = xb.GlobalCompensation(), 0.0
            compensation.refer(model)
            for k, time in enumerate(self.after):
                if time > now:
                    xb.advance(model, time - now)
                    now = time
                if self.compensated:
                    compensation.apply(model)
                means[k] += score(model, images.x_test, images.y_test)[0] / self.chips
        return Outcome({"accuracy": means[0]}, {"time": list(self.after), "accuracy": means})


@dataclass(frozen=True)
class Rest(Run):
    """Where weights settle that are pulled to w* = ½ by gradients with noise 1, on soft bounds ±1.

    Trains hold the gradient: dw = lr/25 and 160 bits, six times its spread. `weights` in ten
    groups, from 15/lr steps of which the last three quarters count.
    """

    lr: float
    weights: int

    def cost(self) -> float:  # noqa: D102
        return 2e-6 * self.weights * 15 / self.lr

    def label(self) -> str:  # noqa: D102
        return f"rest of {self.weights} weights, lr {self.lr:g}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        steps, shape = round(15 / self.lr), (self.weights, 1)
        cell = Device(0.0, 1e-4, update=SoftBounds(self.lr / 25 * 0.5e-4))
        chip = xb.Chip(cell, xb.Differential(route=xb.Reference(), w_max=1.0))
        array = xb.matrix(torch.full(shape, 0.275, dtype=torch.float64), chip, seed=0)
        draw = torch.Generator().manual_seed(0)
        one, total = torch.ones(1, 1, dtype=torch.float64), torch.zeros(10, dtype=torch.float64)
        first = steps // 4
        for step in range(steps):
            w = array.weight
            if step >= first:
                total += w.view(10, -1).mean(1)
            noise = torch.randn(1, self.weights, generator=draw, dtype=torch.float64)
            array.update(one, w - 0.5 + noise, self.lr, xb.ExactBits(160))
        means = total / (steps - first)
        return Outcome({"mean": float(means.mean())}, {"mean": means.tolist()})

    @staticmethod
    def closed() -> float:
        """w = w*/(1 + E|g|/τ), τ = 1, with E|g| of N(w − w*, 1) found along."""
        w = 0.3
        for _ in range(100):
            m = w - 0.5
            folded = math.sqrt(2 / math.pi) * math.exp(-m * m / 2) + m * math.erf(m / math.sqrt(2))
            w = 0.5 / (1 + folded)
        return w
