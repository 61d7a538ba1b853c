"""A network trained digitally, trained on for a chip in one of several ways, and aged on it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crossbar as xb
from devices import Device, GaussianWrite
from devices.technology.pcm import PCMDrift
from devices.technology.pcm_read import PCMRead
from experiments.lab.run import Outcome, Run, Settings, Stored
from experiments.studies.recovery.networks import ResNet20, Transformer
from experiments.studies.recovery.text import CHARACTERS, Docstrings
from experiments.tasks.data import Digits

TIMES = (1.0, 86_400.0, 30 * 86_400.0)
CHIPS = 2
STEPS = 64
"""Characters that the transformer sees."""

ARRAYS = {
    "mapping": xb.Differential(xb.OneSided(None)),
    "forward": xb.Periphery(xb.DAC(8), xb.ADC(8)),
    "tile": (256, 256),
}
CHIP = xb.Chip(
    # phase-change cells as they drift and are read, written in one go
    Device(0.0, 25e-6, write=GaussianWrite(0.1), retention=PCMDrift(), read=PCMRead()),
    **ARRAYS,
)
REHEARSED = xb.Chip(Device(0.0, 25e-6), **ARRAYS)
"""What is trained on: the same arrays and converters, noise from modifiers alone."""


class Task(Settings):
    """What is learned; `score` is in its own unit, `loss` says how much less good it is."""

    steps: tuple[int, int]  # of training, and of training on

    @abstractmethod
    def network(self) -> nn.Module:
        """Freshly initialised."""

    @abstractmethod
    def error(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        """The training loss of one batch."""

    @abstractmethod
    def score(self, model: nn.Module) -> float:
        """On the test set."""

    @staticmethod
    @abstractmethod
    def loss(score: float, digital: float) -> float:
        """What the score is worse than that of the digital network."""


@dataclass(frozen=True)
class Images(Digits, Task):
    """ResNet-20 on digits; accuracy in percent, losses in points."""

    steps = (540, 400)

    def network(self) -> nn.Module:  # noqa: D102
        return ResNet20()

    def error(self, model: nn.Module, generator: torch.Generator) -> Tensor:  # noqa: D102
        x, y, *_ = self.load()
        chosen = torch.randint(len(y), (50,), generator=generator)
        return F.cross_entropy(model(x[chosen]), y[chosen])

    def score(self, model: nn.Module) -> float:  # noqa: D102
        *_, x, y = self.load()
        return 100.0 * float((model(x).argmax(-1) == y).double().mean())

    @staticmethod
    def loss(score: float, digital: float) -> float:  # noqa: D102
        return digital - score


@dataclass(frozen=True)
class Text(Docstrings, Task):
    """A transformer on documentation strings; perplexity of a character, losses in percent."""

    steps = (1200, 200)

    def network(self) -> nn.Module:  # noqa: D102
        return Transformer(len(CHARACTERS), STEPS)

    def error(self, model: nn.Module, generator: torch.Generator) -> Tensor:  # noqa: D102
        text, _ = self.load()
        starts = torch.randint(len(text) - STEPS, (32,), generator=generator)
        return _surprise(model, text[starts.unsqueeze(1) + torch.arange(STEPS + 1)])

    def score(self, model: nn.Module) -> float:  # noqa: D102
        _, text = self.load()
        # every tenth window, so that all of the text counts
        return float(_surprise(model, text.unfold(0, STEPS + 1, STEPS)[::10]).exp())

    @staticmethod
    def loss(score: float, digital: float) -> float:  # noqa: D102
        return 100.0 * (score / digital - 1)


def _surprise(model: nn.Module, windows: Tensor) -> Tensor:
    """Mean cross-entropy of every character after the first of each window."""
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def _descend(
    task: Task, model: nn.Module, steps: int, seed: int, clip: xb.Clip | None = None
) -> None:
    """AdamW in one cycle of the rate."""
    optimizer = torch.optim.AdamW(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    if clip is not None:
        clip(model)
        clip.after(optimizer, model)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        task.error(model, generator).backward()
        optimizer.step()
        rate.step()


@dataclass(frozen=True)
class Pretrained(Run):
    """A digital network."""

    task: Task
    steps: int
    seed: int

    def label(self) -> str:  # noqa: D102
        return f"{type(self.task).__name__}, digital, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 0.1 * self.steps

    def network(self) -> nn.Module:
        """As it starts."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.task.network()

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        net = self.network()
        _descend(self.task, net, self.steps, self.seed)
        with torch.no_grad():
            score = self.task.score(net.eval())
        return Outcome({"score": score}, {}, net.state_dict())


@dataclass(frozen=True)
class OnChip(Run):
    """What chips score that a digital network is written on, after it was trained on for them.

    Without steps it is written as it is. Drift is compensated tile by tile.
    """

    of: Pretrained
    steps: int
    clip: xb.Clip | None = None
    modifiers: tuple[xb.Modifier, ...] = ()

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.of,)

    def label(self) -> str:  # noqa: D102
        how = [type(part).__name__ for part in (self.clip, *self.modifiers) if part is not None]
        said = " and ".join(how) or "neither" if self.steps else "as it is"
        return f"{type(self.of.task).__name__}, {said}, seed {self.of.seed}"

    def cost(self) -> float:  # noqa: D102
        return 0.25 * self.steps + 15.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        task, seed, net = self.of.task, self.of.seed, self.of.network()
        net.load_state_dict(store.network(self.of))
        mode = xb.HardwareAware(modifiers=self.modifiers)
        model = xb.convert(net, REHEARSED, mode=mode, seed=seed)
        if self.steps:
            _descend(task, model, self.steps, 1000 + seed, self.clip)
        model = xb.convert(model.eval(), CHIP, seed=seed)
        with torch.no_grad():
            aged = xb.over_time(
                model, task.score, TIMES, chips=CHIPS, compensation=xb.TileCompensation(), seed=seed
            )
        return Outcome({}, {"score": aged.mean.tolist()})
