"""Mappings of several cells a weight: what they multiply, how pulses move them, their scales."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import (
    ConstantStep,
    Device,
    GaussianRead,
    GaussianWrite,
    Pulses,
    SoftBounds,
    presets,
)

F64 = torch.float64
CELL = Device(2e-6, 50e-6, update=ConstantStep(1e-9))
EXACT = xb.Periphery(
    xb.DAC(bits=None, range=xb.Fixed(50.0)), xb.ADC(bits=None, range=xb.Fixed(1.0))
)
MAPPINGS = {
    "two converters": xb.Differential(converters=2),
    "two converters, reference": xb.Differential(xb.Reference(), converters=2),
    "two converters, three pairs": xb.Devices(count=3, converters=2),
    "arbitrated": xb.Arbitrated(count=3),
    "arbitrated reference": xb.Arbitrated(xb.Reference(), count=2),
    "significance": xb.Significance(),
    "significance, reference": xb.Significance(xb.Reference(), factor=2.5, transfer_every=None),
    "significance, two converters": xb.Significance(converters=2, per_column=True),
    "block floating point": xb.Differential(per_column=True, binary=True),
}
LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (4, 3, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2), dilation=2, padding="same"), (3, 2, 6, 5)),
    "transposed": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (3, 4, 5)),
}


def error(want, got):
    return float((want - got).detach().abs().max() / want.detach().abs().max())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_mapping_multiplies_and_trains_as_torch(layer, mapping):
    make, shape = LAYERS[layer]
    tile = (4, 3) if (list(LAYERS).index(layer) + list(MAPPINGS).index(mapping)) % 2 else None
    torch.manual_seed(0)
    net, x = make().double(), torch.randn(shape, dtype=F64)
    chip = xb.Chip(CELL, MAPPINGS[mapping], forward=EXACT, backward=EXACT, tile=tile)
    for mode in (xb.HardwareAware(), xb.InSitu(xb.Expected())):
        digital, analog = copy.deepcopy(net), xb.convert(net, chip, mode=mode, seed=1)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        want, got = digital(a), analog(b)
        d = torch.randn_like(want)
        want.backward(d)
        got.backward(d)
        assert error(want, got) < 1e-12
        assert error(a.grad, b.grad) < 1e-12
        assert error(digital.weight.grad, analog.weight.grad) < 1e-12
        if isinstance(mode, xb.InSitu):
            before, lr = analog.weight.detach().clone(), 1e-3
            xb.InSituSGD(analog, lr=lr).step()
            assert error(digital.weight.grad, (before - analog.weight) / lr) < 1e-9


@pytest.mark.parametrize("pulses", [1, 3, 4, 12])
@pytest.mark.parametrize("at_once", [True, False])
def test_arbitration_spreads_pulses_as_its_closed_form_says(pulses, at_once):
    """Relative variance of the move of 40,000 weights, dealt at once or pulse by pulse."""
    count, sigma_c, sigma_d = 4, 0.3, 0.3
    step = ConstantStep(1e-9, sigma_c2c=sigma_c, sigma_d2d=sigma_d)
    mapping = xb.Arbitrated(xb.Reference(), count=count, w_max=1.0)
    A = xb.matrix(torch.zeros(200, 200, dtype=F64), xb.Chip(Device(0, 1e-4, update=step), mapping))
    one = torch.ones(200, 200, dtype=F64)
    for _ in range(1 if at_once else pulses):
        A.pulse(Pulses(one * (pulses if at_once else 1), one * 0))
    moved = A.weight.flatten()
    q, r = divmod(pulses, count)
    want = sigma_c**2 * (1 + sigma_d**2) / pulses
    want += sigma_d**2 * (q**2 * (count - r) + (q + 1) ** 2 * r) / pulses**2
    relative = float(moved.var() / moved.mean() ** 2)
    assert float(moved.mean() / (A.granularity * pulses)) == pytest.approx(1, abs=0.02)
    assert relative == pytest.approx(want, rel=5 * (2 / moved.numel()) ** 0.5)


def test_the_spread_falls_with_the_root_of_devices_at_equal_pulses_per_device():
    found = []
    for count in (1, 4, 16):
        step = ConstantStep(1e-9, sigma_c2c=0.3, sigma_d2d=0.3)
        mapping = xb.Arbitrated(xb.Reference(), count=count, w_max=1.0)
        A = xb.matrix(torch.zeros(100, 100), xb.Chip(Device(0, 1e-4, update=step), mapping), seed=0)
        one = torch.ones(100, 100)
        A.pulse(Pulses(one * 5 * count, one * 0))
        found.append(float(A.weight.std() / A.weight.mean()))
    assert np.polyfit(np.log([1, 4, 16]), np.log(found), 1)[0] == pytest.approx(-0.5, abs=0.03)


def test_a_counter_goes_on_after_a_checkpoint_and_tells_its_pulses():
    chip = xb.Chip(CELL, xb.Arbitrated(xb.Reference(), count=3))
    net = nn.Linear(4, 2, bias=False)
    model = xb.convert(net, chip, mode=xb.InSitu(xb.ExactBits()), seed=0)
    array = model.analog["weight"].matrix
    one = torch.ones(4, 2)
    array.pulse(Pulses(one, one * 0))
    before = array.cells.g.clone()
    twin = xb.convert(net, chip, mode=xb.InSitu(xb.ExactBits()), seed=1)
    twin.load_state_dict(model.state_dict())
    for each in (model, twin):
        matrix = each.analog["weight"].matrix
        with xb.observe(each, xb.Tally(each)) as tally:
            matrix.pulse(Pulses(one, one * 0))
        assert tally["weight"].pulses == 8
        moved = (matrix.cells.g != before).flatten(1).any(1).tolist()
        assert moved == [False, False, True, False, False, False]


def test_significance_transfers_what_its_fine_pair_gathered():
    """Before a transfer the coarse pair stands still; after it, it holds the weight."""
    torch.manual_seed(0)
    cell = Device(0.0, 1e-4, update=ConstantStep(1e-6))
    chip = xb.Chip(cell, xb.Significance(factor=3.0, transfer_every=2, w_max=1.0))
    net = nn.Linear(3, 2, bias=False).double()
    model = xb.convert(net, chip, mode=xb.InSitu(xb.Expected()), seed=0)
    cells, opt = model.analog["weight"].matrix.cells, xb.InSituSGD(model, lr=0.05)

    def step():
        opt.zero_grad()
        model(torch.ones(1, 3, dtype=F64)).sum().backward()
        opt.step()

    start = cells.g.clone()
    step()
    assert torch.equal(cells.g[:2], start[:2]) and bool((cells.g[2:] != start[2:]).all())
    first = model.weight.detach().clone()
    step()
    assert torch.allclose(first - model.weight, torch.full_like(first, 0.05), atol=1e-12)
    assert torch.allclose(cells.g[2] - cells.g[3], torch.zeros(()).double(), atol=1e-18)
    coarse = (cells.g[0] - cells.g[1]) / 1e-4 * 0.75
    assert torch.allclose(coarse.mT, model.weight.detach(), atol=1e-12)


def test_noise_of_a_weighed_pair_counts_with_its_square():
    """σ √(2 F² + 2)/(F + 1) of the window for each weight: float weights and cells."""
    sigma, factor, x = 0.01, 3.0, torch.randn(12)
    lin = nn.Linear(12, 3, bias=False)
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-9), read=GaussianRead(sigma))
    chip = xb.Chip(cell, xb.Significance(factor=factor))
    want = sigma * (2 * factor**2 + 2) ** 0.5 / (factor + 1)
    want *= float(lin.weight.detach().abs().max() * x.norm())
    for mode in (xb.HardwareAware(), xb.Programmed()):
        model = xb.convert(lin, chip, mode=mode, seed=5)
        with torch.no_grad():
            spread = model(x.expand(40000, 12)).std(0)
        assert float((spread / want - 1).abs().max()) < 5 / (2 * 40000) ** 0.5


def test_two_converters_convert_two_currents():
    """Both codes of a pair, each of its own range, written apart in NumPy."""
    torch.manual_seed(1)
    net = nn.Linear(20, 4, bias=False).double()
    full = 2e-4
    port = xb.Periphery(xb.DAC(None, range=xb.Fixed(1.0)), xb.ADC(6, range=xb.Fixed(full)))
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-9))
    layer = xb.convert(net, xb.Chip(cell, xb.Differential(converters=2), forward=port), seed=0)
    x = np.random.default_rng(0).uniform(0, 1, (5, 20))
    w = net.weight.detach().numpy().T
    w_max, span, floor = np.abs(w).max(), 48e-6, 2e-6
    codes = []
    for sign in (1, -1):
        amps = 0.2 * x @ (floor + span * (0.5 + sign * w / (2 * w_max)))
        codes.append(np.clip(np.round(amps / full * 31), -31, 31) * full / 31)
    want = (codes[0] - codes[1]) / (0.2 * span) * w_max
    for model in (layer, xb.program(copy.deepcopy(layer))):
        got = model(torch.as_tensor(x)).detach().numpy()
        np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed(), xb.InSitu()], ids=str)
def test_a_quantile_clips_what_lies_beyond(mode, per_column):
    """Against weights clipped in NumPy; in situ the window is HEADROOM wider and nothing clips."""
    torch.manual_seed(0)
    net, x = nn.Linear(50, 6, bias=False).double(), torch.randn(5, 50, dtype=F64)
    with torch.no_grad():
        net.weight[:, 0] = 3.0
    mapping = xb.Differential(quantile=0.9, per_column=per_column)
    model = xb.convert(net, xb.Chip(CELL, mapping), mode=mode, seed=0)
    w = net.weight.detach().numpy()
    size = np.sort(np.abs(w), 1) if per_column else np.sort(np.abs(w).ravel())[None]
    top = size[:, round(0.9 * size.shape[1]) - 1][:, None]
    top = top * (4 if isinstance(mode, xb.InSitu) else 1)
    want = x.numpy() @ np.clip(w, -top, top).T
    np.testing.assert_allclose(model(x).detach().numpy(), want, atol=1e-12)


@pytest.mark.parametrize("write", [None, GaussianWrite(1e-4)], ids=["direct", "drawn"])
def test_weights_that_training_leads_below_zero_are_read_and_written_as_zero(write):
    """Of cells of one sign; numbers of the other that are given are refused, not cut."""
    torch.manual_seed(0)
    net = nn.Linear(6, 4)
    net.weight.data.abs_().mul_(0.1)
    chip = xb.Chip(Device(2e-6, 50e-6, update=ConstantStep(1e-9), write=write), xb.Unipolar())
    x = torch.rand(32, 6)
    model = xb.convert(net, chip, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(5):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    held = model.weight.detach().clone()
    assert float(held.min()) < -0.05
    want = nn.functional.linear(x, held.clamp(min=0), model.bias.detach())
    close = {"rtol": 1e-4, "atol": 1e-6 if write is None else 1e-3}
    assert torch.allclose(model.eval()(x), want, **close)
    assert torch.allclose(xb.program(model)(x), want, **close)
    with pytest.raises(ValueError, match="weights of 0 and more"):
        model.load_state_dict(net.state_dict() | {"weight": -net.weight.detach()})
    with pytest.raises(ValueError, match="weights of 0 and more"):
        xb.convert(xb.convert(nn.Linear(6, 4), xb.Chip(), seed=0), chip)


def test_scales_of_blocks_are_powers_of_two():
    torch.manual_seed(0)
    w = torch.randn(6, 20, dtype=F64) * torch.logspace(-3, 3, 6, dtype=F64).unsqueeze(1)
    for mapping in (xb.Slices((2, 2), per_column=True, binary=True), xb.Differential(binary=True)):
        A = xb.matrix(w, xb.Chip(Device(0.0, 1e-4), mapping), seed=0)
        top = w.abs().amax(1) if mapping.per_column else w.abs().amax()
        scale = A.cells.w_max.squeeze()
        assert torch.equal(scale.log2(), scale.log2().round())
        assert bool((scale >= top).all()) and bool((scale < 2 * top).all())
        if mapping.per_column:  # mantissas of 4 bits: half a step of its own block
            assert bool(((A.weight.mT - w).abs() <= scale.unsqueeze(1) / 15 / 2 + 1e-12).all())


@pytest.mark.parametrize("mapping", ["significance", "arbitrated", "two converters, three pairs"])
def test_rehearsed_weights_err_as_written_ones_do(mapping):
    """Hardware-aware spread of a weight with write errors, turns included, equals the cells'."""
    cell = Device(0.0, 1e-4, update=SoftBounds(1e-7), write=GaussianWrite(0.02))
    lin = nn.Linear(40, 40, bias=False).double()
    with torch.no_grad():
        lin.weight.uniform_(-0.4, 0.4)
        lin.weight[0, 0] = 1.0
    eye = torch.eye(40, dtype=F64)
    for corrections in (0, 1):
        made = type(MAPPINGS[mapping])(corrections=corrections)
        hwa = xb.convert(lin, xb.Chip(cell, made), seed=0)
        with torch.no_grad():
            rehearsed = torch.stack([hwa(eye) for _ in range(8)]) - lin.weight.detach().mT
            written = torch.stack(
                [
                    xb.convert(lin, xb.Chip(cell, made), mode=xb.Programmed(), seed=k)(eye)
                    for k in range(8)
                ]
            )
        written = written - lin.weight.detach().mT
        n = written.numel()
        assert float(rehearsed.std() / written.std()) == pytest.approx(1, abs=4 / n**0.5)


