"""Whoever writes a weight writes its cells: in torch's every way, once, and seen by every read."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from _in_situ import MLP, consistent, plain
from torch import nn

import crossbar as xb
from devices import Device, GaussianWrite, PowerLawDrift
from devices.update.stepped import ConstantStep

MODES = [xb.InSitu(xb.Expected()), xb.Programmed()]
IDS = ["InSitu", "Programmed"]
NOISY = Device(0.0, 100e-6, update=ConstantStep(dg_min=0.1e-6), write=GaussianWrite(0.02))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def layer_of(mode, chip=None, bias=True):
    torch.manual_seed(2)
    return xb.convert(nn.Linear(4, 3, bias=bias).double(), chip or xb.Chip(), mode=mode, seed=0)


def read(layer):
    """The weight as reads see it, out × in."""
    eye = torch.eye(4, dtype=layer.weight.dtype)
    bias = 0 if layer.bias is None else plain(layer.bias)
    with torch.no_grad():
        return (layer(eye) - bias).T


def agrees(layer, tol=1e-12):
    """Reads, torch's Parameter, the cells and the digital copy are one weight; returned."""
    seen = read(layer)
    torch.testing.assert_close(seen, plain(layer.weight), rtol=0, atol=tol)
    consistent(layer)
    return plain(layer.weight)


# ---- torch's ways of writing ---------------------------------------------------------------------


def other(layer):
    """Smaller numbers of its shape."""
    return torch.rand(layer.weight.shape, dtype=layer.weight.dtype) * 0.4 - 0.2


def under_no_grad(write):
    def written(layer):
        with torch.no_grad():
            write(layer)

    return written


def digital_state(layer):
    torch.manual_seed(9)
    return nn.Linear(4, 3).double().state_dict()


def as_vector(layer):
    n = sum(p.numel() for p in layer.parameters())
    values = torch.rand(n, dtype=torch.float64) * 0.3
    nn.utils.vector_to_parameters(values, layer.parameters())


def at_a_row(layer):
    layer.weight[2] = 0


def at_an_entry(layer):
    layer.weight[1, 3] = 0.125


def masked(layer):
    layer.weight[layer.weight > 0.1] = 0.0625


def by_data(layer):
    layer.weight.data = other(layer)


def by_data_item(layer):
    layer.weight.data[0] = 0.25


def through_a_view(layer):
    layer.weight.T[1:3].mul_(0.5)


def through_a_kept_view(layer):
    row = layer.weight.detach()[1]
    layer(MLP[0][:, :4].to(layer.weight.dtype))
    row.zero_()


def iadd(layer):
    layer.weight += 0.01


def swapped(layer):
    layer.weight = nn.Parameter(other(layer))


def assigned(layer):
    layer.load_state_dict({k: v.clone() for k, v in digital_state(layer).items()}, assign=True)


def in_place_optimiser(layer):
    """Somebody's own update rule."""
    for p in layer.parameters():
        p.sub_(0.1 * torch.ones_like(p))


def swapped_tensors(layer):
    torch.utils.swap_tensors(layer.weight, nn.Parameter(other(layer)))


