"""Digits told apart by spikes: networks that are converted, rehearsed and trained in situ."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from devices import (
    ConstantStep,
    Device,
    FiniteLevels,
    GaussianRead,
    GaussianWrite,
    PowerLawDrift,
    Write,
)
from tests._currents import uniform

# ---- rates for ReLUs -----------------------------------------------------------------------------


def split(seed: int) -> tuple[torch.Tensor, ...]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.25, stratify=y, random_state=seed)
    return tuple(
        torch.from_numpy(p).float() if k < 2 else torch.from_numpy(p) for k, p in enumerate(parts)
    )


def trained(
    net: nn.Module, x, y, epochs: int, lr: float = 2e-3, steps: int | None = None
) -> nn.Module:
    """Adam on cross entropy; of a spiking net on the mean membrane of its last layer."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores(net, x[batch], steps), y[batch]).backward()
            optimizer.step()
    return net


def scores(net: nn.Module, x: torch.Tensor, steps: int | None = None) -> torch.Tensor:
    if steps is None:
        return net(x)
    return net(sp.encode.constant(x, steps))[0].mean(0)


@torch.no_grad()
def accuracy(net: nn.Module, x, y, steps: int | None = None) -> float:
    return float((scores(net, x, steps).argmax(1) == y).float().mean())


@torch.no_grad()
def last(net: nn.Module, x, y, steps: int) -> float:
    """Of the accumulated membrane of a converted net."""
    return float((net(sp.encode.constant(x, steps))[0][-1].argmax(1) == y).float().mean())


def mlp() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
        *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def test_rates_are_activations_and_thresholds_follow_a_gain() -> None:
    torch.manual_seed(0)
    x, test, y, label = split(0)
    net = trained(mlp(), x, y, 12)
    spiking = sp.to_spiking(net, [x])
    with torch.no_grad():
        # first layer: rates are relu(a)/Θ within 1/T, but for what percentile 99.9 saturates
        spikes = sp.Sequential(*list(spiking)[:2])(sp.encode.constant(test, 64))[0].mean(0)
        want = torch.relu(net[0](test)) / float(spiking[1].threshold)
        assert float((spikes - want.clamp(max=1)).abs().max()) <= 1 / 64 + 1e-5
        # accumulated output over T is the ANN's over the last Θ
        out = spiking(sp.encode.constant(test, 512))[0][-1] / 512
        ann = net(test)
        unit = ann.norm() / out.norm()
        assert float((out * unit - ann).norm() / ann.norm()) < 0.05
    assert accuracy(net, test, label) - last(spiking, test, label, 16) <= 0.02
    chip = xb.Chip(Device(0.0, 1e-4))
    analog = xb.convert(spiking, chip, mode=xb.Programmed(), seed=0)
    same = (
        analog(sp.encode.constant(test, 16))[0][-1] - spiking(sp.encode.constant(test, 16))[0][-1]
    )
    assert float(same.detach().abs().median()) < 1e-4
    for layer in (m for m in analog if isinstance(m, nn.Linear)):
        layer.weight.analog.matrix.column_gain = torch.full((layer.out_features,), 0.4)
    lost = last(analog, test, label, 16)
    sp.balance(analog, [x])
    assert last(analog, test, label, 16) > lost + 0.1
    sp.balance(analog, [x], like=spiking)  # every output is 0.4 of what it was, biases too
    for now, was in zip(analog, spiking, strict=True):
        if isinstance(now, nn.Linear):
            torch.testing.assert_close(now.bias, 0.4 * was.bias, rtol=1e-3, atol=1e-6)
        elif isinstance(now, sp.LIF):
            torch.testing.assert_close(now.threshold, 0.4 * was.threshold, rtol=0.02, atol=0)
    assert accuracy(net, test, label) - last(analog, test, label, 16) <= 0.02
    with pytest.raises(ValueError, match="like must have the layers of net"):
        sp.balance(analog, [x], like=sp.to_spiking(nn.Sequential(nn.Linear(64, 10)), [x]))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def shaped(kind: Callable[[], nn.Sequential], seed: int) -> tuple[torch.Tensor, ...]:
    """The split as the network takes it."""
    x, test, y, label = split(seed)
    return (x, test, y, label) if kind is mlp else (images(x), images(test), y, label)


