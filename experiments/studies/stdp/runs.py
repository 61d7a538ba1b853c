"""STDP windows of devices, and digits learned without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

import crossbar as xb
from crossbar import spiking as sp
from devices import VTEAM, ConstantStep, Device, QuerliozStep, SoftBounds, StuckAt
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import Digits, stratified

RULE = sp.PairSTDP(0.02, 0.02, 20e-3, 20e-3)
DELAYS = tuple(range(-60, 61, 3))  # [ms]
CELLS = {
    "constant step": Device(0.0, 1.0, update=ConstantStep(1e-3)),
    "soft bounds": Device(0.0, 1.0, update=SoftBounds(1e-3)),
    "soft bounds, 30 % spread": Device(0.0, 1.0, update=SoftBounds(1e-3, sigma_d2d=0.3)),
    "exponential steps": Device(0.0, 1.0, update=QuerliozStep(1e-3)),
}
VOLTS = 0.5  # threshold of the memristor


@dataclass(frozen=True)
class Window(Run):
    """Weight change against the delay of one pair of spikes, pulses on one kind of cell."""

    cell: str
    start: float

    def label(self) -> str:  # noqa: D102
        return f"window, {self.cell} from {self.start:g}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        delays = torch.tensor(DELAYS)
        pre, post = _pair(delays, 1)
        start = torch.full((1, len(delays)), self.start, dtype=torch.float64)
        array = xb.matrix(start, xb.Chip(CELLS[self.cell], xb.Unipolar(w_max=1.0)), seed=0)
        sp.Learner(array, RULE, 1e-3, xb.Expected()).run(pre, post)
        moved = (array.weight[:, 0] - self.start).tolist()
        t = delays.double() * 1e-3
        size = torch.exp(-t.abs() / 20e-3) * RULE.a_plus
        law = torch.where(t >= 0, size, -size)
        off = float((torch.tensor(moved, dtype=torch.float64) - law).abs().max())
        return Outcome({"off": off}, {"moved": moved, "law": law.tolist()})


@dataclass(frozen=True)
class Overlap(Run):
    """The same by voltages that overlap on a threshold memristor of power α."""

    alpha: float

    def label(self) -> str:  # noqa: D102
        return f"waveforms, α = {self.alpha:g}"

    def cost(self) -> float:  # noqa: D102
        return 3.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        delays = torch.tensor([d for d in DELAYS if abs(d) > 1])
        pre, post = _pair(delays, 10)
        power = {"alpha_on": self.alpha, "alpha_off": self.alpha}
        law = VTEAM(k_on=5.0, k_off=5.0, v_on=VOLTS, v_off=-VOLTS, **power)
        middle = 1 / (1e3 - 0.5 * (1e3 - 1))  # x = 1/2
        start = torch.full((1, len(delays)), (middle - 1e-3) / (1 - 1e-3), dtype=torch.float64)
        chip = xb.Chip(Device(1e-3, 1.0, update=law), xb.Unipolar(w_max=1.0))
        array = xb.matrix(start, chip, seed=0)
        shape = sp.Waveform(VOLTS, 0.6 * VOLTS)
        sp.WaveformLearner(array, shape, dt=1e-4, threshold=VOLTS).run(pre, post)
        held = (1e3 - 1 / array.written.g[0, :, 0]) / (1e3 - 1) - 0.5
        t = delays.double() * 1e-3
        form = t.sign() * torch.exp(-self.alpha * t.abs() / 20e-3)
        unit = (held * form).sum() / form.square().sum()
        off = float((held / unit / form - 1).abs().max())
        moved = (held / held.abs().max()).tolist()
        return Outcome({"off": off}, {"delay": delays.double().tolist(), "moved": moved})


def _pair(delays: Tensor, fine: int) -> tuple[Tensor, Tensor]:
    """Spikes of a row for each delay [ms] before one of a column, `fine` steps a millisecond."""
    delays = delays * fine
    middle = int(delays.abs().max()) + 1
    pre = torch.zeros(2 * middle + 20, len(delays))
    pre[middle - delays, torch.arange(len(delays))] = 1
    post = torch.zeros(len(pre), 1)
    post[middle] = 1
    return pre, post


STEPS, RATE = 50, 0.45
LAW = SoftBounds(0.01045, up_down=0.354)


@dataclass(frozen=True)
class Unsupervised(Run):
    """Digits on 50 columns that compete, all seeds on chips that learn at the same time."""

    seeds: int
    images: int  # of the training set, per seed
    spread: float = 0.0  # of steps and bounds from cell to cell
    neurons: float = 0.0  # of the thresholds from neuron to neuron
    stuck: float = 0.0
    homeostasis: float = 1.3e-3

    def label(self) -> str:  # noqa: D102
        kind = "with" if self.homeostasis else "without"
        return f"digits {kind} homeostasis, spread {self.spread:.0%}, stuck {self.stuck:.0%}"

    def cost(self) -> float:  # noqa: D102
        return 0.02 * self.images

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        data, n = Digits().load(), self.seeds
        x = torch.cat([data.x_train, data.x_test]).flatten(1)
        y = torch.cat([data.y_train, data.y_test])
        parts = [stratified(y, 0.25, seed) for seed in range(n)]
        train, test = (torch.stack([p[k] for p in parts]) for k in (0, 1))
        draw = torch.Generator().manual_seed(0)

        def encoded(values: Tensor) -> Tensor:
            return sp.encode.regular(values, STEPS, rate=RATE, generator=draw)

        law = replace(LAW, sigma_d2d=self.spread, sigma_bounds=self.spread)
        faults = StuckAt(p_off=self.stuck) if self.stuck else None
        start = (0.67 + 0.2 * torch.randn(n, 50, 64, generator=draw)).clamp(0, 1)
        chip = xb.Chip(Device(0.0, 1.0, update=law, faults=faults), xb.Unipolar(w_max=1.0))
        array = sp.stack(start, chip, seed=0)
        kept = self.homeostasis > 0
        net = sp.WinnerTakesAll(
            array,
            tau=15.0 if kept else 290.0,
            threshold=25.6 if kept else 40.3,
            window=2,
            homeostasis=self.homeostasis,
            sigma_threshold=self.neurons,
        )
        order = torch.stack(
            [train[k, torch.randperm(train.shape[1], generator=draw)] for k in range(n)]
        )
        for now in order.T[: self.images]:
            net.present(encoded(x[now]))
        label = sp.labels(net.respond(encoded(x[train])), y[train], 10)
        guess = sp.votes(net.respond(encoded(x[test])), label, 10)
        found = (guess == y[test]).double().mean(-1)
        curves = {
            "accuracy": found.tolist(),
            "weights": array.weight[0].mT.flatten().tolist(),
            "labels": label[0].tolist(),
        }
        return Outcome({"accuracy": float(found.mean()), "least": float(found.min())}, curves)
