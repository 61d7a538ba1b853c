"""aihwkit's protocol on digits: 64-128-10, tanh, batches of 10, rate 0.1, its converters.

75 % of the images to train on, split stratified by the seed; weights alone are analog.
"""

from __future__ import annotations

import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, LinearStep, SoftBounds, presets
from experiments.tasks.data import Digits, stratified

LR, BATCH, HIDDEN = 0.1, 10, 128
SPAN = 98e-6  # [S] no number depends on it
LOW, HIGH = 1e-6, 99e-6

# aihwkit's PulsedDevice: dw_min 0.001, bounds ±0.6, spreads of step, bounds and cycles 0.3 each
# and of the imbalance 0.01. Its weight is one cell, half whose window counts the larger bound.
PULSED = dict(
    dg_min=0.001 / 1.2 * SPAN,
    sigma_c2c=0.3,
    sigma_d2d=0.3,
    sigma_up_down=0.01,
    sigma_bounds=0.3,
)
# Its EcRamPresetDevice (Tang et al., IEDM 2018): steps are equal at w = 0 of −0.8276 … 1.1724.
# The window is made symmetric about w = 0, which leaves 0.345 more below than there.
TOP = 1.1724
ECRAM = LinearStep(
    dg_min=0.002 / (2 * TOP) * SPAN,
    sigma_c2c=0.3,
    sigma_d2d=0.1,
    sigma_up_down=0.01,
    sigma_bounds=0.05,
    sigma_gamma=0.05,
    gamma_up=0.1153,
    gamma_down=0.5085 * TOP / 0.8276,
)
CASES = {  # device, weight of half its window
    "constant step": (Device(LOW, HIGH, update=ConstantStep(**PULSED)), 0.6),
    # LinearStepDevice: γ 0 with a spread of 0.05 from cell to cell
    "linear step": (Device(LOW, HIGH, update=LinearStep(sigma_gamma=0.05, **PULSED)), 0.6),
    "soft bounds": (Device(LOW, HIGH, update=SoftBounds(**PULSED)), 0.6),
    "ECRAM": (Device(LOW, HIGH, update=ECRAM), TOP),
    "ReRAM-SB": (presets.reram_sb(), 1.0),
}


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


def trained(
    chip: xb.Chip | None, mode: xb.Mode | None, seed: int, epochs: int, hidden: int = HIDDEN
) -> list[float]:
    """The same on any chip, or digitally, with so many hidden cells."""
    whole = Digits().load()
    x = torch.cat([whole.x_train, whole.x_test]).flatten(1)
    y = torch.cat([whole.y_train, whole.y_test])
    train, test = stratified(y, 0.25, seed)
    torch.manual_seed(seed)
    net: nn.Module = nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))
    if chip is None:
        optimiser: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), LR)
    else:
        net = xb.convert(net, chip, mode=mode, seed=seed)
        optimiser = xb.InSituSGD(net, LR)
    found = []
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            found.append(100 * float((net(x[test]).argmax(1) == y[test]).float().mean()))
    return found
