"""Rules of in-situ learning against loops in NumPy, and rules of one's own."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from _in_situ import LR, MLP, Run, batches, consistent, fresh, mlp, plain, same
from torch import Tensor, nn

import crossbar as xb
from crossbar.rules.rule import train
from devices import Device, Pulses, SoftBounds

NOISY = Device(1e-6, 50e-6, update=SoftBounds(0.5e-6, sigma_c2c=0.3, sigma_d2d=0.3), write=None)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def linear(rule, rows=6, cols=4, chip=None):
    layer = nn.Linear(rows, cols, bias=False).double()
    return xb.convert(layer, chip or xb.Chip(), mode=xb.InSitu(rule=rule), seed=0)


# ---- mixed precision -----------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
def test_mixed_precision_is_trunc_and_remainder(every):
    """Trains of one slot: who is to be pulsed at all is pulsed once. Batches begin with a write."""
    layer, lr = linear(xb.MixedPrecision(every, bl=1)), 0.3
    weight = layer.analog["weight"]
    w = layer.weight.detach().numpy().T.copy()
    chi, one = np.zeros_like(w), float(weight.matrix.granularity)
    assert one == pytest.approx(4 * np.abs(w).max() * 2 / 1000)  # headroom 4, two devices a step
    optimiser, moved, lost = xb.InSituSGD(layer, lr), 0, 0
    for k, x in enumerate(batches(7, 5, 6)):
        optimiser.zero_grad()
        layer(x).square().mean().backward()
        d, xs = 2 * (x.numpy() @ w) / (5 * 4), x.numpy()
        optimiser.step()
        chi -= lr * np.outer(xs[0], d[0])
        if k and k % every == 0:
            counts = np.trunc(chi / one)
            chi -= counts * one
            w += np.sign(counts) * one
            moved += int(np.abs(counts).sum())
            lost += int((np.abs(counts) > 1).sum())
        chi -= lr * xs[1:].T @ d[1:]
        np.testing.assert_allclose(layer.weight.detach().numpy().T, w, rtol=0, atol=1e-12)
        np.testing.assert_allclose(weight.rule_chi.numpy(), chi, rtol=0, atol=1e-12)
        assert int(weight.rule_clock) == k + 1
    assert moved > 20 and lost
    consistent(layer)


def test_trains_of_a_write_are_binomial():
    """Along an output: of max|n| slots each pulses a cell with n/max|n|; 31 slots at most."""
    n = torch.tensor([[40.0, 3.0], [-20.0, -3.0], [8.0, 1.0], [0.0, 2.0]]).double()
    array = linear(xb.MixedPrecision()).analog["weight"].matrix
    drawn = torch.stack([train(n, 31, 0, array) for _ in range(4000)])
    slots = torch.tensor([31.0, 3.0]).double()
    share = (n.abs() / slots).clamp(max=1)
    mean, var = share * slots * n.sign(), slots * share * (1 - share)
    assert bool(((drawn.mean(0) - mean).abs() <= 4.5 * (var / 4000).sqrt()).all())
    assert bool(((drawn.var(0) - var).abs() <= 0.15 * var).all())
    assert bool((drawn[:, 0, 0] == 31).all()) and bool((drawn[:, 1, 1] == -3).all())


class Often(nn.Module):
    """A weight read along, across, and with inputs of other shapes, in one step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6) / 3)
        self.double()

    def forward(self, x):
        one = nn.functional.linear(x, self.weight).tanh()
        return one @ self.weight + nn.functional.linear(x.view(2, 2, 6), self.weight).view(4, 6)


