"""Adjoint gradients and read variance against finite differences and Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from crossbar.wires import Approximate, Floating, Iterative, SourceLine, Wires, prepare
from devices import CubicIV, SinhIV
from devices.part import IV
from tests.circuit_cases import cells, volts

ENDS = {
    "plain": {},
    "chen": {"end_segments": False},
    "both": {"both_drivers": True, "both_senses": True},
    "two_senses": {"both_senses": True, "end_segments": False},
}
SOLVERS = {
    "exact": (None, None),
    "iterative": (Iterative(1e-14), None),
    "approximate": (Approximate(), None),
    "sinh": (None, SinhIV(0.5)),
    "strong_sinh": (None, SinhIV(0.166667)),
    "cubic": (None, CubicIV(b=1.5)),
}


def ohms(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_gradcheck(ends: str, solver: str) -> None:
    """All inputs, all conductances, all four resistances; scaled to numbers near one."""
    method, iv = SOLVERS[solver]
    g = torch.stack([cells(5, 4, k).clamp(1e-6) for k in range(2)]) * 2e3
    x = torch.stack([volts(5, k) for k in range(3)])

    def read(x: Tensor, g: Tensor, *r: Tensor) -> Tensor:
        wires = Wires(*(v * 200 for v in r), **ENDS[ends])
        return 1e4 * prepare(g * 1e-3, wires, iv, method).mv(x)

    inputs = (x.requires_grad_(), g.requires_grad_(), *ohms(0.3, 0.5, 0.7, 0.2))
    assert gradcheck(read, inputs, eps=1e-5, atol=1e-7, rtol=1e-6)


def test_many_inputs_are_merged_without_a_change() -> None:
    """More inputs than lines take the unit-vector path; the gradients stay the same."""
    g, x = cells(6, 4, 2), torch.stack([volts(6, k) for k in range(30)])
    bar = torch.stack([volts(4, k) for k in range(30)])
    network = prepare(g, Wires(30.0, 50.0, 70.0, 20.0, both_senses=True))
    many = network.vjp(x, bar)
    few = [network.vjp(x[k : k + 1], bar[k : k + 1]) for k in range(30)]
    assert torch.allclose(many.x, torch.cat([f.x for f in few]), rtol=1e-12)
    for mine, parts in zip(many[1:], list(zip(*few, strict=True))[1:], strict=True):
        assert torch.allclose(mine, torch.stack(parts).sum(0), rtol=1e-10, atol=1e-30)


@pytest.mark.parametrize("ends", ENDS)
def test_gradient_of_the_effective_matrix(ends: str) -> None:
    """Through the joints, the same as one adjoint solve for every row."""
    for shape, off in (((11, 6), None), ((13, 30), Floating((1, 5), (2,)))):
        g = torch.stack([cells(*shape, k) for k in range(2)])
        bar = torch.stack([cells(*shape, 9 + k) for k in range(2)]) * 1e4 - 0.1
        wires = Wires(100.0, 150.0, 200.0, 50.0, **ENDS[ends])
        network = prepare(g, wires, floating=off)
        unit = torch.eye(shape[0], dtype=g.dtype)
        wanted = network.vjp(unit, bar).g
        assert float((network.pullback(bar) - wanted).abs().max() / wanted.abs().max()) < 1e-11


@pytest.mark.parametrize("iv", [None, SinhIV(0.25), SinhIV(0.166667)])
def test_floating_lines(iv: IV | None) -> None:
    """Steeper laws, which leave the chord steps for Newton's, are held against ngspice."""
    off = Floating((1,), (2,))

    def read(x: Tensor, g: Tensor, *r: Tensor) -> Tensor:
        wires = Wires(*(v * 200 for v in r), both_drivers=True)
        return 1e4 * prepare(g * 1e-3, wires, iv, floating=off).mv(x)

    g, x = (cells(5, 4, 1).clamp(1e-6) * 1e3).requires_grad_(), volts(5, 2).requires_grad_()
    assert gradcheck(read, (x, g, *ohms(0.3, 0.5, 0.7, 0.2)), eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("opposite", [False, True])
def test_gated(opposite: bool) -> None:
    x = torch.tensor([0.2, 0.0, -0.2, 0.2, -0.2], dtype=torch.float64)
    source = SourceLine(0.2, 300.0, 100.0, opposite)

    def read(g: Tensor, r_bitline: Tensor, r_sense: Tensor) -> Tensor:
        wires = Wires(0.0, r_bitline * 200, 0.0, r_sense * 200, both_senses=True, source=source)
        return 1e4 * prepare(g * 1e-3, wires).mv(x)

    g = (cells(5, 4, 1).clamp(1e-6) * 1e3).requires_grad_()
    assert gradcheck(read, (g, *ohms(0.5, 0.2)), eps=1e-5, atol=1e-7, rtol=1e-6)
    with pytest.raises(ValueError, match="gated inputs must be 0 or"):
        prepare(g.detach(), Wires(1.0, 1.0, source=source)).mv(x * 0.7)


def interleaved(g: Tensor) -> Tensor:
    plus, minus = g
    return torch.stack((plus, minus), -1).reshape(g.shape[1], -1)


def test_interleaved_pair_is_one_array_of_alternating_columns() -> None:
    g = torch.stack((cells(5, 4, 1), cells(5, 4, 2)))
    wires = Wires(30.0, 20.0, 5.0, 10.0, interleaved=True)
    plain = Wires(30.0, 20.0, 5.0, 10.0)
    x, d = volts(5, 1), torch.stack((volts(4, 2), -volts(4, 2)))
    network, one = prepare(g, wires), prepare(interleaved(g), plain)
    assert torch.equal(network.mv(x)[0], one.mv(x)[0::2])
    assert torch.equal(network.mv(x)[1], one.mv(x)[1::2])
    both = torch.stack((d[0], d[1]), -1).flatten()
    assert torch.allclose(network.mv_t(d), one.mv_t(both), rtol=1e-13)
    leaf = (g.clamp(1e-6) * 1e4).requires_grad_()
    assert gradcheck(lambda v: 1e4 * prepare(v * 1e-4, wires).mv(x), (leaf,), atol=1e-8)


@pytest.mark.parametrize("solver", ["exact", "iterative", "sinh"])
def test_variance_is_that_of_the_linearised_circuit(solver: str) -> None:
    """Σ (∂I/∂g σ)² with the whole Jacobian by autograd, which is itself gradchecked above."""
    method, iv = SOLVERS[solver]
    g, x = cells(5, 4, 1), torch.stack([volts(5, k) for k in range(3)])
    std = 0.05 * cells(5, 4, 7)
    wires = Wires(300.0, 200.0, 50.0, 100.0)
    jacobian = torch.autograd.functional.jacobian(lambda v: prepare(v, wires, iv, method).mv(x), g)
    wanted = (jacobian * std).square().sum((-2, -1))
    network = prepare(g, wires, iv, method)
    assert torch.allclose(network.variance(x, std), wanted, rtol=1e-7)
    sums = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    wanted = (torch.einsum("on,knij->koij", sums, jacobian) * std).square().sum((-2, -1))
    assert torch.allclose(network.variance(x, std, sums), wanted, rtol=1e-7)


def test_variance_is_what_repeated_reads_scatter() -> None:
    """2000 noisy reads of a strongly coupled array; 5 standard errors of a variance."""
    draw = torch.Generator().manual_seed(0)
    g, x = cells(6, 5, 1).clamp(1e-6, 1e-4), volts(6, 1)
    std = 0.02 * g
    noise = torch.randn(2000, 6, 5, generator=draw, dtype=torch.float64)
    wires = Wires(200.0, 200.0)
    reads = prepare((g + std * noise).clamp_min(0), wires).mv(x)
    wanted = prepare(g, wires).variance(x, std)
    assert torch.all((reads.var(0) / wanted - 1).abs() < 5 * (2 / 2000) ** 0.5)
