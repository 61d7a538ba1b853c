"""A12: tables of the literature on MNIST, which the user brings; each figure to a point.

What a publication leaves open stands in the row's note, and is chosen before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

import crossbar as xb
from devices import Device, PowStep, SoftBounds, SoftBoundsReference, presets
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.data import Mnist
from experiments.tasks.materials import MATERIALS
from experiments.tasks.networks import Network
from experiments.tasks.neurosim import Mlp
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

WITHIN = 1.0  # points
SPAN = 98e-6  # [S] no number depends on it
WU_2024 = "Wu, Gokmen, Rasch & Chen, NeurIPS 2024, arXiv:2406.12774"
WU_2025 = "Wu et al., arXiv:2502.06309 (2025)"
LI_2025 = "Li, Wu, Liu, Gokmen & Chen, arXiv:2510.02516 (2025)"
XIAO_2026 = "Xiao, Li, Wu, Gokmen & Chen, arXiv:2602.21321 (2026)"
NEUROSIM = "MLP NeuroSim V3.0, manual; TaOx/TiO2 of V2.0"
OPEN = "30 epochs and aihwkit's spreads of 0.3 are assumed"
NOTES = {
    WU_2024: OPEN,
    WU_2025: f"converters and rates of 2024; {OPEN}",
    LI_2025: "batches of 8, spreads of 0.3 assumed; the rate falls smoothly to a tenth",
    XIAO_2026: "rate 0.1 assumed; E-RIDER's tracked symmetry point by c-TTv2 with a running mean",
    NEUROSIM: "as shipped: access 15 kohm, first write without g_min",
}
MANUAL = {"Ag:a-Si": 72.0, "TaOx/TiO2": 10.0, "TaOx/HfOx": 80.0, "PCMO": 33.0, "AlOx/HfO2": 20.0,
          "GST-PCM": 89.0, "EpiRAM": 92.0, "HZO FeFET": 88.0}  # fmt: skip


class Scale(nn.Module):
    """One digital factor that training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x * self.factor


