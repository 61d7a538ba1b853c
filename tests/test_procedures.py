"""Training without backpropagation: equilibrium propagation and direct feedback alignment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar.equilibrium import settled
from devices import ConstantStep, Device, SoftBounds

F64 = torch.float64
CELL = Device(1e-6, 101e-6, update=ConstantStep(1e-9))


def problem(n=3, sizes=(5, 8, 4), seed=0):
    draw = torch.Generator().manual_seed(seed)
    x, t = (torch.randn(n, k, generator=draw, dtype=F64) for k in (sizes[0], sizes[-1]))
    return x, 0.3 * t


def adjoint(net, x, target):
    """Written apart: one big conductance matrix of all nodes, K λ = v_o − t, −Δv Δλ."""
    sizes, at = net.sizes, [0]
    for n in sizes:
        at.append(at[-1] + n)
    laplace = torch.zeros(at[-1], at[-1], dtype=F64)
    for k, g in enumerate(net.conductances):
        for i in range(sizes[k]):
            for j in range(sizes[k + 1]):
                a, b = at[k] + i, at[k + 1] + j
                laplace[a, a] += g[i, j]
                laplace[b, b] += g[i, j]
                laplace[a, b] -= g[i, j]
                laplace[b, a] -= g[i, j]
    inner = slice(sizes[0], at[-1])
    grads = [torch.zeros_like(g) for g in net.conductances]
    for xs, ts in zip(x, target, strict=True):
        v = torch.zeros(at[-1], dtype=F64)
        v[: sizes[0]] = xs
        current = -laplace[inner, : sizes[0]] @ xs
        v[inner] = torch.linalg.solve(laplace[inner, inner], current)
        error, wide = torch.zeros(at[-1], dtype=F64), torch.zeros(at[-1], dtype=F64)
        error[at[-2] :] = v[at[-2] :] - ts
        wide[inner] = torch.linalg.solve(laplace[inner, inner], error[inner])
        for k, grad in enumerate(grads):
            a, b = slice(at[k], at[k + 1]), slice(at[k + 1], at[k + 2])
            grad -= (v[a, None] - v[None, b]) * (wide[a, None] - wide[None, b])
    return grads


def off(got, want):
    both = [torch.cat([g.flatten() for g in gs]) for gs in (got, want)]
    return float((both[0] - both[1]).abs().max() / both[1].abs().max())


def test_equilibrium_propagation_tends_to_the_adjoint_gradient():
    """One state nudged: O(β); both: O(β²); Richardson over three β: 1e-8."""
    x, t = problem()
    errors = {}
    for symmetric in (False, True):
        net = xb.ResistiveNetwork((5, 8, 4), CELL, symmetric=symmetric)
        want = adjoint(net, x, t)
        unit = net.beta / 0.01
        found = [net.gradient(x, t, b * unit) for b in (1e-1, 5e-2, 2.5e-2)]
        errors[symmetric] = [off(f, want) for f in found]
    one, both = errors[False], errors[True]
    assert one[0] / one[2] == pytest.approx(4, rel=0.15)
    assert both[0] / both[2] == pytest.approx(16, rel=0.15)
    assert both[2] < one[2] / 20
    # of the symmetric difference at 1e-2, 5e-3, 2.5e-3: errors β² and β⁴ taken out
    d = [net.gradient(x, t, b * unit) for b in (1e-2, 5e-3, 2.5e-3)]
    first = [[(4 * b - a) / 3 for a, b in zip(*d[k : k + 2], strict=True)] for k in (0, 1)]
    second = [(16 * b - a) / 15 for a, b in zip(*first, strict=True)]
    assert off(second, want) < 1e-8
    assert off(d[2], want) > 1e-6  # and it is the extrapolation that does it


def test_the_adjoint_is_the_gradient_of_the_cost():
    """torch differentiates the solved circuit."""
    x, t = problem(seed=3)
    net = xb.ResistiveNetwork((5, 8, 4), CELL, leak=0.1)
    leaves = [g.clone().requires_grad_() for g in net.conductances]
    cost = 0.5 * (settled(leaves, x, None, 0.0, net.leak)[-1] - t).square().sum()
    cost.backward()
    net.beta *= 1e-3 / 0.01
    assert off(net.gradient(x, t), [leaf.grad for leaf in leaves]) < 1e-5


def test_a_resistive_network_learns_by_pulses():
    """An output that is the mean of two inputs, by the states of the circuit alone."""
    cell = Device(1e-6, 101e-6, update=SoftBounds(0.2e-6, sigma_c2c=0.3))
    net = xb.ResistiveNetwork((3, 4, 1), cell, rule=xb.Pulsed(xb.ExactBits()), seed=2)
    draw = torch.Generator().manual_seed(0)
    costs = []
    for _ in range(150):
        x = torch.randn(10, 3, generator=draw, dtype=F64)
        t = (x[:, :1] + x[:, 1:2]) / 2
        costs.append(float((net.settle(x)[-1] - t).square().mean()))
        net.step(x, t, 2e-5)
    assert sum(costs[-20:]) < 0.25 * sum(costs[:20])


def test_what_is_no_resistive_network_is_refused():
    with pytest.raises(ValueError, match="two layers"):
        xb.ResistiveNetwork((3,), CELL)
    with pytest.raises(TypeError, match="more arrays"):
        xb.ResistiveNetwork((3, 2), CELL, rule=xb.TikiTaka())
    with pytest.raises(TypeError, match="update law"):
        xb.ResistiveNetwork((3, 2), Device(1e-6, 1e-4))


# ---- direct feedback -----------------------------------------------------------------------------


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3))


def grads(model, x):
    model.zero_grad()
    y = model(x)
    (y.square().sum() / 2).backward()
    return y.detach(), [p.grad.clone() for p in model.parameters()]


def test_direct_feedback_is_its_formula():
    """δ of a layer: (B e) φ′; the last layer's own gradient is the true one."""
    model, x = net().double(), torch.randn(5, 6, dtype=F64)
    y, true = grads(model, x)
    b = [torch.randn(n, 3, dtype=F64) for n in (8, 7)]
    with xb.DirectFeedback(model, ["1", "3"], [8, 7], 3, feedback=b):
        _, got = grads(model, x)
    h1 = torch.tanh(model[0](x)).detach()
    h2 = torch.tanh(model[2](h1)).detach()
    d1, d2 = (y @ b[0].T) * (1 - h1**2), (y @ b[1].T) * (1 - h2**2)
    want = [d1.T @ x, d1.sum(0), d2.T @ h1, d2.sum(0), *true[4:]]
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9)
    _, again = grads(model, x)  # removed
    for g, w in zip(again, true, strict=True):
        assert torch.equal(g, w)


