"""Networks trained on digits with a ledger: joules of every phase beside the accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar import spiking as sp
from crossbar.converters import Digit
from crossbar.costs import Costs
from crossbar.ledger import Bill
from devices import PowerLawDrift, presets
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import Digits, Images
from experiments.tasks.energy import COSTS

BITS = (3, 4, 5, 6, 7, 8, 10)
"""Of the output converter, in the sweep of the inference."""

STEPS = 8
"""Time steps of the spiking network."""

DAYS, DAY = 7, 86400.0  # [s]

VECTORS = 8
"""Known inputs of a compensation."""

DIGITAL = "digital, Adam"
PROGRAMMED = "hardware-aware, programmed"
REFRESHED = "the same, drifting, rewritten daily"
SPIKING = f"spiking, {STEPS} steps, programmed"
WAYS: dict[str, Callable[[], xb.Mode]] = {
    DIGITAL: xb.HardwareAware,
    PROGRAMMED: xb.HardwareAware,
    REFRESHED: xb.HardwareAware,
    SPIKING: xb.HardwareAware,
    "in situ, pulsed": lambda: xb.InSitu(xb.ExactBits(bl=31)),
    "in situ, c-TTv2": lambda: xb.InSitu(rule=xb.ChoppedTikiTaka()),
    "in situ, mixed precision": lambda: xb.InSitu(rule=xb.MixedPrecision()),
}


def chip(bits: int = 8) -> xb.Chip:
    """Cells of the resistive processing unit behind converters of so many bits."""
    port = xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=bits))
    return xb.Chip(presets.gokmen_vlasov(), forward=port, tile=(128, 128))


def chip_of(way: str) -> xb.Chip:
    """The chip that a way learns on."""
    made = chip()
    if way == DIGITAL:
        return xb.Chip()
    if way == SPIKING:  # a line is at rest or at v_max
        return replace(made, forward=replace(made.forward, dac=_SPIKES))
    if way == REFRESHED:
        return replace(made, device=replace(made.device, retention=PowerLawDrift(nu=0.05)))
    return made


_SPIKES = xb.DAC(bits=1, range=xb.Fixed(1.0), signed=False)


class Spiking(nn.Module):
    """The small network with spiking neurons, on Poisson spikes; its output is a mean membrane."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        first, last = nn.Linear(channels * height * width, 64), nn.Linear(64, 10)
        self.net = sp.Sequential(first, sp.LIF(sp.SnnTorch(0.9)), last, sp.Integrator())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        membranes, _ = self.net(sp.encode.poisson(x.flatten(1), STEPS))
        found: Tensor = membranes.mean(0)
        return found


def network(shape: tuple[int, int, int], convolutions: bool = False) -> nn.Module:
    """A small network for images of this shape."""
    channels, height, width = shape
    if not convolutions:
        inputs = channels * height * width
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * (height - 2) * (width - 2), 32), nn.ReLU()),
        nn.Linear(32, 10),
    )


def accuracy(model: nn.Module, data: Images) -> float:
    """On the test images [%]."""
    with torch.no_grad():
        right = model(data.x_test).argmax(1) == data.y_test
    return 100 * float(right.float().mean())


def epoch(model: nn.Module, optimiser: Any, data: Images, batch: int) -> None:
    """All training images once."""
    for part in torch.randperm(len(data.y_train)).split(batch):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(data.x_train[part]), data.y_train[part])
        loss.backward()
        optimiser.step()


def inference(model: nn.Module, data: Images, costs: Costs = COSTS) -> tuple[Bill, float]:
    """Joules of one image, of all test images the mean; multiplications of one."""
    with torch.no_grad(), xb.ledger(model) as ledger:
        model(data.x_test)
    n = len(data.y_test)
    macs = ledger.counts.total("mac") + ledger.counts.total("digital_mac")
    return ledger.price(costs.scaled(1 / n)), macs / n


