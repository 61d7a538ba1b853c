"""What hardware-aware training does to weights, against its moments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite, presets

IDEAL = xb.Chip()
WRITTEN = xb.Chip(Device(1e-6, 50e-6, write=GaussianWrite(1e-9)))  # cells are drawn at each read


def trained(modifiers, chip=IDEAL, n=64):
    torch.manual_seed(0)
    net = nn.Linear(n, n, bias=False)
    with torch.no_grad():
        net.weight[0, 0] = 0.5  # the largest
        net.weight.clamp_(-0.5, 0.5)
    mode = xb.HardwareAware(modifiers=modifiers)
    return net, xb.convert(net, chip, mode=mode, seed=0).train()


def changes(net, model, reads=50):
    eye = torch.eye(net.weight.shape[1])
    with torch.no_grad():
        return torch.stack([model(eye).T - net.weight for _ in range(reads)])


@pytest.mark.parametrize("chip", [IDEAL, WRITTEN], ids=["itself", "cells"])
def test_noise_has_the_moments_it_says(chip):
    n = 50 * 64 * 64
    net, model = trained([xb.AdditiveNoise(0.03)], chip)
    seen = changes(net, model)
    assert float(seen.std()) == pytest.approx(0.03 * 0.5, rel=5 / (2 * n) ** 0.5 + 0.01)
    assert abs(float(seen.mean())) < 5 * 0.015 / n**0.5 + 1e-6
    net, model = trained([xb.MultiplicativeNoise(0.1)], chip)
    seen = changes(net, model) / net.weight.detach().clamp(min=1e-3)
    large = net.weight > 0.05
    assert float(seen[:, large].std()) == pytest.approx(0.1, rel=0.03)
    net, model = trained([xb.PolynomialNoise((0.01, 0.2, -0.1))], chip)
    ratio = net.weight.detach().abs() / 0.5
    want = 0.5 * (0.01 + 0.2 * ratio - 0.1 * ratio**2)
    got = changes(net, model, 200).std(0)
    assert float((got / want).mean()) == pytest.approx(1, abs=0.01)
    assert float((got / want).std()) < 0.08


def test_connections_drop():
    net, model = trained([xb.DropConnect(0.2)])
    seen = changes(net, model) + net.weight
    dropped = seen == 0
    assert float(dropped.float().mean()) == pytest.approx(0.2, abs=0.005)
    assert torch.equal(torch.where(dropped, net.weight, seen), net.weight.expand_as(seen))


def test_they_act_in_training_only_and_one_after_another():
    net, model = trained([xb.DropConnect(1.0), xb.AdditiveNoise(0.1)])
    assert float(changes(net, model).abs().max()) > 0.05
    x = torch.randn(3, 64)
    assert torch.equal(model.eval()(x), net(x))
    _, model = trained([xb.DropConnect(1.0)])
    assert not model(x).any()
    with pytest.raises(TypeError, match="modifiers"):
        xb.HardwareAware(modifiers=[0.1])


def test_gradients_go_straight_through():
    net, model = trained([xb.MultiplicativeNoise(0.5)])
    x = torch.randn(5, 64, requires_grad=True)
    y = model(x)
    y.square().sum().backward()
    # of the weight as if it had been read itself: δᵀ x
    assert torch.allclose(model.weight.grad, (2 * y.detach()).T @ x.detach(), rtol=1e-4, atol=1e-4)
    # of the input through the weights that were read
    digital = 2 * y.detach() @ net.weight
    assert not torch.allclose(x.grad, digital, rtol=1e-2)


def test_parts_of_a_weight_and_other_layers():
    torch.manual_seed(0)
    mode = xb.HardwareAware(modifiers=[xb.AdditiveNoise(0.05)])
    x = torch.randn(3, 2, 8)
    for net, args in (
        (nn.MultiheadAttention(8, 2), (x, x + 1, x)),
        (nn.LSTM(8, 4), (x,)),
        (nn.Conv1d(2, 4, 3), (x,)),
        (nn.Bilinear(8, 8, 3), (x, x)),
    ):
        model = xb.convert(net, presets_chip(), mode=mode, seed=0).train()
        first, second = (out(model(*args)) for _ in range(2))
        assert float((first - second).detach().abs().max()) > 1e-4
        first.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def presets_chip():
    return xb.Chip(presets.ideal())


def out(y):
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.slow
def test_training_with_noise_beats_training_without():
    """On a chip whose read noise is what was trained for."""
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    label = (x[:, :4].prod(1) > 0).long()
    chip = xb.Chip(Device(1e-6, 50e-6, read=GaussianRead(0.08)))

    def score(modifiers):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2)
        )
        mode = xb.HardwareAware(modifiers=modifiers)
        model = xb.convert(net, IDEAL, mode=mode, seed=0)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        xb.Clip(sigmas=3.0).after(optimizer, model)
        for _ in range(300):
            optimizer.zero_grad()
            F.cross_entropy(model(x), label).backward()
            optimizer.step()
        chips = xb.convert(model.eval(), chip, seed=0)
        with torch.no_grad():
            return sum(float((chips(x).argmax(1) == label).float().mean()) for _ in range(8)) / 8

    assert score([xb.AdditiveNoise(0.08)]) > score([]) + 0.02


def test_clipping():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 4), nn.Conv2d(2, 3, 3))
    model = xb.convert(net, IDEAL, seed=0)
    xb.Clip(sigmas=1.0)(model)
    w, was = model[0].weight.detach(), net[0].weight.detach()
    mean, std = was.mean(1, keepdim=True), was.std(1, keepdim=True)
    assert torch.allclose(w, was.clamp(mean - std, mean + std))
    xb.Clip(limit=0.01)(model)
    assert all(float(p.detach().abs().max()) <= 0.01 for p in model.parameters() if p.dim() > 1)
    with pytest.raises(ValueError, match="limit, or sigmas"):
        xb.Clip()
    cells = xb.convert(net, IDEAL, mode=xb.Programmed(), seed=0)
    before = cells[0].weight.detach().clone()
    xb.Clip(limit=0.01)(cells)
    assert torch.equal(cells[0].weight, before)
