"""Drop-ins for all of torch.nn: construction, state and files are torch's."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from _databases import MODES, deviations, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import crossbar as xb

X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[0, 3, 2], [1, 1, 4]])
TARGET = torch.tensor([0, 3, 5])
DROP_INS = {
    "Linear": ((6, 4), {}, (X,)),
    "Bilinear": ((6, 6, 4), {}, (X, X)),
    "Conv1d": ((5, 4, 3), {"padding": "same", "padding_mode": "circular"}, (X,)),
    "Conv2d": ((1, 4, 3), {}, (X.unsqueeze(1),)),
    "Conv3d": ((1, 4, 2), {}, (X[None, None],)),
    "ConvTranspose1d": ((5, 4, 3), {"stride": 2}, (X,)),
    "ConvTranspose2d": ((1, 4, 3), {}, (X.unsqueeze(1),)),
    "ConvTranspose3d": ((1, 4, 2), {}, (X[None, None],)),
    "Embedding": ((5, 6), {"padding_idx": 1}, (IDS,)),
    "EmbeddingBag": ((5, 6, None, 2.0, False, "max"), {"padding_idx": 1}, (IDS,)),
    "RNN": ((6, 4), {"num_layers": 2, "bidirectional": True}, (X,)),
    "LSTM": ((6, 4), {"num_layers": 2, "bidirectional": True, "proj_size": 2}, (X,)),
    "GRU": ((6, 4), {"num_layers": 2, "batch_first": True}, (X,)),
    "RNNCell": ((6, 4), {"nonlinearity": "relu"}, (X[0],)),
    "LSTMCell": ((6, 4), {}, (X[0],)),
    "GRUCell": ((6, 4), {}, (X[0],)),
    "MultiheadAttention": ((6, 2), {"kdim": 6, "vdim": 6}, (X, X, X)),
    "TransformerEncoderLayer": ((6, 2, 8), {"batch_first": True}, (X,)),
    "TransformerDecoderLayer": ((6, 2, 8), {}, (X, X)),
    "Transformer": ((6, 2, 1, 1, 8), {}, (X, X)),
    "AdaptiveLogSoftmaxWithLoss": ((6, 9, [3, 5]), {"div_value": 2.0}, (X[:, 0], TARGET)),
    "LinearCrossEntropyLoss": ((6, 9), {"bias": True}, (X[:, 0], TARGET)),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor:UserWarning", "ignore:LSTM with projections:UserWarning"
)
names = pytest.mark.parametrize("name", DROP_INS)
modes = pytest.mark.parametrize("mode", MODES)


def made(name, mode=None, **more):
    args, kwargs, inputs = DROP_INS[name]
    torch.manual_seed(1)
    layer = getattr(xb, f"Analog{name}")(*args, **kwargs, seed=0, mode=mode, **more).eval()
    torch.manual_seed(1)
    digital = getattr(nn, name)(*args, **kwargs).eval()
    return layer, digital, inputs


def first(y):
    return y[0] if isinstance(y, tuple) else y


def test_all_of_torch_that_owns_weights_of_products_has_one():
    exempt = {"Module", "Container", "DataParallel", "RNNBase", "RNNCellBase", "NLLLoss2d"}
    layers = {"TransformerEncoder", "TransformerDecoder"}
    for name in dir(nn):
        kind = getattr(nn, name)
        if not isinstance(kind, type) or not issubclass(kind, nn.Module) or name in exempt:
            continue
        if hasattr(xb, f"Analog{name}"):
            assert name in DROP_INS or name in layers
            assert issubclass(getattr(xb, f"Analog{name}"), kind)
        else:  # lazy ones are refused by convert until they have a shape
            assert name.startswith("Lazy") or not products(name)


def products(name):
    """Whether a class multiplies by a Parameter of two or more dimensions."""
    norms = ("BatchNorm", "InstanceNorm", "LayerNorm", "GroupNorm", "RMSNorm", "PReLU")
    if any(norm in name for norm in norms):
        return False
    try:
        layer = getattr(nn, name)()
    except TypeError:
        return False
    return any(p.dim() > 1 for p in layer.parameters())


@names
@modes
def test_they_compute_what_torch_computes(name, mode):
    layer, digital, inputs = made(name, MODES[mode])
    assert isinstance(layer, getattr(nn, name)) and isinstance(layer, getattr(xb, f"Analog{name}"))
    with torch.no_grad():
        want = first(digital(*inputs))
        assert torch.allclose(first(layer(*inputs)), want, atol=2e-5)
        back = xb.to_digital(layer)
        assert type(back) is getattr(nn, name)
        assert torch.allclose(first(back(*inputs)), want, atol=2e-5)
    assert type(layer).__name__ == f"Analog{name}"
    if layer._parameters:
        assert isinstance(
            xb.convert(digital, xb.Chip(), include=included(name)), type(layer).__mro__[0]
        )


def included(name):
    return ["weight"] if name.startswith("Embedding") else []


@names
def test_noise_is_met(name):
    coarse = xb.Chip(forward=xb.Periphery(xb.DAC(bits=4), xb.ADC(bits=4)))
    layer, digital, inputs = made(name, chip=coarse)
    with torch.no_grad():
        got, want = first(layer(*inputs)), first(digital(*inputs))
    assert 1e-4 < float((got - want).abs().max()) < 5


@names
@modes
def test_state_is_torchs_and_the_chips(name, mode):
    layer, digital, inputs = made(name, MODES[mode])
    state, plain = layer.state_dict(), digital.state_dict()
    own = {k for k in state if ".analog." not in f".{k}"}
    chip = set(state) - own
    analog = set(xb.analog_weights(layer))
    if mode == "hardware-aware":
        assert own == set(plain)
        assert not any("cells" in k for k in chip)
    else:
        assert own == set(plain) - analog  # the mirror of the cells is left out
        assert any(k.endswith("cells.g") for k in chip)
    with torch.no_grad():
        want = first(layer(*inputs))
        again, *_ = made(name, MODES[mode])
        nudged(again)
        again.load_state_dict(state)
        assert torch.allclose(first(again(*inputs)), want, atol=1e-6)
        nudged(again)
        again.load_state_dict(plain, strict=True)  # torch's own file
        assert torch.allclose(first(again(*inputs)), first(digital(*inputs)), atol=2e-5)


def nudged(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.5)


@names
@modes
def test_copies_and_files_compute_the_same(name, mode):
    layer, _, inputs = made(name, MODES[mode])
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh, *_ = made(name, MODES[mode])
    nudged(fresh)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        want = first(layer(*inputs))
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
            assert type(other).__name__ == type(layer).__name__
            assert torch.equal(first(other(*inputs)), want)


def test_weights_put_under_the_names_of_a_recurrent_layer_are_read():
    """torch hands its kernel a list of them, which must not be the old one."""
    coarse = xb.Chip(forward=xb.Periphery(xb.DAC(bits=4), xb.ADC(bits=4)))
    layer, digital, inputs = made("LSTM", chip=coarse)
    given = {k: 2 * v.detach() for k, v in digital.named_parameters()}
    with torch.no_grad():
        got = functional_call(layer, given, inputs)[0]
        want = functional_call(digital, given, inputs)[0]
        far = float((got - want).abs().max())
        assert 1e-3 < far < 1
        layer.load_state_dict(given, strict=False)
        assert torch.equal(got, layer(*inputs)[0])
        layer.double()
        assert layer(inputs[0].double())[0].dtype == torch.float64


def test_dropout_between_recurrent_layers_is_torchs():
    torch.manual_seed(0)
    net = nn.LSTM(6, 4, num_layers=3, dropout=0.5).double().train()
    model = xb.convert(net, xb.Chip(), seed=0)
    x = X.double()
    torch.manual_seed(3)
    want = net(x)[0]
    torch.manual_seed(3)
    assert torch.allclose(model(x)[0], want, atol=1e-12)
    assert not torch.equal(model(x)[0], want)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("mode", ["hardware-aware", "in situ"])
def test_recurrent_layers_of_any_configuration(mode, data):
    kind = data.draw(st.sampled_from([nn.RNN, nn.GRU, nn.LSTM]))
    options = {
        "num_layers": data.draw(st.integers(1, 3)),
        "bias": data.draw(st.booleans()),
        "batch_first": data.draw(st.booleans()),
        "bidirectional": data.draw(st.booleans()),
    }
    if kind is nn.LSTM:
        options["proj_size"] = data.draw(st.sampled_from([0, 2]))
    if kind is nn.RNN:
        options["nonlinearity"] = data.draw(st.sampled_from(["tanh", "relu"]))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    net = Flat(kind(4, 3, **options).double())
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    x = torch.randn(len(lengths), max(lengths), 4, dtype=torch.float64)
    if not options["batch_first"]:
        x = x.transpose(0, 1)
    net.lengths = lengths if data.draw(st.booleans()) else None
    found = deviations(pair(net, MODES[mode]), (x,), {}, MODES[mode])
    assert not {k: v for k, v in found.items() if not v <= 1e-9}


class Flat(nn.Module):
    """A recurrent layer, packed or not, whose outputs are plain."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.lengths = layer, None

    def forward(self, x):
        given = x
        if self.lengths is not None:
            first_ = self.layer.batch_first
            given = pack_padded_sequence(x, self.lengths, first_, enforce_sorted=False)
        y, end = self.layer(given)
        y = y.data if isinstance(y, PackedSequence) else y
        return (y, *end) if isinstance(end, tuple) else (y, end)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("mode", ["hardware-aware", "in situ"])