@dataclass(frozen=True)
class Trained(Run):
    """One way of training the same network on digits."""

    way: str
    epochs: int = 10
    batch: int = 16
    lr: float = 0.05
    seed: int = 0

    def label(self) -> str:  # noqa: D102
        return f"{self.way}, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 30.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        data = Digits().load()
        torch.manual_seed(self.seed)
        net = Spiking(data.shape) if self.way == SPIKING else network(data.shape)
        model = xb.convert(net, chip_of(self.way), mode=WAYS[self.way](), seed=self.seed)
        in_situ = self.way.startswith("in situ")
        optimiser: Any = (
            xb.InSituSGD(model, self.lr) if in_situ else torch.optim.Adam(model.parameters(), 0.005)
        )
        reached, joules = [], []
        with xb.ledger(model) as ledger:
            for _ in range(self.epochs):
                epoch(model, optimiser, data, self.batch)
                joules.append(ledger.price(COSTS).total)
                with ledger.paused():
                    reached.append(accuracy(model, data))
            if self.way in (PROGRAMMED, REFRESHED, SPIKING):
                xb.program(model)
        aged = self._kept(model, data) if self.way == REFRESHED else {}
        bill, used = ledger.price(COSTS), ledger.counts
        one, macs = inference(model, data)
        digital_macs = used.total("digital_mac")
        metrics = {
            "accuracy": accuracy(model, data),
            "macs": macs,
            "training macs": digital_macs + 2 * used.total("mac"),
            "pulses": used.total("pulse"),
            **_total("training", bill),
            **_total("inference", one),
            **aged,
            **{f"phase {phase}": total.joules for phase, total in bill.by("phase").items()},
            **{f"event {event}": total.joules for event, total in one.by("event").items()},
        }
        curves = {"accuracy": reached, "joules": [t.joules for t in joules]}
        if self.way == PROGRAMMED:
            curves |= _by_bits(model, data)
        return Outcome(metrics, curves)

    @staticmethod
    def _kept(model: nn.Module, data: Images) -> dict[str, float]:
        """A week of drift, rewritten at the end of every day, and how bad it was before."""
        wanted = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if name in xb.analog_weights(model)
        }
        with xb.ledger(model) as ledger:
            for _ in range(DAYS):
                xb.advance(model, DAY)
                with ledger.paused():
                    before = accuracy(model, data)
                with torch.no_grad():
                    for name, value in wanted.items():
                        model.get_parameter(name).copy_(value)
            rows = ledger.price(COSTS).by("phase")
            aged = {
                "aged accuracy": before,
                "refresh": rows["program"].joules,
                "standing by": rows["advance"].joules,
                "accuracy": accuracy(model, data),
            }
        return aged | _compensated(model, data)


def _compensated(model: nn.Module, data: Images) -> dict[str, float]:
    """The same week without rewriting: a factor for each tile, measured again every day."""
    keep = xb.TileCompensation(vectors=VECTORS)
    with xb.ledger(model) as ledger:
        with ledger.phase("compensation"):
            keep.refer(model)
        for _ in range(DAYS):
            xb.advance(model, DAY)
            with ledger.phase("compensation"):
                keep.apply(model)
    spent = ledger.price(COSTS).by("phase")["compensation"].joules
    return {"compensation": spent, "compensated accuracy": accuracy(model, data)}


def _total(name: str, bill: Bill) -> dict[str, float]:
    total = bill.total
    return {
        name: total.joules,
        f"{name} low": total.quadrature[0],
        f"{name} high": total.quadrature[1],
    }


def _by_bits(model: nn.Module, data: Images) -> dict[str, list[float]]:
    """Accuracy and joules of an image over the bits of the output converter."""
    found: dict[str, list[float]] = {"bits": [], "accuracy by bits": [], "joules by bits": []}
    for bits in BITS:
        moved = xb.convert(model, chip(bits), mode=xb.Programmed(), seed=0)
        found["bits"].append(float(bits))
        found["accuracy by bits"].append(accuracy(moved, data))
        found["joules by bits"].append(inference(moved, data)[0].total.joules)
    return found


class _Lines(xb.Probe):
    """Of every array, Σ v² and Σ |v| of its lines, and its vectors."""

    currents = False

    def __init__(self) -> None:
        self.seen: dict[Any, list[Tensor | float]] = {}

    def used(self, call: Any, digits: Sequence[Digit], planes: Any) -> None:
        """A read."""
        (digit,) = digits
        lead = planes.matrix.dim() - 3
        v = digit.v.double() * call.port.settings.v_max
        square, size = (call.direction.summed(t, lead) for t in (v.square(), v.abs()))
        n = call.direction.number(v)
        old = self.seen.get(call.matrix, [0.0, 0.0, 0.0])
        self.seen[call.matrix] = [a + b for a, b in zip(old, (square, size, n), strict=True)]


