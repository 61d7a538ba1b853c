"""The default full scale of converters: what the cells behind them can give."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, GaussianWrite, PowerLawDrift

F64 = torch.float64
PORT = xb.Periphery(xb.DAC(8), xb.ADC(8))
CELL = Device(2e-6, 50e-6, update=ConstantStep(1e-8))
BALANCED = {
    "push-pull": xb.Differential(),
    "reference": xb.Differential(route=xb.Reference()),
    "offset": xb.OffsetColumn(),
    "devices": xb.Devices(count=3),
    "per column": xb.Differential(per_column=True),
}


class Clipped(xb.Probe):
    """Conversions, those at full scale, and the full scales met."""

    def __init__(self):
        self.conversions = self.clipped = 0
        self.full = []

    def converted(self, matrix, port, tile, column, i, full):
        self.conversions += i.numel()
        self.clipped += int((i.abs() > full * (1 + 1e-9)).sum())
        self.full.append(torch.as_tensor(full))


def run(matrix, x):
    probe = Clipped()
    with xb.observe(matrix, probe):
        y = matrix @ x
    return y, probe


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed()], ids=repr)
@pytest.mark.parametrize("mapping", BALANCED)
def test_full_scale_of_balanced_columns(mapping, mode):
    """max over columns of min(√R‖w‖, |Σw| + 8‖w‖), w the difference the converter sees, a tile."""
    torch.manual_seed(0)
    lin = nn.Linear(200, 30, bias=False).double()
    lin.weight.data[4] += 0.05
    chip = xb.Chip(CELL, mapping=BALANCED[mapping], forward=PORT, tile=(120, 40))
    model, probe = xb.convert(lin, chip, mode=mode, seed=0), Clipped()
    with xb.observe(model, probe):
        model(torch.randn(3, 200, dtype=F64))
    w = lin.weight.detach().numpy().T
    top = np.abs(w).max(0) if mapping == "per column" else np.abs(w).max()
    seen = w / top * {"reference": 0.5, "offset": 0.5, "devices": 3}.get(mapping, 1.0)
    want = []
    for rows in (slice(0, 100), slice(100, 200)):
        n = np.linalg.norm(seen[rows], axis=0)
        want.append(np.minimum(10 * n, np.abs(seen[rows].sum(0)) + 8 * n).max())
    for full, wanted in zip(probe.full, want, strict=True):
        np.testing.assert_allclose(full.numpy(), wanted, rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 80),
    which=st.sampled_from(["random", "aligned", "one", "ones", "zero"]),
    tile=st.sampled_from([None, (17, 5)]),
)
def test_converters_of_unbalanced_columns_never_clip(seed, rows, which, tile):
    """Bounds that no vector passes; neither does one that drives a single line."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(6, rows, dtype=F64, generator=generator)
    x = {
        "random": torch.randn(rows, dtype=F64, generator=generator),
        "aligned": w[2].sign(),
        "one": torch.eye(rows, dtype=F64)[0],
        "ones": torch.ones(rows, dtype=F64),
        "zero": torch.zeros(rows, dtype=F64),
    }[which]
    chip = xb.Chip(CELL, mapping=xb.SingleCell(), forward=PORT, tile=tile)
    matrix = xb.matrix(w, chip, seed=0)
    y, probe = run(matrix, x)
    assert probe.conversions and not probe.clipped and bool(y.isfinite().all())
    back = matrix.read_column(torch.tensor([3]))
    assert float((back - w[3]).abs().max()) < 0.03 * float(w.abs().max()) * (1 + 1)


@pytest.mark.parametrize("mapping", [*BALANCED.values(), xb.SingleCell(), xb.Slices()], ids=repr)
@pytest.mark.parametrize("rows", [16, 64, 256, 1024])
def test_non_negative_matrices_keep_their_product(rows, mapping):
    """Everything of one sign: √R, the scale of random signs, would pass a tenth of it."""
    torch.manual_seed(0)
    w, x = torch.rand(8, rows, dtype=F64), torch.rand(rows, dtype=F64)
    matrix = xb.matrix(w, xb.Chip(CELL, mapping=mapping, forward=PORT), seed=1)
    y, probe = run(matrix, x)
    assert float((y / (w @ x) - 1).abs().max()) < 0.1 and not probe.clipped
    z = torch.rand(8, dtype=F64)
    assert float((matrix.T @ z / (w.T @ z) - 1).abs().max()) < 0.1


@pytest.mark.parametrize("mapping", BALANCED)
def test_rows_and_columns_are_read_back_one_by_one(mapping):
    """A line alone is converted on the scale of its largest cell."""
    torch.manual_seed(0)
    w = torch.randn(20, 300, dtype=F64)
    matrix = xb.matrix(w, xb.Chip(CELL, mapping=BALANCED[mapping], forward=PORT), seed=0)
    for got, want in ((matrix.read_column([3, 7]), w[[3, 7]]), (matrix.read_row([5]), w.T[[5]])):
        assert float((got - want).abs().max()) < 1.01 * float(w.abs().max()) / 127


