"""Layers behave as torch's own under torch's own machinery."""

from __future__ import annotations

import copy
import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.utils.checkpoint import checkpoint

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds

CELL = Device(
    1e-6, 50e-6, update=SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3), read=GaussianRead(0.01)
)
CHIP = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(), xb.ADC()), tile=(16, 16))
MODES = [xb.HardwareAware(), xb.InSitu(), xb.Programmed()]


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))


X = torch.randn(8, 20, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
def test_leading_dimensions_and_empty_batches(mode):
    model = xb.convert(network(), xb.Chip(), mode=mode, seed=0)
    assert model(X[:0]).shape == (0, 4)
    torch.testing.assert_close(model(X[0]), model(X)[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(X.view(2, 4, 20)), model(X).view(2, 4, 4))
    if not isinstance(mode, xb.Programmed):
        model(X[:0]).sum().backward()
    conv = xb.AnalogConv2d(2, 3, 3, mode=mode)
    image = torch.randn(2, 6, 6)
    torch.testing.assert_close(conv(image), conv(image.unsqueeze(0))[0])


@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_and_autocast(mode, dtype):
    quiet = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(1e-8)))
    model, digital = xb.convert(network(), quiet, mode=mode, seed=0), network()
    limit = 0.02 if dtype == torch.bfloat16 else 0.003
    want = digital(X)
    with torch.autocast("cpu", dtype=dtype):
        y = model(X)
    assert y.dtype == dtype
    assert float((y.float() - want).detach().norm() / want.detach().norm()) < limit
    low = copy.deepcopy(model).to(dtype)(X.to(dtype))
    assert low.dtype == dtype
    assert float((low.float() - want).detach().norm() / want.detach().norm()) < 3 * limit
    if isinstance(mode, xb.InSitu):
        y.float().square().sum().backward()
        before = model[0].weight.detach().clone()
        xb.InSituSGD(model, lr=0.01).step()
        assert not torch.equal(before, model[0].weight)


# torch 2.13's tracer instantiates the autograd functions it inlines
TRACER = "ignore:.*should not be instantiated:DeprecationWarning"


@pytest.mark.filterwarnings(TRACER)
@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
def test_compiled_inference_draws_the_eager_bits(mode):
    torch._dynamo.reset()
    a = xb.convert(network(), CHIP, mode=mode, seed=0).eval()
    compiled = torch.compile(copy.deepcopy(a), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(a(X), compiled(X))


@pytest.mark.slow
@pytest.mark.filterwarnings(TRACER)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("mode", MODES[:2], ids=lambda m: type(m).__name__)
def test_compiled_training_draws_the_eager_bits(mode):
    torch._dynamo.reset()
    a = xb.convert(network(), CHIP, mode=mode, seed=0)
    b = copy.deepcopy(a)
    compiled = torch.compile(b, backend="aot_eager", fullgraph=True)
    for model, call in ((a, a), (b, compiled)):
        in_situ = isinstance(mode, xb.InSitu)
        optimiser = (
            xb.InSituSGD(model, 0.1) if in_situ else torch.optim.SGD(model.parameters(), 0.1)
        )
        for _ in range(2):
            optimiser.zero_grad()
            call(X).square().sum().backward()
            optimiser.step()
    assert torch.equal(a[0].weight, b[0].weight)


# forward-mode derivatives make torch compile its own decompositions
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_func_transforms_equal_torch():
    digital = nn.Linear(5, 3, dtype=torch.float64)
    layer = xb.convert(digital, xb.Chip(), seed=0)
    x, t = torch.randn(4, 5).double(), torch.randn(4, 5).double()

    def loss(module, x):
        return module(x).pow(3).sum()

    for transform in (torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        got = transform(lambda x: loss(layer, x))(x)  # noqa: B023
        torch.testing.assert_close(got, transform(lambda x: loss(digital, x))(x))
    got = torch.func.jvp(layer, (x,), (t,))[1]
    torch.testing.assert_close(got, torch.func.jvp(digital, (x,), (t,))[1])
    grads = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,)).pow(2).sum())
    want = torch.func.grad(lambda p: torch.func.functional_call(digital, p, (x,)).pow(2).sum())
    torch.testing.assert_close(
        grads(dict(layer.named_parameters())), want(dict(digital.named_parameters()))
    )
    per_sample = torch.func.vmap(torch.func.grad(lambda x: layer(x).sum()))(x)
    torch.testing.assert_close(per_sample, digital.weight.sum(0).expand(4, 5).detach())
    assert torch.autograd.gradcheck(layer, (x.clone().requires_grad_(),))
    assert torch.autograd.gradgradcheck(layer, (x.clone().requires_grad_(),))


