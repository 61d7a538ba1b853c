"""Runs of the circuit study: a trained network behind wires, and the fields of one array."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import crossbar as xb
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe, score, train


@dataclass(frozen=True)
class Wired(Run):
    """A digitally trained network written onto a chip with wires, and what compensation brings.

    Reordering and calibration see the first 256 training images. The largest weight takes a quarter
    of the window: predistorted cells far from their drivers need room above it.
    """

    of: Train
    chip: xb.Chip
    reorder: bool = False
    predistort: bool = False
    calibrate: bool = False
    seed: int = 0

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.of,)

    def cost(self) -> float:  # noqa: D102
        return 0.6 + 2.0 * self.predistort

    def label(self) -> str:  # noqa: D102
        names = ("reorder", "predistort", "calibrate")
        used = "+".join(name for name in names if getattr(self, name))
        return f"wired{' ' if used else ''}{used} seed {self.seed}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.of.data.load()
        digital = self.of.trained(store, images)
        roomy = xb.HardwareAware(headroom=4.0)
        model = xb.program(xb.convert(digital, self.chip, mode=roomy, seed=self.seed))
        batches = [images.x_train[:256]]
        if self.reorder:
            # predistorted columns need no balance between rows of more and less use
            xb.reorder(model, None if self.calibrate else batches)
        if self.predistort:
            xb.predistort(model)
        if self.calibrate:
            xb.calibrate_columns(model, batches)
        with torch.no_grad():
            wanted = digital(images.x_test)
            error = (model(images.x_test) - wanted).norm() / wanted.norm()
        return Outcome(
            metrics={
                "accuracy": score(model, images.x_test, images.y_test)[0],
                "error": float(error),
            },
            curves={},
        )


@dataclass(frozen=True)
class Tuned(Run):
    """A digitally trained network trained on through the wires, a few epochs at one rate.

    Hardware-aware with Adam, or in situ with pulses; `calibrate` fits the columns beforehand.
    """

    of: Train
    chip: xb.Chip
    mode: xb.Mode
    lr: float
    epochs: int = 3
    calibrate: bool = False
    seed: int = 0

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.of,)

    def cost(self) -> float:  # noqa: D102
        exact = self.chip.wires is not None and self.chip.solver is None
        return self.epochs * (4.0 if exact else 0.5)

    def label(self) -> str:  # noqa: D102
        return f"tuned {type(self.mode).__name__} seed {self.seed}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.of.data.load()
        digital = self.of.trained(store, images)
        model = xb.convert(digital, self.chip, mode=self.mode, seed=self.seed)
        if self.calibrate:
            xb.calibrate_columns(model, [images.x_train[:256]])
        before = score(model, images.x_test, images.y_test)[0]
        optimiser: torch.optim.Optimizer
        if isinstance(self.mode, xb.InSitu):
            optimiser = xb.InSituSGD(model, lr=self.lr)
        else:
            optimiser = torch.optim.Adam(model.parameters(), lr=self.lr)
        recipe = Recipe(epochs=self.epochs, batch=32, lr=self.lr)
        curves = train(model, optimiser, images, recipe, self.lr, self.seed)
        accuracy, loss = score(model, images.x_test, images.y_test)
        return Outcome(
            metrics={"accuracy": accuracy, "loss": loss, "before": before},
            curves={"accuracy": curves.accuracy, "loss": curves.loss},
        )


@dataclass(frozen=True)
class Fields(Run):
    """Voltages and currents inside one array of random cells, all rows driven."""

    rows: int
    cols: int
    wires: xb.Wires
    g_min: float
    g_max: float
    v: float = 0.2
    seed: int = 0

    def cost(self) -> float:  # noqa: D102
        return 0.3

    def label(self) -> str:  # noqa: D102
        return f"fields of a {self.rows} x {self.cols} array"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        generator = torch.Generator().manual_seed(self.seed)
        g = torch.rand(self.rows, self.cols, generator=generator, dtype=torch.float64)
        g = self.g_min + (self.g_max - self.g_min) * g
        network = xb.prepare(g, self.wires)
        found = network.fields(torch.full((self.rows,), self.v, dtype=torch.float64))
        loss = 1 - found.cell_voltage / self.v
        ideal = self.v * g.sum(0)
        return Outcome(
            metrics={
                "kappa": network.kappa,
                "residual": found.residual,
                "power": float(found.power),
                "loss": float(1 - found.output.sum() / ideal.sum()),
            },
            curves={
                "wordline voltage": found.wordline_voltage.flatten().tolist(),
                "bitline voltage": found.bitline_voltage.flatten().tolist(),
                "IR-drop loss": loss.flatten().tolist(),
                "cell current": found.cell_current.flatten().tolist(),
                "wordline current": found.wordline_current.flatten().tolist(),
                "bitline current": found.bitline_current.flatten().tolist(),
            },
        )
