"""Views of analog weights: parts of their arrays, as torch's functions make them."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from torch import Tensor

from crossbar.carried.analog import VIEWED, Analog, AnalogView, parts, wrapped
from crossbar.carried.tables import CASTS, FREES, MAY_COPY, TURNS, VIEWS, name_of
from crossbar.weight import AnalogWeight


def _viewed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func is Tensor.__iter__:
        return iter(_viewed(Tensor.unbind, args, kwargs))
    w: Any = args[0] if args else kwargs.get("input")
    if func is Tensor.detach and not torch.compiler.is_compiling():
        if sys._getframe(2).f_code is torch.nn.Parameter.__new__.__code__:
            return _parameter(w)
    if func in TURNS and w.dim() > 1:
        if w.dim() == 2 or func not in _LAST_RESORTS:
            func, args = Tensor.transpose, (w, -2, -1)
    out = func(*args, **kwargs)
    if not isinstance(w, Analog) or out is w:
        return out
    if type(w) is AnalogView and w.cells is None:
        made = _wrapped_all(out, out, w.analog, w.root, copied=True)
        return _turned(made, w, func, args, kwargs)
    analog, root, cells = parts(w)
    free = func in FREES or (type(w) is AnalogView and w.free)
    if func in CASTS:
        if isinstance(out, Tensor) and out.shape == cells.shape:
            same = cells if out.is_floating_point() else None
            return _freed(wrapped(out, analog, root, same), free)
        return out
    with torch.no_grad():
        again = func(cells, *args[1:], **kwargs) if args else func(**{**kwargs, "input": cells})
    copied = _copies(func, args, cells, again)
    starts: Any = None
    if torch.compiler.is_compiling():  # which knows of no offsets
        first = w.start if type(w) is AnalogView else 0
        starts = _starts(func, args[1:], kwargs, cells, again, first)
    made = _wrapped_all(out, again, analog, root, copied, starts)
    if func is Tensor.__getitem__ and analog.form.stack and w.dim() == 3:
        index = args[1]
        if isinstance(index, Tensor) and index.dim() == 1 and not index.is_floating_point():
            if index.dtype != torch.bool:
                made.taken = (index, w)
    return _freed(made, free)


def _turned(made: Any, w: AnalogView, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A view of w[index], as that of every matrix of the stack it was taken from."""
    if w.taken is None or not isinstance(made, AnalogView):
        return made
    index, stack = w.taken
    again = _viewed(func, (stack, *args[1:]), kwargs)
    before, after = parts(stack)[2], again.cells if type(again) is AnalogView else None
    same = after is not None and after.dim() == 3 and after.stride(0) == before.stride(0)
    if same and len(stack) == len(again) and made.shape[1:] == again.shape[1:]:
        made.taken = (index, again)
    return made


def _freed(out: Any, free: bool) -> Any:
    if free:
        for view in out if isinstance(out, (tuple, list)) else (out,):
            if type(view) is AnalogView:
                view.free = True
    return out


def _parameter(w: Any) -> Tensor:
    """What nn.Parameter(w) detaches: numbers computed of a weight become a plain Parameter.

    It asks for the type of what it was given, which therefore is none of ours any more.
    """
    if type(w) is Analog or w.cells is not None and w.cells is not w.root:
        raise TypeError(
            f"{w.analog.name} is on an array, which another Parameter cannot share: give "
            "nn.Parameter weight.detach().clone(), and register parametrizations before "
            "convert(model, chip)"
        )
    values = w.detach().as_subclass(Tensor)
    w.__class__ = torch.nn.Parameter
    return torch.nn.Parameter(values, False)


def _copies(func: Any, args: tuple[Any, ...], cells: Tensor, out: Any) -> bool:
    """Whether a function that may give a view gave a copy."""
    if func is Tensor.__getitem__:
        index = args[1] if isinstance(args[1], tuple) else args[1:]
        return any(_gathers(i) for i in index)
    if func in MAY_COPY:
        return not cells.is_contiguous() and bool(out.is_contiguous())
    return False


def _gathers(index: Any) -> bool:
    if isinstance(index, Tensor):
        return index.dim() > 0 or index.dtype == torch.bool
    return index is not None and index is not ... and not isinstance(index, (int, slice))


def _wrapped_all(
    out: Any,
    cells: Any,
    analog: AnalogWeight,
    root: Any,
    copied: bool = False,
    starts: list[int | None] | None = None,
) -> Any:
    if isinstance(out, (tuple, list)):
        each = zip(out, cells, starts or [0] * len(out), strict=True)
        return type(out)([_wrapped(a, b, analog, root, copied, c) for a, b, c in each])
    return _wrapped(out, cells, analog, root, copied, starts[0] if starts else 0)


def _wrapped(
    out: Any, cells: Any, analog: AnalogWeight, root: Any, copied: bool, start: int | None
) -> Any:
    if not isinstance(out, Tensor):
        return out
    return wrapped(out, analog, root, None if copied else cells, start)


def _starts(
    func: Any, args: Any, kwargs: Any, cells: Tensor, out: Any, first: int | None
) -> list[int | None]:
    """Where each of the views of `cells` begins in the memory of their weight; None: unknown."""
    name = name_of(func)
    if first is None:
        return [None] * _count(out)
    if name == "__getitem__":
        return [_index_start(args[0], cells, first)]
    if name in _SPLITS:
        at = 0 if name == "unbind" else 1
        dim = kwargs.get("dim", args[at] if len(args) > at else 0)
        sizes = (1 if name == "unbind" else part.shape[dim] for part in out)
        ends = itertools.accumulate(sizes, initial=0)
        step = cells.stride(dim)
        return [first + n * step for n, _ in zip(ends, out, strict=False)]
    if name in ("narrow", "select"):
        dim = kwargs.get("dim", args[0] if args else 0)
        n = args[1] if len(args) > 1 else kwargs.get("start", kwargs.get("index"))
        if isinstance(n, Tensor):
            return [None]
        return [first + n % cells.shape[dim] * cells.stride(dim)]
    if name in _MOVES or func in TURNS:
        return [first] * _count(out)
    return [None] * _count(out)


def _count(out: Any) -> int:
    return len(out) if isinstance(out, (tuple, list)) else 1


def _index_start(index: Any, cells: Tensor, first: int) -> int | None:
    each = index if isinstance(index, tuple) else (index,)
    taken = sum(i is not None and i is not ... for i in each)
    dim = 0
    for i in each:
        if i is ...:
            dim += cells.dim() - taken
        elif isinstance(i, bool) or isinstance(i, Tensor):
            return None
        elif isinstance(i, int):
            first, dim = first + i % cells.shape[dim] * cells.stride(dim), dim + 1
        elif isinstance(i, slice):
            begin = i.indices(cells.shape[dim])[0]
            first, dim = first + begin * cells.stride(dim), dim + 1
    return first


_LAST_RESORTS = {Tensor.T.__get__, Tensor.H.__get__}  # type: ignore[attr-defined]
_SPLITS = {"unbind", "chunk", "split", "tensor_split", "split_with_sizes", "unsafe_split"}
_SPLITS |= {"unsafe_chunk", "unsafe_split_with_sizes"}
_MOVES = {"detach", "t", "transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis"}
_MOVES |= {"adjoint", "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel"}
_MOVES |= {"squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "positive"}
_MOVES |= {"atleast_2d", "atleast_3d"}
"""Functions whose result begins where the tensor does."""

VIEWED.update(dict.fromkeys(VIEWS, _viewed))
