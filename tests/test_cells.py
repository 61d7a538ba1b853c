"""Layers whose cells have a current–voltage law."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, SinhIV, SoftBounds

V0 = 0.1
WINDOW = (1e-6, 50e-6)
DAC = xb.Periphery(dac=xb.DAC(bits=None, v_max=0.2))


LAW = SinhIV(V0)


def chip(iv=LAW, wires=None, tile=None, forward=DAC, read=None):
    device = Device(*WINDOW, update=SoftBounds(1e-8), iv=iv, read=read)
    return xb.Chip(device, xb.Differential(w_max=1.0), forward=forward, tile=tile, wires=wires)


def curve(v):
    return V0 * torch.sinh(v / V0)


@pytest.mark.parametrize("tile", [None, (5, 4)])
def test_linear_layer_sums_the_law_over_its_cells(tile):
    """I_j = Σ_i g_ij v₀ sinh(v_i/v₀), read both ways; closed form for ideal lines."""
    torch.manual_seed(0)
    digital = nn.Linear(12, 7, bias=False, dtype=torch.float64)
    layer = xb.convert(digital, chip(tile=tile), mode=xb.Programmed(), seed=0)
    g = (layer.array.g[0] - layer.array.g[1]) / (WINDOW[1] - WINDOW[0])
    x = torch.randn(3, 2, 12, dtype=torch.float64)
    scale = x.abs().amax(-1, keepdim=True)
    want = curve(x / scale * 0.2) / 0.2 @ g * scale
    torch.testing.assert_close(layer(x), want, rtol=1e-9, atol=1e-12)
    ohmic = (x @ g - want).norm() / want.norm()
    assert float(ohmic) > 0.05  # the law matters at these voltages
    z = x.clone().requires_grad_()
    d = torch.randn(3, 2, 7, dtype=torch.float64)
    (back,) = torch.autograd.grad(layer(z), z, d)
    scale = d.abs().amax(-1, keepdim=True)
    want = curve(d / scale * 0.2) / 0.2 @ g.mT * scale
    torch.testing.assert_close(back, want, rtol=1e-9, atol=1e-12)


def test_convolution_sums_the_law_over_receptive_fields():
    torch.manual_seed(0)
    digital = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, bias=False).double()
    layer = xb.convert(digital, chip(tile=(7, 2)), mode=xb.Programmed(), seed=0)
    g = (layer.array.g[0] - layer.array.g[1]) / (WINDOW[1] - WINDOW[0])
    x = torch.randn(3, 4, 7, 8, dtype=torch.float64)
    scale = x.abs().amax((1, 2, 3), keepdim=True)
    settings = {"stride": 2, "padding": 1, "groups": 2}
    weight = layer.op.weight(g)
    want = nn.functional.conv2d(curve(x / scale * 0.2) / 0.2, weight, **settings) * scale
    torch.testing.assert_close(layer(x), want, rtol=1e-9, atol=1e-12)
    z = x.clone().requires_grad_()
    y = layer(z)
    d = torch.randn_like(y)
    (back,) = torch.autograd.grad(y, z, d)
    scale = d.abs().amax((1, 2, 3), keepdim=True)
    bent = curve(d / scale * 0.2) / 0.2
    want = torch.nn.grad.conv2d_input(x.shape, weight, bent, **settings) * scale
    torch.testing.assert_close(back, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wires", [None, xb.Wires(20.0, 30.0, r_driver=100.0)])
@pytest.mark.parametrize("make", ["linear", "conv"])
def test_hardware_aware_gradients_are_finite_differences_of_the_read(make, wires):
    torch.manual_seed(0)
    fixed = xb.Periphery(dac=xb.DAC(bits=None, v_max=0.3, range=xb.Fixed(3.0)))
    if make == "linear":
        digital, x = nn.Linear(5, 3, bias=False).double(), torch.randn(2, 5).double()
    else:
        digital = nn.Conv2d(2, 2, 2, bias=False).double()
        x = torch.randn(1, 2, 3, 3).double()
    layer = xb.convert(digital, chip(wires=wires, forward=fixed), seed=0)
    with torch.no_grad():
        layer.weight.mul_(0.5)

    def loss(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).sin().sum()

    assert torch.autograd.gradcheck(
        loss, (x.requires_grad_(), layer.weight.detach().clone().requires_grad_()), atol=1e-7
    )


def test_wires_and_nonlinear_cells_together_equal_the_circuit():
    torch.manual_seed(0)
    wires = xb.Wires(5.0, 8.0)
    digital = nn.Linear(10, 6, bias=False, dtype=torch.float64)
    layer = xb.convert(digital, chip(wires=wires, tile=(5, 6)), mode=xb.Programmed(), seed=0)
    x = torch.randn(4, 10, dtype=torch.float64)
    scale = x.abs().amax(-1, keepdim=True)
    volts, total = x / scale * 0.2, 0
    for rows in (slice(0, 5), slice(5, 10)):
        for sign, g in zip((1, -1), layer.array.g, strict=True):
            network = xb.prepare(g[rows], wires, SinhIV(V0))
            total = total + sign * network.mv(volts[:, rows])
    want = total / (0.2 * 49e-6) * scale
    torch.testing.assert_close(layer(x), want, rtol=1e-8, atol=1e-10)
    ideal = xb.convert(digital, chip(tile=(5, 6)), mode=xb.Programmed(), seed=0)(x)
    assert float((ideal - want).norm() / want.norm()) > 1e-3


def test_read_noise_of_nonlinear_cells():
    torch.manual_seed(0)
    digital = nn.Linear(8, 5, bias=False)
    layer = xb.convert(digital, chip(read=GaussianRead(0.02)), mode=xb.Programmed(), seed=0)
    x = torch.rand(8) + 0.1
    y = layer(x.expand(6000, 8)).detach().double()
    volts = x.double() / x.max() * 0.2
    sigma = 0.02 * (2 * curve(volts).square().sum()).sqrt() / 0.2 * float(x.max())
    assert float((y.std(0) / sigma - 1).abs().max()) < 5 / (2 * 6000) ** 0.5


def test_in_situ_training_runs_through_the_law():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    model = xb.convert(model, chip(), mode=xb.InSitu(xb.Expected()), seed=0)
    x, t = torch.randn(64, 6), torch.randint(0, 3, (64,))
    optimiser = xb.InSituSGD(model, lr=0.2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_the_wrong_solver_is_refused():
    device = Device(*WINDOW, iv=SinhIV(V0))
    with pytest.raises(TypeError, match="Newton"):
        xb.Chip(device, wires=xb.Wires(1.0, 1.0), solver=xb.Exact())
    with pytest.raises(TypeError, match="nonlinear cells"):
        xb.Chip(wires=xb.Wires(1.0, 1.0), solver=xb.Newton())
