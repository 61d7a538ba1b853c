"""Statistics of the outer-product update against the theory of Bernoulli trains."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import crossbar as xb
from crossbar.operations import Conv, Matmul
from crossbar.regions import Region
from crossbar.windows import Window
from devices import ConstantStep, Device, Pulses, SoftBounds
from tests._analog import update

# 5.2 standard errors: a false alarm among 1000 comparisons has probability 2e-4
SE = 5.2


@pytest.fixture(scope="module")
def trains():
    """Counts of 6000 exact updates of one vector: (n, rows, cols) up and down, and p."""
    torch.manual_seed(0)
    x = torch.tensor([[0.9, -0.4, 0.05, 0.0, 0.6]], dtype=torch.float64)
    d = torch.tensor([[0.8, -0.5, 0.3, -0.02]], dtype=torch.float64)
    rate, bl, n = 9.0, 16, 6000
    scheme, generator = xb.ExactBits(bl), torch.Generator().manual_seed(1)
    given = [scheme.pulses(Matmul(), x, d, rate, generator=generator) for _ in range(n)]
    up = torch.stack([p.up for p in given]).numpy()
    down = torch.stack([p.down for p in given]).numpy()
    length = math.ceil(rate * 0.9 * 0.8)
    root = math.sqrt(rate * 0.9 * 0.8 / length)
    px, pd = x[0].numpy() / 0.9 * root, d[0].numpy() / 0.8 * root
    return up, down, px, pd, length, rate * np.outer(x[0], d[0])


def test_mean_is_the_outer_product(trains):
    up, down, _, _, _, want = trains
    net = up - down
    se = net.std(0) / math.sqrt(len(net))
    assert (np.abs(net.mean(0) + want) <= SE * se + 1e-12).all()
    assert (up[:, want > 0] == 0).all() and (down[:, want < 0] == 0).all()


def test_variance_is_binomial(trains):
    up, down, px, pd, length, _ = trains
    total = up + down
    p = np.abs(np.outer(px, pd))
    want = length * p * (1 - p)
    fourth = ((total - total.mean(0)) ** 4).mean(0)
    se = np.sqrt((fourth - total.var(0) ** 2) / len(total))
    assert (np.abs(total.var(0) - want) <= SE * se + 1e-12).all()


def test_cells_sharing_a_line_are_correlated(trains):
    """cov = BL p_x(1−p_x) p_d p_d' along a row; independent binomials would give none."""
    up, down, px, pd, length, _ = trains
    net = (down - up) - (down - up).mean(0)
    n = len(net)

    def compare(a, b, want):
        products = a * b
        se = products.std() / math.sqrt(n)
        assert abs(products.mean() - want) <= SE * se
        return abs(products.mean()) / se

    along_row = length * abs(px[0]) * (1 - abs(px[0])) * pd[0] * pd[1]
    assert compare(net[:, 0, 0], net[:, 0, 1], along_row) > 10
    along_column = length * abs(pd[0]) * (1 - abs(pd[0])) * px[0] * px[4]
    assert compare(net[:, 0, 0], net[:, 4, 0], along_column) > 10
    compare(net[:, 0, 0], net[:, 1, 1], 0.0)


def test_trains_saturate_at_probability_one():
    x = torch.tensor([[1.0, 0.5, 0.1]])
    d = torch.tensor([[-1.0, -0.25]])
    generator = torch.Generator().manual_seed(0)
    pulses = xb.ExactBits(8).pulses(Matmul(), x, d, 32.0, generator=generator)
    assert pulses.up[0, 0] == 8  # 32 wanted, every slot of 8 fires
    # errors alone are clipped, at 8/32 of their peak: inputs keep their proportions
    assert pulses.up[0, 1] == 8 and pulses.up[1, 0] < 8
    moments = xb.Aggregated(8).pulses(Matmul(), x, d, 32.0, generator=generator)
    want = 8 * torch.tensor([1.0, 0.5, 0.1]).unsqueeze(1) * torch.tensor([1.0, 1.0])
    torch.testing.assert_close(moments.up, want)
    assert moments.up_var[0, 0] == 0


@pytest.mark.parametrize("positive", [True, False])
def test_aggregated_moments_are_sums_of_binomials(positive):
    torch.manual_seed(2)
    x, d = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    x = x.abs() if positive else x
    rate, bl = 3.0, 31
    got = xb.Aggregated(bl).pulses(Matmul(), x, d, rate, generator=None)
    up, down = np.zeros((5, 4)), np.zeros((5, 4))
    up_var, down_var = np.zeros((5, 4)), np.zeros((5, 4))
    for xb_, db in zip(x.numpy(), d.numpy(), strict=True):
        length = min(bl, max(1, math.ceil(rate * abs(xb_).max() * abs(db).max())))
        for i, xi in enumerate(xb_):
            for j, dj in enumerate(db):
                mean = rate * abs(xi * dj)
                p = mean / length
                target, spread = (up, up_var) if xi * dj < 0 else (down, down_var)
                target[i, j] += mean
                spread[i, j] += length * p * (1 - p)
    for want, have in zip((up, down, up_var, down_var), got[:4], strict=True):
        np.testing.assert_allclose(have.numpy(), want, rtol=1e-12, atol=1e-12)


