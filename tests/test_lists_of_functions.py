"""Functions of torch are products, views, gatherings, writes, digital, or refused by name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import get_testing_overrides

import crossbar as xb
from crossbar.carried.analog import PRODUCTS
from crossbar.carried.digital import DIGITAL, FAMILIES
from crossbar.carried.tables import (
    GATHERS,
    UNREAD,
    UNREAD_NAMES,
    VIEWS,
    gathers,
    unreadable,
    writes,
)

MODES = [xb.HardwareAware(), xb.Programmed(), xb.InSitu()]
COARSE = xb.Chip(xb.Chip().device, forward=xb.Periphery(xb.DAC(bits=3), xb.ADC(bits=3)))


def listed(function):
    name = getattr(function, "__name__", str(function))
    product, view = function in PRODUCTS, function in VIEWS
    digital = name in DIGITAL or name.startswith(FAMILIES)
    closed = product or view or gathers(function) or unreadable(function)
    return closed or writes(function, (), {}) or digital


def test_no_function_of_torch_is_in_no_list():
    """What a new torch brings is looked at here, before a user's weight slips by."""
    strangers = {f for f in get_testing_overrides() if not listed(f)}
    assert not strangers, sorted(getattr(f, "__name__", str(f)) for f in strangers)


def test_products_of_which_a_digital_function_has_the_name_are_none():
    """Lists by name must not shadow those by function."""
    names = {getattr(f, "__name__", "") for f in (*PRODUCTS, *UNREAD) if not isinstance(f, str)}
    assert not names & DIGITAL
    assert not DIGITAL & (GATHERS | UNREAD_NAMES)


def test_functions_that_are_equal_have_the_key_that_users_call():
    """torch.spmm == torch.mm: a compiler that compares names would miss the other's product."""
    for table in (PRODUCTS, VIEWS, UNREAD):
        for key in table:
            name, home = getattr(key, "__name__", ""), getattr(key, "__module__", None)
            if home is None and getattr(torch, name, None) == key:
                assert getattr(torch, name) is key, name
    assert torch.spmm not in PRODUCTS or next(k for k in PRODUCTS if k == torch.mm) is torch.mm


class Uses(nn.Module):
    def __init__(self, use):
        super().__init__()
        self.W = nn.Parameter(torch.randn(6, 6))
        self.use = use

    def forward(self, x):
        return self.use(x, self.W)


def scaled(x, W):
    return x @ torch.ops.others.doubled(W)


@pytest.fixture(scope="module")
def others():
    """A library of somebody else's."""
    library = torch.library.Library("others", "FRAGMENT")
    library.define("doubled(Tensor w) -> Tensor")
    library.impl("doubled", lambda w: 2 * w, "CompositeImplicitAutograd")
    yield
    library._destroy()


@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
def test_an_operator_of_others_is_refused_by_its_name(mode, others):
    model = xb.convert(Uses(scaled), xb.Chip(), mode=mode, seed=0)
    with pytest.raises(TypeError, match="others::doubled"):
        model(torch.randn(3, 6))


OPERATORS = {
    "linear": lambda x, W: torch.ops.aten.linear(x, W),
    "mm": lambda x, W: torch.ops.aten.mm.default(x, W),
    "addmm": lambda x, W: torch.ops.aten.addmm(x[0], x, W),
    "conv1d": lambda x, W: torch.ops.aten.conv1d(x[..., None], W[..., None]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_torchs_operators_called_directly_read_as_its_functions_do(name):
    torch.manual_seed(0)
    net, x = Uses(OPERATORS[name]), torch.randn(3, 6)
    coarse, ideal = (xb.convert(net, chip, seed=0) for chip in (COARSE, xb.Chip()))
    assert torch.allclose(ideal(x), net(x), atol=1e-5)
    assert not torch.allclose(coarse(x), net(x), atol=1e-3)


REFUSED = {
    "convolution": lambda x, W: torch.ops.aten.convolution(
        x[..., None], W[..., None], None, [1], [0], [1], False, [0], 1
    ),
    "transposed": lambda x, W: torch.mm(x, torch.ops.aten.t(W)),
    "embedding": lambda x, W: torch.embedding(W, torch.tensor([1])),
    "outer": lambda x, W: torch.outer(x[0], W[0]),
    "solve": lambda x, W: torch.linalg.solve(W, x.T),
    "padded": lambda x, W: x @ F.pad(W, (0, 1)),
    "repeated": lambda x, W: x @ W.repeat_interleave(2, 1),
    "copied": lambda x, W: x[:, :3] @ torch.narrow_copy(W, 0, 0, 3),
    "diagonal": lambda x, W: x @ W.diagonal(),
}


@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_use_the_numbers_is_refused(name, mode):
    model = xb.convert(Uses(REFUSED[name]), xb.Chip(), mode=mode, seed=0)
    with pytest.raises((TypeError, RuntimeError), match="unnoticed|on no array|no range"):
        model(torch.randn(3, 6))


SAME = {
    "unflattened": lambda x, W: torch.cat([x @ w for w in torch.unflatten(W, 1, (2, 3)).unbind(1)]),
    "ravelled": lambda x, W: x @ W.ravel().view(6, 6),
    "split with sizes": lambda x, W: x @ W.split_with_sizes([2, 4], 1)[1],
    "unsafe split": lambda x, W: x @ torch.unsafe_split(W, 3, 1)[1],
    "strided": lambda x, W: x[:, :3] @ W.as_strided((3, 2), (6, 1), 7),
    "broadcast to": lambda x, W: x @ W.broadcast_to(2, 6, 6),
}


@pytest.mark.parametrize("mode", MODES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("name", SAME)
def test_views_stay_parts_of_their_array(name, mode):
    torch.manual_seed(0)
    net, x = Uses(SAME[name]), torch.randn(3, 6)
    coarse, ideal = (xb.convert(net, chip, mode=mode, seed=0) for chip in (COARSE, xb.Chip()))
    assert torch.allclose(ideal(x), net(x), atol=1e-5)
    assert not torch.allclose(coarse(x), net(x), atol=1e-3)