WRITES = {
    "init.kaiming_uniform_": lambda m: nn.init.kaiming_uniform_(m.weight),
    "init.zeros_": lambda m: nn.init.zeros_(m.weight),
    "init.orthogonal_": lambda m: nn.init.orthogonal_(m.weight),
    "init.constant_": lambda m: nn.init.constant_(m.weight, 0.3),
    "reset_parameters": lambda m: m.reset_parameters(),
    "apply(init)": lambda m: m.apply(lambda n: hasattr(n, "weight") and nn.init.normal_(n.weight)),
    "copy_": under_no_grad(lambda m: m.weight.copy_(other(m))),
    "add_": under_no_grad(lambda m: m.weight.add_(0.05)),
    "mul_": under_no_grad(lambda m: m.weight.mul_(-0.5)),
    "clamp_": under_no_grad(lambda m: m.weight.clamp_(-0.1, 0.1)),
    "zero_": under_no_grad(lambda m: m.weight.zero_()),
    "+=": under_no_grad(iadd),
    "w[2] = 0": under_no_grad(at_a_row),
    "w[1, 3] = a": under_no_grad(at_an_entry),
    "w[mask] = a": under_no_grad(masked),
    "w.T[1:3].mul_": under_no_grad(through_a_view),
    "a kept row": under_no_grad(through_a_kept_view),
    "data.copy_": lambda m: m.weight.data.copy_(other(m)),
    "data.mul_": lambda m: m.weight.data.mul_(0.5),
    "data[0] = a": by_data_item,
    "data = t": by_data,
    "detach().copy_": lambda m: m.weight.detach().copy_(other(m)),
    "set_": under_no_grad(lambda m: m.weight.set_(other(m))),
    "vector_to_parameters": as_vector,
    "_foreach_mul_": under_no_grad(lambda m: torch._foreach_mul_(list(m.parameters()), 0.5)),
    "_foreach_copy_": under_no_grad(lambda m: torch._foreach_copy_([m.weight], [other(m)])),
    "_foreach_lerp_": under_no_grad(lambda m: torch._foreach_lerp_([m.weight], [other(m)], 0.3)),
    "out=": under_no_grad(lambda m: torch.mul(m.weight, 0.5, out=m.weight)),
    "out= of another": under_no_grad(lambda m: torch.add(other(m), other(m), out=m.weight)),
    "dispatch off": lambda m: unseen(m),
    "load_state_dict": lambda m: m.load_state_dict(digital_state(m), strict=True),
    "load_state_dict, assign": assigned,
    "a Parameter": swapped,
    "one's own rule": under_no_grad(in_place_optimiser),
    "spectral scaling": under_no_grad(
        lambda m: m.weight.div_(torch.linalg.matrix_norm(m.weight, 2))
    ),
    "masked_fill_": under_no_grad(lambda m: m.weight.masked_fill_(m.weight < 0, 0.0)),
    "normal_ of a generator": under_no_grad(
        lambda m: m.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    ),
}


def unseen(layer):
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        layer.weight.mul_(0.25)


def mirrored(layer, write):
    """What the same write makes of a digital layer of equal weights."""
    digital = xb.to_digital(layer)
    state = torch.get_rng_state()
    write(digital)
    torch.set_rng_state(state)
    write(layer)
    return digital


@pytest.mark.parametrize("mode", MODES, ids=IDS)
@pytest.mark.parametrize("name", WRITES, ids=str)
def test_a_write_reaches_the_cells(name, mode):
    layer = layer_of(mode)
    for _ in range(2):
        digital = mirrored(layer, WRITES[name])
        got = agrees(layer)
        torch.testing.assert_close(got, plain(digital.weight), rtol=0, atol=1e-12)
        torch.testing.assert_close(plain(layer.bias), plain(digital.bias), rtol=0, atol=0)
        assert layer.weight.requires_grad == (name in ("a Parameter",) or "InSitu" in repr(mode))


@pytest.mark.parametrize("mode", MODES, ids=IDS)
@pytest.mark.parametrize("name", WRITES, ids=str)
def test_the_error_of_a_write_happens_once_and_is_seen(name, mode):
    chip = xb.Chip(NOISY)
    layer = layer_of(mode, chip)
    agrees(layer)
    digital = mirrored(layer, WRITES[name])
    reached = agrees(layer)
    error = reached - plain(digital.weight)
    w_max = layer.analog["weight"].matrix.written.w_max
    assert 0 < error.abs().max() < 6 * 0.02 * 2 * w_max
    counters = layer.analog["weight"].matrix.streams.state.clone()
    for _ in range(3):  # reads, files, copies and a look at it write nothing more
        layer(MLP[0][:, :4])
        layer.state_dict()
        copy.deepcopy(layer)
        assert torch.equal(agrees(layer), reached)
    after = layer.analog["weight"].matrix.streams.state
    assert torch.equal(after[3], counters[3])  # the WRITE stream


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_values_that_it_holds_already_are_not_written_again(mode):
    layer = layer_of(mode, xb.Chip(NOISY))
    reached, streams = agrees(layer), layer.analog["weight"].matrix.streams
    count = streams.state.clone()
    with torch.no_grad():
        layer.weight.copy_(reached)
        layer.weight.mul_(1.0)
    layer.load_state_dict(layer.state_dict())
    layer.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(agrees(layer), reached) and torch.equal(count, streams.state)


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_a_plain_checkpoint_is_strict_and_written_once(mode):
    layer = layer_of(mode, xb.Chip(NOISY))
    wanted = nn.Linear(4, 3).double()
    report = layer.load_state_dict(wanted.state_dict(), strict=True)
    assert not report.missing_keys and not report.unexpected_keys
    error = agrees(layer) - plain(wanted.weight)
    assert error.abs().max() > 0
    spread = float(layer.analog["weight"].matrix.written.w_max) * 0.02 * 2**0.5
    assert 0.3 * spread < error.std() < 3 * spread
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({"bias": wanted.bias})
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(nn.Linear(4, 5).double().state_dict())
    agrees(layer)


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_cells_of_weights_that_did_not_change_are_left_alone(mode):
    layer = layer_of(mode, xb.Chip(NOISY))
    before = agrees(layer)
    with torch.no_grad():
        layer.weight[2] = 0.05
    after = agrees(layer)
    assert torch.equal(after[:2], before[:2]) and bool((after[2] != before[2]).all())
    with torch.no_grad():
        layer.weight.clamp_(-10, 0.1)
    clamped = agrees(layer)
    assert torch.equal(clamped[after <= 0.1], after[after <= 0.1])