def test_convolution_updates_are_those_of_its_receptive_fields():
    torch.manual_seed(3)
    op = Conv(Window((3, 3), (1, 1), (1, 1), (1, 1), groups=2))
    x, d = torch.randn(2, 4, 5, 5).double(), torch.randn(2, 6, 5, 5).double()
    got = xb.Expected().pulses(op, x, d, 1.0, generator=None)
    xs, ds = op.vectors(x, d)  # (n, groups, rows), (n, groups, cols)
    product = torch.einsum("ngr,ngc->ngrc", xs, ds)
    torch.testing.assert_close(got.up, (-product).clamp(min=0).sum(0))
    torch.testing.assert_close(got.down, product.clamp(min=0).sum(0))
    exact = xb.ExactBits(31)
    generator = torch.Generator().manual_seed(0)
    draws = [exact.pulses(op, x, d, 0.5, generator=generator) for _ in range(300)]
    net = torch.stack([p.up - p.down for p in draws])
    se = net.std(0) / math.sqrt(len(net))
    assert ((net.mean(0) + 0.5 * product.sum(0)).abs() <= SE * se).all()


def test_deterministic_rounds_the_net_change():
    x, d = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.7, -2.6], [0.7, 0.0]])
    pulses = xb.Deterministic().pulses(Matmul(), x, d, 1.0, generator=None)
    assert pulses.down.tolist() == [[1.0, 0.0]] and pulses.up.tolist() == [[0.0, 3.0]]
    generator = torch.Generator().manual_seed(0)
    scheme = xb.Deterministic(stochastic=True)
    many = [scheme.pulses(Matmul(), x, d, 1.0, generator=generator).up for _ in range(4000)]
    mean = torch.stack(many).mean(0)[0, 1]
    assert abs(float(mean) - 2.6) < SE * math.sqrt(0.24 / 4000)


# ---- mini-batches against one sample after another -----------------------------------------

N_STATES, UP_DOWN, SIGMA = 100, 0.4, 0.3


def sequential_reference(signs, p, cells, seed):
    """Soft bounds on 0…1 pulse by pulse in float64, written from the published equation."""
    rng = np.random.default_rng(seed)
    g = np.full(cells, 0.4)
    step = 1.0 / N_STATES
    for sign in signs:
        fires = rng.random(cells) < p
        noise = 1 + SIGMA * rng.standard_normal(cells)
        if sign > 0:
            move = step * (1 + UP_DOWN / 2) * 2 * (1 - g) * noise
        else:
            move = -step * (1 - UP_DOWN / 2) * 2 * g * noise
        g = g + np.where(fires, move, 0.0)
    return g - 0.4


@pytest.mark.parametrize("count", [0.01, 0.3, 5.0])
def test_aggregated_equals_sequential(count):
    samples, cells = 64, 200_000
    signs = np.where(np.random.default_rng(7).random(samples) < 0.5, 1, -1)
    p = count / samples
    want = sequential_reference(signs, p, cells, seed=5)
    law = SoftBounds(1e-6 / N_STATES, up_down=UP_DOWN, sigma_c2c=SIGMA)
    device = Device(0.0, 1e-6, update=law)
    state = device.fabricate((cells,), dtype=torch.float64)
    state = state._replace(g=torch.full((cells,), 0.4e-6, dtype=torch.float64))
    ups, downs = float((signs > 0).sum()), float((signs < 0).sum())

    def full(value):
        return torch.full((cells,), value, dtype=torch.float64)

    pulses = Pulses(
        full(ups * p), full(downs * p), full(ups * p * (1 - p)), full(downs * p * (1 - p))
    )
    generator = torch.Generator().manual_seed(11)
    got = (device.pulse(state, pulses, generator=generator).g - state.g).numpy() / 1e-6
    se = math.hypot(want.std(), got.std()) / math.sqrt(cells)
    gross = count * 1.2 / N_STATES  # the mean of both directions together
    assert abs(got.mean() - want.mean()) <= 0.01 * max(abs(want.mean()), 0.2 * gross) + 4 * se
    fourth = ((want - want.mean()) ** 4).mean()
    se_std = math.sqrt(max(fourth - want.var() ** 2, 0) / cells) / (2 * want.std())
    assert abs(got.std() - want.std()) <= 0.10 * want.std() + 4 * se_std