def test_convolutions_of_any_configuration(mode, data):
    n, groups = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 2]))
    transposed = data.draw(st.booleans())
    options = {
        "kernel_size": data.draw(st.integers(1, 3)),
        "stride": data.draw(st.integers(1, 2)),
        "padding": data.draw(st.integers(0, 1)),
        "dilation": data.draw(st.integers(1, 2)),
        "groups": groups,
        "bias": data.draw(st.booleans()),
    }
    if not transposed:
        modes_ = ["zeros", "circular", "reflect", "replicate"]
        options["padding_mode"] = data.draw(st.sampled_from(modes_))
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{n}d")
    torch.manual_seed(data.draw(st.integers(0, 99)))
    net = kind(2 * groups, groups, **options).double()
    batch = data.draw(st.integers(1, 3))
    x = torch.randn(batch, 2 * groups, *(6,) * n, dtype=torch.float64)
    found = deviations(pair(net, MODES[mode]), (x,), {}, MODES[mode])
    assert not {k: v for k, v in found.items() if not v <= 1e-9}


def test_a_bag_has_both_modes():
    layer = xb.AnalogEmbeddingBag(5, 6, mode="sum", seed=0)
    assert layer.mode == "sum" and isinstance(layer.analog["weight"].mode, xb.HardwareAware)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["Linear", "LSTMCell", "GRUCell", "Embedding"])
def test_empty_batches(name, mode):
    layer, digital, inputs = made(name, MODES[mode])
    empty = inputs[0][:0]
    assert first(layer(empty)).shape == first(digital(empty)).shape
