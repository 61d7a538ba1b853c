"""The autograd function of every analog layer: forward a read, backward a transposed read."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from crossbar.array import Plane
from crossbar.chip import Chip
from crossbar.converters import Port
from crossbar.operations import Conv, Matmul
from crossbar.quantise import balanced
from crossbar.streams import Streams


class Reader(Protocol):
    """What a read needs of the layer it happens in."""

    chip: Chip
    op: Matmul | Conv
    streams: Streams
    forward_port: Port
    backward_port: Port

    @property
    def span(self) -> float:
        """Part of the window that a weight can use."""

    @property
    def physical_backward(self) -> bool:
        """Whether the input gradient is a transposed read of the array."""

    def stash(self, x: Tensor, d: Tensor) -> Tensor:
        """The weight's gradient, or a placeholder for it where (x, δ) are kept."""

    def as_matrix(self, weight: Tensor) -> Tensor:
        """torch's weight as (..., rows, cols)."""


def read(x: Tensor, plane: Plane, gain: Tensor, layer: Reader) -> Tensor:
    """Forward read: DAC, Ohm and Kirchhoff, read noise, an ADC per row tile, digital sum.

    Currents are in units of v_max ΔG. White read noise is added to each tile's output with its
    exact variance Σ σ²v², instead of drawing every cell for every read.
    """
    op, port, streams = layer.op, layer.forward_port, layer.streams
    rows, cols = plane.matrix.shape[-2:]
    v, scale = port.encode(x, op, streams)
    unit = port.settings.v_max * layer.chip.device.window.span
    total = None
    for tile, (a, b) in enumerate(balanced(rows, layer.chip.tile and layer.chip.tile[0])):
        i = _product(op.mv, v, plane.matrix, a, b)
        if plane.variance is not None:
            if plane.variance.dim() == 0:
                power = op.energy(v, a, b, cols) * plane.variance
            else:
                power = op.mv(v.square(), plane.variance, a, b)
            i = torch.addcmul(i, streams.normal(i), power.sqrt().to(i.dtype))
        i = port.digitise(
            i, tile, b - a, unit=unit, span=layer.span, channel=op.channel, streams=streams
        )
        total = i if total is None else total + i
    assert total is not None
    return _scaled(total, scale, gain)


def read_t(d: Tensor, plane: Plane, gain: Tensor, layer: Reader, shape: torch.Size) -> Tensor:
    """Transposed read of δ through the backward converters, one ADC per column tile.

    An ADC digitises every receptive field of a convolution before they are folded together.
    """
    op, port, streams = layer.op, layer.backward_port, layer.streams
    matrix = plane.matrix if plane.back is None else plane.back
    cols = matrix.shape[-1]
    v, scale = port.encode(d, op, streams)
    unit = port.settings.v_max * layer.chip.device.window.span
    by_vector = port.settings.adc is not None or plane.variance is not None
    product = op.mv_t_vectors if by_vector else op.mv_t
    total = None
    for tile, (a, b) in enumerate(balanced(cols, layer.chip.tile and layer.chip.tile[1])):
        i = _product(product, v, matrix, a, b, shape)
        if plane.variance is not None:
            if plane.variance.dim() == 0:
                power = op.energy_t(v, a, b, shape) * plane.variance
            else:
                power = product(v.square(), plane.variance, a, b, shape)
            i = torch.addcmul(i, streams.normal(i), power.sqrt().to(i.dtype))
        i = port.digitise(i, tile, b - a, unit=unit, span=layer.span, channel=-1, streams=streams)
        total = i if total is None else total + i
    assert total is not None
    if by_vector:
        total = op.gather(total, shape)
    return _scaled(total, scale, gain)


def _product(f: Any, v: Tensor, matrix: Tensor, *where: Any) -> Tensor:
    """A product in the precision of v, its currents at least in float32."""
    i: Tensor = f(v, matrix.to(v.dtype), *where)
    return i.float() if i.dtype in (torch.float16, torch.bfloat16) else i


def _scaled(total: Tensor, scale: Tensor | None, gain: Tensor) -> Tensor:
    factor = gain.to(total.dtype)
    return total * (factor if scale is None else factor * scale)


class AnalogRead(torch.autograd.Function):
    """y = read(x); the input's gradient is a transposed read, the weight's the layer's own.

    Where the matrix itself is differentiable (a float weight seen through wires), it is given the
    gradient of the product instead, and autograd carries it on to the conductances.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        matrix: Tensor,
        variance: Tensor | None,
        back: Tensor | None,
        gain: Tensor,
        layer: Reader,
    ) -> Tensor:
        """See `read`; `weight` is here so that autograd asks for its gradient."""
        return read(x, Plane(matrix, variance), gain, layer).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the backward read needs."""
        x, _, matrix, variance, back, gain, layer = inputs
        ctx.save_for_backward(x, matrix, variance, back, gain)
        ctx.save_for_forward(x, matrix, gain)
        ctx.layer = layer

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """Input gradient, weight gradient (in situ: kept for the update), the matrix's."""
        x, matrix, variance, back, gain = ctx.saved_tensors
        layer: Reader = ctx.layer
        grad_x = grad_w = grad_m = None
        if ctx.needs_input_grad[0]:
            if layer.physical_backward:
                grad_x = read_t(d, Plane(matrix, variance, back), gain, layer, x.shape)
            else:
                whole = (0, matrix.shape[-1], x.shape)
                product = layer.op.mv_t(d, matrix.to(d.dtype), *whole)
                grad_x = product * gain.to(d.dtype)
            grad_x = grad_x.to(x.dtype)
        if ctx.needs_input_grad[1]:
            grad_w = layer.stash(x, d)
        if ctx.needs_input_grad[2]:
            grad_m = layer.op.outer(x, d).to(matrix.dtype) * gain
        return grad_x, grad_w, grad_m, None, None, None, None


class DualRead(AnalogRead):
    """`AnalogRead` with a forward-mode derivative, which compiled regions cannot take."""

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, w_t: Tensor | None, *_: Any) -> Tensor:
        """Forward-mode derivative of the ideal product with the matrix that was used."""
        x, matrix, gain = ctx.saved_tensors
        op, rows = ctx.layer.op, matrix.shape[-2]
        parts = []
        if x_t is not None:
            parts.append(op.mv(x_t, matrix.to(x_t.dtype), 0, rows) * gain.to(x_t.dtype))
        if w_t is not None:
            parts.append(op.mv(x, ctx.layer.as_matrix(w_t).to(x.dtype), 0, rows))
        return sum(parts[1:], start=parts[0])
