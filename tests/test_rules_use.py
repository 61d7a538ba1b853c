"""What people do to a rule: ascend, rest, feed nothing, or feed what is no number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from _rules import every_rule
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import crossbar as xb
from crossbar import optim, states
from crossbar.pulses import bits, events, trains
from devices import ConstantStep, Device, GaussianRead, Pulses, SoftBounds
from devices.update import jit as update_jit

RULES = every_rule()
each = pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
CELL = Device(1e-6, 50e-6, SoftBounds(0.3e-6, sigma_c2c=0.3), GaussianRead(0.01))


def made(rule, **how):
    torch.manual_seed(4)
    return xb.convert(nn.Linear(4, 3), xb.Chip(CELL), mode=xb.InSitu(rule=rule, **how), seed=0)


def numbers(model):
    """Cells, digital states and clocks."""
    return {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, Tensor)}


def differ(one, two):
    return [k for k in one if not torch.equal(one[k], two[k])]


def batch(k, n=6):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(k))


@each
def test_to_maximise_is_to_minimise_the_opposite(rule):
    """Bit for bit; weight decay pulls to zero in either case, as torch's does."""
    ends = []
    for sign in (1.0, -1.0):
        model = made(rule)
        optimiser = xb.InSituSGD(model, 0.3, maximize=sign > 0)
        for k in range(3):
            optimiser.zero_grad()
            (sign * model(batch(k)).square().sum()).backward()
            optimiser.step()
        ends.append(numbers(model))
    assert not differ(*ends)
    assert differ(ends[0], numbers(made(rule)))


@each
def test_without_a_rate_or_a_vector_nothing_happens(rule):
    model = made(rule)
    optimiser, x = xb.InSituSGD(model, 0.3), batch(0)
    for rate, size in ((0.0, 6), (0.3, 0)):
        optimiser.zero_grad()
        start = numbers(model)
        optimiser.param_groups[0]["lr"] = rate
        model(x[:size]).square().sum().backward()
        optimiser.step()
        moved = [k for k in differ(start, numbers(model)) if "extra_state" not in k]
        assert not moved, (rate, size)  # streams of reads go on


@each
def test_closures_and_schedulers_mean_what_they_do_in_torch(rule):
    """Bit for bit a loop that sets the rate by hand; another rate moves other cells."""
    ends = []
    for how in ("by hand", "scheduled", "constant"):
        model = made(rule)
        optimiser = xb.InSituSGD(model, 0.3)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
        for k in range(3):

            def closure(model=model, optimiser=optimiser, k=k):
                optimiser.zero_grad()
                loss = model(batch(k)).square().sum()
                loss.backward()
                return loss

            if how == "by hand":
                closure()
                optimiser.param_groups[0]["lr"] = 0.3 * 0.5**k
                optimiser.step()
                continue
            assert optimiser.step(closure).item() > 0
            if how == "scheduled":
                schedule.step()
        ends.append(numbers(model))
    assert not differ(*ends[:2])
    assert differ(ends[0], ends[2])


@each
def test_inputs_that_are_no_numbers_reach_no_cell(rule):
    """An input whose error is zero: nothing but the tape sees it."""
    model = made(rule, gradient=False)
    optimiser, x = xb.InSituSGD(model, 0.3), batch(0)
    x[1, 2] = torch.nan
    start = numbers(model)
    model(x)[[0, 2, 3]].sum().backward()
    with pytest.raises(ValueError, match="finite"):
        optimiser.step()
    assert not [k for k in differ(start, numbers(model)) if "extra_state" not in k]


@each
def test_a_plain_checkpoint_starts_the_rule_anew(rule):
    model = made(rule)
    want = {k: v for k, v in numbers(made(rule)).items() if ".rule_" in k}
    optimiser = xb.InSituSGD(model, 0.3)
    for k in range(4):
        optimiser.zero_grad()
        model(batch(k)).square().sum().backward()
        optimiser.step()
    model.load_state_dict(nn.Linear(4, 3).state_dict())
    found = numbers(model)
    assert not [k for k in want if not torch.equal(found[k], want[k])]


SCHEMES = [xb.ExactBits(), xb.Aggregated(), xb.Expected(), xb.Deterministic(), xb.Sequential()]
FINE = xb.Chip(Device(0.0, 1e-4, ConstantStep(1e-7)), xb.Differential(w_max=1.0))


def array():
    return xb.matrix(torch.zeros(3, 4), FINE, seed=2)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
def test_a_negative_rate_ascends(scheme):
    x, d = batch(1), batch(2)[:, :3]
    for rate in (0.01, torch.full((6,), 0.01)):
        one, two = array(), array()
        one.update(x, d, -rate, scheme)
        two.update(x, -d, rate, scheme)
        assert torch.equal(one.weight, two.weight) and bool(one.weight.any())


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
def test_what_is_no_number_is_no_pulse(scheme):
    a, x, d = array(), batch(1), batch(2)[:, :3]
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        a.update(x, d, 0.01, scheme)
    assert bool(a.written.g.isfinite().all())