def test_full_scales_are_those_of_the_write_and_follow_updates():
    torch.manual_seed(0)
    device = Device(
        0.0,
        50e-6,
        update=ConstantStep(5e-7),
        write=GaussianWrite(0.01),
        retention=PowerLawDrift(0.1),
    )
    chip = xb.Chip(device, mapping=xb.Differential(w_max=1.0), forward=PORT)
    lin = nn.Linear(40, 8, bias=False)
    nn.init.uniform_(lin.weight, -0.02, 0.02)
    model = xb.convert(lin, chip, mode=xb.InSitu(xb.ExactBits()), seed=0)
    cells = model.analog["weight"].matrix.cells
    before = cells.reach.clone()
    xb.advance(model, 1e6)  # cells lose half of their conductance, converters stay as they are
    assert torch.equal(cells.reach, before)
    optimiser, x = xb.InSituSGD(model, 0.2), torch.rand(16, 40)
    twin = twin_optimiser = None
    for k in range(1, 9):
        if k == 4:  # resumed elsewhere
            twin = xb.convert(nn.Linear(40, 8, bias=False), chip, mode=xb.InSitu(xb.ExactBits()))
            twin.load_state_dict(model.state_dict())
            twin_optimiser = xb.InSituSGD(twin, 0.2)
        for each, step in ((model, optimiser), (twin, twin_optimiser)):
            if each is not None:
                step.zero_grad()
                (each(x) - 2).square().mean().backward()
                step.step()
        if k in (1, 2, 4, 8):
            assert not torch.equal(cells.reach, before)
        before = cells.reach.clone()
    assert torch.equal(twin.weight, model.weight) and torch.equal(twin(x), model(x))
    again = copy.deepcopy(model)
    assert torch.equal(again.analog["weight"].matrix.cells.reach, cells.reach)


def test_a_tally_counts_what_the_arrays_do():
    """Reads, lines, conversions, clipping and pulses by weight, against NumPy."""
    torch.manual_seed(0)
    full = 2.0 * 0.2 * 48e-6  # two weights' worth of current
    port = xb.Periphery(xb.DAC(4, v_max=0.2), xb.ADC(8, range=xb.Fixed(full)))
    chip = xb.Chip(CELL, forward=port, tile=(4, 100))
    net = nn.Sequential(nn.Linear(9, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)).double()
    model = xb.convert(net, chip, mode=xb.InSitu(xb.Expected()), seed=0)
    x = torch.randn(50, 9, dtype=F64)
    x[:, 3] = 0
    with xb.observe(model, xb.Tally(model)) as tally:
        model(x).square().sum().backward()
        xb.InSituSGD(model, 1e-4).step()
    assert list(tally) == ["0.weight", "2.weight"] and len(tally) == 2
    first = tally["0.weight"]
    x, w = x.numpy(), net[0].weight.detach().numpy().T
    v = np.round(x / np.abs(x).max(1, keepdims=True) * 7) / 7
    tiles = [(0, 3), (3, 6), (6, 9)]
    i = np.stack([v[:, a:b] @ w[a:b] / (4 * np.abs(w).max()) for a, b in tiles])
    assert (first.reads, first.conversions) == (1, i.size)
    assert first.lines == np.count_nonzero(v) and first.back_conversions == 0
    assert first.clipped == pytest.approx((np.abs(i) >= 2.0).mean())
    assert first.used == pytest.approx(np.abs(i).max() / 2.0)
    assert tally["2.weight"].reads == 2 and tally["2.weight"].back_conversions == 50 * 5
    assert first.pulses > 0 and first.programmed == 0
    lines = repr(tally).splitlines()
    assert len(lines) == 3 and lines[1].startswith("0.weight") and "clipped" in lines[0]


def test_a_tally_tells_a_converter_that_limits():
    """Full scale a third of what arrives: the share of conversions beyond it is said."""
    torch.manual_seed(0)
    lin, x = nn.Linear(100, 50, bias=False), torch.rand(40, 100)
    i = (x / x.amax(1, keepdim=True)) @ lin.weight.detach().T / lin.weight.detach().abs().max()
    full = float(i.abs().quantile(0.7)) * 0.2 * 48e-6
    for adc, share in ((xb.ADC(8, range=xb.Fixed(full)), 0.3), (xb.ADC(8), 0.0)):
        chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(None), adc))
        for mode in (xb.HardwareAware(), xb.Programmed()):
            model = xb.convert(lin, chip, mode=mode, seed=0)
            with xb.observe(model, xb.Tally(model)) as tally:
                model(x)
            assert tally["weight"].clipped == pytest.approx(share, abs=2e-3)
            assert math.isnan(tally["weight"].back_clipped)
    with pytest.raises(ValueError, match="no analog"):
        xb.Tally(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("widths", "act", "centred"),
    [
        ((64, 256, 256, 10), nn.Tanh, True),
        ((64, 1024, 10), nn.Tanh, True),
        ((64, 1024, 10), nn.ReLU, False),
    ],
    ids=["256 tanh", "1024 tanh", "1024 relu"],
)
def test_trained_networks_lose_nothing_to_uncalibrated_converters(widths, act, centred):
    """8 bits, default ranges, on digits: at most a point; √R rows lose 12 to 20 with tanh."""
    from experiments.tasks.data import Digits

    torch.manual_seed(0)
    images = Digits().load()
    x, t = images.x_train.flatten(1), images.x_test.flatten(1)
    if centred:
        x, t = x - x.mean(0), t - x.mean(0)
    layers = [m for a, b in zip(widths, widths[1:], strict=False) for m in (nn.Linear(a, b), act())]
    net = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(12):
        for k in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[k]), images.y_train[k]).backward()
            optimiser.step()

    def points(model):
        with torch.no_grad():
            return 100 * float((model(t).argmax(-1) == images.y_test).double().mean())

    digital = points(net)
    model = xb.convert(net, xb.Chip(CELL, forward=PORT), mode=xb.Programmed(), seed=0)
    with xb.observe(model, xb.Tally(model)) as tally:
        assert digital > 95 and points(model) > digital - 1
    assert max(n.clipped for n in tally.values()) < 0.02
    if act is nn.Tanh:  # the test sees a range that is too narrow
        narrow = xb.ADC(8, range=xb.Fixed(0.2 * 48e-6 * widths[-2] ** 0.5))
        chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(8), narrow))
        assert points(xb.convert(net, chip, mode=xb.Programmed(), seed=0)) < digital - 3
