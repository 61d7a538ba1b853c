"""Vectors of a step at once, as if they came one by one: reads between the vectors of an update."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from _rules import F64, FAST, SLOW, given, layer, reference

import crossbar as xb
from crossbar.operations import Matmul
from crossbar.rules.lines import running
from crossbar.rules.rule import signed
from devices import ConstantStep, Device, GaussianRead, SoftBounds

TRAIN = xb.Sequential(xb.ExactBits(2))
HOW = {"scheme": TRAIN, "fast": FAST, "auto_granularity": 2.9, "transfer_lr": 3.0}
RULES = [
    xb.TikiTaka(fast_lr=0.0773, **HOW),
    xb.TikiTaka(fast_lr=0.0773, every=3, **HOW),
    xb.AGAD(fast_lr=0.77, chop=0.3, **HOW),
    xb.AGAD(fast_lr=0.77, chop=0.5, every=3, **HOW),
    xb.TikiTakaV1(
        0.773, 1e6, batches=False, scheme=TRAIN, transfer=xb.ExactBits(1), fast=FAST, every=2
    ),
]


SHORT = [RULES[0], RULES[3], *(pytest.param(r, marks=pytest.mark.slow) for r in RULES[1:3])]


@pytest.mark.parametrize("rule", [*SHORT, RULES[4]], ids=lambda r: f"{type(r).__name__} {r.every}")
def test_a_step_of_many_vectors_is_as_many_steps(rule):
    """Fewer lines than vectors, and more: bit for bit the same arrays, filter and choppers."""
    generator = torch.Generator().manual_seed(3)
    x, d = (torch.randint(2, (56, n), generator=generator).to(F64) * 2 - 1 for n in (5, 4))
    x[10:20], d[10:20] = 1, 1
    ends = []
    for size in (1, 7, 28):
        model = layer(rule, n_in=5, n_out=4)
        optimiser = xb.InSituSGD(model, 0.1)
        for xs, ds in zip(x.split(size), d.split(size), strict=True):
            given(model, optimiser, xs, ds)
        state = model.state_dict()
        ends.append({k: v for k, v in state.items() if ".cells." in k or ".rule_" in k})
        assert bool(model.weight.any())
    # how often cells were written differs, and the rounding of a running mean of ones
    ends = [{k: v for k, v in e.items() if k[-4:] not in ("ates", "tops")} for e in ends]
    for end in ends[1:]:
        for name, value in end.items():
            assert torch.equal(value, ends[0][name]), name


def array(update, lines=6, outputs=4, chip=None):
    chip = chip or xb.Chip(Device(0.0, 1e-4, update=update), xb.Differential(w_max=1.0))
    found = xb.matrix(torch.zeros(outputs, lines, dtype=F64), chip, seed=0)
    return found


@pytest.mark.parametrize(
    "scheme",
    [xb.Expected(), xb.Aggregated(3), xb.ExactBits(3), xb.Sequential(xb.ExactBits(3))],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("rate", [0.002, 0.2, 2.0])
def test_lines_are_read_after_their_vector(scheme, rate):
    """On equal steps an array adds: what a line shows is what vectors so far have asked for."""
    n = 400
    draw = torch.Generator().manual_seed(1)
    x, d = torch.rand(n, 6, generator=draw).double(), torch.rand(n, 4, generator=draw).double()
    vector, line = torch.tensor([399, 49, 199]), torch.tensor([4, 0, 3])
    law = ConstantStep(1e-9)
    found = array(law)
    one = float(found.granularity)
    # within trains: bl 3 takes rates up to 3 steps
    got = found.update(x, d, rate * one, scheme, reads=(vector, line))
    want = torch.stack([-(x[: v + 1, j] @ d[: v + 1]) for v, j in zip(vector, line, strict=True)])
    spread = 5 * torch.sqrt(want.abs() * rate) * one + 1e-9
    spread = 1e-9 if isinstance(scheme, xb.Expected) else spread
    assert bool(((got - want * rate * one).abs() <= spread).all())
    after = -(x.mT @ d) * rate * one
    spread = 1e-9 if isinstance(scheme, xb.Expected) else 5 * (after.abs() * one).sqrt() + 1e-9
    assert bool(((found.weight - after).abs() <= spread).all())


def test_reads_are_of_the_same_bits():
    """Both halves together are what one update of the same seed gives."""
    x, d = torch.randn(50, 6).double(), torch.randn(50, 4).double()
    reads = (torch.tensor([10, 30]), torch.tensor([5, 1]))
    ends = []
    for asked in (None, reads):
        found = array(ConstantStep(1e-9))
        found.update(x, d, 1e-5, xb.ExactBits(7), reads=asked)
        ends.append(found.weight)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


def test_arrays_with_write_wires_are_read_in_turn():
    """Pulses that do a part of their work: the same answer, vector by vector."""
    cell = Device(1e-6, 5e-5, update=SoftBounds(0.5e-6))
    write = xb.ParallelWrite(1.0, 0.1)
    wires = xb.Wires(1e-6, 1e-6)  # [ohm], which take next to nothing
    chips = [xb.Chip(cell, reference()), xb.Chip(cell, reference(), wires=wires, write=write)]
    x, d = torch.ones(9, 6).double(), torch.ones(9, 4).double()
    reads = (torch.tensor([2, 7]), torch.tensor([1, 0]))
    got = []
    for chip in chips:
        found = xb.matrix(torch.zeros(4, 6, dtype=F64), chip, seed=0)
        scheme = xb.Sequential(xb.ExactBits(1))
        got.append((found.update(x, d, 1.0, scheme, reads=reads), found.weight))
    torch.testing.assert_close(got[0], got[1], rtol=1e-4, atol=1e-7)


def test_what_cannot_be_read_between_is_refused():
    found = array(ConstantStep(1e-9))
    x, d = torch.ones(3, 6).double(), torch.ones(3, 4).double()
    reads = (torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(TypeError, match="cannot be read between its vectors"):
        found.update(x, d, 1.0, xb.Sequential(xb.Expected()), reads=reads)
    with pytest.raises(ValueError, match="vectors taken apart"):
        found.update(x, d, 1.0, xb.Expected(), op=Matmul(), reads=reads)


def test_looking_at_a_model_does_not_change_its_training():
    """Transfer reads draw their noise from the stream of training."""
    noisy = Device(0.0, 1e-4, update=SoftBounds(1e-6), read=GaussianRead(0.05))
    chip, ends = xb.Chip(noisy, reference()), []
    for looks in (0, 5):
        model = layer(xb.TikiTaka(transfer_lr=30.0), chip, 5, 4)
        optimiser = xb.InSituSGD(model, 0.1)
        x, d = torch.ones(8, 5).double(), torch.ones(8, 4).double()
        for _ in range(5):
            given(model, optimiser, x, d)
            with torch.no_grad():
                for _ in range(looks):
                    model(x)
        ends.append(model.weight.detach().clone())
    assert torch.equal(*ends) and bool(ends[0].any())


def test_running_maxima_are_those_of_the_loop():
    """m starts at the first maximum that is not zero; zeros are skipped."""
    values = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)).double()
    values[0, :3] = values[:, 20] = 0
    for start in (torch.zeros(2).double(), torch.tensor([0.0, 0.7]).double()):
        want, m = torch.zeros_like(values), start.clone()
        for t, v in enumerate(values.T):
            for k in range(2):
                if v[k] > 0:
                    m[k] = v[k] if m[k] == 0 else 0.99 * m[k] + 0.01 * v[k]
            want[:, t] = m
        torch.testing.assert_close(running(values, start, 0.99), want, rtol=1e-13, atol=0)


def test_choppers_take_no_bits_of_the_pulses():
    """A rule whose choppers never flip sees the bits of one without."""
    ends = []
    for chop in (0.0, 1e-12):
        model = layer(xb.TikiTaka(chop=chop, transfer_lr=30.0), SLOW, 5, 4)
        optimiser = xb.InSituSGD(model, 0.1)
        for k in range(5):
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(k)).double()
            given(model, optimiser, x, x[:, :4].cos())
        ends.append(model.weight.detach().clone())
    assert torch.equal(*ends) and bool(ends[0].any())


def test_pulses_to_single_lines():
    """Whole counts to lines: others stay, groups take their own."""
    found = array(ConstantStep(1e-8), 6, 4)
    one = float(found.granularity)
    n = torch.tensor([[1.0, 0, -2, 0], [0, 3, 0, 0]]).double()
    found.pulse(signed(n), torch.tensor([4, 1]))
    want = torch.zeros(6, 4).double()
    want[4], want[1] = n[0], n[1]
    torch.testing.assert_close(found.weight, want * one, rtol=0, atol=1e-12)
    grouped = xb.convert(
        torch.nn.Conv1d(4, 6, 3, groups=2, bias=False).double(),
        xb.Chip(),
        xb.InSitu(),
        seed=0,
    )
    held = grouped.analog["weight"].matrix
    before = held.weight.clone()
    counts = torch.arange(12.0).view(2, 2, 3).double()
    held.pulse(signed(counts), torch.tensor([5, 0]))
    moved = (held.weight - before) / held.granularity
    for q, line in enumerate((5, 0)):
        torch.testing.assert_close(moved[:, line], counts[q])
    assert int((moved.abs() > 1e-6).sum()) == 11


def test_gamma_and_choppers_are_refused_together():
    with pytest.raises(ValueError, match="give one of them"):
        replace(xb.ChoppedTikiTaka(), gamma=0.5)
    with pytest.raises(TypeError, match="has no `bl`"):
        xb.ChoppedTikiTaka(scheme=xb.Expected())
