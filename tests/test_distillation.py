"""A digital teacher: the loss and its gradient by closed form, and what it is for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead, GaussianWrite


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_loss_and_its_gradient_are_those_of_the_formula(dtype):
    """T²·mean Σ p ln(p/q), whose gradient is T (q − p) over the number of samples."""
    torch.manual_seed(0)
    teacher = nn.Linear(5, 4, dtype=dtype).eval()
    x, scores = torch.randn(3, 2, 5, dtype=dtype), torch.randn(3, 2, 4, dtype=dtype)
    scores.requires_grad_()
    loss = xb.Distillation(teacher, temperature=2.5)(SimpleNamespace(logits=scores), x)
    loss.backward()
    wide = [t.detach().double().numpy() for t in (teacher(x), scores)]
    p, q = (softmax(z / 2.5) for z in wide)
    exact = dtype == torch.float64
    wanted = 2.5**2 * (p * np.log(p / q)).sum(-1).mean()
    assert loss.item() == pytest.approx(wanted, rel=1e-12 if exact else 1e-5)
    assert np.allclose(
        scores.grad.double().numpy(), 2.5 * (q - p) / 6, atol=1e-12 if exact else 1e-3
    )
    assert teacher.weight.grad is None


def test_classes_of_images_lie_in_another_dimension():
    teacher = nn.Conv2d(2, 3, 1).eval()
    x, scores = torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4)
    images = xb.Distillation(teacher, dim=1)(scores, x)
    lines = xb.Distillation(nn.Identity().eval())(
        scores.permute(0, 2, 3, 1), teacher(x).permute(0, 2, 3, 1)
    )
    assert images.item() == pytest.approx(lines.item(), rel=1e-5) and images.item() > 0.01


def test_what_cannot_teach_is_refused():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout()), torch.randn(2, 4)
    with pytest.raises(ValueError, match="evaluation"):
        xb.Distillation(net)(net(x), x)
    with pytest.raises(ValueError, match="one shape"):
        xb.Distillation(net.eval())(net(x)[:1], x)
    with pytest.raises(TypeError, match="logits"):
        xb.Distillation(net)((net(x),), x)
    with pytest.raises(ValueError, match="temperature"):
        xb.Distillation(net, temperature=0.0)


@pytest.mark.slow
def test_a_network_learns_from_its_teacher_through_a_noisy_chip():
    """Without labels, from other weights than the teacher's."""
    torch.manual_seed(0)
    make = lambda: nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 5))  # noqa: E731
    net, x = make().eval(), 2 * torch.randn(256, 8)
    cell = Device(1e-6, 50e-6, read=GaussianRead(0.02), write=GaussianWrite(0.02))
    aware = xb.convert(make(), xb.Chip(cell), seed=0)
    loss = xb.Distillation(net, temperature=0.5)
    with torch.no_grad():
        before = loss(aware(x), x)
    optimizer = torch.optim.Adam(aware.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss(aware(x), x).backward()
        optimizer.step()
    with torch.no_grad():
        assert loss(xb.program(aware)(x), x) < before / 5
