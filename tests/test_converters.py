"""DAC, ADC and read noise against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from crossbar.quantise import balanced
from devices import Device, GaussianRead, ProportionalRead
from tests._analog import cells_of, matrix_of, weight_of


@settings(max_examples=80, deadline=None)
@given(bits=st.integers(1, 12), full=st.floats(1e-3, 1e3), signed=st.booleans())
def test_quantiser(bits, full, signed):
    x = torch.linspace(-1.5 * full, 1.5 * full, 40_001, dtype=torch.float64)
    q = xb.quantize(x, bits, full, signed=signed)
    codes = torch.unique(q)
    want = 2 if bits == 1 else 2**bits - 1 if signed else 2**bits
    assert len(codes) == want
    assert bool((q.diff() >= 0).all())  # monotone
    torch.testing.assert_close(xb.quantize(q, bits, full, signed=signed), q)  # idempotent
    low = -full if signed else 0.0
    assert float(q.min()) == pytest.approx(low) and float(q.max()) == pytest.approx(full)
    if bits > 1:
        step = full / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
        inside = (x >= low) & (x <= full)
        assert float((q - x)[inside].abs().max()) <= step / 2 * (1 + 1e-9)
        assert bool((q[x == 0] == 0).all())  # mid-tread: zero is a code


def test_stochastic_rounding_is_unbiased():
    x = torch.full((200_000,), 0.3)
    dither = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    q = xb.quantize(x, 3, dither=dither)
    assert float(q.mean()) == pytest.approx(0.3, abs=5 * 0.17 / math.sqrt(200_000))


@pytest.mark.filterwarnings("error")  # torch warns where vmap would loop
def test_stochastic_rounding_of_many_chips_at_once():
    x, dither = torch.randn(5), torch.rand(3, 5) - 0.5
    found = torch.vmap(lambda d: xb.quantize(x, 4, dither=d))(dither)
    assert torch.equal(found, torch.stack([xb.quantize(x, 4, dither=d) for d in dither]))


@given(length=st.integers(1, 5000), limit=st.integers(1, 600))
def test_tiles_are_balanced(length, limit):
    parts = balanced(length, limit)
    sizes = [b - a for a, b in parts]
    assert sum(sizes) == length and parts[0][0] == 0 and parts[-1][1] == length
    assert max(sizes) <= limit and max(sizes) - min(sizes) <= 1
    assert len(parts) == math.ceil(length / limit)


def layer_on(chip, rows=50, cols=40, weight=None):
    torch.manual_seed(0)
    digital = nn.Linear(rows, cols, bias=False)
    if weight is not None:
        digital.weight = nn.Parameter(weight)
    return digital, xb.convert(digital, chip, mode=xb.Programmed(), seed=0)


def reference_read(weight, x, w_max, v_max, g_span, dac_bits, adc_bits, tile, full=None):
    """A read written down in float64 numpy: volts, amperes, codes."""
    n_dac, n_adc = 2 ** (dac_bits - 1) - 1, 2 ** (adc_bits - 1) - 1
    scale = np.abs(x).max(-1, keepdims=True)
    v = np.round(x / scale * n_dac) / n_dac * v_max
    g = weight.T / w_max * g_span
    total = 0
    for a, b in tile:
        current = v[:, a:b] @ g[a:b]
        n = np.linalg.norm(g[a:b], axis=0)
        reach = np.minimum(np.sqrt(b - a) * n, abs(g[a:b].sum(0)) + 8 * n).max()
        top = v_max * reach if full is None else full
        total = total + np.clip(np.round(current / top * n_adc), -n_adc, n_adc) * top / n_adc
    return total * scale * w_max / (v_max * g_span)


@pytest.mark.parametrize("full", [None, 30e-6])
def test_read_is_dac_ohm_kirchhoff_adc(full):
    chip = xb.Chip(
        Device(1e-6, 51e-6),
        forward=xb.Periphery(
            xb.DAC(6, v_max=0.3), xb.ADC(7, range=xb.Fixed(full) if full else xb.Fixed())
        ),
        tile=(17, 100),
    )
    digital, layer = layer_on(chip)
    x = torch.randn(9, 50)
    weight = digital.weight.detach().double().numpy()
    want = reference_read(
        weight,
        x.double().numpy(),
        abs(weight).max(),
        0.3,
        50e-6,
        6,
        7,
        [(0, 16), (16, 33), (33, 50)],
        full,
    )
    got = layer(x).detach().double().numpy()
    step = abs(weight).max() * np.sqrt(17) / 63 if full is None else 1.0
    close = np.abs(got - want) <= 1e-5 * np.abs(want).max()
    # float32 may round a current lying on a code boundary the other way: one code, rarely
    assert close.mean() > 0.99 and np.abs(got - want).max() <= step * np.abs(x.numpy()).max() * 3


def test_backward_read_has_its_own_converters():
    torch.manual_seed(0)
    coarse = xb.Periphery(xb.DAC(2), xb.ADC(3))
    fine = xb.Periphery(xb.DAC(12), xb.ADC(14))
    d = torch.randn(30, 40)
    errors = {}
    for name, backward in (("coarse", coarse), ("fine", fine)):
        chip = xb.Chip(forward=fine, backward=backward)
        digital, layer = layer_on(chip)
        x = torch.randn(30, 50, requires_grad=True)
        (got,) = torch.autograd.grad(layer(x), x, d)
        want = d @ digital.weight.detach()
        errors[name] = float((got - want).norm() / want.norm())
    assert errors["fine"] < 5e-3 and errors["coarse"] > 0.1


def test_small_errors_survive_the_dac():
    """Noise management: δ is ranged per vector, so tiny errors are not rounded away."""
    chip = xb.Chip(forward=xb.Periphery(xb.DAC(8), xb.ADC(10)))
    digital, layer = layer_on(chip)
    x = torch.randn(4, 50, requires_grad=True)
    d = torch.randn(4, 40) * torch.tensor([1.0, 1e-4, 1e-8, 0.0]).unsqueeze(1)
    (got,) = torch.autograd.grad(layer(x), x, d)
    want = d @ digital.weight.detach()
    error = (got - want).norm(dim=1)[:3] / want.norm(dim=1)[:3]
    assert float(error.max()) < 0.05 and bool((got[3] == 0).all())


@pytest.mark.parametrize("read", [GaussianRead(0.02), ProportionalRead(0.05)])
@pytest.mark.parametrize("tile", [None, (13, 100)])
def test_read_noise_has_the_exact_variance(read, tile):
    """Var of every output is Σ_pairs (σ⁺² + σ⁻²) v², tiles or not."""
    device = Device(5e-6, 45e-6, read=read)
    chip = xb.Chip(device, xb.Differential(w_max=1.0), tile=tile)
    _, layer = layer_on(chip, 50, 30, torch.rand(30, 50) * 2 - 1)
    x = torch.randn(50)
    n = 4000
    y = layer(x.expand(n, 50)).detach().double()
    g = cells_of(layer).g.double()
    sigma = 0.02 * 40e-6 * torch.ones_like(g) if isinstance(read, GaussianRead) else 0.05 * g
    want = (sigma.square().sum(0) * x.double().square().unsqueeze(1)).sum(0) / 40e-6**2
    ratio = y.var(0) / want
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / n)
    clean = (g[0] - g[1]).mT @ x.double() / 40e-6
    assert float(((y.mean(0) - clean) / (want / n).sqrt()).abs().max()) < 5
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("read", [GaussianRead(0.02), ProportionalRead(0.05)])
def test_read_noise_of_convolutions(read):
    torch.manual_seed(0)
    device = Device(5e-6, 45e-6, read=read)
    digital = nn.Conv2d(4, 6, 3, groups=2, bias=False)
    layer = xb.convert(digital, xb.Chip(device, tile=(10, 9)), mode=xb.Programmed(), seed=0)
    quiet = xb.to_digital(layer)
    x, n = torch.randn(1, 4, 6, 6), 3000
    y = layer(x.expand(n, 4, 6, 6)).detach()
    noise = (y - quiet(x).detach()).double()
    g, w_max = cells_of(layer).g.double(), float(cells_of(layer).w_max)
    sigma = 0.02 * 40e-6 * torch.ones_like(g) if isinstance(read, GaussianRead) else 0.05 * g
    variance = sigma.square().sum(0) * (w_max / 40e-6) ** 2  # (groups, rows, cols)
    weight = weight_of(layer).form.weight(variance, digital.weight.shape)
    want = nn.functional.conv2d(x.double().square(), weight, groups=2)
    ratio = noise.var(0) / want[0]
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / n)
    # the transposed read sees its own noise on every receptive field, folded together
    z = x.expand(n, 4, 6, 6).clone().requires_grad_()
    d = torch.randn(1, 6, 4, 4)
    (gradient,) = torch.autograd.grad(layer(z), z, d.expand(n, 6, 4, 4))
    back = nn.functional.conv_transpose2d(d.double().square(), weight, groups=2)
    ratio = gradient.double().var(0) / back[0]
    assert float((ratio - 1).abs().max()) < 6 * math.sqrt(2 / n)


def test_backward_adc_of_a_convolution_acts_on_each_receptive_field():
    torch.manual_seed(0)
    digital = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    chip = xb.Chip(backward=xb.Periphery(adc=xb.ADC(4, range=xb.Fixed(2e-5))))
    layer = xb.convert(digital, chip, mode=xb.Programmed(), seed=0)
    x = torch.randn(2, 2, 5, 5, requires_grad=True)
    d = torch.randn(2, 3, 5, 5) * 0.2
    (got,) = torch.autograd.grad(layer(x), x, d)
    g = (cells_of(layer).g[0, 0] - cells_of(layer).g[1, 0]).double()  # (rows, cols)
    vectors = d.double().flatten(2).mT @ g.mT  # (n, l, rows) [A]
    codes = (vectors / 2e-5 * 7).round().clamp(-7, 7) * 2e-5 / 7
    folded = nn.functional.fold(codes.mT, (5, 5), (3, 3), padding=1)
    want = folded * float(cells_of(layer).w_max) / 100e-6
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


def test_calibrated_ranges():
    torch.manual_seed(0)
    forward = xb.Periphery(xb.DAC(8, range=xb.Calibrated()), xb.ADC(8, range=xb.Calibrated()))
    digital, layer = layer_on(xb.Chip(forward=forward, tile=(25, 40)))
    x = torch.randn(64, 50) * 7
    with pytest.raises(RuntimeError, match="calibrate"):
        layer(x)
    xb.calibrate(layer, [x[:32], (x[32:], None)])
    port = matrix_of(layer).forward_port
    assert float(port.dac_scale) == pytest.approx(float(x.abs().max()))
    g = (cells_of(layer).g[0] - cells_of(layer).g[1]) / weight_of(layer).chip.device.window.span
    v = xb.quantize(x / x.abs().max(), 8)
    for tile, rows in enumerate((slice(0, 25), slice(25, 50))):
        top = (v[:, rows] @ g[rows]).abs().max()
        assert float(port.adc_scale[tile]) == pytest.approx(float(top), rel=1e-5)
    error = (layer(x) - digital(x)).norm() / digital(x).norm()
    assert float(error.detach()) < 0.02
    with torch.no_grad():
        beyond = layer(100 * x)  # clipped at the calibrated range, not rescaled
    assert float(beyond.abs().max()) <= 2 * float(layer(x).detach().abs().max())
    other = xb.convert(digital, weight_of(layer).chip, mode=xb.Programmed(), seed=5)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_defaults_work_uncalibrated_on_ordinary_data():
    """8-bit converters with default ranges: a few per cent of output error.

    Full scale is 8 norms of the largest column and outputs are a third of a norm: of the flat
    weights of a fresh layer some 25 standard deviations of an output, rounded by 6 to 11 % of one.
    """
    torch.manual_seed(0)
    forward = xb.Periphery(xb.DAC(), xb.ADC())
    for rows in (16, 64, 784):
        for mode in (xb.Programmed(), xb.InSitu(), xb.HardwareAware()):
            digital = nn.Linear(rows, 100)
            layer = xb.convert(digital, xb.Chip(forward=forward), mode=mode, seed=0)
            for x in (
                torch.rand(50, rows),
                torch.randn(50, rows),
                torch.relu(torch.randn(50, rows)),
            ):
                want = digital(x).detach()
                error = float((layer(x).detach() - want).norm() / want.norm())
                assert error < (0.2 if isinstance(mode, xb.InSitu) else 0.12), (rows, mode)
