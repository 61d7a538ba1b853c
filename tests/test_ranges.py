"""Ranges that are learned, of least error or linked; what else lies between a line and its code."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, GaussianRead, GaussianWrite, StuckAt, presets

F64 = torch.float64
CELL = Device(2e-6, 50e-6, update=ConstantStep(1e-9))
AMPERE = 0.2 * 48e-6


def linear(rows=30, cols=5):
    torch.manual_seed(0)
    return nn.Linear(rows, cols, bias=False).double()


def test_gradients_of_learned_ranges_are_those_of_their_steps():
    """Learned step sizes of both converters, and of x and W straight through, written apart."""
    net, x = linear(), torch.randn(7, 30, dtype=F64)
    start, top = 1.5 * AMPERE, 1.2
    port = xb.Periphery(xb.DAC(4, range=xb.Learned(top)), xb.ADC(5, range=xb.Learned(start)))
    for tile in (None, (15, 10)):
        layer = xb.convert(net, xb.Chip(CELL, forward=port, tile=tile), seed=0)
        held = layer.analog["weight"].matrix.forward_port
        with torch.no_grad():
            held.dac_octaves.fill_(0.3)
            held.adc_octaves += torch.tensor([-0.7, 0.2])[: len(held.adc_octaves)]
        assert len(list(layer.parameters())) == 3
        inner = x.clone().requires_grad_()
        y, d = layer(inner), torch.randn(7, 5, dtype=F64)
        y.backward(d)
        w = net.weight.detach().numpy().T
        w_max, s = np.abs(w).max(), top * 2 ** float(held.dac_octaves.detach())
        share = x.numpy() / s
        v = np.clip(np.round(share * 7), -7, 7) / 7
        ends = ((0, 30),) if tile is None else ((0, 15), (15, 30))
        want, by_dac, d = 0.0, 0.0, d.numpy()
        for k, (a, b) in enumerate(ends):
            full = start / AMPERE * 2 ** float(held.adc_octaves[k].detach())
            i = v[:, a:b] @ w[a:b] / w_max
            q = np.clip(np.round(i / full * 15), -15, 15) / 15
            want = want + q * full * s * w_max
            by_full = np.where(np.abs(i) <= full, q - i / full, q)
            by_octave = (d * by_full).sum() * s * w_max * full * math.log(2)
            assert float(held.adc_octaves.grad[k]) == pytest.approx(by_octave, rel=1e-5)
            moved = np.where(np.abs(share) <= 1, -share / s, 0)[:, a:b] @ w[a:b] / w_max
            by_dac += (d * (q * full + s * moved * (np.abs(i) <= full))).sum() * w_max
        assert float(held.dac_octaves.grad) == pytest.approx(by_dac * s * math.log(2), rel=1e-5)
        np.testing.assert_allclose(y.detach().numpy(), want, atol=1e-6)  # octaves are float32
        np.testing.assert_allclose(inner.grad.numpy(), d @ net.weight.detach().numpy(), atol=1e-9)
        np.testing.assert_allclose(layer.weight.grad.numpy(), d.T @ x.numpy(), atol=1e-9)


@pytest.mark.parametrize("factor", [30.0, 0.03])
def test_training_mends_ranges_that_are_far_too_wide_or_narrow(factor):
    """4-bit converters at a full scale 30 times off: the error of a fit, before and after."""
    net, x = linear(20, 6), torch.randn(400, 20, dtype=F64)
    y = x @ net.weight.detach().mT
    port = xb.Periphery(
        xb.DAC(6, range=xb.Learned(3.0)), xb.ADC(4, range=xb.Learned(3 * AMPERE * factor))
    )
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-9), write=GaussianWrite(0.005))
    model = xb.convert(net, xb.Chip(cell, forward=port), seed=0)
    before = float((model(x).detach() - y).norm() / y.norm())
    octaves = [p for name, p in model.named_parameters() if "octaves" in name]
    optimiser = torch.optim.Adam(octaves, 0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (model(x) - y).square().mean().backward()
        optimiser.step()
    after = float((model(x).detach() - y).norm() / y.norm())
    assert before > 0.5 and after < 0.2
    found = copy.deepcopy(octaves)
    xb.program(model)
    with torch.no_grad():
        assert float((model(x) - y).norm() / y.norm()) < after + 0.05
    assert all(torch.equal(a, b) for a, b in zip(found, octaves, strict=True))
    twin = xb.convert(net, xb.Chip(cell, forward=port), mode=xb.InSitu(), seed=3)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(x), model(x))
    xb.reseed(model, 9)
    kept = [p for name, p in model.named_parameters() if "octaves" in name]
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))


def test_learned_ranges_move_to_another_chip_or_say_that_they_do_not():
    """Worse cells, the same converters: the scales stay; in other tiles they begin anew."""
    net, x = linear(20, 6), torch.randn(8, 20, dtype=F64)
    port = xb.Periphery(xb.DAC(6, range=xb.Learned(3.0)), xb.ADC(5, range=xb.Learned()))
    model = xb.convert(net, xb.Chip(CELL, forward=port, tile=(10, 10)), seed=0)
    held = model.analog["weight"].matrix.forward_port
    with torch.no_grad():
        held.dac_octaves.fill_(0.4)
        held.adc_octaves.copy_(torch.tensor([-0.5, 0.3]))
    worse = Device(2e-6, 50e-6, update=ConstantStep(1e-9), read=GaussianRead(0.01))
    chip = xb.Chip(worse, forward=port, tile=(10, 10))
    for moved in (
        xb.convert(model, chip, seed=1),
        xb.convert(model, chip, mode=xb.InSitu(), seed=1),
        xb.convert(copy.deepcopy(model), xb.Chip(CELL, forward=port, tile=(10, 10)), seed=2),
    ):
        now = moved.analog["weight"].matrix.forward_port
        assert torch.equal(now.adc_octaves, held.adc_octaves)
        assert torch.equal(now.dac_octaves, held.dac_octaves)
        assert bool(moved(x).isfinite().all())
    with pytest.warns(UserWarning, match="adc_octaves: full scales that were learned"):
        other = xb.convert(model, xb.Chip(CELL, forward=port), seed=1)
    assert not bool(other.analog["weight"].matrix.forward_port.adc_octaves.any())


def test_least_error_is_the_least_of_all_that_are_tried():
    """Against a search in NumPy; heavy tails, so that clipping pays."""
    torch.manual_seed(0)
    net, x = linear(), torch.distributions.StudentT(2.0).sample((300, 30)).double()
    port = xb.Periphery(xb.DAC(4, range=xb.LeastError()), xb.ADC(4, range=xb.LeastError()))
    model = xb.calibrate(xb.convert(net, xb.Chip(CELL, forward=port), seed=0), [x])
    held = model.analog["weight"].matrix.forward_port

    def best(values):
        scales = np.abs(values).max() * 2.0 ** (-np.arange(81) / 8)
        errors = [
            np.square(np.clip(np.round(values / f * 7), -7, 7) / 7 * f - values).sum()
            for f in scales
        ]
        return scales[int(np.argmin(errors))]

    s = best(x.numpy())
    w = net.weight.detach().numpy().T
    i = np.clip(np.round(x.numpy() / s * 7), -7, 7) / 7 @ w / np.abs(w).max()
    assert float(held.dac_scale) == pytest.approx(s) and s < 0.5 * float(x.abs().max())
    assert float(held.adc_scale) == pytest.approx(best(i), rel=1e-6)


def test_linked_ranges_differ_by_powers_of_two_and_never_clip_more():
    torch.manual_seed(0)
    net, x = linear(60, 8), torch.randn(100, 60, dtype=F64)
    scales = []
    for linked in (False, True):
        adc = xb.ADC(8, range=xb.Calibrated(linked=linked))
        chip = xb.Chip(
            Device(0.0, 1e-4),
            xb.Slices((1, 1, 2, 4)),
            forward=xb.Periphery(xb.DAC(8), adc),
            tile=(30, 8),
        )
        model = xb.calibrate(xb.convert(net, chip, mode=xb.Programmed(), seed=0), [x])
        matrix = model.analog["weight"].matrix
        scales.append(matrix.forward_port.adc_scale)
    free, tied = scales
    counts = torch.tensor([column.weight for column in matrix.layout.columns]).double()
    steps = (tied * counts / (tied * counts)[:, :1]).log2()
    assert torch.allclose(steps, steps.round(), atol=1e-12)
    assert bool((tied >= free * (1 - 1e-9)).all()) and bool((tied <= 2 * free).all())
    assert not torch.equal(tied, free)


@pytest.mark.parametrize("wires", [None, xb.Wires(r_wordline=5.0, r_bitline=5.0)], ids=str)
def test_pulse_widths_give_the_product_of_voltages(wires):
    net, x = linear(), torch.randn(6, 30, dtype=F64)
    made = []
    for dac in (xb.DAC(6), xb.PulseWidth(6)):
        chip = xb.Chip(CELL, forward=xb.Periphery(dac, xb.ADC(8)), wires=wires)
        made.append(xb.convert(net, chip, mode=xb.Programmed(), seed=0)(x))
    assert torch.equal(*made)


def test_noise_gathers_while_a_pulse_lasts():
    """Variance Σ σ² |x_i| of each of two cells: 4 standard errors of 20,000 reads."""
    net, x = linear(40, 1), torch.rand(1, 40, dtype=F64) * 2 - 1
    cell = Device(0.0, 1e-4, read=GaussianRead(0.01))
    chip = xb.Chip(cell, forward=xb.Periphery(xb.PulseWidth(None, range=xb.Fixed(1.0))))
    with torch.no_grad():
        got = xb.convert(net, chip, mode=xb.Programmed(), seed=0)(x.expand(20_000, -1))
    want = 0.01 * 2**0.5 * float(net.weight.detach().abs().amax() * x.abs().sum().sqrt())
    assert float(got.std()) == pytest.approx(want, rel=4 / (2 * 20_000) ** 0.5)


@pytest.mark.parametrize(
    "mapping", [xb.Differential(), xb.OffsetColumn(), xb.SingleCell()], ids=str
)
@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.InSitu()], ids=str)
def test_offset_voltages_are_there_at_every_reading(mode, mapping):
    """y = W (x + s o) of every line, with all its cells conduct; linear, convolved, transposed."""
    dac = xb.DAC(None, range=xb.Fixed(8.0), sigma_offset=0.05)
    chip = xb.Chip(CELL, mapping, forward=xb.Periphery(dac), tile=(7, 4))
    torch.manual_seed(0)
    for net, x in (
        (nn.Linear(20, 6, bias=False).double(), torch.randn(3, 20, dtype=F64)),
        (
            nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=False).double(),
            torch.randn(2, 4, 5, 5).double(),
        ),
    ):
        layer = xb.convert(net, chip, mode=mode, seed=0)
        matrix = layer.analog["weight"].matrix
        offset = matrix.forward_port.dac_offset.double() * 8
        layout = matrix.layout
        with torch.no_grad():
            m = matrix.form.matrix(layer.weight.detach().as_subclass(torch.Tensor))
            w_max = (
                layer.analog["weight"].scale(layer.weight)
                if matrix.cells is None
                else matrix.cells.w_max
            )
            # what cancels digitally knows the codes only
            common = -layout.shift(matrix.floor) * float(w_max)
            rest = ((m + common) * offset.view(*m.shape[:-1], 1)).sum(-2).flatten()
            got = layer(x) - net(x)
            want = rest if got.dim() == 2 else rest.view(-1, 1, 1)
            assert torch.allclose(got, want.expand_as(got), atol=1e-9)
            assert float(got.abs().max()) > 1e-3
    inner = torch.randn(2, 4, 5, 5).double().requires_grad_()
    layer(inner).sum().backward()
    assert bool(inner.grad.isfinite().all())


def test_a_compressing_amplifier_makes_its_third_harmonic():
    """β/4 of a sine at full scale, by its Fourier transform."""
    adc = xb.ADC(None, range=xb.Fixed(AMPERE), compression=0.2)
    net = nn.Linear(1, 1, bias=False).double()
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(None, range=xb.Fixed(1.0)), adc))
    t = torch.arange(64, dtype=F64) / 64 * 2 * math.pi
    with torch.no_grad():
        y = xb.convert(net, chip, mode=xb.Programmed(), seed=0)(t.sin().unsqueeze(1)).squeeze()
    parts = torch.fft.rfft(y).abs() / 32 / float(net.weight.detach().abs())
    assert float(parts[3]) == pytest.approx(0.2 / 4, rel=1e-9)
    assert float(parts[1]) == pytest.approx(1 - 0.75 * 0.2, rel=1e-9)


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed()], ids=str)
def test_charge_domain_columns_have_the_noise_of_their_capacitors(mode):
    """√(kT/(N C)) of the shared voltage: each tile's N cells, whatever is stored or driven."""
    capacitor, v_max, rows = 1e-15, 0.5, 40
    net = linear(rows, 3)
    adc = xb.ADC(None, range=xb.Fixed(1.0), capacitor=capacitor)
    port = xb.Periphery(xb.DAC(None, v_max=v_max, range=xb.Fixed(1.0)), adc)
    faulty = Device(0.0, 1e-4, faults=StuckAt(p_off=0.1))
    # capacitors a converter sees of a weight, what their full window counts; columns on two lines
    for mapping, columns, place in (
        (xb.Differential(), 2, {}),
        (xb.Differential(), 2, {"tile": (20, 3)}),
        (xb.Differential(), 2, {"device": faulty, "spares": xb.Spares(rows=0.25)}),
        (xb.Devices(count=3), 6 / 3**2, {}),
        (xb.OffsetColumn(), 2 * 2**2, {}),
        (xb.SingleCell(), 1 * 2**2, {}),
        (xb.Significance(factor=3.0), (9 + 9 + 1 + 1) / 4**2, {}),
        (xb.Slices((1, 2)), 2 * (4 / 7) ** 2 + 2 * (3 / 7) ** 2, {}),
    ):
        chip = xb.Chip(**({"device": presets.ideal()} | place), mapping=mapping, forward=port)
        layer = xb.convert(net, chip, mode=mode, seed=0)
        if isinstance(mode, xb.HardwareAware) and chip.spares:
            continue  # its cells are drawn anew: the rest is alike
        with torch.no_grad():
            got = layer(torch.zeros(20_000, rows, dtype=F64))
        # volts of a column of N capacitors, back in units of W: N/v_max each
        n = 50 if chip.spares else rows
        volts = math.sqrt(1.380649e-23 * 300 / (n * capacitor))
        want = volts * n / v_max * float(net.weight.detach().abs().amax()) * math.sqrt(columns)
        assert float(got.std(0).mean() / want) == pytest.approx(1, abs=4 / (6 * 20_000) ** 0.5)


