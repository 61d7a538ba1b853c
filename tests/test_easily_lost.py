"""What a reader of the code could drop unnoticed: each against a closed form or a loop apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, GaussianWrite, PowerLawDrift, Pulses, SoftBounds, StuckAt

F64 = torch.float64


def within(sample, sigma):
    """Standard deviation of a normal sample within 4.5 standard errors of sigma (p = 7e-6)."""
    n = sample.numel()
    assert abs(float(sample.std()) / sigma - 1) < 4.5 / math.sqrt(2 * n)


def test_the_two_devices_of_a_pair_are_two_devices():
    n, sigma = 150, 0.3
    device = Device(
        1e-6, 51e-6, update=ConstantStep(1e-8, sigma_d2d=sigma), faults=StuckAt(p_off=0.1, p_on=0.1)
    )
    matrix = xb.matrix(torch.zeros(n, n, dtype=F64), xb.Chip(device), seed=3)
    before = matrix.cells.g.clone()
    ones = torch.ones(n, n, dtype=F64)
    matrix.pulse(Pulses(ones, torch.zeros_like(ones)))
    plus, minus = (matrix.cells.g - before) * torch.tensor([1.0, -1.0])[:, None, None]
    moved = (plus != 0) & (minus != 0)
    pair = torch.stack([plus[moved], minus[moved]])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 4.5 / math.sqrt(pair.shape[1])
    for side in pair:
        within(side / 1e-8, sigma)
    # stuck independently: a share 0.2 of each side, 0.04 of both
    both = float(((plus == 0) & (minus == 0)).double().mean())
    assert abs(both - 0.04) < 4.5 * math.sqrt(0.04 * 0.96 / n**2)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed()], ids=repr)
def test_noise_of_converters(mode, scale):
    """σ_DAC · x_max · |W_j| at the input, σ_ADC · full scale at the output, both in units of Wx."""
    torch.manual_seed(0)
    lin, n = nn.Linear(12, 3, bias=False).double(), 4000
    x = torch.rand(12, dtype=F64).expand(n, 12) * scale
    noisy = xb.DAC(None, range=xb.Fixed(scale), noise=0.02)
    model = xb.convert(lin, xb.Chip(forward=xb.Periphery(noisy)), mode=mode, seed=0)
    error = (model(x) - lin(x)).detach()
    for j in range(3):
        within(error[:, j], 0.02 * scale * float(lin.weight[j].detach().norm()))
    volts, device = 0.2, Device(1e-6, 51e-6)
    amps = 12 * volts * 50e-6  # far from clipping
    adc = xb.ADC(None, range=xb.Fixed(amps), noise=1e-3)
    dac = xb.DAC(None, v_max=volts, range=xb.Fixed(scale))
    model = xb.convert(lin, xb.Chip(device, forward=xb.Periphery(dac, adc)), mode=mode, seed=0)
    error = (model(x) - lin(x)).detach()
    w_max = float(lin.weight.detach().abs().max())
    for j in range(3):
        within(error[:, j], 1e-3 * amps / (volts * 50e-6) * w_max * scale)


def test_refresh_asks_for_both_devices():
    """A pair is rewritten where one device is above `high` AND the other above `low`."""
    chip = xb.Chip(
        Device(0.0, 100e-6, update=ConstantStep(1e-6)),
        mapping=xb.Differential(route=xb.OneSided(high=0.7, low=0.3), w_max=1.0),
    )
    matrix = xb.matrix(torch.zeros(4, 1, dtype=F64), chip, seed=0)
    places = torch.tensor([[0.8, 0.2], [0.8, 0.4], [0.6, 0.4], [0.4, 0.8]], dtype=F64)
    matrix.cells._put("g", (places.mT.reshape(2, 1, 4) * 100e-6).contiguous())
    matrix.cells.refresh()
    tiny = torch.full((1, 1), 1e-9, dtype=F64)
    matrix.update(tiny, torch.ones(1, 4, dtype=F64), 1.0, xb.Expected())
    got = (matrix.cells.g / 100e-6).reshape(2, 4).mT
    want = torch.tensor([[0.8, 0.2], [0.4, 0.0], [0.6, 0.4], [0.0, 0.4]], dtype=F64)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_columns_calibrated_twice_are_refined():
    """y = a₂(a₁ŷ + b₁) + b₂: the first offset passes through the second factor."""
    torch.manual_seed(0)
    lin = nn.Linear(8, 4, bias=False).double()
    x = torch.randn(64, 8, dtype=F64) + 1.0
    chip = xb.Chip(wires=xb.Wires(r_wordline=20.0, r_bitline=20.0))
    model = xb.convert(lin, chip, mode=xb.Programmed(), seed=0)
    raw = model(x).detach()
    matrix = model.analog["weight"].matrix
    xb.calibrate_columns(model, [x[:40]])
    a, b = matrix.column_gain.clone(), matrix.column_offset.clone()
    matrix.column_gain, matrix.column_offset = a * 0.5, b + 0.7  # as if the chip had moved since
    xb.calibrate_columns(model, [x[:40]])
    torch.testing.assert_close(matrix.column_gain, a, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(matrix.column_offset, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(x).detach(), raw * a + b, rtol=1e-9, atol=1e-9)


def test_write_voltages_are_those_of_the_places_where_cells_lie():
    """A matrix with its lines in another order is the matrix of those lines, pulsed there."""
    torch.manual_seed(0)
    rows, cols = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1])
    write = xb.ParallelWrite(v=1.0, v0=0.1)
    chip = xb.Chip(
        Device(1e-6, 51e-6, update=ConstantStep(5e-8)),
        wires=xb.Wires(r_wordline=200.0, r_bitline=200.0),
        write=write,
        mapping=xb.Differential(w_max=1.0),
    )
    w = torch.rand(3, 5, dtype=F64)
    lies = xb.matrix(w[cols][:, rows], chip, seed=0)  # laid out by hand
    named = xb.matrix(w, chip, seed=0)
    named.row_order, named.col_order = rows, cols
    named.cells.order = named.order
    named.cells.refresh()
    before, there = named.weight.clone(), lies.weight.clone()
    ones = torch.ones(5, 3, dtype=F64)
    x, d = ones[:, :1].mT, ones[:1]
    named.update(x, d, 0.2, xb.Expected())
    lies.update(x, d, 0.2, xb.Expected())
    moved, want = named.weight - before, lies.weight - there
    assert float(want.std() / want.mean().abs()) > 0.05  # the place matters
    torch.testing.assert_close(moved[rows][:, cols], want, rtol=1e-9, atol=1e-12)


def test_a_masked_program_touches_nothing_else():
    """Conductances, ages and the error of a write are those of the cells in the mask alone."""
    device = Device(
        1e-6,
        51e-6,
        update=SoftBounds(1e-7),
        write=GaussianWrite(0.05),
        retention=PowerLawDrift(0.1, sigma_d2d=0.3),
    )
    generator = torch.Generator().manual_seed(0)
    state = device.fabricate((40, 30), generator=generator, dtype=F64)
    state = device.program(state, torch.full((40, 30), 30e-6, dtype=F64), generator=generator)
    state = device.advance(state, 1e4, generator=generator)
    mask = torch.rand(40, 30, generator=generator) < 0.3
    target = torch.full((40, 30), 20e-6, dtype=F64)
    after = device.program(state, target, mask=mask, generator=generator)
    assert torch.equal(after.g[~mask], state.g[~mask]) and bool((after.g != state.g)[mask].all())
    assert bool((after.age[~mask] == 1e4).all()) and bool((after.age[mask] == 0).all())
    within(after.g[mask] / 50e-6, 0.05)


def test_time_passes_in_evaluations():
    """Every weight falls by ((t + t0)/t0)^−ν: with nothing else, so does every output."""
    from experiments.tasks.runs import Evaluate  # the one verb that lets time pass in a study

    seen = []

    class Scored(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            seen.append(y.detach().abs().mean())
            return y

    class Of:
        mode = None
        data = type("", (), {"load": staticmethod(lambda: Images())})

        @staticmethod
        def trained(store, images):
            torch.manual_seed(0)
            return Scored(6, 10, bias=False)

    class Images:
        x_test, y_test = torch.rand(20, 6), torch.zeros(20, dtype=torch.long)

    nu, times = 0.05, (0.0, 100.0, 1e4)
    chip = xb.Chip(Device(0.0, 50e-6, retention=PowerLawDrift(nu, t0=20.0)))
    outcome = Evaluate(Of(), chip, times).execute(None)
    assert outcome.curves["time"] == list(times)
    scored = seen[::2]  # in between a copy is read for its joules
    for y, t in zip(scored[1:], times[1:], strict=True):
        assert float(y / scored[0]) == pytest.approx(((t + 20) / 20) ** -nu, rel=1e-4)
