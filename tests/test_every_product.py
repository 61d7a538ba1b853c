"""Every function of torch that multiplies by a weight reads its array: gains, gradients, steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from _databases import MODES, deviations, pair
from torch import nn

import crossbar as xb

DOUBLE = torch.float64
X, Y = (torch.randn(5, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
STACK, SQUARE = (3, 4, 6), (6, 6)
AT = torch.tensor([2, 0, 0, 2, 2])
OFFS = torch.tensor([2, 2, 4], dtype=torch.int32)
BIAS = torch.linspace(-1, 1, 4, dtype=DOUBLE)


class Uses(nn.Module):
    """A weight of its own, used by a function."""

    def __init__(self, use, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, dtype=DOUBLE))
        self.use = use

    def forward(self, *inputs):
        return self.use(self.weight, *inputs)


def grouped(a, b, offs=None):
    """F.grouped_mm, which torch itself has in no double precision."""
    if isinstance(a, xb.Analog) or isinstance(b, xb.Analog):
        return F.grouped_mm(a, b, offs=offs)
    if offs is None:
        return a @ b
    ends = [0, *offs.tolist()]
    parts = list(zip(ends, ends[1:], strict=False))
    if a.dim() == 3:
        return torch.cat([a[k] @ b[:, s:e] for k, (s, e) in enumerate(parts)], 1)
    return torch.cat([a[s:e] @ b[k] for k, (s, e) in enumerate(parts)])


def each(W, x):
    return torch.stack([F.linear(x, W[e]) for e in (2, 0)])


PRODUCTS = {
    "linear": ((4, 6), lambda W, x: F.linear(x, W, BIAS)),
    "mm": ((6, 4), lambda W, x: torch.mm(x, W)),
    "matmul from the left": ((4, 6), lambda W, x: W @ x.T),
    "mv": ((4, 6), lambda W, x: torch.mv(W, x[0])),
    "vector": ((6, 4), lambda W, x: x[0] @ W),
    "batch by one": ((6, 4), lambda W, x: x.view(5, 1, 6) @ W),
    "inner": ((4, 6), lambda W, x: torch.inner(x, W)),
    "addmm": ((6, 4), lambda W, x: torch.addmm(BIAS, x, W, beta=0.5, alpha=2)),
    "method addmm": ((6, 4), lambda W, x: x[:, :4].addmm(x, W)),
    "beta 0": ((6, 4), lambda W, x: torch.addmm(BIAS * torch.nan, x, W, beta=0)),
    "addmv": ((4, 6), lambda W, x: torch.addmv(BIAS, W, x[0], beta=2)),
    "multi_dot": ((6, 4), lambda W, x: torch.linalg.multi_dot([x, W, x[:4]])),
    "multi_dot from the left": ((4, 6), lambda W, x: torch.linalg.multi_dot([W, x.T, x])),
    "tensordot": ((4, 6), lambda W, x: torch.tensordot(x, W, ([1], [1]))),
    "tensordot in order": ((6, 4), lambda W, x: torch.tensordot(x, W, 1)),
    "einsum": ((4, 6), lambda W, x: torch.einsum("bi,oi->bo", x, W)),
    "einsum of three": ((4, 6), lambda W, x: torch.einsum("bi,oi,bi->ob", x, W, x)),
    "form of two vectors": (
        (6, 4),
        lambda W, x: torch.einsum("qd,de,ke->qk", x, W, x[:3, :4].cos()),
    ),
    "gates": ((4, 6), lambda W, x: torch.einsum("bo,oi,bi,b->bo", x[:, :4], W, x, x[:, 0])),
    "einsum of a stack": (STACK, lambda W, x: torch.einsum("eoi,bi->boe", W, x)),
    "einsum of a stack, each its own": (
        STACK,
        lambda W, x: torch.einsum("bei,eoi->beo", x.view(5, 1, 6) * BIAS[1:, None], W),
    ),
    "einsum summed over a stack": (
        (3, 6, 4),
        lambda W, x: torch.einsum("...hi,hio->...o", x.view(5, 1, 6) * BIAS[1:, None], W),
    ),
    "a slice": (SQUARE, lambda W, x: F.linear(x[:, 1:4], W[2:5, 1:4])),
    "chunks of packed columns": (
        (12, 6),
        lambda W, x: sum(F.linear(x, w) * k for k, w in enumerate(W.chunk(3), 1)),
    ),
    "a cast": ((4, 6), lambda W, x: F.linear(x.float(), W.float()).double()),
    "conv1d of a flat weight": ((4, 6), lambda W, x: F.conv1d(x.T[None], W[..., None])[0]),
    "bilinear": ((4, 6, 6), lambda W, x, y: F.bilinear(x, y, W, BIAS)),
    "bilinear of a matrix": (SQUARE, lambda W, x, y: F.bilinear(x, y, W[None])),
    "bmm": (STACK, lambda W, x: torch.bmm(x.expand(3, 5, 6), W.transpose(1, 2))),
    "bmm from the left": (STACK, lambda W, x: torch.bmm(W, x.T.expand(3, 6, 5))),
    "broadcast": (STACK, lambda W, x: x.view(5, 1, 1, 6) @ W.mT),
    "a stack by a vector": (STACK, lambda W, x: W @ x[0]),
    "a vector by a stack": (STACK, lambda W, x: x[0] @ W.mT),
    "baddbmm": (STACK, lambda W, x: torch.baddbmm(BIAS, x.expand(3, 5, 6), W.mT, beta=0.5)),
    "addbmm": (STACK, lambda W, x: torch.addbmm(BIAS, x.expand(3, 5, 6), W.mT, alpha=2)),
    "one of a stack": (STACK, lambda W, x: F.linear(x, W[1], BIAS)),
    "some of a stack": (STACK, each),
    "a range of a stack": (STACK, lambda W, x: x.expand(2, 5, 6) @ W[1:].mT),
    "every other of a stack": (STACK, lambda W, x: x.expand(2, 5, 6) @ W[::2].mT),
    "columns of a stack": (STACK, lambda W, x: x[:, 2:].expand(3, 5, 4) @ W[:, 1:3, 2:].mT),
    "columns of one of a stack": (STACK, lambda W, x: x @ W[2, 1:3].T),
    "unbind": (STACK, lambda W, x: torch.cat([x @ w.T for w in W.unbind()])),
    "gathered": (STACK, lambda W, x: torch.bmm(x.unsqueeze(1), W[AT].mT).squeeze(1)),
    "gathered, from the left": (STACK, lambda W, x: torch.bmm(W[AT], x.unsqueeze(-1))),
    "gathered, several rows": (STACK, lambda W, x: x.expand(5, 5, 6) @ W[AT].mT),
    "gathered from a range": (STACK, lambda W, x: W[1:][AT // 2] @ x.unsqueeze(-1)),
    "grouped_mm": (STACK, lambda W, x: grouped(x[:4], W.mT, offs=OFFS)),
    "grouped_mm of a batch": (STACK, lambda W, x: grouped(x.expand(3, 5, 6), W.mT)),
    "grouped_mm from the left": (STACK, lambda W, x: grouped(W, x[:4].T, offs=OFFS)),
    "embedding_bag": ((7, 4), lambda W, x: F.embedding_bag(AT.view(1, 5), W) @ W.T),
    "lookup of a product's rows": ((7, 6), lambda W, x: F.embedding(AT, W) + (x @ W.T)[:, :6]),
    "linear_cross_entropy": ((4, 6), lambda W, x: F.linear_cross_entropy(x, W, AT)),
    "linear_cross_entropy of several": (
        STACK,
        lambda W, x: F.linear_cross_entropy(x, W, AT.unsqueeze(1).expand(5, 4)),
    ),
}


def run(name, mode, example):
    shape, use = PRODUCTS[name]
    inputs = (X, Y) if "bilinear" in name else (X,)
    torch.manual_seed(0)
    net = Uses(use, shape)
    both = pair(net, MODES[mode], example=inputs if example else None)
    found = deviations(both, inputs, {}, MODES[mode])
    bound = 1e-5 if name == "a cast" else 1e-10
    wrong = {k: v for k, v in found.items() if not v <= max(bound, 1e-9 * k.startswith("step"))}
    assert not wrong, wrong
    if example:
        assert xb.summary(both.analog, inputs).share == 1
    return both


@pytest.mark.parametrize("example", [False, True], ids=["as torch lies", "as the example reads"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_under_gains(name, mode, example):
    run(name, mode, example)


@pytest.mark.parametrize("name", PRODUCTS)
def test_noise_and_converters_are_met(name):
    """An output that noise does not move was not read."""
    shape, use = PRODUCTS[name]
    inputs = (X, Y) if "bilinear" in name else (X,)
    chip = xb.Chip(xb.Chip().device, forward=xb.Periphery(xb.DAC(bits=4), xb.ADC(bits=4)))
    torch.manual_seed(0)
    net = Uses(use, shape)
    for mode in MODES.values():
        model = xb.convert(net, chip, mode=mode, seed=0)
        with torch.no_grad():
            wanted = net(*inputs)
            far = (model(*inputs) - wanted).abs().max() / wanted.abs().max()
        assert 1e-4 < far < 1


UNCOMPILED = {"linear_cross_entropy of several"}
"""Compiled, it is refused by the tracer: torch's body is bound anew to each weight."""
FAST = ("gathered", "grouped_mm", "linear_cross_entropy")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in PRODUCTS
        if name not in UNCOMPILED
    ],
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_products_under_gains(name, mode):
    """In one graph, with the eager gradients."""
    shape, use = PRODUCTS[name]
    inputs = (X, Y) if "bilinear" in name else (X,)
    torch.manual_seed(0)
    net = Uses(use, shape)
    both = pair(net, xb.InSitu(xb.Expected()) if mode == "in situ" else MODES[mode])
    torch._dynamo.reset()
    model = torch.compile(both.analog, backend="aot_eager", fullgraph=True)
    bound = 1e-5 if name == "a cast" else 1e-10
    for factor in (1, 2):
        given = tuple(x * factor for x in inputs)
        got, want = model(*given), both.digital(*given)
        assert float((got - want).detach().abs().max()) < bound * float(want.detach().abs().max())
    if mode != "programmed":
        got.square().sum().backward()
        want.square().sum().backward()
        wanted = both.digital.weight.grad * both.factors["weight"]
        assert float((both.analog.weight.grad - wanted).abs().max()) < bound * wanted.abs().max()


@pytest.mark.parametrize(
    "equation",
    ["bi,eoi->bo", "boi,eoi->boi", "be,eoi->boi", "eoi,bi->ebi"],  # sums of weights, or no product
)
def test_einsums_that_no_array_computes_are_refused(equation):
    torch.manual_seed(0)
    given = {"bi": X, "boi": X.unsqueeze(1).expand(5, 4, 6), "be": X[:, :3]}
    mine, other = sorted(equation.partition("->")[0].split(","), key=lambda term: "eoi" not in term)
    x = given[other if mine == "eoi" else mine]

    def use(W, _):
        pair = (W, x) if equation.startswith("eoi") else (x, W)
        return torch.einsum(equation, *pair)

    model = xb.convert(Uses(use, STACK), xb.Chip(), seed=0)
    with pytest.raises(TypeError, match="einsum"):
        model(X)