def test_many_chips_at_once():
    models = [xb.convert(network(), xb.Chip(CELL), mode=xb.Programmed(), seed=s) for s in range(4)]
    quiet = [xb.convert(m, xb.Chip(Device(1e-6, 50e-6, CELL.update))) for m in models]
    parameters, buffers = torch.func.stack_module_state(quiet)
    together = torch.func.vmap(
        lambda p, b: torch.func.functional_call(quiet[0], (p, b), (X,)), randomness="different"
    )(parameters, buffers)
    for got, model in zip(together, quiet, strict=True):
        torch.testing.assert_close(got, model(X), rtol=1e-5, atol=1e-6)
    parameters, buffers = torch.func.stack_module_state(models)
    noisy = torch.func.vmap(
        lambda p, b: torch.func.functional_call(models[0], (p, b), (X,)), randomness="different"
    )(parameters, buffers)
    deviations = noisy - together
    assert len(torch.unique(deviations)) == deviations.numel()  # every chip reads its own noise


def test_functional_gradients_in_situ_are_torchs_and_train_nothing():
    digital, model = network(), in_situ()
    got, want = (
        torch.func.grad(lambda x: net(x).square().sum())(X)  # noqa: B023
        for net in (model, digital)
    )
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert all(bool((d == 0).all()) for d in moved(model))


def test_activation_checkpointing_replays_the_noise():
    a = xb.convert(network(), CHIP, seed=0)
    b = copy.deepcopy(a)
    x1, x2 = X.clone().requires_grad_(), X.clone().requires_grad_()
    a(x1).square().sum().backward()
    y = checkpoint(b, x2, use_reentrant=False, context_fn=xb.replay(b))
    y.square().sum().backward()
    assert torch.equal(x1.grad, x2.grad)
    assert torch.equal(a[0].weight.grad, b[0].weight.grad)
    assert torch.equal(a(X), b(X))


# ---- what is kept for the update --------------------------------------------------------------


def in_situ(seed=0):
    return xb.convert(network(), xb.Chip(), mode=xb.InSitu(xb.Expected()), seed=seed)


def moved(model, lr=0.1):
    before = [m.weight.detach().clone() for m in model if isinstance(m, xb.AnalogLinear)]
    xb.InSituSGD(model, lr=lr).step()
    after = [m.weight.detach() for m in model if isinstance(m, xb.AnalogLinear)]
    return [b - a for a, b in zip(after, before, strict=True)]