def test_feedback_along_the_weights_is_backpropagation():
    model, x = net().double(), torch.randn(5, 6, dtype=F64)
    linear = nn.Sequential(model[0], model[2], model[4])
    _, true = grads(linear, x)
    down = model[4].weight.detach()
    b = [(down @ model[2].weight.detach()).T, down.T]
    with xb.DirectFeedback(linear, ["0", "1"], [8, 7], 3, feedback=b):
        _, got = grads(linear, x)
    for g, w in zip(got, true, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9)


def test_random_conductances_teach_an_analog_network():
    """Forward arrays are pulsed, feedback arrays are only read."""
    chip = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(0.05e-6, sigma_c2c=0.3)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 20), nn.Tanh(), nn.Linear(20, 3))
    model = xb.convert(model, chip, mode=xb.InSitu(), seed=0)
    optimiser, losses = xb.InSituSGD(model, 0.1), []
    truth = torch.randn(8, 3, generator=torch.Generator().manual_seed(9))
    draw = torch.Generator().manual_seed(1)
    with xb.DirectFeedback(model, ["1"], [20], 3, chip=chip, seed=5) as taught:
        before = taught.arrays[0].written.g.clone()
        for _ in range(150):
            x = torch.randn(20, 8, generator=draw)
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(x), (x @ truth).argmax(1))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert torch.equal(before, taught.arrays[0].written.g)
        start = model[0].weight.detach().as_subclass(Tensor).clone()
        assert bool(start.any())
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