def images(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, 1, 8, 8)


@cache
def rectifying(kind: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    """A trained network of ReLUs."""
    torch.manual_seed(seed)
    x, _, y, _ = shaped(kind, seed)
    return trained(kind(), x, y, 25, lr=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [mlp, cnn])
def test_conversion_loses_less_than_a_point(kind: Callable[[], nn.Sequential]) -> None:
    found, gaps = [], []
    for seed in range(5):
        net, (x, test, _, label) = rectifying(kind, seed), shaped(kind, seed)
        spiking = xb.convert(sp.to_spiking(net, [x]), xb.Chip(), mode=xb.Programmed(), seed=seed)
        found.append(accuracy(net, test, label))
        gaps.append(found[-1] - last(spiking, test, label, 16))
    print(f"float {np.mean(found):.3f}, lost points {np.round(100 * np.array(gaps), 1)}")
    assert np.mean(found) >= 0.95 and np.mean(gaps) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", [mlp, cnn])
def test_thresholds_follow_drift(kind: Callable[[], nn.Sequential]) -> None:
    """A month on cells that keep 43 % of their conductance: rates fade layer by layer."""
    cells = Device(0.0, 1e-4, retention=PowerLawDrift(nu=0.057, sigma_d2d=0.2))
    fresh, faded, balanced = [], [], []
    for seed in range(3):
        net, (x, test, _, label) = rectifying(kind, seed), shaped(kind, seed)
        spiking = sp.to_spiking(net, [x])
        chip = xb.convert(spiking, xb.Chip(cells), mode=xb.Programmed(), seed=seed)
        fresh.append(last(chip, test, label, 16))
        xb.advance(chip, 30 * 86400.0)
        faded.append(last(chip, test, label, 16))
        sp.balance(chip, [x], like=spiking)
        balanced.append(last(chip, test, label, 16))
    print(f"{np.mean(fresh):.3f}, faded {np.mean(faded):.3f}, balanced {np.mean(balanced):.3f}")
    assert np.mean(faded) <= np.mean(fresh) - 0.05
    assert np.mean(balanced) >= np.mean(fresh) - 0.01


def test_conversion_refuses_other_layers() -> None:
    with pytest.raises(TypeError, match="Tanh has no spiking counterpart"):
        sp.to_spiking(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), [torch.ones(1, 2)])
    with pytest.raises(ValueError, match="nothing but zeros"):
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        with torch.no_grad():
            net[0].weight.zero_(), net[0].bias.fill_(-1)
        sp.to_spiking(net, [torch.ones(1, 2)])


# ---- surrogate gradients -------------------------------------------------------------------------


def snn() -> sp.Sequential:
    return sp.Sequential(
        *(nn.Linear(64, 128), sp.LIF(sp.SnnTorch(0.9)), nn.Linear(128, 10)),
        sp.Integrator(sp.SnnTorch(0.9)),
    )


def test_spiking_nets_train_through_arrays_and_keep_their_accuracy_when_written() -> None:
    torch.manual_seed(0)
    x, test, y, label = split(0)
    device = Device(1e-6, 50e-6, read=GaussianRead(0.01), write=GaussianWrite(0.03))
    net = xb.convert(snn(), xb.Chip(device), seed=0)
    trained(net, x, y, 5, steps=8)
    xb.program(net)
    assert accuracy(net, test, label, 8) >= 0.92


