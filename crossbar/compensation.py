"""Compensation of the IR drop, as hardware does it: place, predistort, and rescale.

    xb.reorder(model, batches)             # heavy lines where wires are short
    xb.predistort(model)                   # write the conductances whose circuit is the matrix
    xb.calibrate_columns(model, batches)   # or: a digital factor and offset per output

All work in place; reordering comes first and goes with either of the others. What they measured
belongs to the chip: moving to another one forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.array import through_wires
from crossbar.chip import HardwareAware
from crossbar.layer import AnalogLayer
from crossbar.model import analog_layers
from crossbar.quantise import balanced
from devices._check import whole


@torch.no_grad()
def reorder(model: nn.Module, batches: Iterable[Any] | None = None) -> nn.Module:
    """Place heavy rows near the sense amplifiers and heavy columns near the drivers, in place.

    Within every tile rows are sorted by the current they are expected to carry, E|x_i| Σ_j |w_ij|,
    columns likewise by Σ_i E|x_i| |w_ij|. A tile keeps its rows and columns, so converters and
    partial sums stay what they were; where cells lie is fixed from here on.

    Args:
        model: a model with analog layers; those without wires are left alone.
        batches: inputs, or (inputs, …) tuples, to measure E|x_i| on; None: all alike.

    Raises:
        ValueError: no analog layer, or no batch. TypeError: nonlinear cells.
    """
    layers = [layer for layer in analog_layers(model) if layer.chip.wires is not None]
    inputs = None if batches is None else _inputs(batches)
    for layer in layers:
        _ohmic(layer)
        weight = layer.as_matrix(layer.weight.detach()).abs()
        if inputs is not None:
            weight = weight * _activity(model, layer, inputs)[..., None]
        weight = weight.reshape(-1, *weight.shape[-2:]).sum(0)  # groups share their places
        tile = layer.chip.tile or (None, None)
        rows, cols = balanced(weight.shape[0], tile[0]), balanced(weight.shape[1], tile[1])
        # row 0 is farthest from the sense amplifiers, column 0 nearest to the drivers
        layer.row_order = torch.cat([a + weight[a:b].sum(1).argsort() for a, b in rows])
        layer.col_order = torch.cat([c + (-weight[:, c:d].sum(0)).argsort() for c, d in cols])
    return model


@torch.no_grad()
def predistort(model: nn.Module, steps: int = 12) -> nn.Module:
    """Write the cells so that their circuit, not they, is the wanted matrix; in place.

    The wanted weights are what the cells hold now. With s_j the part of column j that the wires
    let through, w ← w + s_j W − W_eff(w) is iterated and written, and 1/s_j becomes the column's
    digital factor: no cell need leave its window, only the shape of the IR drop is undone.

    Args:
        model: a programmed or in-situ model; layers without wires are left alone.
        steps: of the iteration, which contracts by about 1 − s_j.

    Raises:
        ValueError: no analog layer. TypeError: nonlinear cells, or a hardware-aware
            layer, which has no cells yet.
    """
    whole("steps", steps, 1)
    for layer in analog_layers(model):
        if layer.chip.wires is None:
            continue
        array = layer.array
        _ohmic(layer)
        if array is None:
            raise TypeError(f"program(model) first: mode {HardwareAware()!r} has no cells yet")
        wanted = array.weight
        held = wanted.clone()
        let_through = None
        for _ in range(steps):
            seen = _effective_weight(layer, held)
            if let_through is None:
                power = wanted.square().sum(-2, keepdim=True).clamp_min(1e-30)
                let_through = ((seen * wanted).sum(-2, keepdim=True) / power).clamp(0.05, 1)
            held = (held + let_through * wanted - seen).clamp(-array.w_max, array.w_max)
        assert let_through is not None
        array.program(held)
        layer.column_gain = (1 / let_through).flatten()
        layer._mirror()
    return model


@torch.no_grad()
def calibrate_columns(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Fit a digital factor and offset per output to what its layer should give, in place.

    y_j ≈ a_j ŷ_j + b_j by least squares over the batches, ŷ the layer as it is (wires, converters,
    noise), y the product with the weights its cells hold, both on the inputs the layer sees with
    all layers before it compensated. Factors that are there already are refined.

    Args:
        model: a model with analog layers.
        batches: inputs, or (inputs, …) tuples; walked once per layer.

    Raises:
        ValueError: no analog layer, no batch, or a predistorted layer.
    """
    inputs = _inputs(batches)
    for layer in analog_layers(model):
        if layer.column_gain is not None and layer.column_offset is None:
            raise ValueError(
                "a predistorted layer holds other weights than it computes: use either "
                "predistort or calibrate_columns"
            )
        columns = []
        for x, y in _reads(model, layer, inputs):
            matrix = layer.as_matrix(layer.weight.detach()).to(x.dtype)
            wanted = layer.op.mv(x, matrix, 0, matrix.shape[-2])
            columns.append([t.movedim(layer.op.channel, -1).flatten(0, -2) for t in (wanted, y)])
        wanted, own = (torch.cat(part).double() for part in zip(*columns, strict=True))
        mean_wanted, mean_own = wanted.mean(0), own.mean(0)
        wanted, own = wanted - mean_wanted, own - mean_own
        spread = own.square().sum(0)
        ratio = torch.where(spread > 0, (wanted * own).sum(0) / spread, 1.0)
        gain, offset = layer.column_gain, layer.column_offset
        shift = mean_wanted - ratio * mean_own
        ratio, shift = ratio.to(layer.weight.dtype), shift.to(layer.weight.dtype)
        layer.column_gain = ratio if gain is None else gain * ratio
        layer.column_offset = shift if offset is None else offset * ratio + shift
    return model


