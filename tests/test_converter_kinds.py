"""Converters against their definitions: every code, mismatch as configured, tables, sharing."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds, presets

ALIKE = {
    "SAR": xb.SAR,
    "Flash": xb.Flash,
    "Ramp": xb.Ramp,
    "Pipeline": xb.Pipeline,
    "Cyclic": xb.Cyclic,
}


def rounded(y, low, high):
    """The reference: numpy's rounding, to even at ties."""
    return np.clip(np.round(y), low, high)


def convert(adc, i, full=1.0, leaf=None, normal=None):
    if normal is not None:
        return adc.drawn(torch.as_tensor(i), full, leaf, normal)
    return adc.convert(torch.as_tensor(i), full, leaf)


@pytest.mark.parametrize(
    ("kind", "bits"),
    [(k, b) for k in ("ADC", *ALIKE) for b in range(2, 9 if k == "Flash" else 13)],
)
def test_every_code_of_a_perfect_converter(kind, bits):
    """Between every two transitions the code is the nearest one, in float64 and float32."""
    adc = xb.ADC(bits) if kind == "ADC" else ALIKE[kind](bits=bits)
    n = 2 ** (bits - 1) - 1
    codes = np.arange(-n - 2, n + 3)
    for off in (-0.49, -0.2, 0.0, 0.3, 0.49):
        y = codes + off
        want = rounded(y, -n, n)
        got = convert(adc, y / n * 0.7, 0.7) / 0.7 * n
        np.testing.assert_allclose(got.numpy(), want, atol=1e-9)
        single = convert(adc, torch.tensor(y / n, dtype=torch.float32)) * n
        np.testing.assert_allclose(single.numpy(), want, atol=1e-3)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_one_sided(bits):
    adc, n = xb.ADC(bits, signed=False), 2**bits - 1
    y = np.linspace(-2, n + 2, 1001)
    got = convert(adc, y / n) * n
    np.testing.assert_allclose(got.numpy(), rounded(y, 0, n), atol=1e-9)
    assert adc.one_sided and not xb.ADC(bits).one_sided
    clipped = convert(xb.ADC(None, signed=False), torch.tensor([-1.0, 0.5, 2.0]))
    assert clipped.tolist() == [0.0, 0.5, 1.0]


