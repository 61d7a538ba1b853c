"""Tensors follow those they are given: nothing is made on torch's default device.

With "meta" as the default, whatever is created without a device holds no numbers, and the first
operation that mixes it with real ones raises: what a CUDA run would stumble over shows on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar.wires import (
    Approximate,
    Floating,
    Iterative,
    Network,
    SourceLine,
    Wires,
    disturb,
    prepare,
    write_shares,
)
from devices import Device, GaussianRead, SinhIV, SoftBounds
from tests.circuit_cases import cells, volts

LINES = Wires(3.0, 2.0, 5.0, 4.0, both_senses=True)
G = torch.stack([cells(9, 7, k).clamp(max=1e-4) for k in range(2)])
KINDS: dict[str, Callable[[torch.Tensor], Network]] = {
    "exact": lambda g: prepare(g, LINES),
    "iterative": lambda g: prepare(g, LINES, solver=Iterative()),
    "approximate": lambda g: prepare(g, LINES, solver=Approximate()),
    "floating": lambda g: prepare(g, LINES, floating=Floating((1,), (2,))),
    "newton": lambda g: prepare(g, LINES, SinhIV(0.1)),
    "newton, floating": lambda g: prepare(g, LINES, SinhIV(0.1), floating=Floating((1,), (2,))),
    "interleaved": lambda g: prepare(g, Wires(3.0, 2.0, interleaved=True)),
    "gated": lambda g: prepare(g, Wires(0.0, 3.0, source=SourceLine(0.2, 2.0))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks(kind: str) -> None:
    gated = kind == "gated"
    x = torch.stack([volts(9, k) for k in range(12)])
    x = x.sign() * 0.2 if gated else x
    d, bar = volts(7, 3), torch.stack([volts(7, k) for k in range(12)])
    if kind == "interleaved":
        d, bar = torch.stack([d, -d]), torch.stack([bar, -bar])
    leaf = G.clone().requires_grad_()

    def answers() -> list[torch.Tensor]:
        network = KINDS[kind](leaf)
        found = [network.mv(x), network.mv_t(d), network.matrix_t, *network.vjp(x, bar)]
        (by_g,) = torch.autograd.grad(network.mv(x).sum(), leaf)
        found.append(by_g)
        if kind != "approximate":
            read = x.abs() if gated else x
            found += network.fields(read)[:-1]
            found += [network.variance(read, 1e-6 * leaf.detach().sign())]
        if not gated:  # its fields take inputs of one voltage
            found.append(torch.tensor(network.residual, device="cpu"))
        return found

    wanted = answers()
    with torch.device("meta"):
        found = answers()
    for a, b in zip(found, wanted, strict=True):
        assert a.device.type == "cpu" and torch.equal(a, b)


def test_writes() -> None:
    g = G[0]
    rows, cols = volts(9, 1) > 0, volts(7, 1) > 0
    with torch.device("meta"):
        network = prepare(g, LINES)
        assert write_shares(network).device == g.device
        assert disturb(network, rows, cols, 1.0).voltage.device == g.device


@pytest.mark.parametrize(
    "scheme",
    [xb.Expected(), xb.Aggregated(), xb.ExactBits(), xb.Deterministic(True)],
    ids=lambda s: type(s).__name__,
)
def test_layers(scheme: xb.Scheme) -> None:
    cell = Device(1e-6, 1e-4, update=SoftBounds(1e-7, sigma_c2c=0.3), read=GaussianRead(0.01))
    half = None if isinstance(scheme, xb.Deterministic) else xb.ParallelWrite(1.0, 0.2, True)
    periphery = xb.Periphery(xb.DAC(8), xb.ADC(8))
    gate = xb.Periphery(xb.DAC(4), xb.ADC(8))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    chips = [
        xb.Chip(cell, forward=periphery, wires=Wires(3.0, 2.0, 1.0), tile=(7, 4), write=half),
        xb.Chip(cell, forward=gate, wires=Wires(0.0, 2.0, source=SourceLine(0.2))),
    ]
    for chip in chips:
        for mode in (xb.InSitu(scheme), xb.HardwareAware()):
            after = []
            for default in ("cpu", "meta"):
                model = xb.convert(net, chip, mode=mode, seed=1)
                opt = xb.InSituSGD(model, lr=0.1)
                x = torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
                with torch.device(default):
                    opt.zero_grad()
                    model(x).square().sum().backward()
                    opt.step()
                    after.append(model[3].weight.detach().clone())
            assert torch.equal(*after)
