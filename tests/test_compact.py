"""Cells kept as the weight and a code of what its pair has in common."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

import crossbar as xb
from devices import (
    ConstantStep,
    Device,
    GaussianRead,
    GaussianWrite,
    PowerLawDrift,
    Pulses,
    SoftBounds,
    presets,
)

LAW = SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3)
CELL = Device(1e-6, 50e-6, LAW, read=GaussianRead(0.01), write=GaussianWrite(0.01))
BOTH = xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8))
CHIP = xb.Chip(CELL, forward=BOTH)
IN_SITU, WRITTEN = xb.InSitu(compact=True), xb.Programmed(compact=True)


def net(rows=40, cols=30):
    torch.manual_seed(0)
    return nn.Linear(rows, cols)


def cells(layer):
    return layer.weight.analog.matrix.cells


def numbers(layer):
    return layer.weight.detach().as_subclass(Tensor)


def shared(layer):
    """Whether weight and cells are one memory, and the weight is what the cells hold."""
    own = cells(layer)
    held = (own.g[0] - own.g[1]).mT / own.chip.device.window.span * own.w_max
    torch.testing.assert_close(held, numbers(layer), rtol=0, atol=3e-7 * float(own.w_max))
    return layer.weight.data_ptr() == own.matrix.data_ptr()


def trained(layer, steps, seed=3):
    optimiser, draw = xb.InSituSGD(layer, 0.1), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad()
        x = torch.randn(7, 40, generator=draw, dtype=layer.weight.dtype)
        layer(x).square().mean().backward()
        optimiser.step()
    return layer


@pytest.mark.parametrize("binary", [True, False])
def test_reads_see_the_difference_alone(binary):
    """Codes do not reach them: the same bits where w_max is a power of two, else roundings."""
    chip = xb.Chip(CELL, xb.Differential(binary=binary), forward=BOTH)
    wide, small = (xb.convert(net(), chip, mode=m, seed=1) for m in (xb.Programmed(), WRITTEN))
    assert torch.equal(numbers(wide), numbers(small)) and shared(small)
    apart = (cells(wide).g - cells(small).g).abs()
    assert 0 < apart.max() < 1.01 * cells(small).q
    x = torch.randn(64, 40)
    one, other = wide(x), small(x)
    if binary:
        assert torch.equal(one, other)
    else:  # a current at the edge of two codes may be given the other one
        assert ((one - other).abs() > 1e-5 * one.abs().max()).float().mean() < 0.01


def test_rounding_is_unbiased():
    """20 writes of 60,000 weights: |mean error| below 4 standard errors (p = 6e-5)."""
    (layer,) = xb.convert(nn.Sequential(net(300, 200)), xb.Chip(Device(1e-6, 50e-6)), mode=WRITTEN)
    own, errors = cells(layer), []
    g = torch.rand(2, 300, 200, generator=torch.Generator().manual_seed(0)) * 49e-6 + 1e-6
    for _ in range(20):
        weight, code = own._kept(g)
        errors.append((own._pairs(weight, code) - g).double().mean(0) / own.q)
    each = torch.stack(errors)
    assert each.abs().max() < 1.01
    part = (g.double().mean(0) / own.q).frac()
    bound = 4 * (20 * part * (1 - part)).sum().sqrt() / each.numel()
    assert each.mean().abs() < bound < 2e-3
    torch.testing.assert_close(each.var(0).mean(), (part * (1 - part)).mean(), rtol=0.01, atol=0)
    own.state = own.state._replace(g=g)
    before = own.common.clone()
    own.state = own.state  # cells that do not move are not rounded again
    assert torch.equal(own.common, before)


def test_moves_of_less_than_a_code_add_up():
    """ConstantStep of a third of a code, u = 1: c = c0 + n s/2 after n updates, by hand."""
    step, n = 1e-6 * 100 / 65535 / 3, 60
    law = ConstantStep(step, up_down=1.0)
    layer = xb.convert(net(), xb.Chip(Device(1e-6, 50e-6, law)), mode=IN_SITU, seed=0)
    own, matrix = cells(layer), layer.weight.analog.matrix
    before, ones = own.g.double(), torch.ones(40, 30)
    few = torch.arange(0, 1200, 7)  # a part of the weights alone goes another way
    for k in range(n):
        up, down = (ones, 0 * ones) if k % 2 else (0 * ones, ones)
        matrix.pulse(Pulses(up, down))
        sparse = [torch.zeros(1200).index_fill_(0, few, float(v.max())) for v in (up, down)]
        matrix.pulse(Pulses(*(t.view(40, 30) for t in sparse)))
    after = own.g.double()
    moved = ((after - before).mean(0) / own.q).flatten()
    rest = torch.ones(1200, dtype=torch.bool).index_fill_(0, few, False)
    for cells_, updates in ((rest, n), (~rest, 2 * n)):
        error = 4 * (0.25 * updates / int(cells_.sum())) ** 0.5
        assert abs(float(moved[cells_].mean()) - updates / 6) < error < updates / 6
    torch.testing.assert_close(after[0] - after[1], before[0] - before[1], rtol=0, atol=2e-10)


@pytest.mark.slow
def test_ten_thousand_states_train_as_well_as_in_float32():
    """In-situ regression of 24 x 24 weights, 3 chips; bfloat16 conductances err twice as much."""

    def error(mode, seed, short=False):
        law = SoftBounds.with_states(1e4, 1e-6, 50e-6, sigma_c2c=0.3, sigma_d2d=0.3)
        chip = xb.Chip(Device(1e-6, 50e-6, law), xb.Differential(w_max=1.0))
        torch.manual_seed(seed)
        teacher = (torch.randn(24, 24) / 24**0.5).clamp(-1, 1)
        layer = xb.convert(nn.Linear(24, 24, bias=False), chip, mode=mode, seed=seed)
        optimiser, own = xb.InSituSGD(layer, 1.0), cells(layer)
        for k in range(400):
            optimiser.param_groups[0]["lr"] = 0.99**k
            x = torch.randn(16, 24)
            optimiser.zero_grad()
            (layer(x) - x @ teacher.T).square().mean().mul(8).backward()
            optimiser.step()
            if short:
                own.state = own.state._replace(g=own.g.bfloat16().float())
                layer.weight.analog.show(layer.weight)
        return float((numbers(layer) - teacher).square().mean().sqrt())

    modes = xb.InSitu(gradient=False), xb.InSitu(gradient=False, compact=True)
    wide, small = ([error(mode, seed) for seed in range(3)] for mode in modes)
    assert sum(wide) < 3 * 0.008 and sum(small) < 1.1 * sum(wide), (wide, small)
    assert error(modes[0], 0, short=True) > 1.5 * wide[0]


def test_training_goes_on_bit_for_bit_after_a_checkpoint():
    layer = trained(xb.convert(net(), CHIP, mode=IN_SITU, seed=1), 2)
    again = xb.convert(net(), CHIP, mode=IN_SITU, seed=1)
    again.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert shared(again) and torch.equal(numbers(layer), numbers(again))
    for one in (layer, again):
        trained(one, 3, seed=5)
    assert torch.equal(numbers(layer), numbers(again)) and shared(again)
    assert torch.equal(cells(layer).common, cells(again).common)
    for mode in (xb.InSitu(), WRITTEN):
        other = xb.convert(net(), CHIP, mode=mode, seed=1)
        if mode is not WRITTEN:
            with pytest.raises(ValueError, match="another compact, True, than this chip's False"):
                other.load_state_dict(layer.state_dict())


def saved(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_cells_of_their_own(copied):
    layer = trained(xb.convert(net(), CHIP, mode=IN_SITU, seed=1), 1)
    other = copied(layer)
    assert torch.equal(numbers(layer), numbers(other))
    before = numbers(layer).clone()
    trained(other, 2)
    assert shared(other) and torch.equal(numbers(layer), before)
    trained(layer, 2)
    assert torch.equal(numbers(layer), numbers(other))


def test_other_dtypes():
    layer = trained(xb.convert(net(), CHIP, mode=IN_SITU, seed=1), 1)
    before = numbers(layer).clone()
    layer.double()
    assert shared(layer) and numbers(layer).dtype == torch.float64
    assert cells(layer).update_k.dtype == torch.bfloat16
    trained(layer, 1)
    layer.float().half()  # cells stay in float32
    assert not shared_memory(layer) and cells(layer).matrix.dtype == torch.float32
    layer.float()
    assert shared(layer) and not torch.equal(numbers(layer), before)


def shared_memory(layer):
    return layer.weight.data_ptr() == cells(layer).matrix.data_ptr()


def test_what_is_written_into_the_weight_is_programmed():
    """Before it is shown: with the error of a write, of the cells that are written alone."""
    layer = xb.convert(net(), CHIP, mode=IN_SITU, seed=1)
    before, code, x = numbers(layer).clone(), cells(layer).common.clone(), torch.randn(2, 40)
    views = (
        lambda w: w.__setitem__((0, 0), 0.05),
        lambda w: w.data.__setitem__((0, 1), 0.05),
        lambda w: w.detach().view(-1)[2:3].fill_(0.05),
    )
    for k, write in enumerate(views):
        with torch.no_grad():
            write(layer.weight)
        layer(x)
        changed = (numbers(layer) != before).nonzero()
        assert changed.tolist() == [[0, j] for j in range(k + 1)] and shared(layer)
        assert 0 < abs(float(numbers(layer)[0, k]) - 0.05) < 0.02
        assert torch.equal(cells(layer).common[3:], code[3:])
    before = numbers(layer).clone()
    with torch.no_grad():
        layer.weight.copy_(layer.weight.clone())  # its own values
    layer(x)
    assert torch.equal(numbers(layer), before) and shared(layer)
    layer.load_state_dict(net().state_dict())
    assert shared(layer) and 0 < (numbers(layer) - net().weight).abs().max() < 0.06


def test_cells_drift_and_fluctuate_as_those_of_float32():
    cell = Device(1e-6, 50e-6, read=presets.pcm().read, retention=PowerLawDrift(nu=0.05))
    wide, small = (
        xb.convert(net(), xb.Chip(cell), mode=m, seed=1) for m in (xb.Programmed(), WRITTEN)
    )
    for model in (wide, small):
        xb.advance(model, 3600.0)
    q = cells(small).q
    torch.testing.assert_close(cells(small).g, cells(wide).g, rtol=0, atol=2.1 * q)
    torch.testing.assert_close(numbers(small), numbers(wide), rtol=1e-3, atol=1e-4)
    assert shared(small)
    one, other = cells(wide).variance, cells(small).variance
    torch.testing.assert_close(other, one, rtol=0.02, atol=float(one.max()) * 1e-3)


@pytest.mark.parametrize(
    ("chip", "why"),
    [
        (xb.Chip(CELL, xb.SingleCell()), "other cells than a pair"),
        (xb.Chip(CELL, xb.Differential(per_column=True)), "a scale of its own"),
        (xb.Chip(CELL, wires=xb.Wires(1.0, 1.0)), "with wires"),
    ],
)
def test_what_is_no_pair_is_refused(chip, why):
    for mode in (IN_SITU, WRITTEN):
        with pytest.raises(TypeError, match=why):
            xb.convert(net(), chip, mode=mode)


def test_a_resting_cell_is_not_pulsed_with_its_pair():
    chip = xb.Chip(CELL, xb.Differential(route=xb.OneSided()))
    with pytest.raises(TypeError, match="the other is to stay where it is"):
        xb.convert(net(), chip, mode=IN_SITU)
    assert shared(xb.convert(net(), chip, mode=WRITTEN))


def test_convolutions_rules_and_modes():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 4, 3, groups=2))
    chip = xb.Chip(CELL)
    before = xb.convert(model, chip, mode=xb.InSitu(), seed=0)
    model = xb.convert(before, chip, mode=IN_SITU)
    for layer, old in zip(model, before, strict=True):  # the same cells, kept otherwise
        torch.testing.assert_close(numbers(layer), numbers(old), rtol=0, atol=1e-7)
        assert (cells(layer).g - cells(old).g).abs().max() < 1.01 * cells(layer).q
    for rule in (xb.Pulsed(), xb.MixedPrecision(), xb.TikiTaka()):
        own = xb.convert(model, chip, mode=xb.InSitu(rule=rule, compact=True))
        optimiser = xb.InSituSGD(own, 0.1)
        for _ in range(2):
            optimiser.zero_grad()
            own(torch.randn(2, 2, 6, 6)).square().sum().backward()
            optimiser.step()
        for layer in own:
            weight = layer.weight.analog
            torch.testing.assert_close(
                numbers(layer), weight.form.weight(weight.held, weight.shape), rtol=0, atol=0
            )
            assert shared_memory(layer) == (len(weight.gains) == 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_compiled_callers_see_the_same():
    """Reads are traced; training breaks the graph and runs as it is, or is refused in one graph."""
    chip, x = xb.Chip(Device(1e-6, 50e-6, LAW), forward=BOTH), torch.randn(7, 40)
    layer = xb.convert(net(), chip, mode=WRITTEN, seed=1)
    with torch.no_grad():
        assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))
    eager = xb.convert(net(), chip, mode=IN_SITU, seed=1)
    layer = copy.deepcopy(eager)
    for model, call in ((eager, eager), (layer, torch.compile(layer, backend="aot_eager"))):
        optimiser = xb.InSituSGD(model, 0.1)
        for _ in range(2):
            optimiser.zero_grad()
            call(x).square().mean().backward()
            optimiser.step()
    assert torch.equal(numbers(eager), numbers(layer)) and shared(layer)
    torch.compiler.reset()  # it remembers what it left alone
    with pytest.raises(Exception, match="cannot train compact cells"):
        torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