def test_stochastic_rounding_is_right_on_average():
    """Mean i, variance p (1 − p) steps² of neighbours; 4 standard errors of 1e5 conversions."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.tensor([0.1, 0.25, 0.5, -0.8, 3.3]).repeat(100_000, 1).double()
    drawn = torch.randn(steps.shape, generator=generator, dtype=torch.float64)
    got = convert(xb.ADC(8, stochastic=True), steps / 127, normal=lambda like: drawn) * 127
    assert float((got - steps).abs().max()) < 1 + 1e-9
    part = steps[0] - steps[0].floor()
    spread = (part * (1 - part)).sqrt()
    assert bool(((got.mean(0) - steps[0]).abs() < 4 * spread / math.sqrt(1e5)).all())
    assert torch.allclose(got.std(0), spread, rtol=0.02)


def transitions(adc, leaf, bits):
    """Where the code changes, in steps from the ideal, by bisection: (2n, converters)."""
    n = 2 ** (bits - 1) - 1
    k = torch.arange(-n + 1, n + 1).double().unsqueeze(1)
    size = leaf[0].shape[-1]
    low, high = ((k - 0.5 + off).expand(-1, size).clone() for off in (-n, n))
    for _ in range(40):
        middle = (low + high) / 2
        above = adc.convert(middle / n, 1.0, leaf) * n >= k - 1e-9
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high - (k - 0.5)


def fabricated(adc, count=4000):
    leaf = adc.fabricate((count,), torch.Generator().manual_seed(1))
    return type(leaf)(*(t.double() for t in leaf))


def test_flash_has_the_nonlinearity_that_was_set():
    """INL σ and DNL √2 σ at every transition, far below a step: 4 standard errors of 4,000."""
    adc = xb.Flash(bits=4, sigma_comparator=0.05)
    inl = transitions(adc, fabricated(adc), 4)
    for got, want in ((inl, 0.05), (inl.diff(dim=0), 0.05 * math.sqrt(2))):
        assert float((got.std(1) / want - 1).abs().max()) < 4 / math.sqrt(2 * 4000)


def test_sar_is_worst_in_its_middle_by_what_its_capacitors_say():
    adc, bits = xb.SAR(bits=6, sigma_unit=0.01), 6
    inl = transitions(adc, fabricated(adc), bits)
    n = 2 ** (bits - 1) - 1
    step = inl.diff(dim=0).std(1)
    largest = 2 ** (bits - 2)  # the code at which the largest capacitor takes over
    at = largest - (-n + 1) - 1  # the difference of the transitions to it and to the one before
    assert int(step.argmax()) in (at, len(step) - 1 - at)
    want = 0.01 * math.sqrt(2 * largest - 1)  # σ²(2^k + 2^k − 1) units²
    assert float(step[at]) == pytest.approx(want, rel=4 / math.sqrt(2 * 4000))


@pytest.mark.parametrize("kind", [xb.Pipeline, xb.Cyclic])
def test_stages_err_by_their_gains(kind):
    """Against a loop over stages and samples in plain Python."""
    adc = kind(bits=6, sigma_stage=0.02)
    leaf = fabricated(adc, 7)
    n = 31
    y = np.random.default_rng(0).uniform(-n, n, (50, 7))
    got = adc.convert(torch.as_tensor(y / n), 1.0, leaf).numpy() * n
    for row, column in itertools.product(range(50), range(7)):
        left, code = float(y[row, column]) / 32, 0
        for k in range(4, -1, -1):
            decided = (left > 0.25) - (left < -0.25)
            gain = leaf[0] if kind is xb.Cyclic else leaf[4 - k]
            left, code = (2 * left - decided) * (1 + float(gain[column])), code + decided * 2**k
        want = min(max(code + round(left), -n), n)
        assert got[row, column] == pytest.approx(want, abs=1e-9)


def test_ramp_bends_as_it_says():
    adc, n = xb.Ramp(bits=10, slope=-0.1, bow=0.1), 511
    count = np.arange(-n, n + 1)
    passed = count * (1 - 0.1) + 0.1 * count * np.abs(count) / n  # where the ramp is then
    got = convert(adc, passed / n) * n
    np.testing.assert_allclose(got.numpy(), count, atol=1e-9)


def test_measured_nonlinearity_equals_the_table(tmp_path):
    generator = np.random.default_rng(3)
    codes, inl = np.arange(-7, 8), generator.normal(0, 0.2, 15)
    path = tmp_path / "adc.csv"
    path.write_text("code,inl\n" + "\n".join(f"{k},{x}" for k, x in zip(codes, inl, strict=True)))
    adc = xb.MeasuredADC(path)
    y = np.linspace(-9, 9, 20001)
    want = np.full(y.shape, -7)
    for k, off in zip(codes[1:], inl[1:], strict=True):
        want[y > k - 0.5 + off] = k
    np.testing.assert_allclose(convert(adc, y / 7).numpy() * 7, want, atol=1e-9)
    assert eval(repr(adc), vars(xb)) == adc  # a table, wherever the file goes
    missing = xb.MeasuredADC([(0, 0), (1, 1.4), (2, 0), (3, 0)])  # 1 never comes out
    assert set((convert(missing, y[y > 0] / 9) * 3).round().tolist()) == {0, 2, 3}


def test_level_noise_draws_its_table(tmp_path):
    """Mean and spread of each level within 4 standard errors of 1e6 draws."""
    rows = [(0, 0.02, 0.01), (1, 1.1, 0.05), (2, 2.05, 0.1), (3, 2.9, 0.2)]
    path = tmp_path / "levels.csv"
    path.write_text("level,mean,std\n" + "\n".join(",".join(map(str, row)) for row in rows))
    adc, generator = xb.LevelNoise(path), torch.Generator().manual_seed(4)
    assert adc.one_sided
    steps = torch.arange(4).double().repeat(250_000, 1) + 0.3
    drawn = torch.randn(steps.shape, generator=generator, dtype=torch.float64)
    got = convert(adc, steps / 3, normal=lambda like: drawn) * 3
    for k, (_, mean, std) in enumerate(rows):
        sample = got[:, k]
        assert float(sample.mean()) == pytest.approx(mean, abs=4 * std / 500)
        assert float(sample.std()) == pytest.approx(std, rel=4 / math.sqrt(2 * 250_000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xb.MeasuredADC([(0, 0), (2, 0)]), "code must count up by one"),
        (lambda: xb.MeasuredADC(), "code must count up by one"),
        (lambda: xb.LevelNoise([(0, 0, 0.1), (1, 1, -0.1)]), "std must be >= 0"),
        (lambda: xb.LevelNoise([(0, 0), (1, 1)]), "must have 3 numbers"),
        (lambda: xb.LevelNoise([(0, 0, 0.1), (1, float("nan"), 0.1)]), "must be finite"),
        (lambda: xb.ADC(1, stochastic=True), "stochastic rounding needs bits >= 2"),
        (lambda: xb.ADC(shared=0), "shared must be"),
        (lambda: xb.ADC(low=0.0), "low must be"),
        (lambda: xb.ADC(signed=False, low=0.5), "of a signed converter"),
        (lambda: xb.ADC(2, low=9.0), "no code above zero"),
        (lambda: xb.SAR(bits=1), "bits must be"),
        (lambda: xb.Flash(bits=9), "bits must be"),
        (lambda: xb.Ramp(bow=-0.3), "bow must be"),
    ],
)
def test_what_cannot_be_right_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_file_without_its_columns_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("level,mean\n0,0\n")
    with pytest.raises(ValueError, match="std is missing"):
        xb.LevelNoise(path)


def layer(adc, mode=None, columns=6, net=None):
    chip = xb.Chip(presets.ideal(), forward=xb.Periphery(adc=adc))
    net = net or nn.Linear(8, columns, bias=False).double()
    return xb.convert(net, chip, mode=mode or xb.HardwareAware(), seed=3)


def test_gains_and_offsets_are_drawn_once_and_shared():
    """Output = (1 + g) i + o full of each converter; two columns in turn have the same."""
    torch.manual_seed(0)
    net = nn.Linear(8, 6, bias=False).double()
    plain = xb.ADC(None, range=xb.Fixed(1.0))
    skewed = xb.ADC(None, range=xb.Fixed(1.0), sigma_gain=0.1, sigma_offset=0.01, shared=2)
    x = torch.rand(5, 8).double() * 1e-3
    want, got = layer(plain, net=net)(x), layer(skewed, net=net)(x)
    zero = layer(skewed, net=net)(torch.zeros(1, 8).double())
    gain = ((got - zero) / want).mean(0)
    assert torch.allclose((got - zero) / want, gain.expand(5, 6), rtol=1e-9)
    assert torch.equal(zero[0, ::2], zero[0, 1::2]) and bool((zero != 0).all())
    assert torch.allclose(gain[::2], gain[1::2], rtol=1e-9)
    assert len(set(gain[::2].round(decimals=9).tolist())) == 3
    again = layer(skewed, net=net)(x)
    assert torch.equal(got, again)


@pytest.mark.parametrize("shared", [1, 2])
def test_calibration_undoes_gains_and_offsets(shared):
    """A factor and an offset of each output, fitted on data, leave what rounding leaves."""
    torch.manual_seed(0)
    net = nn.Linear(40, 12).double()
    x, t = torch.rand(2, 300, 40, dtype=torch.float64) * 2 - 1
    found = []
    for skewed in ({}, {"sigma_gain": 0.1, "sigma_offset": 0.03}):
        port = xb.Periphery(xb.DAC(12, range=xb.Fixed(1.0)), xb.ADC(10, shared=shared, **skewed))
        model = xb.convert(net, xb.Chip(forward=port), mode=xb.Programmed(), seed=0)
        for calibrated in (False, True):
            if calibrated:
                xb.calibrate_columns(model, [x])
            with torch.no_grad():
                found.append(xb.figures(model(t), net(t)).relative_error)
    assert found[2] > 0.1 > 8 * found[3] and found[3] < 1.3 * found[0]


@pytest.mark.parametrize(
    "adc",
    [
        xb.SAR(bits=8, sigma_unit=0.02),
        xb.Flash(bits=4, sigma_comparator=0.2),
        xb.Pipeline(bits=8, sigma_stage=0.01, sigma_gain=0.02),
        xb.Cyclic(bits=8, sigma_stage=0.01, shared=3),
        xb.ADC(8, stochastic=True, sigma_offset=0.01),
        xb.LevelNoise([(k, k, 0.1) for k in range(-7, 8)]),
        xb.MeasuredADC([(k, 0.1 * (k % 3)) for k in range(-31, 32)], noise=0.001),
    ],
    ids=lambda adc: type(adc).__name__,
)
@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed(), xb.InSitu()], ids=str)
def test_every_kind_reads_trains_and_resumes_in_every_mode(adc, mode):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    chip = xb.Chip(forward=xb.Periphery(xb.DAC(), adc), tile=(6, 32))
    model = xb.convert(net, chip, mode=mode, seed=1)
    x = torch.randn(3, 1, 6, 6, requires_grad=True)
    model(x).square().sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    if isinstance(mode, xb.InSitu):
        xb.InSituSGD(model, lr=0.01).step()
    twin = xb.convert(net, chip, mode=mode, seed=2)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(x), model(x))
        if not isinstance(mode, xb.InSitu):
            exact = net(x)
            assert float((model(x) - exact).norm() / exact.norm()) < 0.5


def test_clipping_below_zero_is_counted():
    model = layer(xb.ADC(8, signed=False, range=xb.Fixed(1.0)))
    with xb.observe(model, xb.Tally(model)) as tally:
        model(torch.randn(50, 8).double() * 1e-3)
    (counted,) = tally.values()
    assert 0.3 < counted.clipped < 0.7


@pytest.mark.parametrize(("bits", "low"), [(2, 0.5), (4, 0.25), (8, 1.0), (8, 3.0), (12, 0.1)])
def test_ends_may_differ(bits, low):
    """Every code against NumPy: all 2^b, one of them zero, none further from `low` than a half."""
    adc = xb.ADC(bits, low=low)
    n = round((2**bits - 1) / (1 + low))
    m = 2**bits - 1 - n
    assert abs(m / n - low) <= (1 + low) / 2 / n
    codes = np.arange(-m - 2, n + 3)
    for off in (-0.49, 0.0, 0.3, 0.49):
        want = np.clip(np.round(codes + off), -m, n)
        got = convert(adc, (codes + off) / n * 0.7, 0.7) / 0.7 * n
        np.testing.assert_allclose(got.numpy(), want, atol=1e-9)
    assert not adc.one_sided and adc.ends == (-m / n, 1.0)
    x = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64).mul(10)
    assert convert(xb.ADC(None, low=low), x).tolist() == [-min(low, 10.0), 1.0, 1.0]


@pytest.mark.parametrize(
    "adc",
    [xb.ADC(8, low=0.25), xb.MeasuredADC([(k, 0.0) for k in range(-16, 65)])],
    ids=lambda adc: type(adc).__name__,
)
def test_ranges_hold_both_ends(adc):
    """Per vector, managed, calibrated, learned: what each end takes; less is counted as clipped."""
    torch.manual_seed(0)
    net, x = nn.Linear(8, 4, bias=False).double(), torch.randn(40, 8).double()
    low = -adc.ends[0]
    i = ((x / x.abs().amax(1, keepdim=True)) @ net.weight.detach().mT).numpy()
    i = i / float(net.weight.detach().abs().amax())
    needs = np.maximum(i, -i / low)
    unit = 0.2 * presets.ideal().window.span
    for policy, tall in (
        (xb.PerVector(), needs.max(1)),
        (xb.Calibrated(), np.full(40, needs.max())),
        (xb.Managed(0.3 * unit), 0.3 * 2 ** np.ceil(np.log2(np.maximum(needs.max(1) / 0.3, 1)))),
    ):
        chip = xb.Chip(forward=xb.Periphery(xb.DAC(None), replace(adc, range=policy)))
        model = xb.convert(net, chip, mode=xb.Programmed(), seed=0)
        if isinstance(policy, xb.Calibrated):
            xb.calibrate(model, [x])
        seen = Fulls()
        with xb.observe(model, seen), torch.no_grad():
            model(x)
        np.testing.assert_allclose(seen.full.expand(40, 1).squeeze(1), tall, rtol=1e-9)
    full = float(np.quantile(needs, 0.8))
    learned = replace(adc, range=xb.Learned(full * unit))
    model = xb.convert(net, xb.Chip(forward=xb.Periphery(xb.DAC(None), learned)), seed=0)
    with xb.observe(model, xb.Tally(model)) as tally:
        y = model(x)
    assert tally["weight"].clipped == pytest.approx(0.2, abs=0.01)
    y.sum().backward()
    q = adc.convert(torch.as_tensor(i), full, None).numpy() / full
    slope = np.where(needs <= full, q - i / full, q) * float(net.weight.detach().abs().amax())
    want = (slope * x.abs().amax(1, keepdim=True).numpy()).sum() * full * math.log(2)
    octaves = model.analog["weight"].matrix.forward_port.adc_octaves
    assert float(octaves.grad) == pytest.approx(want, rel=1e-5)


class Fulls(xb.Probe):
    """The full scales of a read, in units of one weight at full input."""

    def converted(self, matrix, port, tile, column, i, full):
        self.full = torch.as_tensor(full).detach()


def test_managed_range_doubles_until_nothing_clips():
    """Full scale 2^k start of each vector, k from its largest current; k further readings."""
    torch.manual_seed(0)
    net, start = nn.Linear(32, 5, bias=False).double(), 2e-6
    sizes = torch.tensor([1e-3, 1e-2, 0.1, 1.0, 0.0]).double()
    x = torch.rand(5, 32).double() * sizes.unsqueeze(1)
    model = layer(xb.ADC(8, range=xb.Managed(start)), net=net)
    with xb.observe(model, xb.Tally(model)) as tally:
        got = model(x)
    w_max = net.weight.detach().abs().amax()
    span = presets.ideal().window.span
    amps = net(x).detach() / w_max * span  # v_max is 1 V without a DAC
    k = torch.log2(amps.abs().amax(1, keepdim=True) / start).clamp(min=0).ceil()
    full = start * 2**k
    want = torch.round(amps / full * 127) * full / 127 / span * w_max
    assert torch.allclose(got, want, atol=float(1e-9 * want.abs().max()))
    (counted,) = tally.values()
    assert counted.conversions == 25 + 5 * int(k.sum()) and float(k.max()) >= 3
    assert counted.clipped == 0
    cut = layer(xb.ADC(8, range=xb.Managed(start, most=1)), net=net)
    with xb.observe(cut, xb.Tally(cut)) as tally:
        cut(x)
    (counted,) = tally.values()
    assert counted.clipped > 0.2 and counted.conversions == 25 + 5 * int(k.clamp(max=1).sum())


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed()], ids=str)
@pytest.mark.parametrize("most", [2, 10])
def test_halved_inputs_lose_bits_of_the_dac(mode, most):
    """Vector by vector and tile by tile, written apart; readings made again are counted."""
    torch.manual_seed(0)
    net = nn.Linear(40, 9, bias=False).double()
    x = torch.randn(30, 40, dtype=torch.float64) * torch.logspace(-3, 3, 30).double().unsqueeze(1)
    x[4] = 0
    cell = Device(2e-6, 50e-6, update=SoftBounds(1e-8))
    adc = xb.ADC(8, range=xb.Managed(0.5 * 0.2 * cell.window.span, most, inputs=True))
    chip = xb.Chip(cell, forward=xb.Periphery(xb.DAC(6), adc), tile=(16, 9))
    model = xb.convert(net, chip, mode=mode, seed=0)
    with xb.observe(model, xb.Tally(model)) as tally, torch.no_grad():
        got = model(x)
    w, want, again = net.weight.detach().numpy(), np.zeros((30, 9)), 0
    w_max = np.abs(w).max()
    for row, v in zip(want, x.numpy(), strict=True):
        top = np.abs(v).max() or 1.0
        for a, b in ((0, 13), (13, 26), (26, 40)):
            for k in range(most + 1):
                i = np.round(v[a:b] / top / 2**k * 31) / 31 @ w[:, a:b].T / w_max
                if np.abs(i).max() <= 0.5:
                    break
                again += 9 if k < most else 0
            row += np.clip(np.round(i / 0.5 * 127), -127, 127) / 127 * 0.5 * 2**k * top * w_max
    size = np.abs(want).max(1, keepdims=True) + 1e-300
    np.testing.assert_allclose(got.numpy() / size, want / size, atol=1e-9)
    assert again > 100 and tally["weight"].conversions == 30 * 9 * 3 + again
    assert (tally["weight"].clipped > 0) == (most == 2)
    for mapping, dac, why in (
        (xb.SingleCell(), xb.DAC(6), "digitally"),
        (xb.Differential(), xb.SerialDAC(6), "digit by digit"),
        (xb.Differential(), xb.DAC(6, range=xb.Learned(1.0)), "gradient"),
    ):
        with pytest.raises(ValueError, match=why):
            xb.Chip(cell, mapping, forward=xb.Periphery(dac, adc))


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed(), xb.InSitu()], ids=str)
def test_managed_range_starts_from_what_cells_give(mode):
    """The default range on aligned inputs clips; managed it does not, in convolutions too."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 4, 3)
    with torch.no_grad():
        conv.weight.copy_(torch.sign(torch.randn(1, 16, 3, 3)).expand(4, -1, -1, -1) * 0.1)
    x = conv.weight.detach()[:1].sign()  # aligned with all columns: far beyond their norm
    found = []
    for policy in (xb.Fixed(), xb.Managed()):
        chip = xb.Chip(forward=xb.Periphery(adc=xb.ADC(8, range=policy)))
        model = xb.convert(conv, chip, mode=mode, seed=0)
        with xb.observe(model, xb.Tally(model)) as tally, torch.no_grad():
            found.append(float((model(x) - conv(x)).norm() / conv(x).norm()))
        (counted,) = tally.values()
        assert counted.clipped == (0 if isinstance(policy, xb.Managed) else 1)
    assert found[0] > 0.2 and found[1] < 0.02


