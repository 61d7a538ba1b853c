"""What lies under a layer's weight: shared by the tests that look at cells."""

from __future__ import annotations

from typing import Any

import crossbar as xb
from crossbar.cells import Cells
from crossbar.matrix import Matrix


def weight_of(layer: Any, name: str = "weight") -> xb.AnalogWeight:
    return layer.analog[name]


def matrix_of(layer: Any) -> Matrix:
    return weight_of(layer).matrix


def cells_of(layer: Any) -> Cells:
    return matrix_of(layer).written


def per_siemens(layer: Any) -> float:
    """Logical weight of 1 S of g⁺ − g⁻, from the definition of the routes."""
    cells = cells_of(layer)
    device, mapping = cells.chip.device, cells.chip.mapping
    return float(cells.w_max) / (mapping.encoding(device).span * device.window.span)


def write(layer: Any, weight: Any) -> None:
    """Write logical weights (..., rows, cols) and show them."""
    matrix_of(layer).program(weight)
    weight_of(layer).show(layer.weight)


def update(layer: Any, x: Any, d: Any, lr: float) -> None:
    """One update by the layer's own scheme."""
    weight = weight_of(layer)
    weight.matrix.update(x, d, lr, weight.mode.scheme)
    weight.show(layer.weight)