KEPT = {
    "the Parameter": (lambda w: w, lambda x, w: nn.functional.linear(x, w)),
    "w.T": (lambda w: w.T, lambda x, w: x @ w),
    "a row": (lambda w: w[1], lambda x, w: x @ w),
    "rows": (lambda w: w[1:], lambda x, w: nn.functional.linear(x, w)),
    "detached": (lambda w: w.detach(), lambda x, w: nn.functional.linear(x, w)),
}


@pytest.mark.parametrize("mode", MODES, ids=IDS)
@pytest.mark.parametrize("kept", KEPT, ids=str)
@pytest.mark.parametrize("seen", [True, False], ids=["dispatched", "unseen"])
def test_what_is_kept_from_before_a_write_reads_what_was_written(kept, mode, seen):
    view, use = KEPT[kept]
    layer = layer_of(mode)
    w = layer.weight
    with torch.no_grad():
        part = view(w)
        use(torch.eye(4).double(), part)
        if seen:
            w.mul_(0.5)
        else:
            with torch._C.DisableTorchFunctionSubclass():
                w.mul_(0.5)
        got = use(torch.eye(4).double(), part)
        want = use(torch.eye(4).double(), view(plain(w)))
    torch.testing.assert_close(plain(got), want, rtol=0, atol=1e-12)
    consistent(layer)


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_what_cannot_be_written_is_refused_and_leaves_the_cells(mode):
    layer = layer_of(mode)
    before = agrees(layer)
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            layer.weight[0, 0] = value
        with pytest.raises(ValueError, match="finite"):
            layer(MLP[0][:, :4])
        with pytest.raises(ValueError, match="finite"):
            xb.program(layer)
        with pytest.raises(ValueError, match="finite"):
            layer.load_state_dict({"weight": plain(layer.weight), "bias": plain(layer.bias)})
        with torch.no_grad():
            layer.weight.copy_(before)
        assert torch.equal(agrees(layer), before)
    layer.weight = nn.Parameter(torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="cannot become one of shape"):
        layer(MLP[0][:, :4])


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_larger_weights_widen_the_scale_and_a_fixed_one_clips(mode):
    layer = layer_of(mode)
    with torch.no_grad():
        layer.weight.mul_(100)
    wanted = plain(layer.weight)
    torch.testing.assert_close(agrees(layer, 1e-10), wanted, rtol=1e-12, atol=1e-12)
    chip = xb.Chip(mapping=xb.Differential(w_max=0.25))
    layer = layer_of(mode, chip)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    got = agrees(layer)
    torch.testing.assert_close(got, torch.full_like(got, 0.25))


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_fusing_with_a_norm_writes_the_kernel(mode):
    torch.manual_seed(3)
    norm, digital = nn.BatchNorm2d(3).double(), nn.Conv2d(2, 3, 3).double()
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 2)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    conv = xb.convert(digital, xb.Chip(), mode=mode, seed=0)
    want = norm.eval()(digital.eval()(x))
    fused = nn.utils.fuse_conv_bn_eval(conv.eval(), norm)
    torch.testing.assert_close(plain(fused(x)), plain(want), rtol=0, atol=1e-10)
    torch.testing.assert_close(plain(conv(x)), plain(digital(x)), rtol=0, atol=1e-10)
    consistent(fused)
    linear, flat = layer_of(mode), nn.BatchNorm1d(3).double().eval()
    flat.running_mean.data.normal_()
    y = torch.randn(5, 4, dtype=torch.float64)
    want = flat(linear.eval()(y))
    both = nn.utils.fuse_linear_bn_eval(linear, flat)
    torch.testing.assert_close(plain(both(y)), plain(want), rtol=0, atol=1e-10)


