"""A small network trained on one mapping, and what its arrays did."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import crossbar as xb
from devices import Device
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.training import Recipe, train

HIDDEN = (54,)


@dataclass(frozen=True)
class Trained(Run):
    """Digits on 8-bit converters in 32-row tiles: in situ, or hardware-aware and then written."""

    device: Device
    mapping: xb.Mapping
    in_situ: bool
    seed: int
    recipe: Recipe

    def label(self) -> str:  # noqa: D102
        return f"{type(self.mapping).__name__}, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 10.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = Digits().load()
        net = MLP(HIDDEN).build(images.shape, 10, seed=self.seed)
        port = xb.Periphery(xb.DAC(8), xb.ADC(8))
        chip = xb.Chip(self.device, self.mapping, forward=port, tile=(32, 64))
        mode = xb.InSitu() if self.in_situ else xb.HardwareAware()
        model = xb.convert(net, chip, mode=mode, seed=self.seed)
        assert isinstance(self.recipe.lr, float)
        rate = self.recipe.lr
        optimiser: torch.optim.Optimizer
        if self.in_situ:
            optimiser = xb.InSituSGD(model, lr=rate)
        else:
            optimiser = torch.optim.SGD(model.parameters(), lr=rate)
        with xb.observe(model, xb.Tally(model)) as training:
            curves = train(model, optimiser, images, self.recipe, rate, self.seed)
        if not self.in_situ:
            xb.program(model)
        with xb.observe(model, xb.Tally(model)) as reading, torch.no_grad():
            right = model.eval()(images.x_test).argmax(-1) == images.y_test
        receipt = xb.summary(model)
        weights = receipt.total("numel")
        return Outcome(
            {
                "accuracy": 100.0 * float(right.double().mean()),
                "devices": receipt.total("cells") / weights,
                "adcs": receipt.total("adcs") / receipt.total("tiles"),
                "clipped": 100.0 * max(n.clipped for n in reading.values()),
                "clipped training": 100.0 * max(n.clipped for n in training.values()),
                "pulses": sum(n.pulses for n in training.values()) / weights,
            },
            {"accuracy": curves.accuracy},
        )