@pytest.mark.parametrize(
    "scheme, route",
    [
        (xb.Aggregated(31), xb.Reference()),
        (xb.Aggregated(31), xb.PushPull()),
        *(
            pytest.param(xb.Sequential(xb.Aggregated(31)), route, marks=pytest.mark.slow)
            for route in (xb.Reference(), xb.PushPull())
        ),
    ],
    ids=lambda part: type(part).__name__,
)
def test_soft_bounds_bias_is_the_closed_form(scheme, route):
    """w settles at w*/(1 + E|g|/τ) (Wu et al. 2024), whether or not samples are aggregated."""
    target, sigma, lr, n = 0.5, 1.0, 4e-3, 512
    cell = Device(0.0, 1e-6, update=SoftBounds(1e-6 / 4000))
    chip = xb.Chip(cell, mapping=xb.Differential(route, w_max=1.0))
    layer = xb.AnalogLinear(1, n, bias=False, chip=chip, mode=xb.InSitu(scheme), seed=3)
    generator = torch.Generator().manual_seed(2)
    x = torch.ones(64, 1)
    means, sizes = [], []
    for step in range(60):
        w = layer.weight.detach()[:, 0]
        d = (w - target) + sigma * torch.randn(64, n, generator=generator)
        if step >= 30:
            means.append(float(w.mean()))
            sizes.append(float(d.abs().mean()))
        update(layer, x, d, lr)
    want = target / (1 + float(np.mean(sizes)))
    assert float(np.mean(means)) == pytest.approx(want, rel=0.01)
    assert want < 0.32  # the bias is there: net counts would settle near 0.45


def test_hard_bound_error_is_stated():
    """Counts taken together clip once; the docstring's bound holds at a constant-step bound."""
    device = Device(0.0, 1e-6, update=ConstantStep(1e-8))
    state = device.fabricate((1,), dtype=torch.float64)
    at_top = state._replace(g=torch.tensor([1e-6], dtype=torch.float64))
    one = torch.ones(1, dtype=torch.float64)
    alternating = at_top
    for _ in range(5):
        alternating = device.pulse(alternating, Pulses(one, 0 * one))
        alternating = device.pulse(alternating, Pulses(0 * one, one))
    together = device.pulse(at_top, Pulses(5 * one, 5 * one))
    assert abs(float(together.g - alternating.g)) <= 5 * 1e-8 * (1 + 1e-9)


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize("scheme", [xb.Aggregated, xb.ExactBits])
@pytest.mark.parametrize("transposed", [True, False])
def test_columns_of_one_scale_are_pulsed_as_the_whole(scheme, managed, transposed):
    """A scale of every column is no part of what the trains of its line are made of."""
    w = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).clamp(-0.5, 0.5).double()
    w[:, 0] = 0.5
    x, d = torch.linspace(-1, 1, 5).double(), torch.linspace(0.2, -0.3, 6).double()
    region = Region(transposed=transposed)
    held = []
    for per_column in (True, False):
        mapping = xb.Differential(per_column=per_column)
        chip = xb.Chip(Device(1e-6, 51e-6, update=ConstantStep(0.01e-6)), mapping)
        a, how = xb.matrix(w, chip, seed=1), scheme(update_management=managed, bl_management=False)
        before = a.weight.clone()
        given = (d, x) if transposed else (x, d)
        a.update(*(t[None] for t in given), 0.05, how, op=Matmul(), region=region)
        assert not torch.equal(a.weight, before)
        held.append(a.weight)
    torch.testing.assert_close(*held, rtol=1e-12, atol=1e-12)


def test_numbers_that_do_not_fit_the_lines_are_refused():
    """As many numbers in another shape are other weights."""
    chip = xb.Chip(Device(1e-6, 51e-6, update=ConstantStep(0.01e-6)))
    a = xb.matrix(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), chip, seed=0)
    x, d, how, before = torch.ones(3, 6), torch.ones(3, 4), xb.Expected(), a.weight.clone()
    wrong = [
        (lambda: a.update(d, x, 0.1, how), r"x must be \(n, 6\)"),
        (lambda: a.update(x, x, 0.1, how), r"d must be \(n, 4\)"),
        (lambda: a.update(x, d[:1], 0.1, how), "as many vectors"),
        (lambda: a.update(x[:0, 0], d, 0.1, how), r"x must be \(n, 6\)"),
        (lambda: a.program(a.weight.T), r"rows, cols\) = \(6, 4\)"),
        (lambda: a.program(a.weight[:1]), r"rows, cols\) = \(6, 4\)"),
        (lambda: a.program(a.weight, mask=a.weight.T > 0), "mask must be"),
        (lambda: a.read_column(4), "lines must be in 0 … 3"),
        (lambda: a.read_row(-1), "lines must be in 0 … 5"),
    ]
    for call, words in wrong:
        with pytest.raises(ValueError, match=words):
            call()
    for call in (lambda: a.read_row(1.5), lambda: a.update(x, d, 0.1, xb.Expected)):
        with pytest.raises(TypeError, match="whole numbers|must be a Scheme"):
            call()
    assert torch.equal(a.weight, before)
    a.update(x[0], d[0], 1e-5, how)  # a single vector
    assert not torch.equal(a.weight, before)