def test_mixed_precision_counts_steps_not_reads():
    digital = Often()
    rule = xb.MixedPrecision(2, bl=1)
    model = xb.convert(digital, xb.Chip(), mode=xb.InSitu(rule=rule), seed=0)
    weight = model.analog["weight"]
    optimiser, one = xb.InSituSGD(model, 0.3), float(weight.matrix.granularity)
    wanted = np.zeros((6, 6))  # gathered, written or not
    for k, x in enumerate([*MLP, *MLP]):
        digital.zero_grad()
        optimiser.zero_grad()
        with torch.no_grad():
            digital.weight.copy_(plain(model.weight))
        for each in (digital, model):
            each(x).square().mean().backward()
        before, chi = plain(digital.weight).numpy().T, weight.rule_chi.clone().numpy()
        optimiser.step()
        wanted -= 0.3 * digital.weight.grad.numpy().T
        moved = np.rint((plain(model.weight).numpy().T - before) / one)
        assert bool(np.abs(moved).max() > 0) == (k in (2, 4))
        # whole pulses, in the direction of what they were, have left χ
        left = (chi - 0.3 * digital.weight.grad.numpy().T - weight.rule_chi.numpy()) / one
        np.testing.assert_allclose(left, np.rint(left), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(np.sign(np.rint(left)), moved)
        assert int(weight.rule_clock) == k + 1


# ---- Tiki-Taka -----------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2])
def test_tiki_taka_with_trains_that_always_fire(every):
    """|x| = |δ| = 1 at a rate that saturates: every slot of every train is a coincidence."""
    bl, lr, rows, cols = 3, 0.37, 3, 4
    rule = xb.TikiTaka(
        fast_lr=1e6, transfer_lr=0.5, buffer=1.7, every=every, scheme=xb.ExactBits(bl)
    )
    layer = linear(rule, rows, cols)
    weight = layer.analog["weight"]
    fast, slow = weight.matrices
    one = float(slow.granularity)
    assert float(fast.granularity) == one
    w_max = float(slow.written.w_max)
    a, h, c = np.zeros((rows, cols)), np.zeros((rows, cols)), plain(layer.weight).numpy().T.copy()
    optimiser = xb.InSituSGD(layer, lr)
    clock = pulsed = 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        signs = torch.randint(2, (2, rows + cols), generator=generator).double() * 2 - 1
        x, d = signs.split((rows, cols), -1)
        if clock % 8 < 4:
            x, d = x.abs(), d.abs()  # a gradient that persists, so that something is transferred
        optimiser.zero_grad()
        (layer(x) * d).sum().backward()
        optimiser.step()
        for row, error in zip(x.numpy(), d.numpy(), strict=True):
            a = np.clip(a - bl * one * np.outer(row, error), -w_max, w_max)
            clock += 1
            if clock % every == 0:
                j = (clock // every - 1) % rows
                h[j] += 0.5 * lr * a[j] / (1.7 * one)
                sign = np.sign(np.trunc(h[j]))
                h[j][sign != 0] = 0
                c[j] += sign * one
                pulsed += int(np.abs(sign).sum())
        np.testing.assert_allclose(fast.weight.numpy(), a, rtol=0, atol=1e-12)
        np.testing.assert_allclose(weight.rule_h.numpy(), h, rtol=0, atol=1e-9)
        np.testing.assert_allclose(plain(layer.weight).numpy().T, c, rtol=0, atol=1e-12)
    assert int(weight.rule_clock) == clock == 80 and pulsed > 30
    consistent(layer)


def test_reads_see_the_slow_array_alone():
    layer = linear(xb.TikiTaka())
    x = MLP[0]
    before = plain(layer(x))
    fast, _ = layer.analog["weight"].matrices
    fast.program(torch.full((6, 4), 0.1, dtype=torch.float64))
    assert torch.equal(before, plain(layer(x)))


# ---- which rule learns ---------------------------------------------------------------------------


def distance(rule, lr):
    """Mean square distance from the true weights at the end of a noisy linear regression."""
    law = SoftBounds(2.5e-6, sigma_c2c=0.3, sigma_d2d=0.3, sigma_up_down=0.2)
    chip = xb.Chip(Device(0.0, 100e-6, update=law), mapping=xb.Differential(w_max=1.0))
    layer = xb.AnalogLinear(
        4, 3, bias=False, chip=chip, mode=xb.InSitu(rule=rule), seed=0, dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(1)
    true = (torch.rand(3, 4, generator=generator).double() * 2 - 1) * 0.6
    optimiser, found = xb.InSituSGD(layer, lr), []
    for k in range(120):
        x, noise = (torch.randn(4, n, generator=generator).double() for n in (4, 3))
        optimiser.zero_grad()
        (0.5 * (layer(x) - x @ true.T - 0.5 * noise).square().sum() / 4).backward()
        optimiser.step()
        if k >= 80:
            found.append(float((plain(layer.weight) - true).square().mean()))
    return sum(found) / len(found)


def pulsed_distance():
    return min(distance(xb.Pulsed(xb.ExactBits()), lr) for lr in (0.1, 0.02))


def test_mixed_precision_ends_nearer_than_pulses():
    """40 soft steps across the window: pulsed weights are pulled to the middle and shaken."""
    assert distance(xb.MixedPrecision(), 0.1) < pulsed_distance() / 2


@pytest.mark.slow
def test_tiki_taka_ends_nearer_than_pulses():
    assert distance(xb.TikiTaka(fast_lr=1.0), 0.02) < pulsed_distance() / 1.5


# ---- a rule of one's own -------------------------------------------------------------------------


class Velocity(NamedTuple):
    v: Tensor


@dataclass
class Heavy(xb.Rule):
    """Momentum, kept in digital memory beside the cells."""

    beta: float = 0.9

    def fabricate(self, shape, matrices):
        return Velocity(torch.zeros(shape, dtype=matrices[-1].written.g.dtype))

    def update(self, jobs, *, streams):
        for job in jobs:
            v, cells = job.leaf.v, job.matrices[-1]
            v.mul_(self.beta).add_(job.op.outer(job.x, job.d))
            n = -job.lr * v / cells.granularity
            cells.pulse(Pulses(n.clamp(min=0), (-n).clamp(min=0)))


def test_a_rule_of_ones_own_is_momentum():
    digital = mlp()
    twin = xb.convert(digital, xb.Chip(), mode=xb.InSitu(rule=Heavy()), seed=0)
    named = dict(twin.named_parameters())
    optimiser = xb.InSituSGD(twin, LR)
    optimiser.param_groups.clear()
    optimiser.add_param_group({"params": [p for n, p in named.items() if "weight" in n]})
    optimiser.add_param_group(
        {"params": [p for n, p in named.items() if "bias" in n], "momentum": 0.9}
    )
    runs = [
        Run(digital, torch.optim.SGD(digital.parameters(), LR, momentum=0.9)),
        Run(twin, optimiser),
    ]
    for run in runs:
        for x in [*MLP, *MLP]:
            fresh(run, x)
            run.step()
    same(runs[1].trace, runs[0].trace)


@dataclass(frozen=True)
class Shared(xb.Rule):
    """Two arrays that share a weight, pulsed in turn by a coin."""

    def slots(self):
        return xb.Slot(0.25), xb.Slot()

    def update(self, jobs, *, streams):
        for job in jobs:
            coin = torch.rand((), generator=streams.generator(3, torch.device("cpu")))
            k = int(coin > 0.5)
            job.matrices[k].update(
                job.x, job.d, job.lr / (0.25, 1.0)[k], xb.Expected(), op=job.op, region=job.region
            )


def test_a_rule_of_two_arrays_that_both_count():
    digital = mlp()
    twin = xb.convert(digital, xb.Chip(), mode=xb.InSitu(rule=Shared()), seed=0)
    runs = [
        Run(digital, torch.optim.SGD(digital.parameters(), LR)),
        Run(twin, xb.InSituSGD(twin, LR)),
    ]
    for run in runs:
        for x in [*MLP, *MLP]:
            fresh(run, x)
            run.step()
    same(runs[1].trace, runs[0].trace)
    first, second = twin[2].analog["weight"].matrices
    assert bool(first.weight.any())
    consistent(twin)
    wanted = plain(twin[2].weight) / 2
    with torch.no_grad():
        twin[2].weight.copy_(wanted)
    twin(MLP[0])
    consistent(twin)
    torch.testing.assert_close(plain(twin[2].weight), wanted, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(second.weight.T, wanted)


RULES = [
    xb.Pulsed(xb.ExactBits(7)),
    xb.MixedPrecision(every=2),
    xb.TikiTaka(fast_lr=0.05),
    xb.ChoppedTikiTaka(chop=0.5, transfer_lr=30.0),
    xb.AGAD(chop=0.5, transfer_lr=30.0),
    xb.TrackedTikiTaka(chop=0.5, transfer_lr=30.0),
    xb.TikiTakaV1(),
    Heavy(),
    Shared(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("way", ["state_dict", "deepcopy"])
def test_an_interrupted_run_goes_on_bit_for_bit(rule, way):
    chip = xb.Chip(NOISY)
    ends = []
    for broken in (False, True):
        model = xb.convert(mlp(), chip, mode=xb.InSitu(rule=rule), seed=0)
        run = Run(model, xb.InSituSGD(model, 0.5))
        for k, x in enumerate([*MLP, *MLP]):
            if k == 3 and broken and way == "deepcopy":
                run.model, run.optimiser = copy.deepcopy((run.model, run.optimiser))
            elif k == 3 and broken:
                file = io.BytesIO()
                torch.save((run.model.state_dict(), run.optimiser.state_dict()), file)
                file.seek(0)
                weights, state = torch.load(file, weights_only=True)
                run.model = xb.convert(mlp(), chip, mode=xb.InSitu(rule=rule), seed=5)
                run.model.load_state_dict(weights)
                run.optimiser = xb.InSituSGD(run.model, 0.1)
                run.optimiser.load_state_dict(state)
            fresh(run, x)
            run.step()
        ends.append(run.model.state_dict())
    for name in ends[0]:
        assert torch.equal(ends[0][name], ends[1][name]), name
    start = xb.convert(mlp(), chip, mode=xb.InSitu(rule=rule), seed=0)
    g = f"0.analog.weight.matrices.{len(rule.slots()) - 1}.cells.g"
    if type(rule) is not xb.TikiTaka:  # whose weights wait for H
        assert not torch.equal(ends[0][g], start.state_dict()[g])


def test_rules_start_anew_where_the_weight_is_moved():
    layer = linear(xb.MixedPrecision())
    layer(MLP[0]).square().sum().backward()
    xb.InSituSGD(layer, 1e-4).step()
    assert bool(layer.analog["weight"].rule_chi.any())
    assert not bool(xb.reseed(layer, 4).analog["weight"].rule_chi.any())
    other = xb.convert(layer, xb.Chip(), mode=xb.InSitu(rule=xb.TikiTaka()))
    assert not hasattr(other.analog["weight"], "rule_chi")
    assert [m.weight.norm() > 0 for m in other.analog["weight"].matrices] == [False, True]
    torch.testing.assert_close(plain(other.weight), plain(layer.weight))


def test_parts_of_a_weight():
    """Mixed precision gathers them; Tiki-Taka, which goes vector by vector, refuses them."""
    torch.manual_seed(0)
    digital = nn.MultiheadAttention(6, 2, batch_first=True).double()
    x = batches(1, 2, 4, 6)[0]
    for rule in (xb.MixedPrecision(every=9), xb.TikiTaka()):
        model = xb.convert(digital, xb.Chip(), mode=xb.InSitu(rule=rule), seed=0)
        digital.zero_grad()
        for each in (digital, model):
            each(x, x.cos(), x)[0].square().sum().backward()
        optimiser = xb.InSituSGD(model, LR)
        if isinstance(rule, xb.TikiTaka):
            with pytest.raises(TypeError, match="cannot be given the gradient of a part"):
                optimiser.step()
            continue
        optimiser.step()
        chi = model.analog["in_proj_weight"].rule_chi
        want = -LR * digital.in_proj_weight.grad.T
        torch.testing.assert_close(chi, want, rtol=1e-10, atol=1e-10)
