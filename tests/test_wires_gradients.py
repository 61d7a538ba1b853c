"""Adjoint gradients and read variance against finite differences and Jacobians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import crossbar as xb
from crossbar.wires import (
    Approximate,
    Floating,
    Iterative,
    Readable,
    Solvable,
    Solver,
    SourceLine,
    Wires,
    effective,
    prepare,
)
from crossbar.wires.settings import Resistance
from devices import CubicIV, Device, SinhIV
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


@pytest.mark.parametrize(
    ("solver", "ends"),
    [
        pytest.param(
            solver,
            ends,
            marks=pytest.mark.slow if solver == "strong_sinh" and ends != "both" else (),
        )
        for solver in SOLVERS
        for ends in ENDS
    ],
)
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


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("tile", [None, (4, 5)])
@pytest.mark.parametrize("shape", [(9, 6), (5, 11)])
@pytest.mark.parametrize("solver", [None, Iterative(1e-14), Approximate()], ids=repr)
def test_resistances_of_a_layer(
    solver: Solver | None,
    shape: tuple[int, int],
    tile: tuple[int, int] | None,
    interleaved: bool,
) -> None:
    """All four against central differences, with the weight trained along and frozen."""
    torch.manual_seed(0)
    weight, x = torch.randn(shape[::-1]).double() / 4, torch.randn(3, shape[0]).double()
    values = (20.0, 35.0, 100.0, 40.0)

    def layer(r: Sequence[Resistance]) -> xb.AnalogLinear:
        cell, perfect = Device(1e-6, 100e-6), xb.Periphery(dac=None, adc=None)
        wires = Wires(*r, both_senses=True, interleaved=interleaved)
        chip = xb.Chip(cell, forward=perfect, wires=wires, tile=tile, solver=solver)
        made = xb.AnalogLinear(*shape, chip=chip, bias=False, seed=0, dtype=torch.float64)
        made.weight.data.copy_(weight)
        return made

    def loss(r: Sequence[Resistance]) -> Tensor:
        return layer(r)(x).square().sum()

    r = ohms(*values)
    model, frozen, plain = layer(r), layer(r).requires_grad_(False), layer(values)
    for each in (model, plain):
        each(x).square().sum().backward()
    again = torch.autograd.grad(frozen(x).square().sum(), r)
    assert torch.allclose(model.weight.grad, plain.weight.grad, rtol=1e-9, atol=0)
    for k, value in enumerate(values):
        up, down = ([*values[:k], value * (1 + h), *values[k + 1 :]] for h in (1e-4, -1e-4))
        with torch.no_grad():
            wanted = float(loss(up) - loss(down)) / (2e-4 * value)
        assert float(r[k].grad) == pytest.approx(wanted, rel=1e-5), k
        assert float(again[k]) == pytest.approx(wanted, rel=1e-5), k


@pytest.mark.parametrize("interleaved", [False, True])
def test_chips_stacked_by_vmap_share_resistances(interleaved: bool) -> None:
    chips = torch.stack([torch.stack([cells(9, 7, k), cells(9, 7, k + 5)]) for k in range(3)])
    found = []
    for stacked in (True, False):
        r, g = ohms(2.0, 3.0, 5.0, 4.0), chips.clone().requires_grad_()
        wires = Wires(*r, interleaved=interleaved)

        def seen(g: Tensor, wires: Wires = wires) -> Tensor:
            return effective(g, wires, None, (5, 4))

        matrices = torch.func.vmap(seen)(g) if stacked else torch.stack([seen(one) for one in g])
        (1e6 * matrices).square().sum().backward()
        found.append((matrices, g.grad, *(v.grad for v in r)))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-30)


def test_resistances_of_cells_without_a_matrix_are_refused() -> None:
    """No gradient reaches them in a layer: better said than left out."""
    gates = xb.Periphery(xb.DAC(4, v_max=0.2), None)
    r, x = ohms(2.0)[0], torch.randn(2, 5)
    for chip in (
        xb.Chip(Device(1e-6, 5e-5, iv=SinhIV(0.2)), wires=Wires(r, 1.0)),
        xb.Chip(Device(1e-6, 5e-5), forward=gates, wires=Wires(0.0, r, source=SourceLine(0.2))),
    ):
        layer = xb.AnalogLinear(5, 3, chip=chip, seed=0)
        with pytest.raises(TypeError, match="get no gradient in a layer"):
            layer(x)
        with torch.no_grad():
            assert layer(x).shape == (2, 3)


def test_gated_noise_and_gradient_of_rows_one_by_one() -> None:
    source, g = SourceLine(0.2, 300.0, 100.0), cells(5, 4, 1).clamp(1e-6)
    wires, x = Wires(0.0, 200.0, 0.0, 50.0, source=source), 0.2 * (volts(5, 1) > 0).double()
    network, std = prepare(g, wires), 0.05 * cells(5, 4, 7)
    jacobian = torch.autograd.functional.jacobian(lambda v: prepare(v, wires).mv(x), g)
    wanted = (jacobian * std).square().sum((-2, -1))
    assert torch.allclose(network.variance(x, std), wanted, rtol=1e-10, atol=0)
    assert network.residual < 1e-10
    leaf, bar = g.clone().requires_grad_(), cells(5, 4, 3) * 1e4
    rows = prepare(leaf, wires).mv(0.2 * torch.eye(5).double()) / 0.2
    (by_g,) = torch.autograd.grad(rows, leaf, bar)
    assert torch.allclose(network.pullback(bar), by_g, rtol=1e-10, atol=0)


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_formula_knows_no_voltages(interleaved: bool) -> None:
    g, wires = torch.stack([cells(5, 4, 1), cells(5, 4, 2)]), Wires(1.0, 1.0)
    wires = replace(wires, interleaved=interleaved)
    exact, rough = prepare(g, wires), prepare(g, wires, solver=Approximate())
    assert isinstance(exact, Solvable) and not isinstance(rough, Solvable)
    assert isinstance(rough, Readable) and not hasattr(rough, "fields")
    for ask in (lambda: rough.variance(volts(5, 1), 1e-7 * g), lambda: rough.fields(volts(5, 1))):
        with pytest.raises(TypeError, match=r"Approximate\(\) knows no voltages .* use Exact"):
            ask()
    with pytest.raises(AttributeError, match="no attribute 'voltages'"):
        _ = rough.voltages
