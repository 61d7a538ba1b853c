"""The networks of the studies, as settings that build themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn


class Network(ABC):
    """A classifier for images of a given shape."""

    @abstractmethod
    def layers(self, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:
        """The layers, freshly initialised from torch's default generator."""

    def build(self, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Sequential:
        """The network with torch's own initialisation; the caller's generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(*self.layers(shape, classes))


@dataclass(frozen=True)
class MLP(Network):
    """Fully connected layers with ReLU between them; 64-128-10 on the digits."""

    hidden: tuple[int, ...] = (128,)

    def layers(self, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:  # noqa: D102
        channels, height, width = shape
        sizes = (channels * height * width, *self.hidden)
        body: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            body += [nn.Linear(inputs, outputs), nn.ReLU()]
        return [*body, nn.Linear(sizes[-1], classes)]


@dataclass(frozen=True)
class CNN(Network):
    """3x3 convolutions, each with ReLU and 2x2 pooling, then one linear layer."""

    channels: tuple[int, ...] = (8, 16)

    def layers(self, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:  # noqa: D102
        depth, height, width = shape
        body: list[nn.Module] = []
        for channels in self.channels:
            body += [nn.Conv2d(depth, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            depth, height, width = channels, height // 2, width // 2
        return [*body, nn.Flatten(), nn.Linear(depth * height * width, classes)]
