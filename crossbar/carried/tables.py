"""Which of torch's functions give views of a weight, casts of it, or write it."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def _accessor(name: str, verb: str) -> Any:
    return getattr(getattr(Tensor, name), f"__{verb}__")


CASTS: set[Any] = {
    Tensor.float,
    Tensor.double,
    Tensor.half,
    Tensor.bfloat16,
    Tensor.to,
    Tensor.type,
    Tensor.type_as,
    Tensor.cpu,
    Tensor.cuda,
    Tensor.contiguous,
}
"""Copies, where they copy, that stand for the same part of the weight."""

TURNS = {_accessor(name, "get") for name in ("T", "mT", "H", "mH")}
"""The transposes that are attributes: a tracer takes what one gives for an input of its graph."""

VIEWS: set[Any] = CASTS | {
    *TURNS,
    _accessor("data", "get"),
    Tensor.detach,
    torch.detach,
    Tensor.t,
    torch.t,
    Tensor.transpose,
    torch.transpose,
    Tensor.swapaxes,
    torch.swapaxes,
    Tensor.swapdims,
    torch.swapdims,
    Tensor.permute,
    torch.permute,
    Tensor.movedim,
    torch.movedim,
    Tensor.moveaxis,
    torch.moveaxis,
    Tensor.adjoint,
    torch.adjoint,
    Tensor.view,
    Tensor.view_as,
    Tensor.reshape,
    torch.reshape,
    Tensor.flatten,
    torch.flatten,
    Tensor.unflatten,
    Tensor.squeeze,
    torch.squeeze,
    Tensor.unsqueeze,
    torch.unsqueeze,
    Tensor.expand,
    Tensor.expand_as,
    Tensor.__getitem__,
    Tensor.narrow,
    torch.narrow,
    Tensor.select,
    torch.select,
    Tensor.chunk,
    torch.chunk,
    Tensor.split,
    torch.split,
    Tensor.tensor_split,
    torch.tensor_split,
    Tensor.hsplit,
    torch.hsplit,
    Tensor.vsplit,
    torch.vsplit,
    Tensor.unbind,
    torch.unbind,
    Tensor.__iter__,
}
"""Functions whose result is, or may be, a part of the weight's memory."""

FREES = {Tensor.detach, torch.detach, _accessor("data", "get")}
"""Of these, those that take the numbers out of the graph: what is computed of them is digital."""

GATHERS = {
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "index_select", "roll", "flip"),
    *("fliplr", "flipud", "rot90", "gather", "take_along_dim", "repeat", "tile"),
}
"""Names of functions that lay numbers of a weight out anew."""

MAY_COPY = {Tensor.reshape, torch.reshape, Tensor.flatten, torch.flatten}
"""Of these, those that copy where the memory has another order than the result."""

_IN_PLACE = {
    Tensor.__setitem__,
    _accessor("data", "set"),
    Tensor.set_,
    Tensor.__iadd__,
    Tensor.__isub__,
    Tensor.__imul__,
    Tensor.__itruediv__,
    Tensor.__ipow__,
}
_NO_WRITE = {"requires_grad_", "retain_grad_", "share_memory_", "__", "rename_"}


def writes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function writes into one of its arguments."""
    if func in _IN_PLACE or kwargs.get("out") is not None:
        return True
    name = getattr(func, "__name__", "")
    if name.startswith(("_fused_", "_foreach_")):
        return name.startswith("_fused_") or name.endswith("_")
    return name.endswith("_") and not name.endswith("__") and name not in _NO_WRITE


def optimiser() -> Optimizer | None:
    """The optimiser that is stepping now, further up the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        step = frame.f_locals.get("self")
        if isinstance(step, Optimizer) and frame.f_code.co_name != "zero_grad":
            return step
        frame = frame.f_back  # type: ignore[assignment]
    return None


UNREAD = {
    torch.addr,
    torch.kron,
    torch.nn.functional.scaled_dot_product_attention,
    torch.nn.functional.cosine_similarity,
    torch.cosine_similarity,
    torch.cdist,
}
"""Products that no handler reads yet: an analog weight that reaches one is refused by name."""
