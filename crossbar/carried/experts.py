"""Products with a stack of matrices, as the weights of experts are."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import get_overridable_functions

from crossbar.carried.analog import Analog, part, parts, product, unread
from crossbar.stacks import Batch, Routed, routes

BATCH = Batch()


def stacked(x: Tensor, w: Any, left: bool = False) -> Tensor:
    """x (..., E or 1, n, in) by a handle w (E, in, out) on every matrix; `left`: (E, out, in)."""
    if w.dim() != 3:
        raise unread("a product with a stack of more than one leading dimension")
    if x.dim() == 1:
        return stacked(x.unsqueeze(0), w, left).squeeze(-2)
    analog, root, cells = parts(w)
    view, own = (w, cells) if left else (w.mT, cells.mT)
    shape = torch.broadcast_shapes(x.shape[:-2], w.shape[:1])
    v = x.expand(*shape, *x.shape[-2:]).movedim(-3, 0)
    y = analog.read(v.flatten(1, -2), view, root, part(w, own, BATCH), BATCH)
    return y.unflatten(1, v.shape[1:-1]).movedim(0, -3)


def taken(x: Tensor, w: Any, left: bool = False) -> Tensor:
    """x (S, n, in) by w[index] (S, in, out) of a stack: each row on the matrix of its index."""
    index, stack = w.taken
    if x.dim() != 3 or len(x) != len(index):
        raise unread("a product with gathered matrices whose batch is another")
    at = index if x.shape[1] == 1 else index.repeat_interleave(x.shape[1])
    y = routed(x.flatten(0, 1), stack, at, left)
    return y.unflatten(0, x.shape[:2])


def routed(x: Tensor, w: Any, at: Tensor, left: bool = False) -> Tensor:
    """x (S, in) by the matrices w[at] of a handle (E, in, out); `left`: (E, out, in)."""
    analog, root, cells = parts(w)
    view, own = (w, cells) if left else (w.mT, cells.mT)
    region = part(w, own, BATCH)
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    if torch.compiler.is_compiling() or wrapped(at) or wrapped(x):
        # how many vectors each matrix has is not known: all of them meet all
        y = analog.read(x.expand(len(own), *x.shape), view, root, region, BATCH)
        return y[at, torch.arange(len(at), device=at.device)]
    return analog.read(x, view, root, region, Routed(routes(at, len(own))))


@product(getattr(torch, "_grouped_mm", None), getattr(F, "grouped_mm", None), "aten::_grouped_mm")
def _grouped(
    mat_a: Any,
    mat_b: Any,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Any:
    """Rows up to each offset meet their matrix; what lies beyond the last one is zero."""
    left = isinstance(mat_a, Analog)
    w, x = (mat_a, mat_b) if left else (mat_b, mat_a)
    if not isinstance(w, Analog) or isinstance(x, Analog) or w.dim() != 3:
        raise unread("grouped_mm whose weight is no stack of matrices")
    x = x.mT if left else x
    if offs is None or x.dim() == 3:
        y = stacked(x, w, left)
    else:
        n = torch.arange(x.shape[0], device=offs.device)
        at = torch.searchsorted(offs, n.to(offs.dtype), right=True)
        y = routed(x, w, at.clamp(max=len(w) - 1), left)
        y = torch.where((n < offs[-1]).unsqueeze(-1), y, torch.zeros_like(y))
    y = y.mT if left else y
    y = y if bias is None else y + bias
    return y if out_dtype is None else y.to(out_dtype)


@product("transformers::grouped_mm_fallback")
def _grouped_fallback(input: Any, weight: Any, offs: Tensor) -> Any:  # noqa: A002
    return _grouped(input, weight, offs)


def _heard() -> None:
    """Let tracers hand grouped_mm to weights, as they do torch's other functions."""
    function = getattr(torch, "_grouped_mm", None)
    listed = get_overridable_functions().get(torch, [])
    if function is not None and function not in listed:
        listed.append(function)
        tracer: Any = sys.modules.get("torch._dynamo.variables.torch")
        if tracer is not None:  # it has taken its copy
            tracer.get_overridable_functions().add(function)


_heard()
