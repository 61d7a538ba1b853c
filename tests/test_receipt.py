"""The receipt of a conversion, what is converted, and which layers are worth keeping digital."""

from __future__ import annotations

import time
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds

TILED = xb.Chip(forward=xb.Periphery(xb.DAC(bits=6), xb.ADC(bits=6)), tile=(4, 4))
NOISY = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(1e-7), read=GaussianRead(0.3)))


class Mixed(nn.Module):
    """Of everything something."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 6)
        self.position = nn.Parameter(torch.randn(3, 6))
        self.inner = nn.Linear(6, 8)
        self.W = nn.Parameter(torch.randn(8, 5))  # inputs × outputs
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 1))
        self.unused = nn.Linear(6, 6)
        self.gate = nn.Parameter(torch.randn(1, 5))
        self.norm = nn.LayerNorm((3, 6))

    def forward(self, ids):
        h = self.norm(self.table(ids) + self.position)
        h = F.conv2d(h.unsqueeze(1), self.kernel, padding=(1, 0)).mean(1)
        return (self.inner(h) @ self.W) * self.gate.sigmoid()


IDS = torch.tensor([[0, 4, 2], [1, 1, 3]])


def mixed(**options):
    torch.manual_seed(0)
    net = Mixed()
    return net, xb.convert(net, TILED, seed=0, example=IDS, **options)


def test_a_receipt_says_what_each_weight_does():
    net, model = mixed()
    receipt = xb.summary(model, IDS)
    states = {line.name: (line.state, line.functions) for line in receipt}
    assert states == {
        "position": ("digital", ("add",)),
        "W": ("analog", ("matmul",)),
        "kernel": ("analog", ("conv2d",)),
        "gate": ("digital", ("sigmoid",)),
        "table.weight": ("table", ("embedding",)),
        "inner.weight": ("analog", ("linear",)),
        "unused.weight": ("not called", ()),
        "norm.weight": ("digital", ("layer_norm",)),
        "norm.bias": ("digital", ("layer_norm",)),
    }
    assert receipt.share == pytest.approx((40 + 12 + 48) / (40 + 12 + 48 + 36))
    digital = xb.summary(net, IDS)
    assert digital.share == 0
    assert digital["W"].state == "digital" and digital["W"].functions == ("matmul",)
    assert "inner.weight" in str(receipt) and "73.53%" in str(receipt)
    assert receipt.vectors == 8 + 6  # biases; a norm of two dimensions has lines of its own
    assert "digital besides: 14 numbers of biases" in str(receipt)


def test_a_receipt_counts_the_hardware():
    _, model = mixed()
    receipt = xb.summary(model)
    inner, W, kernel = receipt["inner.weight"], receipt["W"], receipt["kernel"]
    # 6 inputs, 8 outputs in tiles of 4 × 4: 2 × 2 tiles
    assert (inner.arrays, inner.tiles, inner.cells) == (1, 4, 96)
    assert inner.utilisation == 48 / 64
    assert (inner.dacs, inner.adcs) == (6 * 2, 8 * 2)
    assert (W.tiles, W.dacs, W.adcs) == (4, 8 * 2, 5 * 2)  # its rows are the inputs
    assert (kernel.tiles, kernel.dacs, kernel.adcs) == (1, 3, 4)
    assert inner.bytes >= 48 * 4
    assert receipt.total("cells") == sum(line.cells for line in receipt)


def test_a_receipt_leaves_no_trace():
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout())
    model = xb.convert(net, NOISY, mode=xb.Programmed(), seed=0)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    xb.summary(model, torch.randn(4, 6))
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all(m.training for m in model.modules())


def test_an_example_settles_how_a_weight_lies():
    torch.manual_seed(0)
    _, model = mixed()
    weights = xb.analog_weights(model)
    assert weights["W"].matrix.lines == (8, 5)
    assert weights["kernel"].matrix.lines == (1, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unseen = xb.analog_weights(xb.convert(Mixed(), TILED, seed=0))
    assert unseen["W"].matrix.lines == (5, 8) and "kernel" not in unseen


def test_what_stays_digital_is_said():
    with pytest.warns(UserWarning, match=r"stay digital .*'kernel'"):
        xb.convert(Mixed(), TILED, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xb.convert(Mixed(), TILED, seed=0, exclude=["kernel"])


def test_strict_names_what_is_missing():
    with pytest.raises(ValueError, match="73.53%.*\n.*unused.weight.*not called"):
        mixed(strict=0.99)
    mixed(strict=0.7)
    with pytest.raises(ValueError, match="W .*digital by matmul"):
        mixed(strict=0.7, exclude=["W"])


def test_patterns_choose():
    _, model = mixed(include=["table"], exclude=["un*"], rules={"inn*": NOISY})
    weights = xb.analog_weights(model)
    assert set(weights) == {"W", "kernel", "table.weight", "inner.weight"}
    assert weights["inner.weight"].chip is NOISY and weights["W"].chip is TILED
    assert xb.summary(model, IDS)["table.weight"].state == "table"
    for argument in ({"exclude": ["nobody"]}, {"include": ["nu*"]}, {"rules": {"x": NOISY}}):
        with pytest.raises(ValueError, match=f"{next(iter(argument))} names no layer"):
            mixed(**argument)


def test_ties_are_one_line():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))

    model = xb.convert(Tied(), xb.Chip(), seed=0)
    (line,) = xb.summary(model, IDS)
    assert line.name == "table.weight = head.weight" and line.state == "analog"
    assert line.functions == ("embedding", "linear")


def test_computed_lazy_and_odd_weights():
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.LazyLinear(3))
    receipt = xb.summary(net)
    assert receipt["1.weight"].state == "refused"
    model = xb.convert(net[:1], xb.Chip(), seed=0)
    assert xb.summary(model, torch.randn(2, 4))["0.weight"].state == "analog"
    quantised = nn.Sequential(nn.Linear(4, 4))
    quantised[0].weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    assert xb.summary(quantised)["0.weight"].state == "refused"


def test_a_model_of_eight_billion_weights_on_no_device():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            for name, n, m in (
                *(("q", 4096, 4096), ("k", 4096, 1024), ("v", 4096, 1024), ("o", 4096, 4096)),
                *(("gate", 4096, 14336), ("up", 4096, 14336), ("down", 14336, 4096)),
            ):
                setattr(self, name, nn.Linear(n, m, bias=False))

    with torch.device("meta"):
        net = nn.Sequential(
            nn.Embedding(128256, 4096),
            *(Block() for _ in range(32)),
            nn.Linear(4096, 128256, bias=False),
        )
    model = xb.convert(net, xb.Chip(tile=(256, 256)), seed=0)
    start = time.process_time()
    receipt = xb.summary(model)
    assert time.process_time() - start < 1
    assert sum(line.numel for line in receipt) > 8e9 and len(receipt) == 226
    assert receipt.share == 1 and receipt["0.weight"].state == "table"


def test_the_most_rewarding_layer_comes_first():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    x = torch.randn(64, 6)
    model = xb.convert(net, NOISY, seed=0, rules={"0": xb.Chip(), "4": xb.Chip()})
    with torch.no_grad():
        wanted = net(x)

    def error(one):
        with torch.no_grad():
            return (one(x) - wanted).square().mean()

    ranked = xb.sensitivity(model, error, repeats=2)
    assert [r.name for r in ranked][0] == "2.weight"
    assert ranked[0].score < 1e-10 < ranked[0].gain
    assert error(model) > 1e-6  # all are analog again
    with pytest.raises(ValueError, match="no analog layers"):
        xb.sensitivity(net, error)


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed()], ids=["float", "cells"])
@pytest.mark.parametrize("example", [None, IDS], ids=["head first", "table first"])
def test_a_tied_weight_is_loaded_by_its_first_owner(mode, example):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))

    models = [xb.convert(Tied(), xb.Chip(), mode=mode, seed=0, example=example) for _ in range(2)]
    net = Tied()
    assert not torch.allclose(models[0](IDS), models[1](IDS))
    models[1].load_state_dict(models[0].state_dict())
    assert torch.equal(models[0](IDS), models[1](IDS))
    models[1].load_state_dict(net.state_dict())
    assert torch.allclose(models[1](IDS), net(IDS), atol=1e-5)
