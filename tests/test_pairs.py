"""Features two by two: one in its lossless limit leaves the other as it is alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite, SoftBounds, StuckAt

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
    "capacitors too large for noise": (
        xb.Periphery(xb.DAC(8), xb.ADC(7, capacitor=1e12)),
        xb.Periphery(xb.DAC(8), xb.ADC(7)),
    ),
    "inputs halved where nothing clips": (
        xb.Periphery(xb.DAC(8), xb.ADC(12, range=xb.Managed(1e-3, inputs=True))),
        xb.Periphery(xb.DAC(8), xb.ADC(12, range=xb.Fixed(1e-3))),
    ),
    "ranges that have learned nothing": (
        xb.Periphery(xb.DAC(6, range=xb.Learned(2.0)), xb.ADC(6, range=xb.Learned(1e-5))),
        xb.Periphery(xb.DAC(6, range=xb.Fixed(2.0)), xb.ADC(6, range=xb.Fixed(1e-5))),
    ),
    "one converter for three lines, all alike": (
        xb.Periphery(xb.DAC(8), xb.ADC(5, shared=3)),
        xb.Periphery(xb.DAC(8), xb.ADC(5)),
    ),
}
ON_TIES = ("measured without error", "capacitors too large for noise")
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


PLACES = [
    pytest.param(name, wires, marks=[pytest.mark.slow] if wires == "wires" and k % 3 else [])
    for k, name in enumerate(MAPPINGS)
    for wires in WIRES
]


@pytest.mark.parametrize(("name", "wires"), PLACES)
def test_a_lossless_feature_leaves_every_mapping_as_it_is(name, wires):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(11, 7), nn.ReLU(), nn.Linear(7, 4)).double()
    x = torch.randn(6, 11, dtype=torch.float64)
    for pair, (lossless, plain) in PAIRS.items():
        if name == "slices" and pair in ON_TIES:
            continue  # products of integers lie on transitions, where only rounding is to even
        if name == "single" and "halved" in pair:
            with pytest.raises(ValueError, match="added digitally"):
                xb.Chip(CELL, MAPPINGS[name], forward=lossless)
            continue
        found = []
        for periphery in (lossless, plain):
            made, own = model(MAPPINGS[name], periphery, net, **WIRES[wires]), x.clone()
            own.requires_grad_()
            y = made(own)
            y.square().sum().backward()
            found.append((y.detach(), own.grad))
        for got, want in zip(*found, strict=True):
            assert torch.allclose(got, want, atol=1e-12), pair


NETWORKS = {
    "biases in a row": lambda net: xb.bias_rows(net, drive=0.7),
    "outputs scaled": lambda net: xb.output_scales(net),
    "both": lambda net: xb.output_scales(xb.bias_rows(net)),
}
SPARED = {
    "spares, nothing stuck": {"spares": xb.Spares(rows=0.3, columns=0.2)},
    "only placed": {"spares": xb.Spares(rows=0.0)},
}


@pytest.mark.parametrize("tile", [None, (5, 3)])
@pytest.mark.parametrize("name", sorted(MAPPINGS.keys() - {"slices"}))
def test_what_a_network_or_a_tile_has_more_leaves_products_and_gradients_as_they_are(name, tile):
    """Rows for biases, scales of outputs, spare lines and second writings, of perfect cells."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(11, 7), nn.ReLU(), nn.Linear(7, 4)).double()
    x = torch.randn(6, 11, dtype=torch.float64, requires_grad=True)
    cell = Device(0.0, 1e-4, update=SoftBounds(1e-7))
    stuck = replace(cell, faults=StuckAt(p_off=0.0))
    mapping = MAPPINGS[name]
    made = [
        xb.convert(grown(net), xb.Chip(cell, mapping, tile=tile)) for grown in NETWORKS.values()
    ]
    made += [
        xb.convert(net, xb.Chip(stuck, mapping, tile=tile, **more)) for more in SPARED.values()
    ]
    made += [xb.convert(net, xb.Chip(cell, replace(mapping, corrections=2), tile=tile))]
    want = net(x)
    (by_x,) = torch.autograd.grad(want.square().sum(), x)
    for model in made:
        y = xb.program(model)(x)
        assert torch.allclose(y, want, atol=1e-12)
        assert torch.allclose(torch.autograd.grad(y.square().sum(), x)[0], by_x, atol=1e-11)


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