def test_several_backwards_accumulate():
    whole, parts = in_situ(), in_situ()
    whole(X).square().sum().backward()
    parts(X[:3]).square().sum().backward()
    parts(X[3:]).square().sum().backward()
    for a, b in zip(moved(whole), moved(parts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_recurrent_use_of_one_layer_equals_torch():
    torch.manual_seed(0)
    cell = nn.Linear(6, 6)
    analog = xb.convert(cell, xb.Chip(), mode=xb.InSitu(xb.Expected()), seed=0)
    x = torch.randn(3, 6)
    for module in (cell, analog):
        h = x
        for _ in range(4):
            h = torch.tanh(module(h))
        h.square().sum().backward()
    before = analog.weight.detach().clone()
    xb.InSituSGD(analog, lr=0.1).step()
    change = (before - analog.weight.detach()) / 0.1
    torch.testing.assert_close(change, cell.weight.grad, rtol=1e-4, atol=1e-5)
    single = xb.convert(nn.Linear(6, 2), xb.Chip(), mode=xb.InSitu(xb.Expected()), seed=0)
    for row in x:  # unbatched vectors, appended one by one
        single(row).sum().backward()
    before = single.weight.detach().clone()
    xb.InSituSGD(single, lr=0.1).step()
    torch.testing.assert_close(
        (before - single.weight.detach()) / 0.1, x.sum(0).expand(2, 6), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("how", ["model", "optimiser", "none"])
def test_zero_grad_of_any_parent_forgets(how):
    model, clean = in_situ(), in_situ()
    outer = nn.ModuleDict({"inner": model})
    optimiser = xb.InSituSGD(outer, lr=0.1)
    model(X * 3).square().sum().backward()
    if how == "model":
        outer.zero_grad()
    elif how == "optimiser":
        optimiser.zero_grad(set_to_none=False)
    else:
        for p in model.parameters():
            p.grad = None
    for each in (model, clean):
        each(X).square().sum().backward()
    for a, b in zip(moved(model), moved(clean), strict=True):
        torch.testing.assert_close(a, b)


def test_step_consumes_and_inference_keeps_nothing():
    """Without a gradient a step leaves nothing; a gradient that stays is applied again, as torch's.

    Inference keeps nothing either way.
    """
    for gradient in (True, False):
        mode = xb.InSitu(xb.Expected(), gradient=gradient)
        model = xb.convert(network(), xb.Chip(), mode=mode, seed=0)
        model(X).square().sum().backward()
        first, second = moved(model), moved(model)
        assert all(bool((d != 0).any()) for d in first)
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(b, a if gradient else 0 * a, rtol=1e-4, atol=1e-6)
        model.zero_grad()
        assert all(bool((d == 0).all()) for d in moved(model))
        with torch.no_grad():
            model(X)
        assert all(bool((d == 0).all()) for d in moved(model))


def test_schedulers_and_a_rate_of_zero():
    model = in_situ()
    optimiser = xb.InSituSGD(model, lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: [1.0, 0.5, 0.0][epoch])
    sizes = []
    start = copy.deepcopy(model.state_dict())
    for _ in range(3):
        model.load_state_dict(start)
        optimiser.zero_grad()
        model(X).square().sum().backward()
        before = model[0].weight.detach().clone()
        optimiser.step()
        sizes.append(float((model[0].weight.detach() - before).norm()))
        scheduler.step() if len(sizes) < 3 else None
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=1e-3) and sizes[2] == 0
    saved = optimiser.state_dict()
    other = xb.InSituSGD(in_situ(), lr=1.0)
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.0


def test_grad_scaler():
    a, b = in_situ(), in_situ()
    plain, scaled = xb.InSituSGD(a, lr=0.1), xb.InSituSGD(b, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    a(X).square().sum().backward()
    plain.step()
    scaler.scale(b(X).square().sum()).backward()
    scaler.step(scaled)
    scaler.update()
    torch.testing.assert_close(a[0].weight, b[0].weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(a[0].bias, b[0].bias, rtol=1e-5, atol=1e-7)
    before = b[0].weight.detach().clone()
    scaled.zero_grad()
    scaler.scale(b(X).square().sum() * float("inf")).backward()
    scaler.step(scaled)
    scaler.update()
    assert torch.equal(before, b[0].weight) and scaler.get_scale() == 512.0
    scaled.zero_grad()
    (b(X).square().sum() * float("inf")).backward()
    with pytest.raises(ValueError, match="finite"):
        scaled.step()
    for optimiser in (plain, scaled):
        optimiser.zero_grad()
    a(X).square().sum().backward()
    plain.step()
    scaler.scale(b(X).square().sum()).backward()
    scaler.unscale_(scaled)
    scaler.step(scaled)
    torch.testing.assert_close(a[0].weight, b[0].weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(a[0].bias, b[0].bias, rtol=1e-5, atol=1e-7)


def test_max_norm_bounds_the_update():
    model = in_situ()
    model(X * 100).square().sum().backward()
    before = model[2].weight.detach().clone()
    xb.InSituSGD(model, lr=0.1, max_norm=1e-3).step()
    assert float((model[2].weight.detach() - before).norm()) <= 0.1 * 1e-3 * 1.01


# ---- data parallel ----------------------------------------------------------------------------


def _replica(rank, port, path):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0)
    parallel = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimiser = xb.InSituSGD(parallel, lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        parallel(X[rank::2]).square().mean().backward()
        optimiser.step()
    torch.save((model.state_dict(), model(X).detach()), f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_replicas_of_a_data_parallel_model_stay_one_chip(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_replica, args=(port, str(tmp_path)), nprocs=2)
    (a, ya), (b, yb) = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2))
    for key in a:
        assert torch.equal(a[key], b[key]), key
    assert not torch.equal(ya, yb)  # the same chip, but every rank reads its own noise
    start = xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0).state_dict()
    cells = "0.analog.weight.matrices.0.cells.g"
    assert not torch.equal(a[cells], start[cells])
