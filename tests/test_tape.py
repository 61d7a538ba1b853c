"""Whether a gradient is still that of the backward passes: rounding, scale and chance."""

from __future__ import annotations

import pytest
import torch
from _in_situ import PULSES, SEEN, fresh, in_situ, judged, mlp, plain
from torch import nn

import crossbar as xb
from crossbar.operations import Matmul
from crossbar.regions import EVERYWHERE, Form
from crossbar.tape import Entry, judge


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
def test_a_scaled_gradient_of_half_precision_steps_as_scaled(dtype, autocast, factor):
    torch.manual_seed(0)
    model = in_situ(nn.Linear(20, 30))
    x = torch.randn(8, 20)
    if not autocast:
        model, x = model.to(dtype), x.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        y = model(x)
    y.float().square().sum().backward()
    (weight,) = xb.analog_weights(model).values()
    before = weight.held.clone()
    model.weight.grad.mul_(factor)
    SEEN.clear()
    xb.InSituSGD(model, lr := 1e-4).step()
    assert set(SEEN) == (PULSES if factor else set())
    wanted = -lr * plain(model.weight.grad).float().mT
    assert float((weight.held - before - wanted).norm()) <= 0.01 * float(wanted.norm())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
def test_another_gradient_of_half_precision_is_seen(dtype, autocast):
    torch.manual_seed(0)
    model = in_situ(nn.Linear(20, 30))
    x = torch.randn(8, 20)
    if not autocast:
        model, x = model.to(dtype), x.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        y = model(x)
    y.float().square().sum().backward()
    model.weight.grad[3] *= 0.5
    SEEN.clear()
    xb.InSituSGD(model, 1e-4).step()
    assert set(SEEN) == {"numbers"}


def test_gradients_of_one_input_are_pulsed_whatever_it_is():
    """Of a thousand inputs some lie across any vector by which gradients could be compared."""
    torch.manual_seed(0)
    for x, d in zip(torch.randn(1000, 1, 4), torch.randn(1000, 1, 3), strict=True):
        entry = Entry(Matmul(), x, d, EVERYWHERE, x.dtype)
        # as another order of summation, or a fused multiplication, may round
        noise = 1 + torch.finfo(x.dtype).eps * torch.randint(-1, 2, (3, 4))
        assert judge(d.mT @ x * noise, Form(), [entry]) == pytest.approx(1, abs=1e-3)


def test_what_was_zeroed_between_two_backward_passes_leaves_nothing():
    def habit(run):
        for _ in range(2):
            run.model.zero_grad(set_to_none=False)
            run.model(torch.ones(2, 6).double()).sum().backward()
        if isinstance(run.optimiser, xb.InSituSGD):
            weights = xb.analog_weights(run.model).values()
            assert [len(w.tape.entries) for w in weights] == [1, 1]
        run.step()
        fresh(run, torch.ones(1, 6).double())
        run.step()

    assert judged(mlp(), habit) == PULSES