@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize(
    ("bits", "width"), [(8, 1), (8, 2), (8, 3), (8, 7), (5, 4), (2, 1), (12, 5)]
)
def test_digits_add_up_to_the_code(bits, width, passes):
    """The digits' integers make the rounded input; none is beyond a voltage of its width."""
    n = 2 ** (bits - 1) - 1
    v = torch.linspace(-1.2, 1.2, 999).double()
    digits = xb.SerialDAC(bits, width=width, passes=passes).digits(v)
    assert len(digits) == -(-(bits - 1) // width) * (1 + passes)
    total = sum(d.v * d.weight for d in digits) * n
    np.testing.assert_allclose(total.numpy(), rounded(v.numpy() * n, -n, n), atol=1e-9)
    for d in digits:
        steps = d.v * (2**width - 1)
        assert float((steps - steps.round()).abs().max()) < 1e-9
        assert float(d.v.abs().max()) <= 1 + 1e-12 and (not passes or float(d.v.min()) >= 0)


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed(), xb.InSitu()], ids=str)
@pytest.mark.parametrize("dac", [xb.SerialDAC(8, width=2), xb.DAC(8, passes=True)], ids=str)
def test_serial_inputs_equal_one_voltage_on_lossless_arrays(dac, mode):
    """Without an output converter any digits give the product of the whole code: 1e-12."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 3)).double()
    x = torch.randn(5, 2, 6, 6).double()
    found = []
    for given in (dac, xb.DAC(8)):
        model = xb.convert(net, xb.Chip(forward=xb.Periphery(given)), mode=mode, seed=0)
        found.append(model(x))
        found[-1].sum().backward()
    assert torch.allclose(found[0], found[1], atol=1e-12)


@pytest.mark.parametrize(
    "mapping", [xb.Differential(), xb.OffsetColumn(), xb.SingleCell()], ids=str
)
def test_digits_gathered_before_one_conversion_are_the_whole_code(mapping):
    """A converter sees what one voltage would give; noise of each digit counts with its weight."""
    torch.manual_seed(0)
    net, x = nn.Linear(40, 6, bias=False).double(), torch.randn(7, 40).double()
    cell = Device(2e-6, 50e-6, update=SoftBounds(1e-8))
    found = []
    for dac in (xb.DAC(6), xb.SerialDAC(6, width=2, analog=True), xb.SerialDAC(6, width=2)):
        chip = xb.Chip(cell, mapping, forward=xb.Periphery(dac, xb.ADC(5)), tile=(20, 6))
        model = xb.convert(net, chip, mode=xb.Programmed(), seed=0)
        with xb.ledger(model) as ledger, torch.no_grad():
            found.append(model(x))
        assert ledger.counts.total("adc") == 7 * 6 * 2 * (
            3 if dac == xb.SerialDAC(6, width=2) else 1
        )
    assert torch.allclose(found[0], found[1], atol=1e-12)
    assert float((found[2] - found[0]).abs().max()) > 1e-3
    noisy = replace(cell, read=GaussianRead(0.01))
    line = nn.Linear(30, 1, bias=False).double()
    for analog in (True, False):
        dac = xb.SerialDAC(6, width=2, range=xb.Fixed(1.0), analog=analog)
        chip = xb.Chip(noisy, xb.Differential(), forward=xb.Periphery(dac, xb.ADC(None)))
        v = torch.rand(1, 30).double() * 2 - 1
        with torch.no_grad():
            got = xb.convert(line, chip, mode=xb.Programmed(), seed=0)(v.expand(20_000, -1))
        power = sum(float((d.v * d.weight).square().sum()) for d in dac.digits(v))
        want = 0.01 * 2**0.5 * float(line.weight.detach().abs().amax()) * power**0.5
        assert float(got.std()) == pytest.approx(want, rel=4 / (2 * 20_000) ** 0.5)
    with pytest.raises(ValueError, match="one alone"):
        xb.SerialDAC(6, analog=True, passes=True)


def test_serial_inputs_through_converters_equal_numpy():
    """Each digit's product is converted by itself and weighed: written apart."""
    torch.manual_seed(0)
    net, full = nn.Linear(40, 6, bias=False).double(), 1e-5
    dac, adc = xb.SerialDAC(6, v_max=0.2, width=2), xb.ADC(5, range=xb.Fixed(full))
    chip = xb.Chip(presets.ideal(), forward=xb.Periphery(dac, adc))
    model = xb.convert(net, chip, mode=xb.HardwareAware(), seed=0)
    x = np.random.default_rng(0).normal(size=(7, 40))
    w = net.weight.detach().numpy()
    w_max, ampere = np.abs(w).max(), 0.2 * presets.ideal().window.span
    top = np.abs(x).max(1, keepdims=True)
    code = np.round(x / top * 31)
    want = np.zeros((7, 6))
    for j in range(3):
        digit = np.sign(code) * (np.abs(code).astype(int) >> 2 * j & 3)
        amps = digit / 3 @ (w / w_max).T * ampere
        want += 4**j * 3 / 31 * np.clip(np.round(amps / full * 15), -15, 15) * full / 15
    want *= top * w_max / ampere
    got = model(torch.as_tensor(x)).detach().numpy()
    np.testing.assert_allclose(got, want, atol=1e-12)


