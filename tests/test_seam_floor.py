"""What the floor under torch's layers promises: no host waits, one graph, probes, identities."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import scipy.stats
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import crossbar as xb
from devices import ConstantStep, Device, GaussianRead, GaussianWrite, ProportionalRead, SoftBounds
from devices.draw import seeded

NOISY = Device(1e-6, 50e-6, update=SoftBounds(1e-7, sigma_c2c=0.1), read=ProportionalRead(0.01))
PORT = xb.Periphery(xb.DAC(), xb.ADC())
MODES = [xb.HardwareAware(), xb.Programmed(), xb.InSitu(xb.Expected())]
# torch 2.13's tracer instantiates the autograd functions it inlines
TRACER = "ignore:.*should not be instantiated:DeprecationWarning"
LEAF = "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
HOST = ("_local_scalar_dense", "nonzero", "unique", "bincount", "is_nonzero", "aten.equal")


class Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in HOST):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 5), nn.Tanh(), nn.Linear(5, 3)
    )


def kind(mode):
    return type(mode).__name__


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_forward_and_backward_never_wait_for_the_host(mode):
    port = xb.Periphery(xb.DAC(), xb.ADC(range=xb.Calibrated()))
    chip = xb.Chip(NOISY, forward=port, tile=(8, 8))
    model, x = xb.convert(network(), chip, mode=mode, seed=0), torch.randn(2, 2, 6, 6)
    xb.calibrate(model, [x])
    x.requires_grad_()
    model(x)  # whether a range is calibrated is asked once
    with Waits() as waits:
        y = model(x).square().sum()
        y.backward()
    assert waits.found == []
    with Waits() as waits:  # the count counts
        y.item()
    assert waits.found


@pytest.mark.filterwarnings(TRACER, LEAF)
@pytest.mark.parametrize("chip", [xb.Chip(), xb.Chip(NOISY, forward=PORT)], ids=["ideal", "noisy"])
@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_one_graph_that_equals_eager(chip, mode):
    """20 calls, trained in between, a write by hand at the end: one graph, the same bits."""
    _compiled(chip, mode, "aot_eager", 0.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.slow
@pytest.mark.filterwarnings(TRACER, LEAF)
@pytest.mark.parametrize("chip", [xb.Chip(), xb.Chip(NOISY, forward=PORT)], ids=["ideal", "noisy"])
@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_one_graph_by_inductor(chip, mode):
    _compiled(chip, mode, "inductor", 1e-5)


def _compiled(chip, mode, backend, limit):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    one, two = (xb.convert(network(), chip, mode=mode, seed=1) for _ in range(2))
    compiled = torch.compile(one, backend=backend, fullgraph=True)
    pair = [(compiled, one), (two, two)]
    optimisers = []
    if not isinstance(mode, xb.Programmed):
        kinds = xb.InSituSGD if isinstance(mode, xb.InSitu) else None
        for _, m in pair:
            made = kinds(m, 0.02) if kinds else torch.optim.SGD(m.parameters(), 0.02)
            optimisers.append(made)
    torch.manual_seed(7)
    for _ in range(20):
        x = torch.randn(4, 2, 6, 6)
        outs = [run(x) for run, _ in pair]
        assert float((outs[0] - outs[1]).detach().abs().max()) <= limit
        for optimiser, y in zip(optimisers, outs, strict=False):
            optimiser.zero_grad()
            y.square().mean().backward()
            optimiser.step()
    with torch.no_grad():
        for _, m in pair:
            m[2].weight.mul_(0.5)
    outs = [run(x) for run, _ in pair]
    assert float((outs[0] - outs[1]).detach().abs().max()) <= limit
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


class Across(nn.Module):
    """A weight used along, across and, `parts`, in part."""

    def __init__(self, parts):
        super().__init__()
        self.W, self.parts = nn.Parameter(torch.randn(6, 6) / 3), parts

    def forward(self, x):
        h = torch.tanh(x @ self.W)
        return nn.functional.linear(h, self.W[1:4] if self.parts else self.W) * 2


@pytest.mark.filterwarnings(TRACER, LEAF)
@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.parametrize("backend", ["aot_eager", "eager"])
def test_views_are_read_once_in_compiled_regions(mode, backend):
    """Across in one graph; a part breaks it and is read as in eager, under a gain that tells."""
    torch.manual_seed(0)
    for parts in (False, True):
        torch._dynamo.reset()
        one = xb.convert(Across(parts), xb.Chip(forward=PORT), mode=mode, seed=0)
        one.analog["W"].matrix.column_gain = torch.full((6,), 1.3)
        two, x = copy.deepcopy(one), torch.randn(4, 6)
        run = torch.compile(one, backend=backend, fullgraph=not parts and backend == "aot_eager")
        assert torch.equal(run(x), two(x))
        if not isinstance(mode, xb.Programmed):
            run(x).sum().backward()
            two(x).sum().backward()
            assert torch.equal(one.W.grad, two.W.grad)


@pytest.mark.filterwarnings(TRACER, LEAF)
def test_cells_drawn_in_a_compiled_region_are_new_at_every_call():
    torch._dynamo.reset()
    lin = nn.Linear(6, 5)
    chip = xb.Chip(Device(1e-6, 50e-6, write=GaussianWrite(0.02)))
    model = torch.compile(xb.convert(lin, chip, seed=1), backend="aot_eager", fullgraph=True)
    eager, x = xb.convert(lin, chip, seed=1), torch.randn(3, 6)
    first, second = model(x), model(x)
    assert not torch.equal(first, second)
    assert torch.equal(first, eager(x)) and torch.equal(second, eager(x))


# ---- probes ----------------------------------------------------------------------------------


class Ledger(xb.Probe):
    def __init__(self):
        self.events = []

    def encoded(self, matrix, port, x, scale, digits):
        self.events.append("encoded")

    def converted(self, matrix, port, tile, column, i, full):
        self.events.append("converted")
        self.clipped = float((i.abs() > full).double().mean()) if full is not None else 0.0

    def pulsed(self, matrix, given):
        self.events.append("pulsed")
        self.counts = sum(float((p.up + p.down).sum()) for p in given if p is not None)

    def programmed(self, matrix, target):
        self.events.append("programmed")
        self.target = target

    def stepped(self, matrix, lr):
        self.events.append("stepped")

    def finished(self, matrix, op, x, y):
        self.events.append("finished")


def test_probes_are_told_reads_conversions_clipping_and_pulses():
    torch.manual_seed(0)
    chip = xb.Chip(
        Device(1e-6, 50e-6, update=ConstantStep(1e-8)),
        forward=xb.Periphery(xb.DAC(), xb.ADC(range=xb.Fixed(1e-9))),
        backward=xb.Periphery(),
        tile=(4, None or 8),
    )
    model = xb.convert(nn.Linear(8, 3), chip, mode=xb.InSitu(xb.ExactBits(31)), seed=0)
    optimiser, ledger, x = xb.InSituSGD(model, 0.1), Ledger(), torch.randn(5, 8)
    with xb.observe(model, ledger):
        model(x).sum().backward()
        optimiser.step()
        xb.program(model)
    # x needs no gradient: one read of two tiles, one update, one write
    want = ["encoded", "converted", "converted", "finished", "pulsed", "stepped", "programmed"]
    assert ledger.events == want
    assert ledger.clipped > 0.5  # the range is a nanoampere
    assert ledger.counts > 0
    assert ledger.target.shape == (2, 8, 3)
    model(x)
    assert ledger.events == want  # nothing is told when nobody observes
    with pytest.raises(TypeError, match="Probe"), xb.observe(model, object()):
        pass


def test_a_probe_changes_no_number():
    lin, x = nn.Linear(8, 3), torch.randn(5, 8)
    for mode in MODES:
        model = xb.convert(lin, xb.Chip(NOISY, forward=PORT), mode=mode, seed=0)
        twin = copy.deepcopy(model)
        with xb.observe(model, xb.Probe()):
            seen = model(x)
        assert torch.equal(seen, twin(x))


# ---- converters of one's own -----------------------------------------------------------------


class Gains(NamedTuple):
    gain: torch.Tensor


@dataclass(frozen=True)
class Mismatched(xb.Converter):
    """A converter whose gain differs from column to column."""

    sigma: float = 0.1

    def fabricate(self, shape, generator):
        return Gains(1 + self.sigma * torch.randn(shape, generator=generator))

    def convert(self, i, full, leaf):
        return (i * leaf.gain).clamp(-full, full)


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_a_converter_of_ones_own_has_a_leaf_per_column(mode):
    torch.manual_seed(0)
    port = xb.Periphery(adc=Mismatched(range=xb.Fixed(1.0)))
    chip = xb.Chip(forward=port, backward=xb.Periphery(), tile=(4, 8))
    lin, x = nn.Linear(8, 3, bias=False).double(), torch.randn(5, 8).double()
    model = xb.convert(lin, chip, mode=mode, seed=0)
    gain = model.analog["weight"].matrix.forward_port.adc_gain.double()  # (tiles, 1, columns)
    assert gain.shape == (2, 1, 3) and float(gain.std()) > 0.02
    w = lin.weight.detach()
    want = x[:, :4] @ w[:, :4].T * gain[0, 0] + x[:, 4:] @ w[:, 4:].T * gain[1, 0]
    assert float((model(x) - want).detach().abs().max()) < 1e-6
    # the chip's own: saved, and the same for the same seed
    other = xb.convert(nn.Linear(8, 3, bias=False).double(), chip, mode=mode, seed=1)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_a_convolution_has_a_converter_per_channel_of_a_group():
    torch.manual_seed(0)
    port = xb.Periphery(adc=Mismatched(range=xb.Fixed(1.0)))
    conv, x = nn.Conv2d(4, 6, 3, groups=2, bias=False).double(), torch.randn(2, 4, 5, 5).double()
    model = xb.convert(conv, xb.Chip(forward=port, backward=xb.Periphery()), seed=0)
    gain = model.analog["weight"].matrix.forward_port.adc_gain[0, 0].double()  # (groups, columns)
    want = conv(x) * gain.reshape(1, 6, 1, 1)
    assert float((model(x) - want).detach().abs().max()) < 1e-6


# ---- hardware-aware and programmed -----------------------------------------------------------


@pytest.mark.parametrize("update", [None, ConstantStep(1e-9)], ids=["write-only", "trainable"])
def test_calibrated_converters_see_the_same_before_and_after_program(update):
    torch.manual_seed(0)
    port = xb.Periphery(xb.DAC(8, range=xb.Calibrated()), xb.ADC(8, range=xb.Calibrated(0.999)))
    chip = xb.Chip(Device(1e-6, 50e-6, update=update), forward=port, tile=(20, 8))
    lin, x = nn.Linear(64, 16).double(), torch.randn(300, 64).double()
    model = xb.convert(lin, chip, seed=0)
    xb.calibrate(model, [x])
    with torch.no_grad():
        before = model(x)
        after = xb.program(model)(x)
    off = (before - after).abs() > 1e-12 * before.abs().max()
    assert float(off.double().mean()) < 1e-3  # codes within rounding of a tie


def test_headroom_is_one_argument_of_rehearsal_and_programming():
    device = Device(1e-6, 50e-6, update=ConstantStep(1e-9), read=GaussianRead(0.01))
    lin = nn.Linear(64, 8, bias=False)
    x = torch.randn(64).expand(20000, 64)
    for headroom in (1.0, 3.0):
        mode = xb.HardwareAware(headroom=headroom)
        model = xb.convert(lin, xb.Chip(device), mode=mode, seed=0)
        with torch.no_grad():
            trained, written = model(x).std(0), xb.program(model)(x).std(0)
        want = 2**0.5 * 0.01 * headroom * float(lin.weight.detach().abs().max() * x[0].norm())
        for spread in (trained, written):
            assert float((spread / want - 1).abs().max()) < 5 / (2 * 20000) ** 0.5


# ---- identities and seeds --------------------------------------------------------------------


@pytest.mark.parametrize(
    "what, other",
    [
        ("window", {"device": Device(1e-6, 26e-6, update=SoftBounds(1e-8))}),
        ("update", {"device": Device(1e-6, 51e-6, update=SoftBounds(2e-8))}),
        ("update", {"device": Device(1e-6, 51e-6, update=ConstantStep(1e-8))}),
        ("mapping", {"mapping": xb.Differential(xb.Reference())}),
        ("mapping", {"mapping": xb.SingleCell()}),
    ],
)
def test_another_chips_checkpoint_is_refused_by_what_differs(what, other):
    device = Device(1e-6, 51e-6, update=SoftBounds(1e-8))
    lin, mode = nn.Linear(6, 4), xb.InSitu()
    source = xb.convert(lin, xb.Chip(device), mode=mode, seed=1)
    model = xb.convert(lin, xb.Chip(**{"device": device, **other}), mode=mode, seed=1)
    with pytest.raises((RuntimeError, ValueError), match=f"another {what}"):
        model.load_state_dict(source.state_dict())
    # converters and tiles give the conductances no other meaning
    same = xb.convert(lin, xb.Chip(device, forward=PORT, tile=(3, 3)), mode=mode, seed=2)
    same.load_state_dict(source.state_dict())
    assert torch.equal(same.weight, source.weight)


def test_seeds_of_64_bits_reach_the_generator():
    cpu = torch.device("cpu")
    names = [f"{low + (high << 32)}/1/0/0" for low in (5, 6) for high in (0, 1, 7)]
    drawn = [torch.randn(20000, generator=seeded(name, cpu)) for name in names]
    for k, a in enumerate(drawn):
        assert scipy.stats.kstest(a.double().numpy(), "norm").pvalue > 1e-4
        for b in drawn[:k]:
            assert abs(float((a * b).mean())) < 5 / 20000**0.5
    assert torch.equal(drawn[0], torch.randn(20000, generator=seeded(names[0], cpu)))


def test_reseeding_is_converting_with_that_seed():
    chip = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(1e-7, sigma_d2d=0.3)))
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    moved = xb.reseed(xb.convert(net, chip, mode=xb.InSitu(), seed=3), 7)
    made = xb.convert(net, chip, mode=xb.InSitu(), seed=7)
    for (name, a), b in zip(moved.state_dict().items(), made.state_dict().values(), strict=True):
        if "g" in name.split(".")[-1] or "update" in name:
            assert torch.allclose(a.double(), b.double(), atol=1e-9), name


def test_matrix_is_read_both_ways_with_gradients_straight_through():
    torch.manual_seed(0)
    W = torch.randn(5, 7).double()
    port = xb.Periphery(xb.DAC(10), xb.ADC(12, range=xb.PerVector()))
    A = xb.matrix(W, xb.Chip(Device(1e-6, 50e-6), forward=port, backward=port), seed=0)
    assert isinstance(A, xb.Matrix) and A.shape == (5, 7) and A.T.shape == (7, 5) and A.T.T is A
    x, y = torch.randn(7, 3).double().requires_grad_(), torch.randn(5).double().requires_grad_()
    d, e = torch.randn(5, 3).double(), torch.randn(7).double()
    forward, back = A @ x, A.T @ y
    assert float((forward - W @ x).detach().abs().max()) < 0.02
    assert float((back - W.T @ y).detach().abs().max()) < 0.02
    (forward * d).sum().backward()
    (back * e).sum().backward()
    assert float((x.grad - W.T @ d).abs().max()) < 0.05
    assert float((y.grad - W @ e).abs().max()) < 0.05
    assert float((A.read_column(2) - W[2]).abs().max()) < 0.02
    with pytest.raises(ValueError, match="x must be"):
        A @ torch.randn(5)


def test_verbs_of_a_matrix():
    W = torch.zeros(3, 4)
    device = Device(1e-6, 51e-6, update=SoftBounds(1e-6, up_down=0.3))
    A = xb.matrix(W, xb.Chip(device, mapping=xb.Differential(xb.Reference(), w_max=1.0)), seed=0)
    step = float(A.granularity)
    assert step == pytest.approx(1e-6 / 50e-6 * 2)
    A.update(torch.ones(1, 4), -torch.ones(1, 3), step, xb.Expected())  # one pulse up each
    assert torch.allclose(A.weight, torch.full((4, 3), step * 1.15), rtol=1e-3)
    A.zero(400)
    # up and down steps are equal at the symmetry point: 1.15 (1 − w) = 0.85 (1 + w)
    assert float((A.weight - 0.15).abs().max()) < 1.5 * step
    A.program(torch.full((4, 3), 0.4))
    assert torch.allclose(A.weight, torch.full((4, 3), 0.4), atol=1e-6)
    empty = xb.Matrix(xb.Chip(device), A.form, (4, 3), 0)
    with pytest.raises(TypeError, match="program"):
        empty.mv(torch.ones(4))
