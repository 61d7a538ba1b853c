"""The training loop, one for digital, in-situ and hardware-aware networks alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crossbar as xb
from experiments.lab.run import Watch
from experiments.tasks.data import Images
from experiments.tasks.energy import of_an_image


@dataclass(frozen=True)
class Best:
    """The learning rate of `grid` that does best on a validation part of the training images."""

    grid: tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """Plain stochastic gradient descent; the rate falls exponentially to `lr * decay`."""

    epochs: int = 20
    batch: int = 25
    lr: float | Best = Best((0.05, 0.15, 0.5))
    decay: float = 0.1


@dataclass(frozen=True)
class Curves:
    """One entry per epoch."""

    loss: list[float]  # mean cross-entropy over the epoch's training steps
    accuracy: list[float]  # percent, on the images that are not trained on
    clipped: dict[str, float] = field(default_factory=dict)
    """Share of the last epoch's conversions at full scale [%], by weight and direction."""


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Images,
    recipe: Recipe,
    lr: float,
    seed: int,
    watch: Watch | None = None,
) -> Curves:
    """Train `model` in place; a run whose loss is no longer finite stops there.

    `optimiser` comes with the rate `lr` set; the order of the images follows from `seed` alone.
    `watch` is told of every epoch; a training that was interrupted goes on from the state that it
    kept, bit for bit.
    """
    watch = watch or Watch()
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(images.y_train) / recipe.batch) * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: recipe.decay ** (step / max(1, steps - 1))
    )
    curves = Curves([], [])
    kept = watch.resume()
    if kept is not None:
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        generator.set_state(kept["generator"])
        curves = Curves(kept["loss"], kept["accuracy"])

    def state() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": generator.get_state(),
            "loss": curves.loss,
            "accuracy": curves.accuracy,
        }

    for epoch in range(len(curves.loss), recipe.epochs):
        model.train()
        total = 0.0
        last = epoch == recipe.epochs - 1 and any(isinstance(m, xb.Matrix) for m in model.modules())
        with xb.observe(model, xb.Tally(model)) if last else nullcontext() as tally:
            for x, y in batches(images.x_train, images.y_train, recipe.batch, generator):
                optimiser.zero_grad()
                loss = F.cross_entropy(model(x), y)
                if not math.isfinite(loss.item()):
                    return curves
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.item() * len(y)
        for name, n in (tally or {}).items():
            if n.conversions:
                curves.clipped[f"clipped in training {name}"] = 100.0 * n.clipped
            if n.back_conversions:
                curves.clipped[f"clipped backward {name}"] = 100.0 * n.back_clipped
        curves.loss.append(total / len(images.y_train))
        curves.accuracy.append(score(model, images.x_test, images.y_test)[0])
        found = {"loss": curves.loss[-1], "accuracy": curves.accuracy[-1]}
        watch.epoch(epoch + 1, recipe.epochs, found, state)
    return curves


def batches(
    x: Tensor, y: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once, in random order."""
    for chosen in torch.randperm(len(y), generator=generator).split(size):
        yield x[chosen], y[chosen]


def watched(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float, dict[str, float]]:
    """`score`, and what the arrays did meanwhile.

    The share of conversions at full scale [%] is "clipped <name of the weight>"; what an image
    costs, see `energy.METRICS`.
    """
    if not any(isinstance(module, xb.Matrix) for module in model.modules()):
        return *score(model, x, y), {}
    with xb.observe(model, xb.Tally(model)) as tally:
        found = score(model, x, y)
    shares = {f"clipped {name}": 100.0 * n.clipped for name, n in tally.items() if n.conversions}
    return *found, {**of_an_image(model, x), **shares}


@torch.no_grad()
def score(model: nn.Module, x: Tensor, y: Tensor, size: int = 500) -> tuple[float, float]:
    """Accuracy in percent and mean cross-entropy of the network in eval mode."""
    model.eval()
    right, loss = 0, 0.0
    for xs, ys in zip(x.split(size), y.split(size), strict=True):
        out = model(xs)
        right += int((out.argmax(-1) == ys).sum())
        loss += float(F.cross_entropy(out, ys, reduction="sum"))
    return 100.0 * right / len(y), loss / len(y)