def test_a_curve_reads_its_table_and_trains_by_its_route():
    """Places by np.interp, the product of what they stand for, one pulse as the route says."""
    torch.manual_seed(0)
    w = torch.rand(5, 8, dtype=F64) * 2 - 1
    curve = xb.Curve(plus=(0.1, 0.5, 0.9), minus=(0.1, 0.2, 0.0), size=0.9, w_max=1.0)
    A = xb.matrix(w, xb.Chip(CELL, curve), seed=0)
    size = np.abs(w.numpy())
    difference = np.interp(size, (0, 0.5, 1), (0, 0.3, 0.9)) * np.sign(w.numpy())
    np.testing.assert_allclose(A.weight.mT.numpy(), difference / 0.9, atol=1e-12)
    x = torch.randn(8, dtype=F64)
    assert torch.allclose(A @ x, torch.tensor(difference / 0.9) @ x, atol=1e-12)
    again = xb.Curve(
        plus=(0.1, 0.5, 0.9), minus=(0.1, 0.2, 0.0), size=0.9, w_max=1.0, corrections=2
    )
    assert torch.allclose(xb.matrix(w, xb.Chip(CELL, again), seed=0).weight, A.weight, atol=1e-12)
    before, one = A.weight.clone(), torch.ones(8, 5, dtype=F64)
    A.pulse(Pulses(one, one * 0))
    moved = 2 * 1e-9 / 48e-6 / 0.9  # both cells of a pair
    assert torch.allclose(A.weight - before, torch.full_like(before, moved), atol=1e-12)
    assert float(A.granularity) == pytest.approx(moved)


