"""Compensation of the IR drop, as hardware does it: place, predistort, and rescale.

    xb.reorder(model, batches)             # heavy lines where wires are short
    xb.predistort(model)                   # write the conductances whose circuit is the matrix
    xb.calibrate_columns(other, batches)   # instead: a digital factor and offset per output

All work in place; reordering comes first and goes with either of the others. What they measured
belongs to the chip: moving to another one forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.matrix import Matrix
from crossbar.model import fed, inputs_of, placements
from crossbar.modes import HardwareAware
from crossbar.operations import Operation
from crossbar.planes import Planes, through_wires
from crossbar.probe import Probe
from crossbar.probes import observe
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
        batches: inputs, (inputs, …) tuples or dictionaries of named ones, to
            measure E|x_i| on; None: all alike.

    Raises:
        ValueError: no analog layer, or no batch. TypeError: nonlinear cells.
    """
    inputs = None if batches is None else inputs_of(batches)
    for _, _, parameter, analog in placements(model):
        matrix = analog.matrix
        if analog.chip.wires is None:
            continue
        _ohmic(matrix)
        if analog.chip.spares is not None:
            raise ValueError("lines among spare ones are placed already: leave spares=None")
        weight = analog.form.matrix(parameter.detach()).as_subclass(Tensor).abs()
        if inputs is not None:
            seen = [op.vectors(x, y)[0].abs().mean(0) for op, x, y in _reads(model, matrix, inputs)]
            weight = weight * torch.stack(seen).mean(0)[..., None]
        weight = weight.reshape(-1, *weight.shape[-2:]).sum(0)  # groups share their places
        tile = analog.chip.tile or (None, None)
        rows, cols = balanced(weight.shape[0], tile[0]), balanced(weight.shape[1], tile[1])
        # row 0 is farthest from the sense amplifiers, column 0 nearest to the drivers
        matrix.row_order = torch.cat([a + weight[a:b].sum(1).argsort() for a, b in rows])
        matrix.col_order = torch.cat([c + (-weight[:, c:d].sum(0)).argsort() for c, d in cols])
        if matrix.cells is not None:
            matrix.cells.order = matrix.order
            matrix.cells.refresh()
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
    for _, _, parameter, analog in placements(model):
        matrix = analog.matrix
        if analog.chip.wires is None:
            continue
        _ohmic(matrix)
        if matrix.cells is None:
            raise TypeError(f"program(model) first: mode {HardwareAware()!r} has no cells yet")
        wanted, w_max = matrix.weight, matrix.cells.w_max
        held = wanted.clone()
        let_through = None
        for _ in range(steps):
            seen = _effective_weight(matrix, held)
            if let_through is None:
                power = wanted.square().sum(-2, keepdim=True).clamp_min(1e-30)
                let_through = ((seen * wanted).sum(-2, keepdim=True) / power).clamp(0.05, 1)
            held = (held + let_through * wanted - seen).clamp(-w_max, w_max)
        assert let_through is not None
        matrix.program(held)
        matrix.column_gain = (1 / let_through).squeeze(-2)
        analog.show(parameter)
    return model


@torch.no_grad()
def calibrate_columns(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Fit a digital factor and offset per output to what its layer should give, in place.

    y_j ≈ a_j ŷ_j + b_j by least squares over the batches, ŷ the layer as it is (wires, converters,
    noise), y the product with the weights its cells hold, both on the inputs the layer sees with
    all layers before it compensated. Factors that are there already are refined.

    Args:
        model: a model with analog layers.
        batches: inputs, (inputs, …) tuples or dictionaries of named ones; walked once per layer.

    Raises:
        ValueError: no analog layer, no batch, or a predistorted layer.
    """
    inputs = inputs_of(batches)
    for _, _, parameter, analog in placements(model):
        held = analog.matrix
        if held.column_gain is not None and held.column_offset is None:
            raise ValueError(
                "a predistorted layer holds other weights than it computes: use either "
                "predistort or calibrate_columns"
            )
        columns = []
        for op, x, y in _reads(model, held, inputs):
            matrix = op.form.matrix(parameter.detach().as_subclass(Tensor)).to(x.dtype)
            wanted = op.forward.whole(x, matrix, op.sized(y))
            columns.append([op.backward.lines(t) for t in (wanted, y)])
        wanted, own = (torch.cat(part, -2).double() for part in zip(*columns, strict=True))
        mean_wanted, mean_own = wanted.mean(-2, keepdim=True), own.mean(-2, keepdim=True)
        wanted, own = wanted - mean_wanted, own - mean_own
        spread = own.square().sum(-2)
        ratio = torch.where(spread > 0, (wanted * own).sum(-2) / spread, 1.0)
        gain, offset = held.column_gain, held.column_offset
        shift = mean_wanted.squeeze(-2) - ratio * mean_own.squeeze(-2)
        ratio, shift = ratio.to(parameter.dtype), shift.to(parameter.dtype)
        held.column_gain = ratio if gain is None else gain * ratio
        held.column_offset = shift if offset is None else offset * ratio + shift
    return model


def _ohmic(matrix: Matrix) -> None:
    if matrix.chip.device.iv is not None:
        raise TypeError(
            "cells with a current-voltage law (device.iv) have no effective matrix to place or "
            "predistort by; calibrate_columns works"
        )
    if matrix.chip.gate_bits is not None:
        raise TypeError(
            "tiles with source lines (1T1R) have no effective matrix to place or predistort by; "
            "calibrate_columns works"
        )


def _reads(
    model: nn.Module, matrix: Matrix, inputs: list[Any]
) -> list[tuple[Operation, Tensor, Tensor]]:
    """What one matrix is given and gives, without bias, when the model runs."""
    uses = _Uses()
    with observe(matrix, uses):
        for x in inputs:
            fed(model, x)
    if not uses.seen:
        raise ValueError("a layer was never used by these batches and cannot be compensated")
    return uses.seen


class _Uses(Probe):
    """What a matrix was used for."""

    def __init__(self) -> None:
        self.seen: list[tuple[Operation, Tensor, Tensor]] = []

    def finished(self, matrix: Any, op: Any, x: Tensor, y: Tensor) -> None:
        """Kept."""
        self.seen.append((op, x, y))


def _effective_weight(matrix: Matrix, weight: Tensor) -> Tensor:
    """Logical weights (..., rows, cols) that reads would see of cells written with `weight`."""
    chip, w_max = matrix.chip, matrix.written.w_max
    cells = chip.mapping.targets(weight / w_max, chip.device)
    seen, _ = through_wires(chip, cells, matrix.lies)
    planes = matrix.written.over_line(Planes(chip.layout.planes(seen, chip.device.window.span)))
    return chip.layout.logical(planes.matrix, chip.floor) * w_max