@dataclass(frozen=True)
class Averages(Run):
    """What fixed averages would err, of a trained convolutional network's array energy."""

    epochs: int = 6
    seed: int = 0

    def label(self) -> str:  # noqa: D102
        return f"averages, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 30.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        data = Digits().load()
        torch.manual_seed(self.seed)
        model = xb.convert(network(data.shape, True), chip(), seed=self.seed)
        optimiser = torch.optim.Adam(model.parameters(), 0.003)
        for _ in range(self.epochs):
            epoch(model, optimiser, data, 32)
        xb.program(model)
        lines = _Lines()
        with torch.no_grad(), xb.observe(model, lines):
            model(data.x_test)
        exact, cells, layers = [], [], []
        for matrix, (square, size, n) in lines.seen.items():
            g = matrix.written.g.double()
            gamma = g.sum((0, -1)).reshape(square.shape)  # type: ignore[union-attr]
            exact.append(float((square * gamma).sum()))
            number = n * gamma.numel()  # lines driven, silent ones too
            each = float(gamma.mean())
            x2, x1 = float(square.sum()) / number, float(size.sum()) / number  # type: ignore[union-attr]
            layers.append((x2 * each * number, x1**2 * each * number))
            cells.append(number * g.shape[0] * g.shape[-1])
        per_cell = sum(exact) / sum(cells)
        averages = {
            "mean x² × mean G": [first for first, _ in layers],
            "(mean x)² × mean G": [second for _, second in layers],
            "one average a cell": [per_cell * n for n in cells],
        }
        curves = {
            name: [100 * (a / e - 1) for a, e in zip(values, exact, strict=True)]
            for name, values in averages.items()
        }
        worst = {name: max(map(abs, values)) for name, values in curves.items()}
        return Outcome({"accuracy": accuracy(model, data), **worst}, curves)


class _Pulses(xb.Probe):
    """Pulses of the first device of every weight."""

    def __init__(self) -> None:
        self.total = 0.0

    def pulsed(self, matrix: Any, given: Any) -> None:
        """A round of them."""
        self.total += float(given[0].up.sum() + given[0].down.sum())


@dataclass(frozen=True)
class Cancelled(Run):
    """Pulses and joules against the net change, as NeuroSim 2.1 counts, of one epoch on digits.

    NeuroSim's pulses are ceil |net change|/step of each weight and step, and their joules V² G t
    of the cells that are changed.
    """

    batch: int
    lr: float = 0.05
    seed: int = 0

    def label(self) -> str:  # noqa: D102
        return f"pulses over net change, B = {self.batch}"

    def cost(self) -> float:  # noqa: D102
        return 10.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        data = Digits().load()
        torch.manual_seed(self.seed)
        model = xb.convert(
            network(data.shape), chip(), mode=xb.InSitu(xb.ExactBits(bl=31)), seed=self.seed
        )
        optimiser = xb.InSituSGD(model, self.lr)
        held = xb.analog_weights(model)
        weights = {name: p for name, p in model.named_parameters() if name in held}
        net = rounded = theirs = 0.0
        with xb.observe(model, _Pulses()) as probe, xb.ledger(model) as ledger:
            for part in torch.randperm(len(data.y_train)).split(self.batch):
                optimiser.zero_grad()
                out = model(data.x_train[part])
                nn.functional.cross_entropy(out, data.y_train[part]).backward()
                for name, p in weights.items():
                    matrix = held[name].matrix
                    step = float(matrix.granularity)
                    wanted = (p.grad.abs() * (self.lr / step)).double()
                    net += float(wanted.sum())
                    rounded += float(wanted.ceil().sum())
                    theirs += _joules(wanted.ceil().mT, p.grad.mT < 0, matrix)
                optimiser.step()
        assert isinstance(probe, _Pulses)
        cells = ("selected", "on_row", "on_col")
        bill = ledger.price(COSTS).select(lambda line: line.event in cells)
        units = {way: getattr(chip().device.write_pulse, way) for way in ("up", "down")}
        alone = sum(ledger.counts.total("selected", of=way) * units[way] for way in units)
        return Outcome(
            {
                "pulses": probe.total,
                "cancellation": probe.total / net,
                "rounding": net / rounded,
                "ratio": probe.total / rounded,
                "joules": bill.total.joules,
                "joules ratio": bill.total.joules / theirs,
                "joules ratio, pulsed cells": alone / theirs,
                "step": step,
            },
            {},
        )


def _joules(pulses: Tensor, up: Tensor, matrix: Any) -> float:
    """V² G t of so many pulses (rows, cols) of both devices, which move against each other."""
    pulse, (plus, minus) = matrix.chip.device.write_pulse, matrix.written.g.double()
    one = torch.where(
        up, pulse.up * plus + pulse.down * minus, pulse.down * plus + pulse.up * minus
    )
    return float((pulses * one).sum())
