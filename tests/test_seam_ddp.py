"""Data-parallel training on two gloo ranks: one process with both batches is the judge."""

from __future__ import annotations

import copy
import os
import socket
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from _in_situ import LR, SEEN, Watched, plain
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds

STEPS = 3
NOISY = xb.Chip(
    Device(1e-6, 50e-6, SoftBounds(0.3e-6, sigma_c2c=0.3, sigma_d2d=0.3), GaussianRead(0.01))
)


class Net(nn.Module):
    """A convolution, a weight read twice and in parts, a tie, a frozen layer, a norm's buffers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 2)
        self.norm = nn.BatchNorm1d(3, track_running_stats=True)
        self.body = nn.Linear(6, 6)
        self.more = nn.Linear(6, 6, bias=False)
        self.fixed = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)
        self.more.weight = self.body.weight
        self.fixed.requires_grad_(False)

    def forward(self, x, again=False):
        h = self.norm(self.conv(x).tanh()).flatten(1)
        h = self.fixed(self.more(self.body(h).tanh()).tanh())
        h = h + nn.functional.linear(h, self.body.weight.T)
        return self.head(self.body(h) if again else h)


def net():
    torch.manual_seed(4)
    return Net().double().eval()  # the norm's buffers do not move: ranks see other batches


def batch(step, rank=None):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    return x if rank is None else x[rank::2]


def loss_of(y):
    return y.square().sum(1).mean()


def clip(model):
    nn.utils.clip_grad_norm_(model.parameters(), 0.05)


def train(model, forward, optimiser, rank=None, clipping=False, parts=False, uneven=False):
    """`forward` is the wrapper where there is one; `model` what it wraps."""
    for step in range(STEPS):
        optimiser.zero_grad()
        x = batch(step, rank)
        if parts:  # accumulate: all but the last without communication
            with forward.no_sync() if forward is not model else torch.enable_grad():
                (loss_of(forward(x)) / 2).backward()
            (loss_of(forward(x + 1)) / 2).backward()
        elif uneven:  # ranks read in other ways, batches of other sizes
            ranks = [(batch(step, 0), True), (batch(step, 1)[:1], False)]
            for x, again in ranks if rank is None else ranks[rank : rank + 1]:
                loss = loss_of(forward(x, again))
                (loss / 2 if rank is None else loss).backward()
        else:
            loss_of(forward(x)).backward()
        if clipping:
            clip(model)
        optimiser.step()
    return model


CASES = {
    # name: mode, chip, optimiser of (wrapper, module), train's arguments, DDP's arguments
    "wrapper": ("exact", "wrapper", {}, {"broadcast_buffers": False}),
    "module": ("exact", "module", {}, {"broadcast_buffers": False}),
    "wrapper, broadcast": ("exact", "wrapper", {}, {"broadcast_buffers": True}),
    "module, broadcast": ("exact", "module", {}, {"broadcast_buffers": True}),
    "wrapper, clipped": ("exact", "wrapper", {"clipping": True}, {}),
    "module, clipped": ("exact", "module", {"clipping": True}, {}),
    "wrapper, no_sync": ("exact", "wrapper", {"parts": True}, {}),
    "module, no_sync": ("exact", "module", {"parts": True}, {}),
    "bucket views": ("exact", "wrapper", {}, {"gradient_as_bucket_view": True}),
    "static graph": ("exact", "wrapper", {}, {"static_graph": True}),
    "without gradients": ("bare", "wrapper", {}, {}),
    "uneven": ("exact", "wrapper", {"uneven": True}, {}),
    "uneven, module": ("exact", "module", {"uneven": True}, {}),
    "uneven, without gradients": ("bare", "wrapper", {"uneven": True}, {}),
    "gathered noise": ("noisy", "wrapper", {}, {}),
    "averaged noise": ("noisy", "module", {}, {"broadcast_buffers": True}),
    "hardware-aware": ("aware", "torch", {}, {}),
    "hardware-aware, clipped": ("aware", "torch", {"clipping": True}, {"broadcast_buffers": True}),
}
WAYS = {
    "exact": lambda: xb.convert(net(), xb.Chip(), mode=xb.InSitu(rule=Watched()), seed=0),
    "bare": lambda: xb.convert(
        net(), xb.Chip(), mode=xb.InSitu(rule=Watched(), gradient=False), seed=0
    ),
    "noisy": lambda: xb.convert(net(), NOISY, mode=xb.InSitu(xb.ExactBits()), seed=0),
    "aware": lambda: xb.convert(net(), xb.Chip(), seed=0),
}
MAKES = {
    "wrapper": lambda wrapper, module, rate: xb.InSituSGD(wrapper, rate),
    "module": lambda wrapper, module, rate: xb.InSituSGD(module, rate),
    "torch": lambda wrapper, module, rate: torch.optim.SGD(module.parameters(), rate),
}


def replica(rank, port, path):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {}
    for name, (way, optimiser, how, settings) in CASES.items():
        model = WAYS[way]()
        SEEN.clear()
        try:
            wrapper = DistributedDataParallel(model, **settings)
            rate = 3.0 if way == "noisy" else LR  # even the smallest weight is pulsed
            train(model, wrapper, MAKES[optimiser](wrapper, model, rate), rank, **how)
            state = {k: v.clone() for k, v in model.state_dict().items()}
            weights = {k: plain(p) for k, p in model.named_parameters()}
            found[name] = state, weights, sorted(set(SEEN)), plain(model(batch(0)))
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            found[name] = repr(error)  # told by the test of this case
        dist.barrier()
    torch.save(found, Path(path) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    path = tmp_path_factory.mktemp("ddp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(replica, args=(port, str(path)), nprocs=2)
    return [torch.load(path / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES, ids=str)
def test_two_ranks_are_one_process_with_both_batches(name, ranks):
    way, optimiser, how, settings = CASES[name]
    if name == "uneven, without gradients":
        assert all("they cannot stay one chip" in found[name] for found in ranks)
        return
    for found in ranks:
        assert not isinstance(found[name], str), found[name]
    (a, weights, seen, ya), (b, _, _, yb) = (found[name] for found in ranks)
    for key in a:
        assert torch.equal(a[key], b[key]), f"{key} of the two replicas"
    start = dict(net().named_parameters())
    moved = [k for k in weights if (weights[k] - start[k]).abs().max() > 1e-9]
    assert "body.weight" in moved and "conv.weight" in moved and "head.bias" in moved
    if way == "noisy":
        assert not torch.equal(ya, yb)  # one chip, and every rank's reads have noise of their own
        return
    assert "fixed.weight" not in moved
    torch.testing.assert_close(ya, yb, rtol=0, atol=0)
    if way == "exact":
        gathered = optimiser == "wrapper" and not how.get("uneven")
        assert seen == ["pulses"] if gathered else "numbers" in seen
    digital = net()
    train(digital, digital, torch.optim.SGD(digital.parameters(), LR), **how)
    for key, value in digital.named_parameters():
        torch.testing.assert_close(weights[key], plain(value), rtol=1e-9, atol=1e-9, msg=key)


def test_a_model_that_is_not_wrapped_needs_no_process_group():
    model = WAYS["exact"]()
    digital = net()
    SEEN.clear()
    train(model, model, xb.InSituSGD(model, LR))
    assert set(SEEN) == {"pulses"}
    train(digital, digital, torch.optim.SGD(digital.parameters(), LR))
    for (key, a), b in zip(model.named_parameters(), digital.parameters(), strict=True):
        torch.testing.assert_close(plain(a), plain(b), rtol=1e-9, atol=1e-9, msg=key)
    assert copy.deepcopy(model) is not model
