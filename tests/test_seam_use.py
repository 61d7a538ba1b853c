"""What users of torch do with a converted model, besides training it; torch is the judge."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite, SoftBounds

NOISY = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(1e-7), read=GaussianRead(0.05)))
WRITTEN_BADLY = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(5e-8), write=GaussianWrite(0.02)))
MODES = [xb.HardwareAware(), xb.Programmed(), xb.InSitu(xb.Expected())]
WRITTEN = MODES[1:]


def kind(mode):
    return type(mode).__name__


class Uses(nn.Module):
    def __init__(self, use):
        super().__init__()
        self.w = nn.Parameter(torch.randn(12, 8))
        self.use = use

    def forward(self, x):
        return self.use(self.w, x)


def sparse(x):
    return x.to_sparse()


SPARSE = {
    "mm": lambda w, x: torch.mm(sparse(x), w),
    "at": lambda w, x: sparse(x) @ w,
    "sparse.mm": lambda w, x: torch.sparse.mm(sparse(x), w),
    "spmm": lambda w, x: torch.spmm(sparse(x), w),
    "addmm": lambda w, x: torch.addmm(torch.ones(5, 8), sparse(x), w),
    "sparse.addmm": lambda w, x: torch.sparse.addmm(torch.ones(5, 8), sparse(x), w),
    "linear": lambda w, x: F.linear(sparse(x), w.T),
    "by name": lambda w, x: F.linear(input=sparse(x), weight=w.T),
    "csr": lambda w, x: x.to_sparse_csr() @ w,
}


@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.parametrize("use", SPARSE)
def test_sparse_inputs_drive_the_rows(use, mode):
    torch.manual_seed(0)
    model, x = Uses(SPARSE[use]), torch.randn(5, 12).relu()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR")
        wanted = model(x)
        ideal, noisy = (xb.convert(model, chip, mode, seed=0) for chip in (xb.Chip(), NOISY))
        assert torch.allclose(ideal(x), wanted, atol=2e-6)
        assert (noisy(x) - wanted).abs().max() > 1e-3


REFUSED = {
    "smm": lambda w, x: torch.smm(sparse(x), w).to_dense(),
    "hspmm": lambda w, x: torch.hspmm(sparse(x), w).to_dense(),
    "to_sparse": lambda w, x: torch.sparse.mm(w.T.to_sparse(), x.T).T,
    "where": lambda w, x: x @ torch.where(w > 0, 1.0, -1.0),
    "mask": lambda w, x: x @ (w > 0).float(),
    "arithmetic of a mask": lambda w, x: x @ ((w > 0) * 2.0 - 1.0),
    "whole numbers": lambda w, x: x @ (w * 4).int().float(),
    "a cast": lambda w, x: x @ (w * 4).round().to(torch.int8).to(torch.float32),
    "buckets": lambda w, x: x @ torch.bucketize(w, torch.tensor([-1.0, 0.0, 1.0])).float(),
    "codes": lambda w, x: x @ torch.quantize_per_tensor(w, 0.1, 0, torch.qint8).dequantize(),
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.parametrize("use", REFUSED)
def test_numbers_made_of_a_weight_do_not_multiply_unnoticed(use, mode):
    model = Uses(REFUSED[use])
    with pytest.raises((TypeError, RuntimeError), match="exclude="):
        xb.convert(model, NOISY, mode, seed=0)(torch.randn(5, 12))


COMPUTED = {
    "qr": lambda w, x: x @ torch.linalg.qr(w).Q,
    "svd": lambda w, x: x @ torch.linalg.svd(w, full_matrices=False)[0],
    "sort": lambda w, x: x @ w.sort(0).values,
    "cummax": lambda w, x: x @ w.cummax(0).values,
    "frexp": lambda w, x: x @ torch.frexp(w).mantissa,
}


@pytest.mark.parametrize("use", COMPUTED)
def test_results_in_tuples_are_computed_weights(use):
    torch.manual_seed(0)
    model, x = Uses(COMPUTED[use]), torch.randn(5, 12)
    ideal, noisy = (xb.convert(model, chip, seed=0) for chip in (xb.Chip(), NOISY))
    assert torch.allclose(ideal(x), model(x), atol=1e-5)
    assert (noisy(x) - model(x)).abs().max() > 1e-3
    for mode in WRITTEN:
        with pytest.raises((TypeError, RuntimeError), match="no array"):
            xb.convert(model, NOISY, mode, seed=0)(x)


def test_masks_still_serve():
    """What they are mostly made for: pruning by hand, indexing, counting."""
    layer = xb.convert(nn.Linear(12, 8), xb.Chip(), xb.Programmed(), seed=0)
    mask = layer.weight.abs() > 0.1
    assert 0 < int(mask.sum()) < 96 and bool((layer.weight[mask].abs() > 0.1).all())
    with torch.no_grad():
        layer.weight.mul_(mask)
    assert torch.equal(layer.weight.detach() != 0, mask)
    order = layer.weight.argsort(0)
    assert type(order) is torch.Tensor


# ---- windows ------------------------------------------------------------------------------------

WRITES = {
    "copy_": lambda layer, w: layer.weight.copy_(w),
    "data": lambda layer, w: setattr(layer.weight, "data", w.clone()),
    "Parameter": lambda layer, w: setattr(layer, "weight", nn.Parameter(w.clone())),
    "load": lambda layer, w: layer.load_state_dict({"weight": w, "bias": layer.bias.detach()}),
}


@pytest.mark.parametrize("mode", WRITTEN, ids=kind)
@pytest.mark.parametrize("how", WRITES)
def test_a_weight_written_anew_has_the_window_of_a_new_one(how, mode):
    torch.manual_seed(0)
    net, small = nn.Linear(64, 32), 0.002 * torch.randn(32, 64)
    fresh = nn.Linear(64, 32)
    with torch.no_grad():
        fresh.weight.copy_(small)
    wanted = xb.convert(fresh, WRITTEN_BADLY, mode, seed=0).weight - small
    layer = xb.convert(net, WRITTEN_BADLY, mode, seed=0)
    with torch.no_grad():
        WRITES[how](layer, small)
    error = layer.weight.detach() - small
    # two samples of the same standard deviation: their ratio is within 10 % (2048 weights: 6 σ)
    assert float(error.std() / wanted.detach().std()) == pytest.approx(1.0, abs=0.1)


def test_some_weights_written_keep_the_window():
    layer = xb.convert(nn.Linear(16, 8), WRITTEN_BADLY, xb.Programmed(), seed=0)
    before = layer.analog.weight.matrix.written.w_max.clone()
    with torch.no_grad():
        layer.weight[:4] *= 0.01
    layer(torch.randn(2, 16))
    assert torch.equal(layer.analog.weight.matrix.written.w_max, before)


@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.parametrize("how", ["reset_parameters", "copy_", "load_state_dict"])
def test_a_model_built_on_meta_is_initialised_later(how, mode):
    x, there = torch.randn(6, 12), nn.Linear(12, 8)
    torch.use_deterministic_algorithms(True)  # which fills memory that nobody wrote with NaN
    try:
        with torch.device("meta"):
            model = nn.Linear(12, 8)
        model = xb.convert(model, xb.Chip(), mode, seed=0).to_empty(device="cpu")
        for one in (there, model):
            torch.manual_seed(3)
            if how == "reset_parameters" or one is there:
                one.reset_parameters()
            elif how == "copy_":
                with torch.no_grad():
                    one.weight.copy_(there.weight)
                    one.bias.copy_(there.bias)
            else:
                one.load_state_dict(there.state_dict())
        assert torch.allclose(model(x), there(x), atol=2e-6)
    finally:
        torch.use_deterministic_algorithms(False)


# ---- modes of torch -----------------------------------------------------------------------------


def test_everything_is_made_in_inference_mode_too():
    net, x = nn.Linear(12, 4), torch.randn(8, 12)
    model = xb.convert(net, xb.Chip(), seed=0)
    with torch.inference_mode():
        for mode in MODES:
            made = xb.convert(net, xb.Chip(), mode, seed=0)
            assert torch.allclose(made(x), net(x), atol=1e-6)
            layer = xb.AnalogLinear(12, 4, chip=xb.Chip(), mode=mode)
            assert layer(x).shape == (8, 4)
        assert torch.allclose(xb.to_digital(made)(x), net(x), atol=1e-6)
        scores = xb.over_time(model, lambda m: float(m(x).sum()), [1.0, 10.0], chips=2)
    assert scores is not None
    made(x).sum().backward()  # and trains outside of it
    assert made.bias.grad is not None


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_shapes_are_found_on_meta(mode):
    model = xb.convert(nn.Linear(12, 8), xb.Chip(), mode, seed=0).to("meta")
    assert model(torch.empty(3, 12, device="meta")).shape == (3, 8)


def test_a_forward_with_vmap_can_be_the_example():
    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return torch.vmap(lambda v: self.w @ v)(x)

    model, x = Mapped(), torch.randn(3, 6)
    made = xb.convert(model, xb.Chip(), example=x, seed=0)
    assert torch.allclose(made(x), model(x), atol=1e-6)
    assert xb.summary(made, x).share == 1


@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore:`torch.jit.script")
def test_a_trace_is_refused_in_words_in_every_mode():
    for mode in MODES:
        model = xb.convert(nn.Sequential(nn.Linear(12, 8)), xb.Chip(), mode, seed=0)
        x = torch.randn(3, 12)
        for trace in (torch.jit.trace, lambda m, x: make_fx(m)(x), torch.func.linearize):
            with pytest.raises(TypeError, match="strict=True"):
                trace(model, x)


# ---- the matrix ---------------------------------------------------------------------------------


def test_a_matrix_takes_numbers_from_either_side():
    w = torch.randn(3, 5, dtype=torch.float64)
    a = xb.matrix(w, xb.Chip())
    x, y = torch.randn(5, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    for own in (x, x.numpy(), x.tolist()):
        assert torch.allclose(a @ own, w @ x)
    assert torch.allclose(y @ a, y @ w) and torch.allclose(y[0] @ a, y[0] @ w)
    assert torch.allclose(x @ a.T, x @ w.T)
    square = torch.eye(3, dtype=torch.float64) + 0.1 * torch.randn(3, 3, dtype=torch.float64)
    b = np.ones(3)
    found = xb.matrix(square, xb.Chip()).solve(b)
    assert torch.allclose(square @ found.x, torch.ones(3, dtype=torch.float64), atol=1e-8)
    with pytest.raises(TypeError, match="x must be numbers"):
        a @ "five"


# ---- the optimiser ------------------------------------------------------------------------------


def test_digital_parameters_have_settings_of_their_own():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).double()
    x, target = torch.randn(16, 12, dtype=torch.float64), torch.randn(16, 4, dtype=torch.float64)
    model = xb.convert(net, xb.Chip(), xb.InSitu(xb.Expected(), headroom=50.0), seed=0)
    weights = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() < 2]
    own = {"momentum": 0.9, "weight_decay": 0.01}
    theirs = torch.optim.SGD([{"params": weights}, {"params": rest, **own}], 0.02)
    ours = xb.InSituSGD(model, 0.02, digital=own)
    for _ in range(5):
        for one, optimiser in ((net, theirs), (model, ours)):
            optimiser.zero_grad()
            F.mse_loss(one(x), target).backward()
            optimiser.step()
    for (name, p), q in zip(net.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-9), name
    with pytest.raises(TypeError, match="digital="):
        xb.InSituSGD(model, 0.02, momentum=0.9)
    with pytest.raises(ValueError, match="digital must set"):
        xb.InSituSGD(model, 0.02, digital={"betas": 0.9})
