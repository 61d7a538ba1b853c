"""The autograd function of every analog layer: forward a read, backward a transposed read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from crossbar.array import Plane
from crossbar.chip import Chip
from crossbar.converters import Port
from crossbar.operations import Conv, Matmul
from crossbar.quantise import balanced
from crossbar.streams import Streams
from crossbar.wires import CellTiles

Currents = tuple[Tensor, Tensor | None]
"""Currents of one tile and the variance of their read noise, in units of v_max ΔG."""


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
    op, port = layer.op, layer.forward_port
    rows, cols = plane.matrix.shape[-2:]
    v, scale = port.encode(x, op, layer.streams)
    unit = _unit(layer, port.settings.v_max)

    def currents(a: int, b: int) -> Currents:
        if plane.tiles is not None:
            volts = op.flat(_wide(v)) * port.settings.v_max
            i = op.unflat(plane.tiles.mv(volts, a)[0], x.shape) / unit
            power = plane.tiles.variance(volts, a, b)
            return i, None if power is None else op.unflat(power[0], x.shape) / unit**2
        i = _product(op.mv, v, plane.matrix, a, b)
        if plane.variance is None:
            return i, None
        if plane.variance.dim() == 0:
            return i, op.energy(v, a, b, cols) * plane.variance
        return i, op.mv(v.square(), plane.variance, a, b)

    tiles = balanced(rows, layer.chip.tile and layer.chip.tile[0])
    return _scaled(_converted(currents, tiles, port, layer, op.channel), scale, gain)


def read_t(d: Tensor, plane: Plane, gain: Tensor, layer: Reader, shape: torch.Size) -> Tensor:
    """Transposed read of δ through the backward converters, one ADC per column tile.

    An ADC digitises every receptive field of a convolution before they are folded together.
    """
    op, port = layer.op, layer.backward_port
    matrix = plane.matrix if plane.back is None else plane.back
    v, scale = port.encode(d, op, layer.streams)
    unit = _unit(layer, port.settings.v_max)
    noisy, cells = plane.variance is not None, plane.tiles is not None
    by_vector = port.settings.adc is not None or noisy or cells
    product = op.mv_t_vectors if by_vector else op.mv_t

    def currents(a: int, b: int) -> Currents:
        if plane.tiles is not None:
            volts = op.flat_t(_wide(v)) * port.settings.v_max
            i = op.unflat_t(plane.tiles.mv_t(volts, a)[0], d.shape) / unit
            power = plane.tiles.variance_t(volts, a, b)
            return i, None if power is None else op.unflat_t(power[0], d.shape) / unit**2
        i = _product(product, v, matrix, a, b, shape)
        if plane.variance is None:
            return i, None
        if plane.variance.dim() == 0:
            return i, op.energy_t(v, a, b, shape) * plane.variance
        return i, product(v.square(), plane.variance, a, b, shape)

    tiles = balanced(matrix.shape[-1], layer.chip.tile and layer.chip.tile[1])
    total = _converted(currents, tiles, port, layer, -1)
    return _scaled(op.gather(total, shape) if by_vector else total, scale, gain)


def _unit(layer: Reader, v_max: float) -> float:
    """Current that counts as one, v_max ΔG [A]."""
    return v_max * layer.chip.device.window.span


def _converted(
    currents: Callable[[int, int], Currents],
    tiles: Sequence[tuple[int, int]],
    port: Port,
    layer: Reader,
    channel: int,
) -> Tensor:
    """Digital sum of the currents of all tiles, each with its noise and through its ADC."""
    unit = _unit(layer, port.settings.v_max)
    total = None
    for tile, (a, b) in enumerate(tiles):
        i, power = currents(a, b)
        if power is not None:
            i = torch.addcmul(i, layer.streams.normal(i), power.sqrt().to(i.dtype))
        i = port.digitise(
            i, tile, b - a, unit=unit, span=layer.span, channel=channel, streams=layer.streams
        )
        total = i if total is None else total + i
    assert total is not None
    return total


def cells_vjp(
    x: Tensor, d: Tensor, plane: Plane, gain: Tensor, layer: Reader
) -> tuple[Tensor, Tensor]:
    """Gradients of a read of such cells with respect to x and to the conductances [S].

    Taken at the voltages the DAC gives, straight through the converters.
    """
    op, port = layer.op, layer.forward_port
    assert plane.tiles is not None
    v, scale = port.encode(x, op, layer.streams)
    v_max = port.settings.v_max
    unit = _unit(layer, v_max)
    factor = _wide(gain) / unit  # beyond float16
    pulled = _wide(d) * (factor if scale is None else factor * _wide(scale))
    volts = op.flat(_wide(v)) * v_max
    by_volts, by_g = plane.tiles.vjp(volts, op.flat_t(pulled)[None])
    grad = op.gather(op.unflat_t(by_volts, d.shape), x.shape) * v_max
    return grad if scale is None else grad / scale, by_g


def _wide(v: Tensor) -> Tensor:
    return v.float() if v.dtype in (torch.float16, torch.bfloat16) else v


def _product(f: Any, v: Tensor, matrix: Tensor, *where: Any) -> Tensor:
    """A product in the precision of v, its currents at least in float32."""
    return _wide(f(v, matrix.to(v.dtype), *where))


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
        tiles: CellTiles | None,
        gain: Tensor,
        layer: Reader,
    ) -> Tensor:
        """See `read`; `weight` is here so that autograd asks for its gradient."""
        return read(x, Plane(matrix, variance, back, tiles), gain, layer).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the backward read needs."""
        x, _, matrix, variance, back, tiles, gain, layer = inputs
        ctx.save_for_backward(x, matrix, variance, back, gain)
        ctx.save_for_forward(x, matrix, gain)
        ctx.layer, ctx.tiles = layer, tiles

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """Input gradient, weight gradient (in situ: kept for the update), the matrix's."""
        x, matrix, variance, back, gain = ctx.saved_tensors
        layer: Reader = ctx.layer
        plane = Plane(matrix, variance, back, ctx.tiles)
        want_x, want_w, want_m = ctx.needs_input_grad[:3]
        grad_x = grad_w = grad_m = None
        if layer.physical_backward:
            if want_x:
                grad_x = read_t(d, plane, gain, layer, x.shape).to(x.dtype)
        elif plane.tiles is not None:
            grad_x, grad_m = cells_vjp(x, d, plane, gain, layer)
            grad_x, grad_m = grad_x.to(x.dtype), grad_m.to(matrix.dtype)
        else:
            if want_x:
                product = layer.op.mv_t(d, matrix.to(d.dtype), 0, matrix.shape[-1], x.shape)
                grad_x = (product * gain.to(d.dtype)).to(x.dtype)
            if want_m:
                grad_m = layer.op.outer(x, d).to(matrix.dtype) * gain
        if want_w:
            grad_w = layer.stash(x, d)
        return grad_x, grad_w, grad_m, None, None, None, None, None


class DualRead(AnalogRead):
    """`AnalogRead` with a forward-mode derivative, which compiled regions cannot take."""

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, w_t: Tensor | None, *_: Any) -> Tensor:
        """Forward-mode derivative of the ideal product with the matrix that was used."""
        x, matrix, gain = ctx.saved_tensors
        if ctx.tiles is not None:
            raise TypeError("nonlinear or gated cells have no forward-mode derivative")
        op, rows = ctx.layer.op, matrix.shape[-2]
        parts = []
        if x_t is not None:
            parts.append(op.mv(x_t, matrix.to(x_t.dtype), 0, rows) * gain.to(x_t.dtype))
        if w_t is not None:
            parts.append(op.mv(x, ctx.layer.as_matrix(w_t).to(x.dtype), 0, rows))
        return sum(parts[1:], start=parts[0])
