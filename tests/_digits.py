"""aihwkit's protocol on digits: 64-128-10, tanh, batches of 10, rate 0.1, its converters."""

from __future__ import annotations

import torch
from torch import nn

import crossbar as xb
from devices import Device
from experiments.tasks.data import Digits, stratified


def converters(device: Device, w_max: float) -> xb.Periphery:
    """Its IOParameters: 7 bits in, of each vector's maximum; 9 bits out, ±12 with noise 0.06."""
    dac = xb.DAC(7, range=xb.PerVector())
    full = 12 / (2 * w_max) * dac.v_max * (device.g_max - device.g_min)
    return xb.Periphery(dac, xb.ADC(9, range=xb.Fixed(full), noise=0.06 / 12))


def accuracies(
    device: Device, w_max: float, mode: xb.Mode, seed: int, epochs: int = 20
) -> list[float]:
    """Test accuracy after every epoch [%]; `w_max` is the weight of half the window."""
    chip = xb.Chip(device, xb.OffsetColumn(w_max=w_max), converters(device, w_max))
    return trained(chip, mode, seed, epochs)


def trained(chip: xb.Chip, mode: xb.Mode, seed: int, epochs: int, hidden: int = 128) -> list[float]:
    """The same on any chip, with so many hidden cells."""
    whole = Digits().load()
    x = torch.cat([whole.x_train, whole.x_test]).flatten(1)
    y = torch.cat([whole.y_train, whole.y_test])
    train, test = stratified(y, 0.25, seed)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))
    net = xb.convert(net, chip, mode=mode, seed=seed)
    optimiser, found = xb.InSituSGD(net, 0.1), []
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(10):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            found.append(100 * float((net(x[test]).argmax(1) == y[test]).float().mean()))
    return found
