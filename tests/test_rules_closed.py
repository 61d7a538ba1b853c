"""Rules against closed forms: where weights come to rest, what carries and factors keep."""

from __future__ import annotations

import math

import pytest
import torch
from _rules import F64, given, layer, reference
from torch import Tensor, nn

import crossbar as xb
from crossbar.rules.rule import every_line
from devices import ConstantStep, Device, GaussianWrite, SoftBounds, SoftBoundsReference

ONE = torch.ones(1, 1, dtype=F64)


def chip(step, sigma=0.0, law=ConstantStep, **more):
    """A cell against a reference; `step` in units of w_max = 1."""
    return xb.Chip(
        Device(0.0, 1e-4, update=law(step * 0.5e-4, sigma_c2c=sigma, **more)), reference()
    )


def shown(model: nn.Module) -> Tensor:
    return model.weight.detach().as_subclass(Tensor)[:, 0]


def settled(rule, hardware, target, lr, steps, kept, noise=0.0):
    """Many weights, each on its own least squares: RMS(w − t) over the last `kept` steps."""
    model = layer(rule, hardware, 1, len(target))
    optimiser, total = xb.InSituSGD(model, lr), 0.0
    draw = torch.Generator().manual_seed(5)
    for k in range(steps):
        d = shown(model) - target
        if k >= steps - kept:
            total += float(d.square().mean())
        more = noise * torch.randn(len(target), generator=draw, dtype=F64)
        given(model, optimiser, ONE, (d + more).unsqueeze(0))
    return model, math.sqrt(total / kept)


# ---- residual arrays ---------------------------------------------------------------------------


SLOWLY = [pytest.param(k, marks=pytest.mark.slow) for k in (3, 4)]


@pytest.mark.parametrize("arrays", [1, 2, *SLOWLY])
def test_residual_arrays_rest_where_they_must(arrays):
    """E r² = r₁ r₂ between two states: RMS γ^(K−1) Δ/√6."""
    step, gamma, n = 0.05, 0.1, 8_000
    target = torch.rand(n, generator=torch.Generator().manual_seed(2)).double() * 1.6 - 0.8
    rule = xb.Residual(arrays, gamma, every=150)
    _, rms = settled(rule, chip(step), target, 0.1, 150 * arrays, 60)
    assert rms == pytest.approx(gamma ** (arrays - 1) * step / math.sqrt(6), rel=0.02)


def test_residual_arrays_must_hold_a_step():
    with pytest.raises(ValueError, match="gamma=0.1 is too small .* gamma >= 0.25"):
        layer(xb.Residual(2, 0.1), chip(0.25))
    layer(xb.Residual(2, 0.1), chip(0.1))
    with pytest.raises(ValueError, match="gamma >= 0.2"):  # soft bounds: twice the step
        layer(xb.Residual(2, 0.1), chip(0.1, law=SoftBounds))
    layer(xb.Residual(1, 0.1), chip(0.25))
    with pytest.raises(ValueError, match="below 1"):
        xb.Residual(2, 1.0)


# ---- carry ---------------------------------------------------------------------------------------


def test_carries_keep_the_sum():
    """To 1e-14 at each carry, with what h really moved, c2c noise and all."""
    rule = xb.PeriodicCarry(4.0, every=10**9)
    hardware = chip(0.2, sigma=0.3)
    model = layer(rule, hardware, 5, 4)
    analog = model.analog["weight"]
    optimiser = xb.InSituSGD(model, 0.05)
    for k in range(6):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(k)).double()
        given(model, optimiser, x, x[:, :4].cos())
        fine, coarse = analog.matrices
        before, was = analog.held, coarse.weight
        rule.carry(fine, coarse, analog.leaf)
        assert float((analog.held - before).abs().max()) < 1e-14
        assert bool((coarse.weight != was).any())


@pytest.mark.slow
def test_a_carried_weight_rests_where_noise_and_step_put_it():
    """RMS² = Δ E|g|/2, Δ the fine step in W, g with its own variance; without carry: saturated."""
    factor, fine, sigma = 4.0, 0.05, 0.3
    target = torch.rand(4000, generator=torch.Generator().manual_seed(2)).double() * 1.6 - 0.8
    hardware = chip(fine * factor)
    _, rms = settled(xb.PeriodicCarry(factor, 20), hardware, target, 0.02, 400, 150, noise=sigma)
    want = 0.0
    for _ in range(50):
        want = math.sqrt(fine * math.sqrt(2 / math.pi) * math.sqrt(sigma**2 + want**2) / 2)
    assert want == pytest.approx(0.0787, abs=2e-4)
    assert rms == pytest.approx(want, rel=0.02)
    _, lost = settled(
        xb.PeriodicCarry(factor, 10**9), hardware, target, 0.02, 400, 150, noise=sigma
    )
    assert lost > 3 * want


