"""Reordering, predistortion and column calibration against the IR drop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar.quantise import balanced
from devices import Device, SoftBounds
from tests._analog import cells_of, matrix_of, per_siemens
from tests.circuit_cases import dense
from tests.test_wires_layers import PERFECT, chip, linear

WIRES = xb.Wires(60.0, 60.0)


def error(model: nn.Module, wanted: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - wanted(x)).norm() / wanted(x).norm())


def network(
    wires: xb.Wires | None,
    tile: tuple[int, int] = (16, 12),
    mapping: xb.Mapping = xb.Differential(),  # noqa: B008 - frozen
) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(150, 30), nn.ReLU(),
        nn.Linear(30, 5),
    ).double()  # fmt: skip
    device = Device(1e-6, 100e-6, update=SoftBounds(0.1e-6))
    chip = xb.Chip(device, mapping, forward=PERFECT, wires=wires, tile=tile)
    # the far cells of a line need room above the largest weight
    return xb.program(xb.convert(net, chip, mode=xb.HardwareAware(headroom=4.0), seed=0))


def inputs(seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(24, 2, 5, 5, generator=draw, dtype=torch.float64)


def test_reordered_cells_lie_where_they_are_said_to() -> None:
    tile = (7, 6)
    model = linear(19, 12, WIRES, xb.InSitu(), tile=tile)
    layer, x = model[0], torch.rand(19, dtype=torch.float64) - 0.5  # type: ignore[index]
    with torch.no_grad():
        before = model(x)
        xb.reorder(model)
        after = model(x)
    rows, cols = matrix_of(layer).order
    weight = layer.weight.detach().mT.abs()
    wanted = torch.zeros(12, dtype=torch.float64)
    for a, b in balanced(19, 7):
        assert sorted(rows[a:b].tolist()) == list(range(a, b))
        heavy = weight[rows[a:b]].sum(1)
        assert bool((heavy.diff() >= 0).all())
        for c, d in balanced(12, 6):
            assert bool((weight[:, cols[c:d]].sum(0).diff() <= 0).all())
            for sign, g in zip((1, -1), cells_of(layer).g, strict=True):
                placed = g[rows[a:b]][:, cols[c:d]]
                wanted[cols[c:d]] += sign * dense(placed, WIRES, x[rows[a:b]])[0]
    wanted *= per_siemens(layer)
    assert torch.allclose(after, wanted, rtol=1e-10, atol=1e-13)
    assert not torch.allclose(after, before, rtol=1e-3)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(model(x).sum(), x)
    assert torch.allclose(grad, torch.autograd.functional.jacobian(model, x.detach()).sum(0))


@pytest.mark.parametrize("mapping", [xb.Differential(), xb.OffsetColumn()], ids=str)
def test_predistorted_cells_have_the_wanted_circuit(mapping: xb.Mapping) -> None:
    model, ideal = network(WIRES, mapping=mapping), network(None)
    x = inputs(1)
    raw = error(model, ideal, x)
    held = cells_of(model[0]).g.clone()  # type: ignore[index]
    xb.predistort(model)
    assert not torch.equal(cells_of(model[0]).g, held)  # type: ignore[index]
    assert raw > 0.15 and error(model, ideal, x) < 0.02 * raw


def test_calibrated_columns_are_the_least_squares_fit() -> None:
    model, ideal = network(WIRES), network(None)
    raw = error(model, ideal, inputs(1))
    xb.calibrate_columns(model, [inputs(2), inputs(3)])
    fitted = error(model, ideal, inputs(1))
    assert fitted < 0.3 * raw
    matrices = [matrix_of(model[k]) for k in (0, 3, 5)]  # type: ignore[index]
    gains = [matrix.column_gain.clone() for matrix in matrices]  # type: ignore[union-attr]
    xb.calibrate_columns(model, [inputs(2), inputs(3)])
    for matrix, gain in zip(matrices, gains, strict=True):
        assert torch.allclose(matrix.column_gain, gain, rtol=1e-6)  # a fit of a fit changes nothing
    xb.reorder(other := network(WIRES), [inputs(2)])
    xb.calibrate_columns(other, [inputs(2), inputs(3)])
    assert error(other, ideal, inputs(1)) < fitted


def test_compensation_is_saved_with_the_chip_and_forgotten_with_it() -> None:
    model = network(WIRES)
    xb.reorder(model)
    xb.calibrate_columns(model, [inputs(2)])
    fresh = network(WIRES)
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(inputs(1)), model(inputs(1)))
    moved = xb.convert(model, chip(xb.Wires(1.0, 1.0)))
    matrix = matrix_of(moved[0])  # type: ignore[index]
    assert matrix.column_gain is None and matrix.order is None


def test_refusals() -> None:
    model = network(WIRES)
    with pytest.raises(ValueError, match="at least one batch"):
        xb.calibrate_columns(model, [])
    xb.predistort(model)
    with pytest.raises(ValueError, match="predistorted"):
        xb.calibrate_columns(model, [inputs(1)])
    with pytest.raises(TypeError, match="program"):
        xb.predistort(linear(4, 3, WIRES, xb.HardwareAware()))
    with pytest.raises(ValueError, match="steps must be >= 1"):
        xb.predistort(model, steps=0)