@cache
def surrogate(seed: int) -> tuple[nn.Module, float]:
    """A float spiking net trained at T = 16, and its accuracy."""
    torch.manual_seed(seed)
    x, test, y, label = split(seed)
    net = trained(snn(), x, y, 25, steps=16)
    return net, accuracy(net, test, label, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "mapping"),
    [
        (GaussianWrite(0.01), xb.Differential()),
        (GaussianWrite(0.05), xb.Differential()),
        (FiniteLevels(8), xb.Differential()),
        (FiniteLevels(7), xb.OffsetColumn()),  # an odd number, so that the column holds a zero
    ],
    ids=["write 1", "write 5", "8 levels a cell", "7 levels a weight"],
)
def test_hardware_aware_nets_are_within_two_points_of_float(
    write: Write, mapping: xb.Mapping
) -> None:
    best, losses = [], []
    for seed in range(5):
        net, own = surrogate(seed)
        x, test, y, label = split(seed)
        torch.manual_seed(100 + seed)
        chip = xb.Chip(Device(1e-6, 50e-6, read=GaussianRead(0.01), write=write), mapping)
        net = xb.convert(net, chip, seed=seed)
        trained(net, x, y, 6, lr=5e-4, steps=16)
        xb.program(net)
        best.append(own)
        losses.append(own - accuracy(net, test, label, 16))
    print(f"float {np.mean(best):.3f}, lost points {np.round(100 * np.array(losses), 1)}")
    assert np.mean(best) >= 0.96 and np.mean(losses) <= 0.02


def test_static_errors_do_not_average_over_time_and_read_noise_does() -> None:
    w = 0.6 * (uniform((20, 64), 3) - 0.5).float()
    x = uniform((64,), 4).float()
    plain = nn.Linear(64, 20, bias=False)
    with torch.no_grad():
        plain.weight.copy_(w)
    top, exact = float(w.abs().max()), w @ x
    # a pair of cells, each with σ of its window: σ √2 w_max of the weight, as ±1 is two windows
    for sigma in (0.2, 0.5):
        read = Device(0.0, 1e-4, read=GaussianRead(sigma))
        written = Device(0.0, 1e-4, write=GaussianWrite(sigma))
        fixed, moving = [], []
        for steps in (1, 4, 16, 64):
            chips = range(12)
            for found, device in ((fixed, written), (moving, read)):
                errors = []
                for seed in chips:
                    layer = xb.convert(plain, xb.Chip(device), mode=xb.Programmed(), seed=seed)
                    with torch.no_grad():
                        mean = layer(sp.encode.constant(x.unsqueeze(0), steps)).mean(0)[0]
                    errors.append(mean - exact)
                found.append(float(torch.stack(errors).square().mean().sqrt()))
        law = sigma * math.sqrt(2) * top * float(x.norm())
        for steps, error in zip((1, 4, 16, 64), moving, strict=True):
            # 240 draws: 4.5 σ of a standard deviation
            assert error == pytest.approx(law / math.sqrt(steps), rel=4.5 / math.sqrt(480))
        assert fixed == pytest.approx([fixed[0]] * 4, rel=1e-5)


@pytest.mark.slow
def test_spiking_nets_train_in_situ_by_pulses() -> None:
    """Within three points of float, with w_max = 1 stated."""
    losses = []
    for seed in range(5):
        torch.manual_seed(seed)
        x, test, y, label = split(seed)
        net = snn()
        best = accuracy(trained(net, x, y, 10, steps=10), test, label, 10)
        law = ConstantStep(50e-9, sigma_c2c=0.3, sigma_d2d=0.3)  # 1,000 states
        device = Device(1e-6, 51e-6, update=law, read=GaussianRead(0.01))
        torch.manual_seed(seed)
        chip = xb.Chip(device, xb.Differential(w_max=1.0))
        net = xb.convert(snn(), chip, mode=xb.InSitu(), seed=seed)
        optimizer = xb.InSituSGD(net, lr=0.1)
        for _ in range(10):
            for batch in torch.randperm(len(x)).split(16):
                optimizer.zero_grad()
                nn.functional.cross_entropy(scores(net, x[batch], 10), y[batch]).backward()
                optimizer.step()
        losses.append(best - accuracy(net, test, label, 10))
    print(f"lost points {np.round(100 * np.array(losses), 1)}")
    assert np.mean(losses) <= 0.03
