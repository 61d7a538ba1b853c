"""The learning protocol of MLP NeuroSim V3.0, many networks at once, on this emulator's cells.

A 400-100-10 network without biases learns binarised 20x20 digits, one image at a time; every
weight W in [−1, 1] is one cell. Cells are written by `Device.pulse` alone. What surrounds them is
NeuroSim's and is written here:

    read       I = 1/(1/G + R_access) per volt,  W = 2 (I − I_min)/(I_max − I_min) − 1
    column     D = floor(Σ I x/LSB) − floor(Σ I_mid x/LSB),  LSB = n (I_max − I_min)/255
               z = D n/255, a = sigmoid(z); the hidden layer sends the bit a >= 1/2 onwards
    errors     δ2 = −2 a2 (1 − a2)(t − a2),  δ1 = a1 (1 − a1) Σ W2 δ2
    pulses     n = sign(dW) floor(|dW| N/2 + 1/2),  dW2 = −α2 δ2 a1, dW1 = −α1 δ1 x

z is about half of Σ W x, as a cell has half the range that a signed weight asks for. Left out: the
wire resistance (0.15 ohm a cell against 15 kohm), the rare pulse that NeuroSim loses to a cast, and
its first image, which propagates errors back through the weights meant instead of those read.
Cycle noise differs in one way: NeuroSim adds σ √n once after n pulses, the device damps the noise
of each pulse by the pulses that follow it (equal for straight curves).

Source: Chen, Peng & Yu, IEEE TCAD 37, 3067 (2018), doi:10.1109/TCAD.2018.2789723; manual of MLP
NeuroSim V3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from devices import Device, NeuroSim, Pulses
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import DataSet, Digits

ROWS, HIDDEN, CLASSES = 400, 100, 10
LEVELS = 255  # steps of the 8-bit converter
DIGITS = Digits()
LAST = 5  # epochs that the reported accuracy is the mean of


class Pictures(NamedTuple):
    """Binarised digits of 20x20 pixels."""

    x: Tensor  # (n, 400) 0 or 1, float32
    y: Tensor  # (n,)


def pictures(data: DataSet = DIGITS) -> tuple[Pictures, Pictures]:
    """Training and test images, on where they are at least 1/2.

    Of larger ones the middle, as NeuroSim cuts MNIST's empty edge off; smaller ones bilinear.
    """
    images = data.load()

    def binary(x: Tensor, y: Tensor) -> Pictures:
        edge = (x.shape[-1] - 20) // 2
        if edge < 0:
            x = F.interpolate(x, size=(20, 20), mode="bilinear", align_corners=False)
        else:
            x = x[..., edge : edge + 20, edge : edge + 20]
        return Pictures((x >= 0.5).flatten(1).float(), y)

    return binary(images.x_train, images.y_train), binary(images.x_test, images.y_test)


@dataclass(frozen=True)
class Mlp(Run):
    """`seeds` networks trained at once on one kind of cell.

    Args:
        cell: the memory cell; its update law is NeuroSim's.
        access: resistance of the access transistor in series with a cell [ohm].
        lost_g_min: whether the first write forgets to add g_min, as NeuroSim's does: every
            weight then starts too low by 2/(on/off − 1).
        rates: learning rates α1, α2.
        epochs: passes of as many single-image updates as there are training images.
        seeds: networks, each with its own first weights and order of images.
        data: images; the digits, or larger ones whose middle 20x20 pixels are taken.
        updates: of an epoch; 0: as many as there are training images.
    """

    cell: Device
    access: float = 0.0
    lost_g_min: bool = False
    rates: tuple[float, float] = (0.4, 0.2)
    epochs: int = 100
    seeds: int = 10
    data: DataSet = DIGITS
    updates: int = 0

    def cost(self) -> float:  # noqa: D102
        return 0.04 * self.epochs * self.seeds * (self.updates or 1350) / 1350

    def label(self) -> str:  # noqa: D102
        law = self.cell.update
        assert isinstance(law, NeuroSim)
        return f"labels {law.nl_up:+g}/{law.nl_down:+g}, {law.states_up} levels"

    @torch.inference_mode()
    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        train, test = pictures(self.data)
        networks = Networks(self, train)
        accuracy, writes = [], []
        for _ in range(self.epochs):
            updates = self.updates or len(train.y)
            writes.append(networks.epoch() / (updates * self.seeds))
            accuracy.append(networks.accuracy(test))
        return outcome(accuracy, {"writes": writes})


def outcome(accuracy: list[Tensor], more: dict[str, list[float]]) -> Outcome:
    """Results of a batch of networks from their accuracies (seeds,) after every epoch [%]."""
    table = torch.stack(accuracy)  # (epochs, seeds)
    late = table[-LAST:].mean(0)
    return Outcome(
        metrics={"accuracy": float(late.mean())},
        curves={"accuracy": late.tolist(), "epoch": table.mean(1).tolist(), **more},
    )


class Networks:
    """The cells of all networks of a run, and their learning.

    Most images change few cells, so each one writes just these: of the first layer the pixels that
    are on times the hidden units whose change is half a pulse or more, of the second layer single
    cells. All of them are given their pulses in one call of the device.
    """

    def __init__(self, run: Mlp, train: Pictures) -> None:
        self.run, self.train = run, train
        n, cell, law = run.seeds, run.cell, run.cell.update
        if not isinstance(law, NeuroSim) or law.sigma_d2d:
            raise ValueError(f"the cell's law must be NeuroSim without spread, got {law!r}")
        self.states = law.states_up, law.states_down
        self.streams = [torch.Generator().manual_seed(seed) for seed in range(n)]
        self.noise = torch.Generator().manual_seed(n)

        weights = torch.stack(
            [
                torch.randint(7, (ROWS * HIDDEN + HIDDEN * CLASSES,), generator=stream) / 3 - 1
                for stream in self.streams
            ]
        )
        first, second = weights.split([ROWS * HIDDEN, HIDDEN * CLASSES], dim=1)
        places = (torch.cat([first.flatten(), second.flatten()]) + 1) / 2
        target = places * cell.window.span + (0.0 if run.lost_g_min else cell.g_min)
        fresh = cell.fabricate(tuple(places.shape), generator=self.noise)
        self.cells = cell.program(fresh, target, generator=self.noise)

        low, high = (g / (1 + g * run.access) for g in cell.window)
        self.range = high - low  # [A] at 1 V
        self.low, self.middle = low / self.range, (low + high) / 2 / self.range
        self.seen = self._read(self.cells.g)
        self.first = self.seen[: first.numel()].view(n * ROWS, HIDDEN)
        self.second = self.seen[first.numel() :].view(n, HIDDEN, CLASSES)

        self.on = train.x.nonzero()[:, 1]  # pixels that are on, image after image
        self.lengths = train.x.sum(1).long()
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.targets = F.one_hot(train.y, CLASSES).float()

    def _read(self, g: Tensor) -> Tensor:
        """Current of cells in units of the range between g_min and g_max."""
        return g / (self.range * (1 + g * self.run.access))

    def _column(self, total: Tensor, active: Tensor, rows: int) -> Tensor:
        """Converter's answer z to summed currents of `active` rows out of `rows`."""
        per_step = LEVELS / rows
        code = torch.floor(total * per_step) - torch.floor(active * (self.middle * per_step))
        return code / per_step

    def epoch(self) -> int:
        """All updates of every network; the number of cells written."""
        images, n = len(self.train.y), self.run.seeds
        shape = (self.run.updates or images,)
        drawn = torch.stack(
            [torch.randint(images, shape, generator=stream) for stream in self.streams], dim=1
        )
        lengths = self.lengths[drawn]  # (count, n)
        owner, place = ragged(self.starts[drawn].flatten(), lengths.flatten())
        rows = self.on[place] + owner % n * ROWS
        parts = rows.split(lengths.sum(1).tolist())
        return sum(map(self._step, drawn, parts, lengths))

    def _step(self, images: Tensor, rows: Tensor, lengths: Tensor) -> int:
        """One image of every network: read, propagate errors back, write; the cells written."""
        starts = lengths.cumsum(0) - lengths
        total = F.embedding_bag(rows, self.first, starts, mode="sum")  # (n, hidden)
        z1 = self._column(total, lengths[:, None], ROWS)
        a1, bits = torch.sigmoid(z1), (z1 >= 0).float()
        total = torch.bmm(bits[:, None], self.second)[:, 0]  # (n, classes)
        a2 = torch.sigmoid(self._column(total, bits.sum(1, keepdim=True), HIDDEN))
        e2 = 2 * a2 * (1 - a2) * (self.targets[images] - a2)
        w2 = (2 * self.second - (2 * self.low + 1)).clamp_(-1, 1)
        e1 = a1 * (1 - a1) * torch.bmm(w2, e2[:, :, None])[:, :, 0]

        # wanted changes as parts of the range, half of those in W
        rate1, rate2 = (rate / 2 for rate in self.run.rates)
        change1 = (rate1 * e1).flatten()  # of every pixel that is on
        change2 = ((rate2 * a1)[:, :, None] * e2[:, None, :]).flatten()
        least = 0.5 / max(self.states)
        units = (change1.abs() >= least).nonzero()[:, 0]
        single = (change2.abs() >= least).nonzero()[:, 0]
        if not len(units) and not len(single):
            return 0
        network = units // HIDDEN
        owner, place = ragged(starts[network], lengths[network])
        cells = torch.cat(
            [rows[place] * HIDDEN + (units % HIDDEN)[owner], self.first.numel() + single]
        )
        change = torch.cat([change1[units][owner], change2[single]])
        up, down = self.states
        pulses = Pulses(
            torch.floor(change * up + 0.5).clamp_(min=0),
            torch.floor(0.5 - change * down).clamp_(min=0),
        )
        before = self.cells._replace(g=self.cells.g[cells])
        g = self.run.cell.pulse(before, pulses, generator=self.noise).g
        self.cells.g[cells] = g
        self.seen[cells] = self._read(g)
        return len(cells)

    def accuracy(self, test: Pictures) -> Tensor:
        """Share of the test images that every network reads right (n,) [%]."""
        first = self.first.view(self.run.seeds, ROWS, HIDDEN)
        z1 = self._column(test.x @ first, test.x.sum(1, keepdim=True), ROWS)
        bits = (z1 >= 0).float()
        z2 = self._column(bits @ self.second, bits.sum(2, keepdim=True), HIDDEN)
        return 100 * (z2.argmax(2) == test.y).float().mean(1)


def ragged(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Entries of several slices of a list, one after another: whose they are, where they stand."""
    owner = torch.repeat_interleave(lengths)
    shift = starts - (lengths.cumsum(0) - lengths)
    return owner, torch.arange(len(owner)) + shift[owner]
