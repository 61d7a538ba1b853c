"""Ideal hardware equals torch.nn, and the path to it is the one every chip takes."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device
from tests._analog import cells_of, per_siemens

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
MODES = [xb.HardwareAware(), xb.InSitu(xb.Expected()), xb.Programmed()]


def error(want: torch.Tensor, got: torch.Tensor) -> float:
    return float((want - got).detach().abs().max() / want.detach().abs().max())


def linear(dtype):
    return nn.Linear(37, 19, dtype=dtype), torch.randn(5, 3, 37, dtype=dtype)


def conv(dtype):
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dtype=dtype)
    return layer, torch.randn(3, 4, 9, 8, dtype=dtype)


def grouped(dtype):
    layer = nn.Conv2d(
        4, 6, 3, padding="same", dilation=2, groups=2, padding_mode="reflect", dtype=dtype
    )
    return layer, torch.randn(3, 4, 9, 8, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("make", [linear, conv, grouped])
@pytest.mark.parametrize("tile", [None, (10, 7)])
def test_layer_equals_torch(dtype, mode, make, tile):
    torch.manual_seed(3)
    digital, x = make(dtype)
    analog = xb.convert(digital, xb.Chip(tile=tile), mode=mode, seed=1)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    y1, y2 = digital(x1), analog(x2)
    d = torch.randn_like(y1)
    y1.backward(d)
    y2.backward(d)
    limit = TOLERANCE[dtype]
    assert error(y1, y2) <= limit
    assert error(x1.grad, x2.grad) <= limit
    assert error(digital.bias.grad, analog.bias.grad) <= limit
    if isinstance(mode, xb.HardwareAware):
        assert error(digital.weight.grad, analog.weight.grad) <= limit
    if isinstance(mode, xb.InSitu):
        before = analog.weight.detach().clone()
        xb.InSituSGD(analog, lr=1e-2).step()
        assert error(digital.weight.grad, (before - analog.weight) / 1e-2) <= limit


@pytest.mark.parametrize(
    ("dtype", "activation", "limit"),
    [
        pytest.param(torch.float32, nn.Tanh, 1e-5, marks=pytest.mark.slow),
        pytest.param(torch.float64, nn.Tanh, 1e-8, marks=pytest.mark.slow),
        (torch.float64, nn.ReLU, 1e-8),
    ],
)
def test_200_in_situ_steps_equal_sgd(dtype, activation, limit):
    torch.manual_seed(0)
    digital = nn.Sequential(
        nn.Linear(12, 24), activation(), nn.Linear(24, 16), activation(), nn.Linear(16, 4)
    ).to(dtype)
    analog = xb.convert(digital, xb.Chip(), mode=xb.InSitu(xb.Expected()), seed=0)
    sgd = torch.optim.SGD(digital.parameters(), lr=0.1)
    in_situ = xb.InSituSGD(analog, lr=0.1)
    for _ in range(200):
        x, t = torch.randn(32, 12, dtype=dtype), torch.randint(0, 4, (32,))
        for model, optimiser in ((digital, sgd), (analog, in_situ)):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), t).backward()
            optimiser.step()
    for want, got in zip(digital, analog, strict=True):
        if isinstance(want, nn.Linear):
            assert error(want.weight, got.weight) <= limit
            assert error(want.bias, got.bias) <= limit


def test_one_conductance_moves_its_column_by_v_dg():
    torch.manual_seed(0)
    chip = xb.Chip()
    layer = xb.AnalogLinear(
        6, 4, bias=False, chip=chip, mode=xb.InSitu(), seed=0, dtype=torch.float64
    )
    v = torch.randn(6, dtype=torch.float64)
    array, dg = cells_of(layer), 3e-6
    volts_to_weight = per_siemens(layer)
    before = layer(v)
    array.g[0, 2, 1] += dg  # written by hand: the read notices
    change = layer(v) - before
    want = torch.zeros(4, dtype=torch.float64)
    want[1] = v[2] * dg * volts_to_weight
    torch.testing.assert_close(change, want, rtol=1e-9, atol=1e-16)
    array.g[1, 2, 1] += dg  # the other device of the pair takes it back
    torch.testing.assert_close(layer(v), before, rtol=1e-12, atol=0)


def test_ohm_and_kirchhoff():
    """Column currents are the float64 sums of g v; the transposed read is the input gradient."""
    torch.manual_seed(1)
    weight = torch.randn(20, 30)
    chip = xb.Chip(Device(1e-6, 50e-6), tile=(7, 6))
    matrix = xb.matrix(weight, chip, seed=0)
    g = matrix.cells.g.double()
    x = torch.randn(30)
    currents = (g[0] - g[1]).mT @ x.double()  # [A] at x volts
    scale = float(matrix.cells.w_max) / 49e-6
    torch.testing.assert_close(matrix @ x, (currents * scale).float(), rtol=2e-6, atol=2e-6)
    y = torch.randn(20)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(matrix @ x, x, y)
    torch.testing.assert_close(matrix.T @ y, gradient)
    torch.testing.assert_close(
        matrix.T @ y, ((g[0] - g[1]) @ y.double() * scale).float(), rtol=2e-6, atol=2e-6
    )


def test_writing_into_the_weight_programs_the_cells():
    torch.manual_seed(0)
    layer = xb.AnalogLinear(5, 3, mode=xb.InSitu(xb.Expected()), seed=0)
    other = copy.deepcopy(layer)
    x, wanted = torch.randn(4, 5), torch.randn(3, 5)
    with torch.no_grad():
        other.weight.copy_(wanted)
    want = nn.functional.linear(x, wanted, other.bias)
    torch.testing.assert_close(other(x), want, rtol=1e-5, atol=1e-6)
    pair = cells_of(other).g.double()
    held = (pair[0] - pair[1]).mT * per_siemens(other)
    torch.testing.assert_close(held, wanted.double(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(layer(x), other(x))
    other(x).square().sum().backward()
    with torch.no_grad():
        other.weight.copy_(layer.weight)
    torch.testing.assert_close(other(x), layer(x), rtol=1e-5, atol=1e-6)
    want = layer.weight.detach() - 0.02 * other.weight.grad  # a step applies .grad as torch's does
    xb.InSituSGD(other, lr=0.02).step()
    torch.testing.assert_close(other.weight.detach(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("size", [(0, 4), (4, 0), (3, 2)])
@pytest.mark.parametrize("batch", [(5,), (0,), (), (2, 0)])
def test_empty_layers_and_batches_are_torchs(size, batch, mode):
    port = xb.Periphery(xb.DAC(), xb.ADC())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of initialising nothing
        digital = nn.Linear(*size)
    for chip in (xb.Chip(), xb.Chip(forward=port, tile=(2, 2))):
        model = xb.convert(digital, chip, mode=mode, seed=0)
        x = torch.randn(*batch, size[0], requires_grad=True)
        y = model(x)
        assert y.shape == digital(x).shape
        if not isinstance(mode, xb.Programmed):
            y.sum().backward()
            assert model.weight.grad.shape == model.weight.shape
        if isinstance(mode, xb.InSitu):
            xb.InSituSGD(model, 0.1).step()