def _ohmic(layer: AnalogLayer) -> None:
    if layer.chip.device.iv is not None:
        raise TypeError(
            "cells with a current-voltage law (device.iv) have no effective matrix to place or "
            "predistort by; calibrate_columns works"
        )
    if layer.chip.gate_bits is not None:
        raise TypeError(
            "tiles with source lines (1T1R) have no effective matrix to place or predistort by; "
            "calibrate_columns works"
        )


def _inputs(batches: Iterable[Any]) -> list[Tensor]:
    inputs = [b[0] if isinstance(b, (tuple, list)) else b for b in batches]
    if not inputs:
        raise ValueError("batches must hold at least one batch, got none")
    return inputs


def _reads(
    model: nn.Module, layer: AnalogLayer, inputs: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """What one layer is given and gives, without bias, when the model runs."""
    seen: list[tuple[Tensor, Tensor]] = []
    read = layer._read

    def spy(x: Tensor) -> Tensor:
        y = read(x)
        seen.append((x, y))
        return y

    layer.__dict__["_read"] = spy
    try:
        for x in inputs:
            model(x)
    finally:
        del layer.__dict__["_read"]
    if not seen:
        raise ValueError("a layer was never used by these batches and cannot be compensated")
    return seen


def _activity(model: nn.Module, layer: AnalogLayer, inputs: list[Tensor]) -> Tensor:
    """E|x_i| of every row, (rows,) or (groups, rows)."""
    sizes = [layer.op.vectors(x, y)[0].abs().mean(0) for x, y in _reads(model, layer, inputs)]
    return torch.stack(sizes).mean(0)


def _effective_weight(layer: AnalogLayer, weight: Tensor) -> Tensor:
    """Logical weights (..., rows, cols) that reads would see of cells written with `weight`."""
    assert layer.array is not None
    device, w_max = layer.chip.device, layer.array.w_max
    cells = layer.chip.mapping.targets(weight / w_max, device)
    seen, _ = through_wires(layer.chip, cells, layer.order)
    return (seen[0] - seen[1]) * (w_max / (layer.span * device.window.span))