def test_a_silent_vector_leaves_the_gradients_of_learned_ranges_finite():
    """No noise, no bound: slopes of √0 are not asked for."""
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-9), read=GaussianRead(0.01))
    for mapping in (xb.Differential(), xb.SingleCell()):
        port = xb.Periphery(xb.DAC(4, range=xb.Learned(1.0)), xb.ADC(5, range=xb.Learned()))
        layer = xb.convert(linear(), xb.Chip(cell, mapping, forward=port), seed=0)
        x = torch.randn(3, 30, dtype=F64)
        x[1] = 0
        layer(x).square().sum().backward()
        for name, p in layer.named_parameters():
            assert bool(p.grad.isfinite().all()), (mapping, name)


def test_calibration_takes_what_a_model_or_a_matrix_takes():
    """Arguments by name as loaders of transformers give them; products of a matrix."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear()

        def forward(self, *, ids, mask=1.0):
            return self.inner(ids * mask)

    ranges = xb.Calibrated()
    port = xb.Periphery(xb.DAC(8, range=ranges), xb.ADC(8, range=ranges))
    x, chip = torch.randn(7, 30, dtype=F64), xb.Chip(CELL, forward=port)
    plain = xb.calibrate(xb.convert(linear(), chip, mode=xb.Programmed(), seed=0), [x])
    named = xb.convert(Named(), chip, mode=xb.Programmed(), seed=0)
    xb.calibrate(named, [{"ids": x, "mask": 2.0}])
    array = xb.calibrate(xb.matrix(linear().weight, chip, seed=0), [x.mT])
    want = plain.analog["weight"].matrix.forward_port
    assert torch.equal(array.forward_port.adc_scale, want.adc_scale)
    held = named.inner.analog["weight"].matrix.forward_port
    assert torch.equal(held.dac_scale, 2 * want.dac_scale)
    with pytest.raises(ValueError, match="finite"):
        xb.calibrate(plain, [x / 0.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xb.Learned(0.0), "start must be"),
        (lambda: xb.DAC(range=xb.Learned()), "needs a full scale of its own"),
        (lambda: xb.DAC(range=xb.Fixed()), "needs a full scale of its own"),
        (lambda: xb.LeastError(0.9), "leave quantile=1"),
        (lambda: xb.ADC(compression=0.5), "compression must be"),
        (lambda: xb.ADC(capacitor=0.0), "capacitor must be"),
        (lambda: xb.DAC(sigma_offset=-1.0), "sigma_offset must be"),
        (
            lambda: xb.Chip(
                presets.rram_milo(), forward=xb.Periphery(adc=xb.ADC(range=xb.Learned()))
            ),
            "no gradient",
        ),
        (
            lambda: xb.Chip(presets.rram_milo(), forward=xb.Periphery(xb.PulseWidth())),
            "ohmic",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize(
    ("mapping", "port"),
    [
        (xb.Significance(), xb.Periphery(xb.PulseWidth(8), xb.ADC(8, compression=0.1))),
        (xb.Differential(converters=2), xb.Periphery(xb.DAC(8), xb.ADC(8, range=xb.Learned()))),
        (
            xb.Curve(plus=(0.0, 0.6, 1.0), minus=(0.0, 0.0, 0.0)),
            xb.Periphery(xb.DAC(8, sigma_offset=0.01), xb.ADC(8, capacitor=1e-14)),
        ),
        (
            xb.Arbitrated(count=2, corrections=1),
            xb.Periphery(xb.DAC(8, range=xb.Learned(3.0)), xb.ADC(8)),
        ),
    ],
    ids=lambda part: type(part).__name__,
)
@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.InSitu()], ids=str)
def test_new_parts_compile_into_one_graph(mapping, port, mode):
    torch.manual_seed(0)
    net, x = nn.Linear(12, 5), torch.randn(4, 12)
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-9), write=GaussianWrite(0.01))
    found = []
    for compiled in (False, True):
        model = xb.convert(net, xb.Chip(cell, mapping, forward=port), mode=mode, seed=0)
        run = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        inner = x.clone().requires_grad_()
        y = run(inner)
        y.square().sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((y.detach(), inner.grad, *gradients))
    for eager, graph in zip(*found, strict=True):
        assert torch.allclose(eager, graph, atol=1e-5)