def test_polarity_inversion_sends_a_pull_to_and_fro():
    """A cell that only rises at every step: with inversion what it adds to W cancels."""
    moved = []
    for invert in (False, True):
        rule = xb.PeriodicCarry(4.0, 10, invert)
        # up and down pulses come in equal numbers, and up steps are twice the down steps
        lopsided = chip(0.04, up_down=2 / 3)
        model = layer(rule, lopsided, 1, 200)
        optimiser = xb.InSituSGD(model, 0.02)
        draw = torch.Generator().manual_seed(0)
        for _ in range(80):
            sign = torch.randint(2, (1, 200), generator=draw).double() * 2 - 1
            given(model, optimiser, ONE, sign)
        moved.append(float(shown(model).mean()))
    assert moved[0] > 0.05
    assert abs(moved[1]) < 0.2 * moved[0]


def test_inverted_weights_are_saved_with_their_sign():
    model = layer(xb.PeriodicCarry(4.0, 3, True), chip(0.04), 3, 2)
    optimiser = xb.InSituSGD(model, 0.05)
    for k in range(4):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(k)).double()
        given(model, optimiser, x, x[:, :2])
    assert model.analog["weight"].gains == (-0.25, 1.0)
    twin = layer(xb.PeriodicCarry(4.0, 3, True), chip(0.04), 3, 2)
    twin.load_state_dict(model.state_dict())
    assert twin.analog["weight"].gains == (-0.25, 1.0)
    assert torch.equal(twin.weight, model.weight) and torch.equal(twin(x), model(x))
    torch.testing.assert_close(model(x), x @ model.weight.detach().as_subclass(Tensor).T)


# ---- symmetry points -----------------------------------------------------------------------------


def test_zero_shifting_leaves_the_noise_of_its_pulses():
    """c √(Δτ/2) at 20 states: .067, in closed form of the pairs .0680."""
    dw, c, n = 0.1, 0.3, 40_000
    law = SoftBoundsReference(
        dw * 0.5e-4, sigma_c2c=c, sigma_d2d=0.3, sigma_up_down=0.2, sigma_bounds=0.3, subtract=True
    )
    mean = SoftBoundsReference(dw * 0.5e-4, sigma_add=c)
    found = xb.matrix(torch.zeros(n, 1), xb.Chip(Device(0, 1e-4, update=mean), reference()), seed=0)
    found.zero(60)
    up = dw
    k = up / 1.0
    rest = (up * (1 - k) - up) / (1 - (1 - k) ** 2)
    noise = c * math.sqrt((up**2 * (1 - k) ** 2 + up**2) / (1 - (1 - k) ** 4))
    assert noise == pytest.approx(c * math.sqrt(dw / 2), rel=0.03)
    w = found.weight.flatten()
    assert float(w.std()) == pytest.approx(noise, rel=0.04)
    assert float(w.mean()) == pytest.approx(rest, abs=5 * noise / math.sqrt(n) + 2e-3)
    # references take over the mean of up and down: their error is that noise, half a step less
    wild = xb.matrix(torch.zeros(n, 1), xb.Chip(Device(0, 1e-4, update=law), reference()), seed=0)
    wild.zero(60, reference=True)
    mid = 0.5e-4  # where the law has put the symmetry points
    off = (wild.written.g[1] - mid) / 0.5e-4
    assert float(off.abs().median()) / 0.6745 == pytest.approx(0.067, abs=0.007)  # tails are long
    assert float(off.median()) == pytest.approx(0, abs=0.005)


def test_a_pair_has_no_reference_to_take_over():
    pair = xb.Chip(Device(0, 1e-4, update=SoftBounds(1e-6)), xb.Differential(w_max=1.0))
    with pytest.raises(TypeError, match="no reference cell"):
        layer(xb.TikiTaka(zero_pairs=20), pair)


def test_zeroed_fast_arrays_begin_at_their_symmetry_points():
    """A tilted law pulls its cells to .5; zeroed, this stands for weight zero, and stays there."""
    tilted = chip(0.02, law=SoftBounds, up_down=1.0)
    drift = []
    for pairs in (None, 300):
        model = layer(xb.TikiTaka(fast_lr=0.2, zero_pairs=pairs), tilted, 4, 50)
        fast, _ = model.analog["weight"].matrices
        assert float(fast.weight.abs().max()) < 0.011  # half a step
        optimiser = xb.InSituSGD(model, 1e-9)
        draw = torch.Generator().manual_seed(0)
        for _ in range(40):
            x, d = (torch.randn(8, n, generator=draw).double() for n in (4, 50))
            given(model, optimiser, x, d)
        drift.append(float(fast.weight.mean()))
    assert drift[0] > 0.3 and abs(drift[1]) < 0.05


# ---- the sign, decay and momentum ----------------------------------------------------------------