@dataclass(frozen=True)
class Sigmoids(Network):
    """784-256-128-10 with sigmoids; `scaled`: a digital factor behind every layer."""

    scaled: bool = True

    def layers(self, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:  # noqa: D102
        channels, height, width = shape
        sizes = (channels * height * width, 256, 128, classes)
        body: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in zip(sizes, sizes[1:], strict=False):
            scale = [Scale()] if self.scaled else []
            body += [nn.Linear(inputs, outputs), *scale, nn.Sigmoid()]
        return body[:-1]


@dataclass(frozen=True)
class LeNet(Network):
    """Two 5x5 convolutions of 16 and 32 kernels with pooling, then 512-128-10; tanh."""

    def layers(self, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:  # noqa: D102
        channels, height, width = shape
        pixels = ((height - 4) // 2 - 4) // 2 * (((width - 4) // 2 - 4) // 2)
        return [
            *(nn.Conv2d(channels, 16, 5), nn.Tanh(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * pixels, 128), nn.Tanh(), nn.Linear(128, classes)),
        ]


@dataclass(frozen=True)
class Sixty(Train):
    """Training on up to 60,000 images."""

    def cost(self) -> float:  # noqa: D102
        assert isinstance(self.data, Mnist)
        return super().cost() * (self.data.limit or 60_000) / 1350


class Cell(NamedTuple):
    """A figure of a table, and what gives it."""

    source: str
    setting: str
    published: float
    run: Run  # of the first seed


def tau(bound: float, gamma: float = 1.0) -> xb.Chip:
    """Weights in ±τ, steps 0.001 (1 ∓ w/τ)^γ, behind Wu's converters.

    8 bits in, of each vector; 8 bits of ±20 out, read again while they clip; noise 0.1.
    """
    spread = {"sigma_c2c": 0.3, "sigma_d2d": 0.3}
    step = 0.001 / (2 * bound) * SPAN
    law = (
        SoftBounds(step, **spread)
        if gamma == 1
        else PowStep(step, gamma_up=gamma, gamma_down=gamma, **spread)
    )
    dac = xb.DAC(8, range=xb.PerVector())
    full = 20 / (2 * bound) * dac.v_max * SPAN
    adc = xb.ADC(8, range=xb.Managed(full, inputs=True), noise=0.1 / 20)
    mapping = xb.Differential(route=xb.Reference(), w_max=bound)
    return xb.Chip(Device(1e-6, 99e-6, update=law), mapping, xb.Periphery(dac, adc))


def few_states(count: int) -> xb.Chip:
    """Soft bounds of so many states in ±1, ideal converters."""
    law = SoftBounds(SPAN / count, sigma_c2c=0.3, sigma_d2d=0.3)
    cell = Device(1e-6, 99e-6, update=law)
    return xb.Chip(cell, xb.Differential(route=xb.Reference(), w_max=1.0))


def shifted(mean: float, spread: float) -> xb.Chip:
    """The baseline HfO2 array, its symmetry point known so badly."""
    cell = presets.reram_array_hfo2()
    assert isinstance(cell.update, SoftBoundsReference)
    law = replace(cell.update, reference=mean, sigma_reference=spread)
    made = replace(cell, update=law)
    return xb.Chip(made, xb.Differential(route=xb.Reference(), w_max=1.0))


class Tables(Anchor):
    """Every figure whose setting is known well enough to be repeated."""

    key = "A12"
    about = "tables of the literature on MNIST, within a point; needs --data-dir"

    def __init__(self, quick: bool, data: Mnist) -> None:
        super().__init__(quick)
        self.data = replace(data, limit=1000) if quick else data

    @property
    def seeds(self) -> range:
        """Of networks, cells and batches."""
        return range(1 if self.quick else 3)

    def train(
        self,
        network: Network,
        recipe: Recipe,
        chip: xb.Chip | None = None,
        rule: xb.Rule | None = None,
    ) -> Sixty:
        """One network; without a rule pulsed as it is."""
        if self.quick:
            recipe = replace(recipe, epochs=1)
        mode = (
            None
            if chip is None
            else xb.InSitu(rule=rule or xb.Pulsed(xb.ExactBits()), gradient=False)
        )
        return Sixty(self.data, network, recipe, chip, mode)

    @cached_property
    def cells(self) -> list[Cell]:
        """All tables."""
        return [*self.bounded(), *self.powers(), *self.states(), *self.tracked(), *self.manual()]

    def bounded(self) -> list[Cell]:
        """Soft bounds at τ."""
        digital = self.train(Sigmoids(), Recipe(30, 10, 0.1, decay=1.0))
        analog, found = replace(digital.recipe, lr=0.05), []
        for bound, sgd, transfer in ((0.7, 11.35, 97.64), (0.78, 97.71, 97.62), (0.8, 97.78, 97.5)):
            chip, tiki = tau(bound), xb.TikiTakaV1(fast_lr=0.01)
            found += [
                Cell(WU_2024, f"SGD, τ {bound:g}", sgd, self.train(Sigmoids(), analog, chip)),
                Cell(WU_2024, f"Tiki-Taka, τ {bound:g}", transfer,
                     self.train(Sigmoids(), analog, chip, tiki)),
            ]  # fmt: skip
        return [Cell(WU_2024, "digital", 98.15, digital), *found]

    def powers(self) -> list[Cell]:
        """Steps that go as a root."""
        recipe = Recipe(30, 10, 0.05, decay=1.0)
        return [
            Cell(WU_2025, f"SGD, power response γ 0.5, τ {bound:g}", published,
                 self.train(Sigmoids(), recipe, tau(bound, 0.5)))
            for bound, published in ((0.6, 96.01), (0.7, 97.40), (0.8, 97.38))
        ]  # fmt: skip

    def states(self) -> list[Cell]:
        """LeNet on ten states."""
        rules = {"TTv1": (xb.TikiTakaV1(), 78.65), "TTv2": (xb.TikiTaka(), 95.43),
                 "mixed precision": (xb.MixedPrecision(), 99.13)}  # fmt: skip
        return [
            Cell(LI_2025, f"LeNet, 10 states, {name}", published,
                 self.train(LeNet(), Recipe(100, 8, 0.05), few_states(10), rule))
            for name, (rule, published) in rules.items()
        ]  # fmt: skip

    def tracked(self) -> list[Cell]:
        """Symmetry points that are known badly."""
        made: tuple[type[xb.TikiTaka], ...] = (xb.TikiTaka, xb.AGAD, xb.TrackedTikiTaka)
        rules = {
            name: rule(scheme=xb.ExactBits(5), auto_granularity=200.0)
            for name, rule in zip(("TTv2", "AGAD", "E-RIDER"), made, strict=True)
        }
        found = []
        published = {
            (0.0, 0.05): (90.26, 92.59, 95.45),
            (0.0, 1.0): (79.20, 91.37, 93.86),
            (0.4, 0.05): (72.00, 92.55, 96.07),
            (0.4, 1.0): (57.79, 90.43, 95.14),
        }
        for (mean, spread), row in published.items():
            for (name, rule), figure in zip(rules.items(), row, strict=True):
                run = self.train(Sigmoids(scaled=False), Recipe(40, 64, 0.1, decay=1.0),
                                 shifted(mean, spread), rule)  # fmt: skip
                setting = f"{name}, symmetry point off by {mean:g} ± {spread:g}"
                found.append(Cell(XIAO_2026, setting, figure, run))
        return found

    def manual(self) -> list[Cell]:
        """NeuroSim's devices under its own protocol: 125 epochs of 8000 images."""
        size = {"epochs": 1, "updates": 100} if self.quick else {"epochs": 125, "updates": 8000}
        return [
            Cell(NEUROSIM, f"400-100-10, {m.name}", MANUAL[m.name],
                 Mlp(m.cell, m.access, lost_g_min=True, seeds=len(self.seeds), data=self.data,
                     **size))
            for m in MATERIALS if m.name in MANUAL
        ]  # fmt: skip

    def repeats(self, cell: Cell) -> list[Run]:
        """The runs of a figure; NeuroSim's networks learn together in one."""
        if isinstance(cell.run, Sixty):
            return [replace(cell.run, seed=seed) for seed in self.seeds]
        return [cell.run]

    def runs(self) -> list[Run]:  # noqa: D102
        return [run for cell in self.cells for run in self.repeats(cell)]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        found = []
        for cell in self.cells:
            ours: list[float] = []
            for run in self.repeats(cell):
                row = store[run]
                one = isinstance(run, Sixty)
                ours += [run.late_accuracy(row)] if one else row.curves["accuracy"]
            found.append(
                Claim(cell.source, cell.setting, "%", f"{cell.published:g}", ours,
                      cell.published - WITHIN, cell.published + WITHIN, note=NOTES[cell.source])
            )  # fmt: skip
        return found