SPREADS = {
    xb.SAR: "sigma_unit",
    xb.Flash: "sigma_comparator",
    xb.Pipeline: "sigma_stage",
    xb.Cyclic: "sigma_stage",
}
LEVELS = [(k, k, 0.1) for k in range(-7, 8)]
KINDS = [
    *(xb.ADC(bits=b, signed=s) for b in (1, 4, None) for s in (True, False)),
    *(kind(bits=4, **{name: 0.1}) for kind, name in SPREADS.items()),
    *(xb.Ramp(bits=4, bow=0.1), xb.LevelNoise(LEVELS), xb.MeasuredADC([r[:2] for r in LEVELS])),
]


@pytest.mark.parametrize("adc", KINDS, ids=repr)
def test_what_is_no_number_gets_no_code(adc):
    """NaN stays NaN, infinities become the outermost codes."""
    leaf = adc.fabricate((4,), torch.Generator().manual_seed(0))
    i = torch.tensor([math.nan, math.inf, -math.inf, 0.3])
    found = convert(adc, i, 1.0, leaf, torch.zeros_like)
    assert found.isnan().tolist() == [True, False, False, False]
    assert found[2] <= found[3] <= found[1]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 4, None])
def test_inputs_that_are_no_numbers_drive_none(bits, signed):
    dac = xb.DAC(bits=bits, range=xb.Fixed(1.0), signed=signed)
    a = xb.matrix(torch.eye(2), xb.Chip(forward=xb.Periphery(dac=dac)), seed=0)
    assert (a @ torch.tensor([math.nan, 1.0])).isnan().all()


def test_tables_of_spreadsheets_are_read(tmp_path):
    """A byte-order mark and blanks after commas."""
    path = tmp_path / "levels.csv"
    path.write_text("\ufefflevel, mean, std\n0, 0.1, 0\n1, 1.2, 0\n", encoding="utf-8")
    assert xb.LevelNoise(path).table == ((0.0, 0.1, 0.0), (1.0, 1.2, 0.0))


def test_a_full_scale_is_positive():
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="full_scale"):
            xb.quantize(torch.ones(2), 4, wrong, signed=False)