def test_the_best_curve_of_a_perfect_cell_is_a_line():
    curve = xb.best_curve(Device(0.0, 1e-4), [1.0], knots=9, places=33, cells=2)
    assert curve.plus == tuple(k / 8 for k in range(9)) and curve.minus == (0.0,) * 9
    assert curve.size == pytest.approx(1)


@pytest.mark.slow
def test_the_best_curve_keeps_pcm_weights_better_than_a_line_does():
    """Time-averaged error of 64×64 weights, second to year, 12 chips: gain and its interval.

    Each time with the digital factor that suits the whole array best. A line that clips 1 % of the
    weights does as well: of PCM pairs the curve is one.
    """
    cell, times = presets.pcm(), [1.0, 60.0, 3600.0, 86400.0, 2.6e6, 3.15e7]

    def errors(mapping, seed):
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(64, 64, generator=generator, dtype=F64)
        made = mapping or xb.best_curve(cell, times, w / w.abs().amax(), knots=33)
        A = xb.matrix(w, xb.Chip(cell, made), seed=seed)
        now, found = 0.0, []
        for t in times:
            A.advance(t - now)
            now, state = t, A.written.state
            noise = torch.randn(state.g.shape, generator=generator, dtype=F64)
            seen = cell.seen(state) + cell.std(state) * noise
            held = (seen[0] - seen[1]).mT
            held = held * (held * w).sum() / held.square().sum()
            found.append(float((held - w).norm() / w.norm()))
        return np.mean(found)

    plain, clipped, best = (
        np.array([errors(mapping, k) for k in range(12)])
        for mapping in (xb.Differential(), xb.Differential(quantile=0.99), None)
    )
    gains, over = 1 - best / plain, 1 - best / clipped
    mean, interval = gains.mean(), 2.201 * gains.std(ddof=1) / 12**0.5  # t of 11, 95 %
    print(f"gain {mean:.3f} ± {interval:.3f}; over a line clipped at 99 % {over.mean():.3f}")
    assert mean - interval > 0.1
    assert abs(over.mean()) < 0.03  # most of it is that of clipping
    for options in ({"seconds": []}, {"seconds": [-1.0]}, {"seconds": [1.0], "knots": 1}):
        with pytest.raises(ValueError):
            xb.best_curve(cell, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xb.Curve(plus=(0.0, 1.2)), "plus must be"),
        (lambda: xb.Curve(plus=(0.0, 0.5, 1.0)), "one length"),
        (lambda: xb.Curve(size=0.0), "size must be"),
        (lambda: xb.Significance(factor=0.0), "factor must be"),
        (lambda: xb.Significance(transfer_every=0), "transfer_every must be"),
        (lambda: xb.Differential(converters=3), "converters must be"),
        (lambda: xb.Arbitrated(count=0), "count must be"),
        (
            lambda: xb.Chip(
                mapping=xb.Differential(converters=2), wires=xb.Wires(1.0, 1.0, interleaved=True)
            ),
            "must be Differential",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
