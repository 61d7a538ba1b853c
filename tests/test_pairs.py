"""Features two by two: one in its lossless limit leaves the other as it is alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite, SoftBounds

FREE = Device(0.0, 1e-4)
CELL = Device(0.0, 1e-4, update=SoftBounds(1e-7), write=GaussianWrite(0.02))
MAPPINGS = {
    "push-pull": xb.Differential(),
    "reference": xb.Differential(route=xb.Reference()),
    "one-sided": xb.Differential(route=xb.OneSided()),
    "columns": xb.Differential(per_column=True),
    "offset": xb.OffsetColumn(),
    "single": xb.SingleCell(),
    "slices": xb.Slices(widths=(2, 3)),
    "devices": xb.Devices(count=3),
}
# lossless, and what it must not change; a range for both, so that one of them is not trivial
PAIRS = {
    "perfect converter under a managed range": (
        xb.Periphery(xb.DAC(8), xb.ADC(None, range=xb.Managed(1e-7, most=20))),
        xb.Periphery(xb.DAC(8)),
    ),
    "perfect SAR": (
        xb.Periphery(xb.DAC(6), xb.SAR(bits=6, range=xb.PerVector())),
        xb.Periphery(xb.DAC(6), xb.ADC(6, range=xb.PerVector())),
    ),
    "perfect pipeline": (
        xb.Periphery(None, xb.Pipeline(bits=7, range=xb.Managed())),
        xb.Periphery(None, xb.ADC(7, range=xb.Managed())),
    ),
    "perfect comparators": (
        xb.Periphery(xb.DAC(8), xb.Flash(bits=5)),
        xb.Periphery(xb.DAC(8), xb.ADC(5)),
    ),
    "measured without error": (
        xb.Periphery(xb.DAC(8), xb.MeasuredADC([(k, 0.0) for k in range(-15, 16)])),
        xb.Periphery(xb.DAC(8), xb.ADC(5)),
    ),
    "levels without noise": (
        xb.Periphery(xb.DAC(8), xb.LevelNoise([(k, k, 0.0) for k in range(-15, 16)])),
        xb.Periphery(xb.DAC(8), xb.ADC(5)),
    ),
    "serial inputs, nothing converted": (
        xb.Periphery(xb.SerialDAC(8, width=3)),
        xb.Periphery(xb.DAC(8)),
    ),
    "one polarity, nothing converted": (
        xb.Periphery(xb.DAC(8, passes=True)),
        xb.Periphery(xb.DAC(8)),
    ),
    "one converter for three lines, all alike": (
        xb.Periphery(xb.DAC(8), xb.ADC(5, shared=3)),
        xb.Periphery(xb.DAC(8), xb.ADC(5)),
    ),
}
WIRES = {
    "no wires": {},
    "tiles": {"tile": (5, 3)},
    "wires": {"wires": xb.Wires(r_wordline=20.0, r_bitline=10.0), "tile": (6, 4)},
}


def model(mapping, periphery, net, **settings):
    device = FREE if isinstance(mapping, xb.Slices) else CELL
    chip = xb.Chip(device, mapping, forward=periphery, **settings)
    converted = xb.convert(net, chip, mode=xb.HardwareAware(), seed=4)
    return xb.program(converted)


@pytest.mark.parametrize("wires", WIRES)
@pytest.mark.parametrize("name", MAPPINGS)
def test_a_lossless_feature_leaves_every_mapping_as_it_is(name, wires):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(11, 7), nn.ReLU(), nn.Linear(7, 4)).double()
    x = torch.randn(6, 11, dtype=torch.float64)
    for pair, (lossless, plain) in PAIRS.items():
        if name == "slices" and pair == "measured without error":
            continue  # products of integers lie on transitions, where only rounding is to even
        found = []
        for periphery in (lossless, plain):
            made, own = model(MAPPINGS[name], periphery, net, **WIRES[wires]), x.clone()
            own.requires_grad_()
            y = made(own)
            y.square().sum().backward()
            found.append((y.detach(), own.grad))
        for got, want in zip(*found, strict=True):
            assert torch.allclose(got, want, atol=1e-12), pair


def test_noise_of_serial_inputs_adds_up_digit_by_digit():
    """Read noise variance Σ_j w_j² σ² Σ v_j²: 4 standard errors of 20,000 reads."""
    torch.manual_seed(0)
    net = nn.Linear(30, 1, bias=False).double()
    cell = Device(0.0, 1e-4, update=SoftBounds(1e-7), read=GaussianRead(0.01))
    dac = xb.SerialDAC(6, width=2, range=xb.Fixed(1.0))
    chip = xb.Chip(cell, xb.Differential(route=xb.Reference()), forward=xb.Periphery(dac))
    x = torch.rand(1, 30, dtype=torch.float64) * 2 - 1
    layer = xb.convert(net, chip, mode=xb.HardwareAware(), seed=0)
    with torch.no_grad():
        got = layer(x.expand(20_000, -1))
    w_max = float(net.weight.detach().abs().amax())
    # two noisy cells a weight; beside a reference in mid-window w_max is half the window
    power = sum(float((d.v * d.weight).square().sum()) for d in dac.digits(x))
    want = 0.01 * 2**0.5 * 2 * w_max * power**0.5
    assert float(got.std()) == pytest.approx(want, rel=4 / (2 * 20_000) ** 0.5)