def test_programming_what_is_not_finite_leaves_the_model_as_it_was():
    layer = layer_of(xb.HardwareAware())
    layer.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        xb.program(layer)
    assert isinstance(layer.analog["weight"].mode, xb.HardwareAware)
    layer.weight.data[0, 0] = 0.0
    agrees(xb.program(layer))


def test_every_module_may_be_asked_for_its_weight():
    """Initialisers go over all modules of a model, arrays included."""

    def init(module):
        if getattr(module, "weight", None) is not None and module.weight.dim() > 1:
            nn.init.xavier_uniform_(module.weight)

    for mode in (*MODES, xb.HardwareAware()):
        layer = layer_of(mode)
        before = plain(layer.weight)
        layer.apply(init)
        got = plain(layer.weight) if mode == xb.HardwareAware() else agrees(layer)
        assert not torch.equal(got, before)
        assert all(hasattr(m, "weight") in (True, False) for m in layer.modules())


def test_hardware_aware_weights_are_written_as_torchs():
    for name, write in WRITES.items():
        layer = layer_of(xb.HardwareAware())
        digital = mirrored(layer, write)
        assert torch.equal(plain(layer.weight), plain(digital.weight)), name
        torch.testing.assert_close(read(layer), plain(digital.weight), rtol=0, atol=1e-12)


def test_a_write_between_forward_and_backward_is_refused_as_torch_does():
    layer = layer_of(MODES[0])
    y = layer(MLP[0][:, :4].requires_grad_()).square().sum()
    with torch.no_grad():
        layer.weight.mul_(0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


# ---- stale reads ---------------------------------------------------------------------------------


class Play:
    """A layer on noiseless drifting cells, and verbs that come in any order."""

    def __init__(self, rng):
        self.rng = rng
        law = ConstantStep(dg_min=0.1e-6)
        device = Device(0.0, 100e-6, update=law, retention=PowerLawDrift(0.05))
        self.chip = xb.Chip(device)
        torch.manual_seed(0)
        self.layer = xb.convert(nn.Linear(4, 3), self.chip, mode=MODES[0], seed=0)
        self.saved = [copy.deepcopy(self.layer.state_dict())]

    def x(self):
        return torch.rand(5, 4, dtype=self.layer.weight.dtype)

    def program(self):
        xb.program(self.layer)

    def advance(self):
        xb.advance(self.layer, self.rng.choice([1.0, 1e3]))

    def step(self):
        self.layer.zero_grad()
        self.layer(self.x()).square().mean().backward()
        xb.InSituSGD(self.layer, 0.05).step()

    def load_state_dict(self):
        self.layer.load_state_dict(self.rng.choice(self.saved))
        self.saved = self.saved[-2:] + [copy.deepcopy(self.layer.state_dict())]

    def load_plain(self):
        self.layer.load_state_dict(nn.Linear(4, 3).state_dict())

    def write(self):
        name = self.rng.choice(sorted(set(WRITES) - {"set_", "data = t"}))
        WRITES[name](self.layer)

    def reseed(self):
        xb.reseed(self.layer, self.rng.randrange(100))

    def dtype(self):
        self.layer.double() if self.rng.random() < 0.5 else self.layer.float()

    def deepcopy(self):
        self.layer = copy.deepcopy(self.layer)

    def convert(self):
        self.layer = xb.convert(self.layer, self.chip)

    def look(self):
        with torch.no_grad():
            self.layer(self.x())


VERBS = [n for n, f in vars(Play).items() if callable(f) and n not in ("__init__", "x")]


def test_no_read_is_stale():
    """Every pair of verbs, and 1000 at random: reads are what torch sees and the cells hold."""
    rng = random.Random(0)
    play, count = Play(rng), 0
    pairs = [(a, b) for a in VERBS for b in VERBS]
    order = [verb for pair in pairs for verb in pair]
    order += rng.choices(VERBS, k=1000 - len(order))
    for verb in order:
        getattr(play, verb)()
        tol = 1e-6 * max(1.0, float(play.layer.analog["weight"].matrix.written.w_max))
        torch.testing.assert_close(
            read(play.layer),
            plain(play.layer.weight),
            rtol=0,
            atol=tol,
            msg=lambda m, v=verb: v + m,
        )
        held = play.layer.analog["weight"].held.mT
        torch.testing.assert_close(held.to(play.layer.weight.dtype), plain(play.layer.weight))
        count += 1
    assert count >= 1000
