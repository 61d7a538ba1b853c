"""Reads of float weights: the noisy forward of a chip, the gradient of the product itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossbar.modifiers import Modifier
from crossbar.planes import Planes
from crossbar.port import wide_of
from crossbar.read import Call, read
from crossbar.regions import Form
from crossbar.uses import scaled_read, wanted


def float_read(
    x: Tensor,
    w: Tensor,
    scale: Callable[[], Tensor],
    variance: Tensor | None,
    call: Call,
    planes: Planes | None = None,
) -> Tensor:
    """What the chip makes of the product of x with w; gradients, of any order, of the product.

    Args:
        x: what the operation takes.
        w: the weight as torch sees it, or what was drawn of it, straight through.
        scale: gives the weight at the full window, where it matters.
        variance: read noise of every weight / ΔG², where w itself is read.
        call: the use.
        planes: cells drawn for this read; None: w itself is read, at the cost of the product.
    """
    forward = call.op.forward
    if call.port.learns:
        with torch._C.DisableTorchFunctionSubclass():
            product = forward.whole(x, call.op.form.matrix(w), call.size)
            made = _forward(x.detach(), w.detach(), scale(), variance, planes, call)
            return product + (made - product.detach())
    if torch._C._functorch.peek_interpreter_stack() is not None:
        product = forward.whole(x, call.op.form.matrix(w), call.size)
        made = _forward(x.detach(), w.detach(), scale(), variance, planes, call)
        return product + (made - product).detach()
    if not torch.is_grad_enabled():
        with torch._C.DisableTorchFunctionSubclass():
            return _forward(x, w, scale(), variance, planes, call)
    drawn = (None, None, None) if planes is None else planes[:3]
    found: Tensor = FloatRead.apply(x, w, scale(), variance, *drawn, call)  # type: ignore[no-untyped-call]
    return found


def _forward(
    x: Tensor,
    w: Tensor,
    w_max: Tensor,
    variance: Tensor | None,
    planes: Planes | None,
    call: Call,
) -> Tensor:
    if planes is not None:
        return scaled_read(x, planes, w_max, call).to(x.dtype)
    matrix, mapping = call.matrix, call.matrix.chip.mapping
    (column,), linear = matrix.layout.columns, matrix.layout.linear
    assert linear is not None
    ((slope, bias),) = linear
    m = call.op.form.matrix(w)
    gauge = w_max
    if w_max.dim():
        gauge = call.columns(w_max)
    if mapping.clips:
        top = (gauge.unsqueeze(-1 if call.transposed else -2) if gauge.dim() else gauge).to(m.dtype)
        m = m.clamp(mapping.low * top, top)
    if w_max.dim():
        if call.transposed:
            m, x = m / gauge.unsqueeze(-1).to(m.dtype), x * call.direction.driven(gauge).to(x.dtype)
            gauge = torch.ones_like(w_max[..., 0, 0]).reshape(-1)[0]
    gauge = gauge if slope == 1 else gauge / slope
    bias += (column.shared or 0.0) + column.balance * matrix.floor
    if bias:
        m = m + bias * (gauge if gauge.dim() == 0 else gauge.unsqueeze(-2))
    y = read(x, Planes(m.unsqueeze(0), variance), call, gauge)
    return (y if slope == 1 else y * slope).to(x.dtype)


def trained(
    w: Tensor, scale: Tensor, call: Call, modifiers: Sequence[Modifier], form: Form | None = None
) -> Tensor:
    """A weight as a training read changes it, straight through.

    `form`: it is the whole weight, that lies so; None: what the operation multiplies by.
    """
    m = (form or call.op.form).matrix(w.detach())
    if scale.dim() and form is None:
        columns = call.columns(scale)
        scale = columns.unsqueeze(-1 if call.transposed else -2)
    with torch.no_grad():
        changed = m
        for modifier in modifiers:
            changed = modifier.changed(changed, scale.to(m.dtype), call.drawn)
        change = (form or call.op.form).weight(changed - m, tuple(w.shape))
    return w + change


class FloatRead(torch.autograd.Function):
    """See `float_read`."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """The noisy read."""
        x, w, w_max, variance, *drawn, call = inputs
        ctx.save_for_backward(x, w)
        ctx.call = call
        planes = None if drawn[0] is None else Planes(*drawn)
        with torch._C.DisableTorchFunctionSubclass():
            return _forward(x, w, w_max, variance, planes, call)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the product."""
        x, w = ctx.saved_tensors
        op, by_x, by_w = ctx.call.op, None, None
        with torch._C.DisableTorchFunctionSubclass():
            if wanted(ctx, 0):
                m = op.form.matrix(w).to(d.dtype)
                by_x = op.backward.whole(d, m.mT, op.sized(x)).to(x.dtype)
            if wanted(ctx, 1):
                by_w = op.form.weight(op.outer(x, d), tuple(w.shape)).to(w.dtype)
        return by_x, by_w, *(None,) * 6


def cell_read(x: Tensor, g: Tensor, planes: Planes, w_max: Tensor, call: Call) -> Tensor:
    """A read of float weights on cells without a matrix; g (K, ..., rows, cols) [S] is theirs."""
    out: Tensor = CellRead.apply(x, g, planes, w_max, call)  # type: ignore[no-untyped-call]
    return out


class CellRead(torch.autograd.Function):
    """Every input is a circuit of its own; gradients by the adjoint circuit.

    Taken at the voltages the DAC gives, straight through the converters.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, g: Tensor, planes: Planes, w_max: Tensor, call: Call
    ) -> Tensor:
        """The read."""
        ctx.save_for_backward(x, g, w_max)
        ctx.tiles, ctx.call = planes.tiles, call
        return scaled_read(x, planes, w_max, call).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """By the tiles' `vjp`."""
        x, g, w_max = ctx.saved_tensors
        call: Call = ctx.call
        op, port, matrix = call.op, call.port, call.matrix
        digits, scale = port.encode(x, op.forward, None, 0)
        volts, span = port.settings.v_max, matrix.span
        pulled = wide_of(d) if scale is None else wide_of(d) * scale
        if w_max.dim():
            pulled = pulled * op.forward.sensed(call.columns(w_max))
            w_max = w_max.new_ones(())
        by_g, by_x = torch.zeros_like(g), None
        # what is taken off every column alike: reference columns, and digitally
        alike = matrix.layout.shift(matrix.floor) - sum(
            c.weight * c.reference(matrix.floor) for c in matrix.layout.columns
        )
        ones = g.new_ones(g.shape[1:]).mT.to(pulled.dtype)
        for v, weight, _ in digits:
            lines = op.forward.lines(wide_of(v)) * volts
            errors = op.backward.lines(pulled)
            factors = [w_max * (c.weight * weight / (volts * span)) for c in matrix.layout.columns]
            by_volts, part = ctx.tiles.vjp(lines, torch.stack([errors * f for f in factors]))
            by_g += part
            image = op.backward.finish(op.backward.entries(by_volts, d), op.sized(x)) * volts
            if alike:
                common = op.backward.whole(pulled * w_max, ones, op.sized(x))
                image = image + common.to(image.dtype) * (alike * weight)
            by_x = image if by_x is None else by_x + image
        assert by_x is not None
        by_x = by_x if scale is None else by_x / scale
        return by_x.to(x.dtype), by_g.to(g.dtype), None, None, None
