"""Biases as a row of the array, and digital scales of outputs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device

F64 = torch.float64
LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (4, 3, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9)),
    "same": (lambda: nn.Conv2d(2, 4, (5, 3), dilation=2, padding="same"), (3, 2, 9, 8)),
    "circular": (lambda: nn.Conv2d(2, 4, 3, padding=2, padding_mode="circular"), (2, 2, 5, 5)),
    "unbatched": (lambda: nn.Conv3d(2, 4, 2, padding=1, stride=(1, 2, 1)), (2, 4, 5, 3)),
}
WAYS = {
    "row": lambda net: xb.bias_rows(net, drive=0.7),
    "scale": xb.output_scales,
    "both": lambda net: xb.bias_rows(xb.output_scales(net), drive=2.0),
    "other order": lambda net: xb.output_scales(xb.bias_rows(net)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", LAYERS)
def test_extended_layers_compute_as_torch_on_every_mode(layer, way):
    make, shape = LAYERS[layer]
    torch.manual_seed(0)
    if layer == "unbatched":
        make = lambda: nn.Conv3d(2, 4, (3, 3, 3), padding=1, stride=(1, 2, 1))  # noqa: E731
    net, x = make().double(), torch.randn(shape, dtype=F64)
    before = copy.deepcopy(net.state_dict())
    extended = WAYS[way](net)
    assert all(torch.equal(a, before[k]) for k, a in net.state_dict().items())
    want = net(x)
    assert torch.allclose(extended(x), want, atol=1e-12)
    assert (extended.bias is None) == (way != "scale")
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-9))
    for mode in (xb.HardwareAware(), xb.InSitu(xb.Expected()), xb.Programmed()):
        model = xb.convert(extended, xb.Chip(cell, tile=(4, 3)), mode=mode, seed=0)
        assert torch.allclose(model(x), want, atol=1e-9)
    if way != "row":
        columns = extended.weight.detach().abs().flatten(1).amax(1)
        if way != "both":  # there the bias came after
            assert torch.allclose(columns, columns.amax().expand_as(columns))


def test_pulses_train_the_row_as_sgd_trains_a_bias():
    """A row driven with d moves its bias by d² of the step that SGD takes."""
    torch.manual_seed(0)
    net, x, drive = nn.Linear(6, 3).double(), torch.randn(5, 6, dtype=F64), 0.5
    cell = Device(2e-6, 50e-6, update=ConstantStep(1e-10))
    model = xb.convert(xb.bias_rows(net, drive=drive), xb.Chip(cell), mode=xb.InSitu(xb.Expected()))
    digital = copy.deepcopy(net)
    for each, optimiser in (
        (digital, torch.optim.SGD(digital.parameters(), 0.01)),
        (model, xb.InSituSGD(model, 0.01)),
    ):
        each(x).square().sum().backward()
        optimiser.step()
    now = model.weight.detach()
    assert torch.allclose(now[:, :-1], digital.weight, atol=1e-9)
    moved = (now[:, -1] * drive - net.bias) / (digital.bias - net.bias)
    assert torch.allclose(moved, torch.full_like(moved, drive**2), atol=1e-6)


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.InSitu()], ids=str)
def test_scales_are_learned_beside_the_cells_and_survive(mode):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    x = torch.randn(8, 1, 6, 6)
    extended = xb.output_scales(xb.bias_rows(net))
    model = xb.convert(extended, xb.Chip(), mode=mode, seed=0)
    scale = model[0].output_scale
    before = scale.detach().clone()
    optimiser = (
        xb.InSituSGD(model, 0.01)
        if isinstance(mode, xb.InSitu)
        else torch.optim.SGD(model.parameters(), 0.01)
    )
    model(x).square().mean().backward()
    optimiser.step()
    assert scale.grad is not None and not torch.equal(scale, before)
    digital = xb.to_digital(model)
    with torch.no_grad():
        assert torch.allclose(digital(x), model(x), atol=1e-5)
    fixed = xb.output_scales(net, ["2"], learned=False)
    assert not fixed[2].output_scale.requires_grad and type(fixed[0]) is nn.Conv2d


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda net: xb.bias_rows(net, ["1"]), TypeError, "only linear layers"),
        (lambda net: xb.bias_rows(net, ["7"]), ValueError, "no module"),
        (lambda net: xb.bias_rows(net, drive=0.0), ValueError, "drive must be"),
        (lambda net: xb.bias_rows(xb.bias_rows(net), ["0"]), ValueError, "no bias"),
        (lambda net: xb.output_scales(xb.output_scales(net)), ValueError, "already"),
        (lambda net: xb.bias_rows(xb.convert(net, xb.Chip())), ValueError, "before convert"),
        (lambda net: xb.bias_rows(nn.Conv1d(1, 1, 3, padding=2)), ValueError, "every tap"),
    ],
)
def test_what_cannot_be_right_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        change(nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)))
