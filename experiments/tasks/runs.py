"""The runs that most studies are made of: train a network, program and re-chip it, pulse a device.

Everything that a run depends on is in its fields; the same fields give the same result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

import crossbar as xb
from devices import Device, Pulses
from experiments.lab.run import Outcome, Row, Run, Stored
from experiments.tasks.data import DataSet, Images
from experiments.tasks.networks import Network
from experiments.tasks.training import Best, Recipe, train, watched


@dataclass(frozen=True)
class Train(Run):
    """Train a network: digitally (no chip), in situ or hardware-aware (the mode says which).

    `held_out` trains without a validation part of the training images and scores on that part
    instead of the test images: learning rates are chosen there and nowhere else.
    """

    data: DataSet
    network: Network
    recipe: Recipe
    chip: xb.Chip | None = None
    mode: xb.Mode | None = None
    seed: int = 0
    held_out: bool = False

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return self.trials()

    def trials(self) -> tuple[Train, ...]:
        """One run per learning rate of the grid, all of seed 0 and scored on the held-out part."""
        if not isinstance(self.recipe.lr, Best):
            return ()
        return tuple(
            replace(self, recipe=replace(self.recipe, lr=lr), seed=0, held_out=True)
            for lr in self.recipe.lr.grid
        )

    def cost(self) -> float:  # noqa: D102
        arrays = len(self.mode.slots()) if self.mode is not None else 1
        step = 0.8e-3 if self.chip is None else 4e-3 * (2 * arrays - 1)
        if "CNN" in type(self.network).__name__:
            step *= 3
        return 0.2 + self.recipe.epochs * math.ceil(1350 / self.recipe.batch) * step

    def label(self) -> str:  # noqa: D102
        how = "digital" if self.chip is None else type(self.mode or xb.HardwareAware()).__name__
        rate = f" lr {self.recipe.lr:g}" if isinstance(self.recipe.lr, float) else ""
        return f"{type(self.network).__name__} {how}{rate} seed {self.seed}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.data.load()
        if self.held_out:
            images = images.held_out()
        lr = self.chosen_lr(store)
        model = self.model(images)
        optimiser = self.optimiser(model, lr)
        curves = train(model, optimiser, images, self.recipe, lr, self.seed, store.watch(self))
        accuracy, loss, clipped = watched(model, images.x_test, images.y_test)
        return Outcome(
            metrics={"accuracy": accuracy, "loss": loss, "lr": lr, **clipped, **curves.clipped},
            curves={"loss": curves.loss, "accuracy": curves.accuracy},
            network=None if self.held_out else model.state_dict(),
        )

    def chosen_lr(self, store: Stored) -> float:
        """The learning rate, looked up in the stored trials where it is to be the best of a grid.

        Best is the highest accuracy over the last epochs, the lower loss among equals.
        """
        if not isinstance(self.recipe.lr, Best):
            return self.recipe.lr

        def merit(trial: Train) -> tuple[float, float]:
            row = store[trial]
            return trial.late_accuracy(row), -row.metrics["loss"]

        rate = max(self.trials(), key=merit).recipe.lr
        assert isinstance(rate, float)
        return rate

    def late_accuracy(self, row: Row) -> float:
        """Mean accuracy of the last three epochs; 0 where the loss ceased to be finite."""
        accuracy = row.curves["accuracy"]
        if len(accuracy) < self.recipe.epochs:
            return 0.0
        return sum(accuracy[-3:]) / len(accuracy[-3:])

    def optimiser(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Pulses for cells in situ, torch's own descent for what is digital."""
        if isinstance(self.mode, xb.InSitu):
            return xb.InSituSGD(model, lr=lr)
        return torch.optim.SGD(model.parameters(), lr=lr)

    def model(self, images: Images) -> nn.Module:
        """The network before training, on its chip."""
        net = self.network.build(images.shape, classes=10, seed=self.seed)
        if self.chip is None:
            return net
        return xb.convert(net, self.chip, mode=self.mode or xb.HardwareAware(), seed=self.seed)

    def trained(self, store: Stored, images: Images) -> nn.Module:
        """The network as training left it."""
        model = self.model(images)
        model.load_state_dict(store.network(self))
        return model


@dataclass(frozen=True)
class Evaluate(Run):
    """Put a trained network onto a chip and score it, at once or after some times [s].

    A network trained digitally or hardware-aware is programmed onto the devices, chip `seed`; one
    trained in situ keeps the state of its devices and gets the new chip's noise, converters,
    drift and faults on top.
    """

    of: Train
    chip: xb.Chip
    after: tuple[float, ...] = (0.0,)
    seed: int = 0

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.of,)

    def cost(self) -> float:  # noqa: D102
        return 0.1 + 0.02 * len(self.after)

    def label(self) -> str:  # noqa: D102
        return f"evaluate: {self.of.label()}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.of.data.load()
        model = self.of.trained(store, images)
        if isinstance(self.of.mode, xb.InSitu):
            model = xb.convert(model, self.chip, mode=self.of.mode, seed=self.seed)
        else:
            model = xb.convert(model, self.chip, mode=xb.HardwareAware(), seed=self.seed)
            xb.reseed(model, self.seed)  # a hardware-aware network would keep its seed
            xb.program(model)
        accuracy, now, clipped = [], 0.0, {}
        for time in self.after:
            if time > now:
                xb.advance(model, time - now)
                now = time
            found, _, shares = watched(model, images.x_test, images.y_test)
            accuracy.append(found)
            clipped = clipped or shares  # of the first time
        return Outcome(
            metrics={"accuracy": accuracy[0], "last": accuracy[-1], **clipped},
            curves={"time": list(self.after), "accuracy": accuracy},
        )


@dataclass(frozen=True)
class Response(Run):
    """Conductance of some cells while `pulses` up pulses and as many down pulses arrive."""

    device: Device
    pulses: int
    cells: int = 20
    seed: int = 0

    def cost(self) -> float:  # noqa: D102
        return 0.2

    def label(self) -> str:  # noqa: D102
        return "response to pulses"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        generator = torch.Generator().manual_seed(self.seed)
        state = self.device.fabricate((self.cells,), generator=generator)
        start = torch.full((self.cells,), self.device.g_min)
        state = self.device.program(state, start, generator=generator)
        one, none = torch.ones(self.cells), torch.zeros(self.cells)
        trace = [state.g]
        for pulse in [Pulses(one, none)] * self.pulses + [Pulses(none, one)] * self.pulses:
            state = self.device.pulse(state, pulse, generator=generator)
            trace.append(state.g)
        g = torch.stack(trace)  # (1 + 2 pulses, cells) [S]
        return Outcome(
            metrics={"range": float(g.max() - g.min())},
            curves={"mean": g.mean(1).tolist(), "std": g.std(1).tolist(), "cell": g[:, 0].tolist()},
        )
