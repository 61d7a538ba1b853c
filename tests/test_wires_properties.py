"""Laws that every solved array obeys, over random arrays, lines and κ from 0.01 to 100."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossbar.wires import (
    Approximate,
    Exact,
    Fields,
    Floating,
    Iterative,
    Newton,
    NotConverged,
    Wires,
    prepare,
)
from devices import CubicIV, MiloIV, SinhIV
from devices.part import IV
from tests.circuit_cases import cells, dense, volts


class Draw(NamedTuple):
    g: Tensor
    wires: Wires
    x: Tensor
    y: Tensor


@st.composite
def arrays(draw: st.DrawFn, both: bool = True, largest: int = 12) -> Draw:
    """An array whose lines are scaled to a κ between 0.01 and 100."""
    m, n = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    seed = draw(st.integers(0, 10_000))
    g, x, y = cells(m, n, seed), volts(m, seed), volts(n, seed + 1)
    r = [10 ** draw(st.floats(-1, 1)) * draw(st.sampled_from([0.0, 1.0, 1.0])) for _ in range(4)]
    wires = Wires(
        *r,
        end_segments=draw(st.booleans()),
        both_drivers=both and draw(st.booleans()),
        both_senses=both and draw(st.booleans()),
    )
    kappa = wires.kappa(g)
    if kappa > 0:
        scale = 10 ** draw(st.floats(-2, 2)) / kappa
        wires = replace(
            wires, r_wordline=r[0] * scale, r_bitline=r[1] * scale, r_driver=r[2] * scale
        )
    return Draw(g, wires, x, y)


fast = settings(max_examples=60, deadline=None, derandomize=True)
few = settings(max_examples=25, deadline=None, derandomize=True)


def gap(a: Tensor, b: Tensor, scale: Tensor | None = None) -> float:
    return float(
        (a - b).abs().max() / (b if scale is None else scale).abs().max().clamp_min(1e-300)
    )


def ohm_and_kirchhoff(f: Fields, d: Draw, current: Tensor) -> None:
    """Every branch obeys its law and every node its balance, checked from the answer alone."""
    r_w, r_b, r_d, r_s = d.wires.ohms
    end_w, end_b = (r_d + r_w, r_s + r_b) if d.wires.end_segments else (r_d, r_s)
    volt = max(float(d.x.abs().max()), float(d.y.abs().max()))
    amp = float(current.abs().max()) * max(d.g.shape) + 1e-300
    v, b = f.wordline_voltage, f.bitline_voltage
    assert float((v - b - f.cell_voltage).abs().max()) < 1e-11 * volt
    assert float((f.cell_current - current).abs().max()) < 1e-10 * amp
    left = torch.cat((d.x[:, None], v[:, :-1]), -1)
    ohm = torch.full((d.g.shape[1],), r_w, dtype=v.dtype)
    ohm[0] = end_w
    assert float((left - v - ohm * f.wordline_current).abs().max()) < 1e-11 * volt
    below = torch.cat((b[1:], d.y[None]), 0)
    ohm = torch.full((d.g.shape[0], 1), r_b, dtype=v.dtype)
    ohm[-1] = end_b
    assert float((b - below - ohm * f.bitline_current).abs().max()) < 1e-11 * volt
    inner = f.wordline_current[:, :-1] - f.cell_current[:, :-1] - f.wordline_current[:, 1:]
    assert float(inner.abs().max()) < 1e-11 * amp if inner.numel() else True
    inner = f.bitline_current[:-1] + f.cell_current[1:] - f.bitline_current[1:]
    assert float(inner.abs().max()) < 1e-11 * amp if inner.numel() else True


@fast
@given(arrays())
def test_laws_hold_and_equal_the_dense_solution(d: Draw) -> None:
    network = prepare(d.g, d.wires)
    f = network.fields(d.x, d.y)
    ohm_and_kirchhoff(f, d, d.g * f.cell_voltage)
    output, u = dense(d.g, d.wires, d.x, d.y)
    assert float((f.cell_voltage - u).abs().max()) < 1e-10
    assert gap(f.output, output, d.g * 1.0) < 1e-9
    assert isinstance(network.solver, Exact) and network.residual < 1e-12


@fast
@given(arrays(both=False))
def test_power_delivered_is_power_dissipated(d: Draw) -> None:
    f = prepare(d.g, d.wires).fields(d.x, d.y)
    r_w, r_b, r_d, r_s = d.wires.ohms
    end_w, end_b = (r_d + r_w, r_s + r_b) if d.wires.end_segments else (r_d, r_s)
    heat = (f.cell_voltage * f.cell_current).sum()
    heat = heat + r_w * f.wordline_current[:, 1:].square().sum()
    heat = heat + end_w * f.wordline_current[:, 0].square().sum()
    heat = heat + r_b * f.bitline_current[:-1].square().sum()
    heat = heat + end_b * f.bitline_current[-1].square().sum()
    assert gap(f.power, heat) < 1e-10
    assert float(f.power) >= 0


@fast
@given(arrays())
def test_reciprocity_and_superposition(d: Draw) -> None:
    network = prepare(d.g, d.wires)
    alike = replace(d.wires, r_sense=d.wires.r_driver)
    same = prepare(d.g, alike)
    delta = volts(d.g.shape[1], 3)
    assert same.matrix is not None and network.matrix is not None
    assert gap(same.transposed.mv(delta.flip(-1)).flip(-1), delta @ same.matrix.mT) < 1e-10
    # the transposed read of unlike ends, by the oracle on the array drawn from the side
    side = replace(
        d.wires,
        r_wordline=d.wires.r_bitline,
        r_bitline=d.wires.r_wordline,
        both_drivers=d.wires.both_senses,
        both_senses=d.wires.both_drivers,
    )
    wanted = dense(d.g.flip(0, 1).mT.contiguous(), side, delta.flip(0))[0].flip(0)
    assert gap(network.mv_t(delta), wanted, d.g * 1.0) < 1e-9
    parts = torch.stack([network.mv(d.x * (torch.arange(len(d.x)) == k)) for k in range(len(d.x))])
    assert gap(parts.sum(0), network.mv(d.x), d.g * 1.0) < 1e-12
    assert gap(3 * network.mv(d.x), network.mv(3 * d.x)) < 1e-13


@fast
@given(arrays())
def test_iterations_agree_or_say_that_they_do_not(d: Draw) -> None:
    exact, iterative = prepare(d.g, d.wires), prepare(d.g, d.wires, solver=Iterative())
    assert gap(iterative.mv(d.x), exact.mv(d.x), d.g * 0.5) < 1e-10
    assert gap(iterative.mv_t(d.y), exact.mv_t(d.y), d.g * 0.5) < 1e-10
    hurried = prepare(d.g, d.wires, solver=Iterative(max_steps=1))
    try:
        assert gap(hurried.mv(d.x), exact.mv(d.x), d.g * 0.5) < 1e-10
    except NotConverged as error:
        assert "residual" in str(error)


@few
@given(arrays(), st.sampled_from([SinhIV(1), SinhIV(0.25), CubicIV(b=3.0), MiloIV()]))
def test_nonlinear_cells(d: Draw, iv: IV) -> None:
    d = d._replace(g=d.g.clamp(max=200e-6))
    network = prepare(d.g, d.wires, iv)
    f = network.fields(d.x, d.y)
    ohm_and_kirchhoff(f, d, iv.current(d.g, f.cell_voltage))
    assert isinstance(network.solver, Newton) and f.residual < 1e-11
    try:
        prepare(d.g, d.wires, iv, Newton(max_steps=1)).mv(d.x)
    except NotConverged as error:
        assert "residual" in str(error)


@few
@given(arrays(), st.sampled_from([SinhIV(1), SinhIV(0.15), CubicIV(b=3.0)]), st.data())
def test_nonlinear_cells_on_floating_lines(d: Draw, iv: IV, data: st.DataObject) -> None:
    """Ohm's and Kirchhoff's laws; a floating line takes the voltage at which it draws nothing."""
    m, n = d.g.shape
    rows = data.draw(st.sets(st.integers(0, m - 1), max_size=m))
    cols = data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1 if m == len(rows) else n))
    if len(rows) == m and len(cols) == n:
        return
    g = d.g.clamp(max=200e-6)
    network = prepare(g, d.wires, iv, floating=Floating(tuple(rows), tuple(cols)))
    f = network.fields(d.x, d.y)
    amp = float(iv.current(g, torch.tensor(1.0, dtype=g.dtype)).abs().max()) * max(g.shape) + 1e-300
    current = iv.current(g, f.cell_voltage)
    assert float((f.cell_current - current).abs().max()) < 1e-9 * amp
    assert f.residual < 1e-10
    for k in rows:
        assert abs(float(f.cell_current[k].sum())) < 1e-9 * amp
    for k in cols:
        assert abs(float(f.cell_current[:, k].sum())) < 1e-9 * amp
    # the read from the side, of a law that is a straight line
    line = prepare(g, d.wires, CubicIV(b=0.0), floating=Floating(tuple(rows), tuple(cols)))
    exact = prepare(g, d.wires, floating=Floating(tuple(rows), tuple(cols)))
    assert gap(line.mv_t(d.y), exact.mv_t(d.y), g * 1.0) < 1e-10


@few
@given(arrays())
def test_approximation_states_its_error(d: Draw) -> None:
    """First order in κ: the error falls with κ², and what the network states is what it makes."""
    g = d.g.clamp(max=200e-6)
    if not g.any():
        return
    exact, rough = prepare(g, d.wires), prepare(g, d.wires, solver=Approximate())
    ones = torch.ones(g.shape[0], dtype=g.dtype)
    wanted = exact.mv(ones)
    assert gap(rough.mv(ones), wanted) <= 1.0001 * rough.residual + 1e-8  # one of its probes
    weak = 1e-4 / max(d.wires.kappa(g), float(d.wires.r_driver) * float(g.sum()), 1e-4)
    ohms = {
        k: getattr(d.wires, k) * weak for k in ("r_wordline", "r_bitline", "r_driver", "r_sense")
    }
    wires = replace(d.wires, **ohms)
    change = gap(prepare(g, wires).mv(ones), ones @ g)
    second = gap(prepare(g, wires, solver=Approximate()).mv(ones), prepare(g, wires).mv(ones))
    assert second <= 20 * change**2 + 1e-12


@pytest.mark.parametrize("kappa", [0.01, 0.1, 1.0, 10.0, 100.0])
def test_uniform_arrays_lose_what_kappa_says(kappa: float) -> None:
    g = torch.full((32, 32), 1e-5, dtype=torch.float64)
    r = kappa / (32**2 * 1e-5)
    network = prepare(g, Wires(r, r))
    assert network.kappa == pytest.approx(kappa)
    kept = float(network.mv(torch.ones(32, dtype=g.dtype)).sum() / g.sum())
    assert 1 / (1 + kappa) < kept < 1 / (1 + kappa / 5)
    assert network.residual < 1e-12
    x = volts(32, 1)
    for solver in (Iterative(),):
        assert gap(prepare(g, Wires(r, r), solver=solver).mv(x), network.mv(x)) < 1e-9


def test_limits() -> None:
    g, x = cells(9, 7, 3), volts(9, 3)
    g = g.clamp(max=1e-4)
    ideal = x @ g
    assert gap(prepare(g, Wires(0.0, 0.0)).mv(x), ideal) < 1e-14
    errors = [gap(prepare(g, Wires(r, 2 * r)).mv(x), ideal) for r in (1e-2, 1e-4, 1e-6, 1e-8)]
    for one, next_one in zip(errors[:-1], errors[1:], strict=True):
        assert next_one == pytest.approx(one / 100, rel=0.05)
    for wires in (Wires(1e12, 1.0), Wires(1.0, 1e12)):
        network = prepare(g, wires)
        assert float(network.mv(x).abs().max()) < 1e-12 * len(x)
        assert network.residual < 1e-11
    # what ends of high resistance cost elimination, as stated, until they are refused
    for end in (1e4, 1e6, 1e7, 1e8):
        for ends in ({"r_driver": end}, {"r_sense": end}, {"r_driver": end, "r_sense": end}):
            wires = Wires(1.0, 1.0, **ends)
            loose = end * float(torch.maximum(g.sum(0).max(), g.sum(1).max()))
            wanted = dense(g, wires, x)[0]
            assert gap(prepare(g, wires).mv(x), wanted) < 1e-13 + 1e-17 * loose**2
    for ends in ({"r_driver": 1e12}, {"r_sense": 1e12}):
        with pytest.raises(ValueError, match="all but disconnected"):
            prepare(g, Wires(1.0, 1.0, **ends))
        with pytest.raises(ValueError, match="all but disconnected"):
            prepare(g, Wires(1.0, 1.0, **ends), SinhIV(1.0))
    # a line of r → ∞ divides what is left: one cell, Ohm's law in series
    one = torch.tensor([[1e-5]], dtype=torch.float64)
    current = prepare(one, Wires(1e7, 2e7, 3e7, 4e7)).mv(torch.ones(1, dtype=one.dtype))
    assert float(current) == pytest.approx(1 / (1e5 + 1e8), rel=1e-13)


def test_one_dead_line_changes_nothing_elsewhere() -> None:
    g = cells(6, 5, 9)
    g[2] = 0
    g[:, 3] = 0
    network = prepare(g, Wires(5.0, 9.0, 2.0, 1.0))
    out = network.mv(volts(6, 9))
    assert float(out[3]) == 0 and bool(torch.isfinite(out).all())
    assert network.matrix is not None and not bool(network.matrix[2].any())


def test_batches_are_single_arrays() -> None:
    g = torch.stack([torch.stack([cells(6, 9, 3 * i + j) for j in range(3)]) for i in range(2)])
    wires = Wires(3.0, 4.0, 5.0, 6.0)
    x = torch.stack([volts(6, k) for k in range(4)])
    network = prepare(g, wires)
    out, back = network.mv(x), network.mv_t(volts(9, 2))
    fields = network.fields(x)
    assert out.shape == (2, 3, 4, 9) and back.shape == (2, 3, 6)
    for i in range(2):
        for j in range(3):
            alone = prepare(g[i, j], wires)
            assert gap(out[i, j], alone.mv(x)) < 1e-13
            assert gap(back[i, j], alone.mv_t(volts(9, 2))) < 1e-13
            one = alone.fields(x)
            for mine, theirs in zip(fields[:-1], one[:-1], strict=True):
                assert gap(mine[i, j], theirs) < 1e-11


def test_float32_is_solved_in_float64() -> None:
    g = cells(20, 20, 1).clamp(max=1e-4)
    wires = Wires(1.0, 1.0)
    single = prepare(g.float(), wires).mv(volts(20, 1).float())
    assert single.dtype == torch.float32
    assert gap(single.double(), prepare(g, wires).mv(volts(20, 1))) < 1e-6