def test_errors_beyond_all_bounds_fire_every_slot():
    """k = rate max|x| max|δ| is infinite: trains saturate, and do not fall silent."""
    a, ones = array(), torch.ones(1, 4)
    a.update(ones, torch.full((1, 3), 3e38), 10.0, xb.ExactBits(bl=8))
    torch.testing.assert_close(a.weight, torch.full((4, 3), -8 * float(a.granularity)))


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-30, 1e30])
def test_scales_that_follow_errors_of_any_size(size):
    model = made(xb.AGAD())
    optimiser = xb.InSituSGD(model, 0.3)
    for k in range(4):
        optimiser.zero_grad()
        (size * model(batch(k)).sum()).backward()
        optimiser.step()
    assert all(bool(t.isfinite().all()) for t in numbers(model).values())


def test_devices_refuse_counts_and_targets_that_are_no_numbers():
    cells, one = CELL.fabricate((2, 2)), torch.ones(2, 2)
    for bad in (Pulses(-one, one), Pulses(one, one * torch.nan), Pulses(one, one, -one, one)):
        with pytest.raises(ValueError, match="counts"):
            CELL.pulse(cells, bad)
    target = torch.tensor([[torch.nan, 2e-6], [2e-6, 2e-6]])
    with pytest.raises(ValueError, match="target"):
        CELL.program(cells, target)
    written = CELL.program(cells, target, mask=~target.isnan())
    assert bool(written.g.isfinite().all())
    a = array()
    with pytest.raises(ValueError, match="counts"):
        a.pulse(Pulses(torch.full((4, 3), torch.nan), torch.zeros(4, 3)))
    with pytest.raises(ValueError, match="shape"):
        a.pulse(Pulses(torch.ones(3, 4), torch.zeros(3, 4)))


def test_rates_of_layers_are_their_own():
    """A second layer added as a group of its own moves as torch's does."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    chip = xb.Chip(replace(CELL, update=ConstantStep(1e-10), read=None), xb.Differential(w_max=3.0))
    ours = xb.convert(net, chip, mode=xb.InSitu(xb.Expected()), seed=1)
    optimiser = xb.InSituSGD(ours[0], 0.1)
    optimiser.add_param_group({"params": ours[2].parameters(), "lr": 0.01})
    want = torch.optim.SGD([{"params": net[0].parameters()}], lr=0.1)
    want.add_param_group({"params": net[2].parameters(), "lr": 0.01})
    for k in range(4):
        for model, by in ((net, want), (ours, optimiser)):
            by.zero_grad()
            model(batch(k).double()).square().sum().backward()
            by.step()
    for a, b in zip(net.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.detach().as_subclass(Tensor), a.detach(), rtol=0, atol=1e-12)


class Waits(TorchDispatchMode):
    """How often the host waits for numbers; `tolist` of a tensor dispatches nothing on a CPU."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        names = ("_local_scalar_dense", "aten.nonzero", "unique", "bincount")
        self.found += any(name in str(func) for name in names)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("size", "layers", "most"),
    [(300.0, 1, 7), (0.1, 1, 7), (0.1, 3, 6)],
    ids=["dense", "sparse", "three"],
)
def test_the_host_waits_little_in_a_step(size, layers, most, monkeypatch):
    """As on an accelerator, which has no compiled loops; it was 18, 18 and 23."""
    monkeypatch.setattr(states, "FEW", 1 << 30)
    for module in (bits.jit, update_jit):
        for loop in ("struck", "split", "near"):
            monkeypatch.setattr(module, loop, None, raising=False)
    cell = Device(1e-6, 50e-6, SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3))
    chip, mode = xb.Chip(cell), xb.InSitu(gradient=False)
    net = nn.Sequential(*(nn.Linear(128, 128, bias=False) for _ in range(layers)))
    model = xb.convert(net, chip, mode=mode, seed=0)
    optimiser, x, waits = xb.InSituSGD(model, 0.01), torch.rand(32, 128), Waits()
    plain, places = Tensor.tolist, bits.places

    def counted(t):
        waits.found += 1
        return plain(t)

    def looked(t):  # NumPy does on a CPU what `nonzero` does elsewhere
        waits.found += 1
        return places(t)

    def asking(plain):  # the host reads a CPU's tensors where they lie
        def asked(given):
            waits.found += 1
            return plain(given)

        return asked

    monkeypatch.setattr(Tensor, "tolist", counted)
    monkeypatch.setattr(bits, "places", looked)
    for module, name in ((optim, "numbers"), (trains, "numbers"), (events, "_here")):
        monkeypatch.setattr(module, name, asking(getattr(module, name)))
    for _ in range(2):  # the first compiles
        waits.found = 0
        loss = size * model(x).square().mean()
        with waits:
            loss.backward()
            optimiser.step()
    assert 0 < waits.found <= most, waits.found