def test_manhattan_moves_every_weight_by_the_rate():
    model = layer(xb.Manhattan(), chip(0.001), 1, 3000)
    d = torch.linspace(-2, 3, 3000).double().unsqueeze(0)
    optimiser = xb.InSituSGD(model, 0.0123)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 1.0 if k < 20 else 0.0)
    for _ in range(20):
        given(model, optimiser, ONE, d)
        schedule.step()
    want = -20 * 0.0123 * d.sign()
    assert float((shown(model) - want).mean().abs()) < 1e-4
    assert float((shown(model) - want).abs().max()) < 0.01  # 12 or 13 pulses each
    before = shown(model).clone()
    given(model, optimiser, ONE, d)  # the schedule has come to zero
    assert torch.equal(before, shown(model))
    quiet = layer(xb.Manhattan(threshold=1.0), chip(0.001), 1, 3000)
    given(quiet, xb.InSituSGD(quiet, 0.0123), ONE, d)
    assert torch.equal(shown(quiet) != 0, (d.abs() > 1)[0])


@pytest.mark.parametrize(
    "rule,asked",
    [
        (xb.WeightDecay(0.5, xb.Pulsed(xb.Expected())), {"weight_decay": 0.5}),
        (xb.Momentum(0.8), {"momentum": 0.8}),
        (xb.ArrayMomentum(0.8, 0.05, xb.Expected()), {"momentum": 0.8}),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, xb.Rule) else "",
)
def test_decay_and_momentum_are_torchs(rule, asked):
    """Fine steps: the mean of many weights is the number that torch computes."""
    n = 500
    model = layer(rule, chip(2e-4), 1, n)
    number = nn.Parameter(torch.zeros((), dtype=F64))
    optimiser, other = xb.InSituSGD(model, 0.1), torch.optim.SGD([number], 0.1, **asked)
    for k in range(25):
        push = math.cos(0.4 * k) * 0.3
        number.grad = torch.tensor(push, dtype=F64)
        other.step()
        given(model, optimiser, ONE, torch.full((1, n), push, dtype=F64))
        got = shown(model)
        assert float(got.mean()) == pytest.approx(number.item(), abs=4e-4)
        assert float((got - number.detach()).abs().max()) < 0.01


# ---- low rank --------------------------------------------------------------------------------


def test_low_rank_keeps_the_nearest_matrix():
    """Eckart–Young: the error is what its smaller singular values leave; writes are counted."""
    draw = torch.Generator().manual_seed(1)
    x, d = torch.randn(6, 5, generator=draw).double(), torch.randn(6, 4, generator=draw).double()
    full = -0.1 * d.mT @ x
    for rank, exact in ((4, True), (2, False)):
        model = layer(xb.LowRank(rank, every=2), chip(1e-6), 5, 4)
        analog, optimiser = model.analog["weight"], xb.InSituSGD(model, 0.1)
        given(model, optimiser, x, d)
        assert not bool(model.weight.any()) and int(analog.rule_writes) == 0
        kept = -(analog.rule_left @ analog.rule_right.mT).mT
        smaller = torch.linalg.svdvals(full)[rank:]
        error = float((kept - full).norm())
        assert error == pytest.approx(float(smaller.norm()), rel=1e-9, abs=1e-12)
        given(model, optimiser, x * 0, d)
        w = model.weight.detach().as_subclass(Tensor)
        assert float((w - kept).abs().max()) < 1.1e-6
        assert int(analog.rule_writes) == 20 and exact == (error < 1e-12)
        matrices = [m for _, m in analog.all()]
        assert analog.rule.cost(matrices).bytes == pytest.approx(8 * (rank * 9 + 2) / 20)


def test_costs_are_declared():
    """Arrays, bytes a weight and lines a vector, of a float32 weight of 64 inputs."""
    known = {
        xb.Pulsed(): (0, 0, 0),
        xb.MixedPrecision(): (0, 4, 0),
        xb.Momentum(): (0, 4, 0),
        xb.TikiTakaV1(): (1, 0, 0.1),
        xb.TikiTaka(): (1, 4, 1),
        xb.AGAD(): (1, 12, 1),
        xb.WeightDecay(0.1): (0, 0, 6.4),
        xb.Residual(3): (2, 0, 0),
    }
    for rule, (arrays, memory, reads) in known.items():
        model = xb.convert(nn.Linear(64, 100), chip(0.001), mode=xb.InSitu(rule=rule), seed=0)
        analog = model.analog["weight"]
        cost = rule.cost([m for _, m in analog.all()], vectors=10)
        assert (cost.arrays, cost.reads) == (arrays, pytest.approx(reads)), rule
        assert cost.bytes == pytest.approx(memory, abs=0.1), rule


def test_every_line_is_the_matrix():
    noisy = xb.Chip(Device(0.0, 1e-4, update=ConstantStep(1e-7), write=GaussianWrite(0.01)))
    found = xb.matrix(torch.randn(3, 5), noisy, seed=0)
    torch.testing.assert_close(every_line(found), found.weight)
