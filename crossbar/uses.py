"""One use of a matrix, and the autograd of its reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossbar.planes import Planes
from crossbar.read import Call, read
from crossbar.regions import EVERYWHERE


def scaled_read(x: Tensor, planes: Planes, w_max: Tensor, call: Call) -> Tensor:
    """`read` of planes (C, ..., rows, cols) in units of the window, in units of W times x."""
    if planes.tiles is not None and not call.region.whole:
        raise TypeError(
            "nonlinear or gated cells (device.iv, source lines) are read whole: a part of their "
            "weight cannot be used by itself"
        )
    matrix, cells = planes.matrix, call.matrix.cells
    scaled = cells is not None and cells.scaled
    if call.transposed and planes.back is not None:
        matrix = planes.back
    variance = planes.variance
    if variance is not None and variance.dim() and variance[0].numel() > 1:
        variance = call.turned(variance)
    seen = Planes(call.turned(matrix), variance, None, planes.tiles, planes.reach)
    if w_max.dim() == 0:
        return read(x, seen, call, w_max) if scaled else read(x, seen, call) * w_max
    columns = call.columns(w_max)
    if call.transposed:
        return read(x * call.direction.driven(columns).to(x.dtype), seen, call)
    return read(x, seen, call) * call.direction.sensed(columns)


def physical(x: Tensor, w: Tensor | None, planes: Planes, w_max: Tensor, call: Call) -> Tensor:
    """A read of cells whose input gradient is a read the other way."""
    transforms = torch._C._functorch.peek_interpreter_stack() is not None
    if not transforms and not torch.is_grad_enabled():
        with torch._C.DisableTorchFunctionSubclass():
            return _forward(x, planes, w_max, call)
    function = PhysicalT if transforms and not torch.compiler.is_compiling() else Physical
    out: Tensor = function.apply(x, w, *planes, w_max, call)  # type: ignore[no-untyped-call]
    return out


def _forward(x: Tensor, planes: Planes, w_max: Tensor, call: Call) -> Tensor:
    return scaled_read(x, planes, w_max, call).to(x.dtype)


def _keep(ctx: Any, inputs: tuple[Any, ...]) -> None:
    x, w, matrix, variance, back, tiles, reach, w_max, call = inputs
    ctx.save_for_backward(x, w, matrix, variance, back, reach, w_max)
    ctx.tiles, ctx.call = tiles, call


def _backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
    x, w, matrix, variance, back, reach, w_max = ctx.saved_tensors
    call: Call = ctx.call
    planes, by_x, by_w, by_m = Planes(matrix, variance, back, ctx.tiles, reach), None, None, None
    with torch._C.DisableTorchFunctionSubclass():
        if wanted(ctx, 0):
            if torch.is_grad_enabled():
                by_x = physical(d, w, planes, w_max, call.back(x)).to(x.dtype)
            else:
                by_x = _forward(d, planes, w_max, call.back(x)).to(x.dtype)
        if w is not None and wanted(ctx, 1):
            by_w = call.keeper.gradient(x, d, w, call, captured(ctx, 1))
        if wanted(ctx, 2):  # resistances that ask for a gradient
            by_m = _by_planes(x, d, matrix, w_max, call)
    return by_x, by_w, by_m, *(None,) * 6


def _by_planes(x: Tensor, d: Tensor, matrix: Tensor, w_max: Tensor, call: Call) -> Tensor:
    if call.region != EVERYWHERE or call.flipped:
        raise TypeError("resistances have a gradient through whole forward reads only")
    weights = [column.weight for column in call.matrix.layout.columns]
    outer = call.op.outer(x, d).reshape(matrix.shape[1:]) * w_max
    return torch.stack([outer * weight for weight in weights])


def wanted(ctx: Any, k: int) -> bool:
    """Whether the running backward asks for the gradient of input k."""
    if not ctx.needs_input_grad[k]:
        return False
    if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
        return True
    node = ctx.next_functions[k][0]
    if node is None:
        return False
    return captured(ctx, k) or bool(torch._C._will_engine_execute_node(node))


def captured(ctx: Any, k: int) -> bool:
    """Whether input k is what `autograd.grad` or a functional transform asks for.

    It accumulates into no `.grad`.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    node = ctx.next_functions[k][0]
    if node is None or torch._C._current_graph_task_id() == -1:
        return False
    try:
        torch._C._will_engine_execute_node(node)
    except RuntimeError:  # torch's word for a leaf that is captured
        return True
    return False


class Physical(torch.autograd.Function):
    """See `physical`; inputs x, w, the planes' tensors and tiles, w_max, the call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """The read."""
        x, w, *planes, w_max, call = inputs
        _keep(ctx, inputs)
        with torch._C.DisableTorchFunctionSubclass():
            return _forward(x, Planes(*planes), w_max, call)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """The transposed read, and the gradient of the weight."""
        return _backward(ctx, d)


class PhysicalT(torch.autograd.Function):
    """The same in the form that functional transforms take, which costs more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """The read."""
        x, _, *planes, w_max, call = inputs
        return _forward(x, Planes(*planes), w_max, call)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the backward read needs."""
        _keep(ctx, inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """Refused."""
        raise TypeError(
            "reads of cells have no forward-mode derivative (jvp, jacfwd, torch.func.hessian): use "
            "reverse mode, or mode=HardwareAware()"
        )

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        """As `Physical`."""
        return _backward(ctx, d)
