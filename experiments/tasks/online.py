"""Several networks that learn one image at a time in situ, computed together.

The matrices are `crossbar`'s own, with one leading dimension for the networks: encoding, pulses and
cells are those of `AnalogLinear` and `InSituSGD`. Only what autograd does there is written out, for
a single hidden layer of ReLUs and cross-entropy; a test holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar.matrix import Matrix
from crossbar.operations import Vectors
from crossbar.regions import Form
from crossbar.streams import derive
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import DataSet, Images
from experiments.tasks.networks import MLP

LAST = 3  # epochs that the reported accuracy is the mean of


@dataclass(frozen=True)
class Online(Run):
    """`seeds` networks with one hidden layer, each with its own first weights, order and cells.

    Args:
        data: images.
        chip: cells and mapping; no converters.
        scheme: how an image's errors become pulses.
        lr: learning rate.
        epochs: passes over the training images.
        hidden: units of the hidden layer.
        seeds: networks.
    """

    data: DataSet
    chip: xb.Chip
    scheme: xb.Scheme
    lr: float
    epochs: int = 16
    hidden: int = 54
    seeds: int = 5

    def cost(self) -> float:  # noqa: D102
        return 4.0 * self.epochs

    def label(self) -> str:  # noqa: D102
        update = self.chip.device.update
        return f"image by image, {type(update).__name__}, {self.seeds} networks"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        images = self.data.load()
        networks = Networks(self, images)
        accuracy = []
        for _ in range(self.epochs):
            networks.epoch()
            accuracy.append(networks.accuracy())
        table = torch.stack(accuracy)  # (epochs, seeds)
        late = table[-LAST:].mean(0)
        return Outcome(
            metrics={"accuracy": float(late.mean())},
            curves={"accuracy": late.tolist(), "epoch": table.mean(1).tolist()},
        )


class Networks:
    """The arrays and biases of all networks of a run, and their learning."""

    def __init__(self, run: Online, images: Images) -> None:
        if run.chip.forward != xb.Periphery() or run.chip.tile is not None:
            raise ValueError(f"chip must have no converters and one tile, got {run.chip!r}")
        self.run, self.images = run, images
        self.x = images.x_train.flatten(1)
        network = MLP(hidden=(run.hidden,))
        made = [network.build(images.shape, classes=10, seed=seed) for seed in range(run.seeds)]
        layers = [[m for m in net if isinstance(m, nn.Linear)] for net in made]
        self.arrays, self.biases = [], []
        for depth, stacked in enumerate(zip(*layers, strict=True)):
            weight = torch.stack([layer.weight.detach().mT for layer in stacked])
            seed = derive(run.seeds, f"layer {depth}")
            matrix = Matrix(run.chip, Form(), tuple(weight.shape), seed)
            w_max = run.chip.mapping.scale(weight, xb.InSitu().headroom)
            matrix.fabricate(w_max, weight.dtype, weight.device)
            matrix.program(weight)
            self.arrays.append(matrix)
            self.biases.append(torch.stack([layer.bias.detach() for layer in stacked])[:, None])
        self.orders = [torch.Generator().manual_seed(seed) for seed in range(run.seeds)]
        self.answers = nn.functional.one_hot(images.y_train, 10).float()

    def _weights(self) -> list[Tensor]:
        """What reads of each layer see, (seeds, inputs, outputs)."""
        layout, floor = self.run.chip.layout, self.run.chip.floor
        cells = [matrix.written for matrix in self.arrays]
        return [layout.logical(c.planes().matrix, floor) * c.w_max for c in cells]

    @torch.inference_mode()
    def epoch(self) -> None:
        """Every training image once, in each network's own order."""
        count = len(self.x)
        order = torch.stack([torch.randperm(count, generator=g) for g in self.orders], dim=1)
        for images in order:
            self.step(self.x[images][:, None], self.answers[images][:, None])

    def step(self, x: Tensor, answer: Tensor) -> None:
        """One image (seeds, 1, pixels) of every network: read, propagate back, write."""
        first, second = self._weights()
        hidden = torch.baddbmm(self.biases[0], x, first).relu_()
        out = torch.baddbmm(self.biases[1], hidden, second)
        d2 = out.softmax(2) - answer
        d1 = (d2 @ second.mT) * (hidden > 0)
        for matrix, bias, inputs, d in zip(
            self.arrays, self.biases, (x, hidden), (d1, d2), strict=True
        ):
            bias.sub_(d, alpha=self.run.lr)
            # one vector of each network, where `Vectors` has a batch of vectors first
            xs, ds = inputs.movedim(1, 0), d.movedim(1, 0)
            matrix.update(xs, ds, self.run.lr, self.run.scheme, op=Vectors())

    @torch.inference_mode()
    def accuracy(self) -> Tensor:
        """Share of the test images that every network reads right (seeds,) [%]."""
        first, second = self._weights()
        x = self.images.x_test.flatten(1)
        hidden = (x @ first + self.biases[0]).relu_()
        right = (hidden @ second + self.biases[1]).argmax(2) == self.images.y_test
        return 100 * right.float().mean(1)
