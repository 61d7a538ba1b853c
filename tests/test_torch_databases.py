"""torch's own databases of modules and operators, as the judge of converted ones.

Loading them takes seconds, so that a test is a class, a mode and train() or eval(), and its failure
names every case in which something differs.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from _databases import (
    FUNCTIONS,
    KINDS,
    MODES,
    Case,
    deviations,
    modules_of,
    own_attentions,
    pair,
    samples_of,
)
from torch import Tensor, nn
from torch.func import functional_call

import crossbar as xb

STRIDE = {nn.LinearCrossEntropyLoss: 101, nn.RNN: 7, nn.GRU: 5, nn.LSTM: 7}
STRIDE |= dict.fromkeys(KINDS[KINDS.index(nn.MultiheadAttention) : KINDS.index(nn.RNN)], 11)
LARGE = tuple(STRIDE)
"""Of large modules one case in so many is run in a mode, another one in each."""

mode_names = pytest.mark.parametrize("mode", MODES)
both_ways = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def check(cases: Sequence[Case], mode: str, gains: bool = True, bound: float = 1e-10) -> None:
    """Every deviation of every case is below `bound`; a step's, of its own length, below 1e-9."""
    assert cases
    wrong = []
    for case in cases:
        found = deviations(
            pair(case.build(), MODES[mode], gains), case.args, case.kwargs, MODES[mode]
        )
        for part, error in found.items():
            if not error <= (1e-9 if part.startswith("step") else bound):
                wrong.append(f"{case.name}: {part} is off by {error:.1e}")
    assert not wrong, "\n".join([f"{len(wrong)} deviations, {mode}:", *wrong[:20]])


def sampled(kind: type, training: bool, mode: str) -> Sequence[Case]:
    cases = modules_of(kind, training)
    first = 2 * list(MODES).index(mode) + training
    return cases[first :: STRIDE[kind]] if kind in LARGE else cases


@kinds
@both_ways
@mode_names
def test_modules_under_gains(kind, training, mode):
    check(sampled(kind, training, mode), mode)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LARGE, ids=lambda kind: kind.__name__)
@both_ways
@mode_names
def test_every_large_module_under_gains(kind, training, mode):
    check(modules_of(kind, training), mode)


@kinds
@mode_names
def test_modules_as_they_are(kind, mode):
    check(modules_of(kind, True)[:1], mode, gains=False)


@mode_names
def test_attentions_that_the_database_leaves_out(mode):
    check(own_attentions(), mode)


@pytest.mark.parametrize("function", FUNCTIONS)
@mode_names
def test_operators_under_gains(function, mode):
    check(samples_of(function), mode)


DOUBLE: dict[str, Any] = {"dtype": torch.float64}
SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "Linear": (lambda: nn.Linear(3, 2, **DOUBLE), ((2, 3),)),
    "Conv2d": (
        lambda: nn.Conv2d(2, 2, (2, 1), groups=2, dilation=2, padding=1, **DOUBLE),
        ((1, 2, 3, 2),),
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(
            2, 2, (2, 1), stride=2, groups=2, dilation=(2, 1), output_padding=1, **DOUBLE
        ),
        ((1, 2, 2, 2),),
    ),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(2, 1, **DOUBLE), ((2, 1, 2), (3, 1, 2))),
}


@pytest.mark.parametrize("kind", SMALL)
def test_gradients_against_finite_differences(kind):
    """Of inputs, and of weights that functional_call puts under their names; with gains."""
    torch.manual_seed(3)
    build, shapes = SMALL[kind]
    layer = pair(build(), xb.HardwareAware()).analog
    inputs = [torch.randn(shape, **DOUBLE) for shape in shapes]
    names = [name for name, _ in layer.named_parameters()]
    values = [p.detach().clone() for p in layer.parameters()]

    def call(*tensors: Tensor) -> Tensor:
        given, parameters = tensors[: len(inputs)], tensors[len(inputs) :]
        args = given if len(given) == 1 else (*given, given[-1])
        y = functional_call(layer, dict(zip(names, parameters, strict=True)), args)
        return y[0] if isinstance(y, tuple) else y

    asked = tuple(t.requires_grad_() for t in (*inputs, *values))
    assert torch.autograd.gradcheck(call, asked)
    assert torch.autograd.gradgradcheck(call, asked)


def test_the_parameter_itself_against_finite_differences():
    """gradcheck writes into the weight that the array reads."""
    torch.manual_seed(3)
    layer = pair(nn.Linear(3, 2, **DOUBLE), xb.HardwareAware()).analog
    x = torch.randn(4, 3, **DOUBLE, requires_grad=True)
    parameters = tuple(layer.parameters())
    assert torch.autograd.gradcheck(lambda *_: layer(x).square(), (x, *parameters))
    assert torch.autograd.gradgradcheck(lambda *_: layer(x).square(), (x, *parameters))


def as_numbers(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.detach().clone(), layer.bias)


def never(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight, layer.bias).detach() * 0 + layer.bias


def a_read_of_a_read(layer: Any, x: Tensor) -> Tensor:
    gain = layer.analog["weight"].matrix.column_gain
    y = nn.functional.linear(x, layer.weight)
    return (y if gain is None else y * gain) + layer.bias


@pytest.mark.parametrize("wrong", [as_numbers, never, a_read_of_a_read])
@mode_names
def test_the_oracle_can_fail(wrong, mode):
    """By the weight that is not read, or read twice; without gains the first and last pass."""
    torch.manual_seed(0)
    digital = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double().eval()
    x = torch.randn(2, 5, **DOUBLE)
    for gains in (True, False):
        both = pair(digital, MODES[mode], gains)
        both.analog[2].forward = types.MethodType(wrong, both.analog[2])
        output = deviations(both, (x,), {}, MODES[mode])["output 0"]
        assert output > 1e-3 if gains or wrong is never else output < 1e-10
