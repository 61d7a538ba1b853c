"""Spiking networks on digits: trained, converted, written with errors, read with noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, GaussianRead, GaussianWrite
from experiments.lab.run import Outcome, Run, Stored
from experiments.tasks.data import Digits, stratified

TIMES = (4, 8, 16, 32)


def split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images (n, 64) and labels."""
    data = Digits().load()
    x = torch.cat([data.x_train, data.x_test]).flatten(1)
    y = torch.cat([data.y_train, data.y_test])
    train, test = stratified(y, 0.25, seed)
    return x[train], y[train], x[test], y[test]


def spiking() -> sp.Sequential:
    """64-128-10, snnTorch's membranes."""
    return sp.Sequential(
        *(nn.Linear(64, 128), sp.LIF(sp.SnnTorch(0.9)), nn.Linear(128, 10)),
        sp.Integrator(sp.SnnTorch(0.9)),
    )


def rectifying() -> nn.Sequential:
    """64-64-64-10 with ReLUs."""
    return nn.Sequential(
        *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    )


def trained(net: nn.Module, seed: int, epochs: int, steps: int | None) -> nn.Module:
    """Adam on cross entropy; of a spiking net on the mean membrane."""
    x, y, _, _ = split(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=draw).split(64):
            optimizer.zero_grad()
            out = net(x[batch]) if steps is None else scores(net, x[batch], steps)
            nn.functional.cross_entropy(out, y[batch]).backward()
            optimizer.step()
    return net


def scores(net: nn.Module, x: Tensor, steps: int) -> Tensor:
    """Mean membrane of the outputs."""
    found: Tensor = net(sp.encode.constant(x, steps))[0].mean(0)
    return found


@dataclass(frozen=True)
class Trained(Run):
    """A float network."""

    converted: bool  # ReLUs, to be converted; else surrogate gradients at T = 16
    seed: int
    epochs: int

    def label(self) -> str:  # noqa: D102
        return f"{'ReLU' if self.converted else 'spiking'} net, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 1.0 * self.epochs

    def build(self) -> nn.Module:
        """The network before training."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return rectifying() if self.converted else spiking()

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        net = trained(self.build(), self.seed, self.epochs, None if self.converted else 16)
        _, _, x, y = split(self.seed)
        with torch.no_grad():
            out = net(x) if self.converted else scores(net, x, 16)
        state = {name: t.detach().clone() for name, t in net.state_dict().items()}
        return Outcome({"accuracy": float((out.argmax(1) == y).double().mean())}, {}, state)


@dataclass(frozen=True)
class OnChip(Run):
    """A trained network on arrays, its accuracy after 4 … 32 steps."""

    base: Trained
    write: float = 0.0  # relative to the window
    read: float = 0.0

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.base,)

    def label(self) -> str:  # noqa: D102
        return f"write {self.write:.0%}, read {self.read:.0%}, {self.base.label()}"

    def cost(self) -> float:  # noqa: D102
        return 2.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        net = self.base.build()
        net.load_state_dict(store.network(self.base))
        train, _, x, y = split(self.base.seed)
        if self.base.converted:
            assert isinstance(net, nn.Sequential)
            net = sp.to_spiking(net, [train])
        cell = Device(
            0.0,
            1e-4,
            write=GaussianWrite(self.write) if self.write else None,
            read=GaussianRead(self.read) if self.read else None,
        )
        net = xb.convert(net, xb.Chip(cell), mode=xb.Programmed(), seed=self.base.seed)
        found = []
        with torch.no_grad():
            for steps in TIMES:
                out = net(sp.encode.constant(x, steps))[0]
                guess = (out[-1] if self.base.converted else out.mean(0)).argmax(1)
                found.append(float((guess == y).double().mean()))
        return Outcome({"at 16": found[TIMES.index(16)]}, {"accuracy": found})


@dataclass(frozen=True)
class Currents(Run):
    """Error of the time-mean column current against T, of one layer on several chips."""

    sigma: float  # of every cell, relative to the window
    static: bool
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)

    def label(self) -> str:  # noqa: D102
        return f"currents, {'static' if self.static else 'read'} {self.sigma:.0%}"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        draw = torch.Generator().manual_seed(0)
        plain = nn.Linear(64, 40, bias=False)
        with torch.no_grad():
            plain.weight.copy_(torch.rand(40, 64, generator=draw) - 0.5)
        x = torch.rand(64, generator=draw)
        kind = (
            {"write": GaussianWrite(self.sigma)}
            if self.static
            else {"read": GaussianRead(self.sigma)}
        )
        exact, squares = plain.weight.detach() @ x, torch.zeros(len(self.steps))
        chips = 10
        for seed in range(chips):
            chip = xb.Chip(Device(0.0, 1e-4, **kind))
            layer = xb.convert(plain, chip, mode=xb.Programmed(), seed=seed)
            with torch.no_grad():
                y = layer(sp.encode.constant(x.unsqueeze(0), max(self.steps)))[:, 0]
            for k, t in enumerate(self.steps):
                squares[k] += (y[:t].mean(0) - exact).square().mean() / chips
        top = float(plain.weight.detach().abs().max())
        law = self.sigma * 2**0.5 * top * float(x.norm())
        return Outcome({"law": law}, {"error": squares.sqrt().tolist()})


@dataclass(frozen=True)
class Shown(Run):
    """Spikes and membranes of one digit in a trained net."""

    base: Trained
    steps: int = 50

    def needs(self) -> tuple[Run, ...]:  # noqa: D102
        return (self.base,)

    def label(self) -> str:  # noqa: D102
        return "one digit"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        net = self.base.build()
        net.load_state_dict(store.network(self.base))
        _, _, x, _ = split(self.base.seed)
        with torch.no_grad(), sp.recorded(net) as states:
            hidden, _ = sp.Sequential(*list(net.children())[:2])(
                sp.encode.constant(x[:1], self.steps)
            )
        times, neurons = hidden[:, 0].nonzero().unbind(1)
        v = torch.stack([s.v[0] for s in states["1"]])
        busiest = hidden[:, 0].sum(0).argsort(descending=True)[:2]
        curves = {"times": times.tolist(), "neurons": neurons.tolist()}
        curves |= {f"v{k}": v[:, int(j)].tolist() for k, j in enumerate(busiest)}
        spikes = sp.metrics(net, sp.encode.constant(x[:64], 16))
        metrics = {
            "silent": spikes.activation_sparsity,
            "dense": spikes.dense,
            "accumulates": spikes.effective_acs,
            "multiplies": spikes.effective_macs,
            "bytes": float(spikes.footprint),
        }
        return Outcome(metrics, curves)
