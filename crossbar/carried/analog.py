"""The tensor that a forward sees of an analog weight."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch._C._dynamo import eval_frame as _eval_frame

from crossbar.carried.tables import (
    gathers,
    name_of,
    optimiser,
    qualified_name,
    unreadable,
    writes,
)
from crossbar.operations import Operation
from crossbar.regions import Region
from crossbar.weight import AnalogWeight
from crossbar.windows import Size

PRODUCTS: dict[Any, Callable[..., Any]] = {}
"""Functions that multiply by a weight, and how they read it; filled by the rooms beside this."""

VIEWED: dict[Any, Callable[..., Any]] = {}
"""Functions that give views of a weight, and how handles on those are made."""

plain = torch._C.DisableTorchFunctionSubclass

_PROXIES = torch._C._TorchDispatchModeKey.PROXY


def product(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a handler; it runs with dispatch off and returns NotImplemented to decline.

    An operator of another library goes by its name, `namespace::name`.
    """

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        PRODUCTS.update({function: handler for function in functions if function is not None})
        return handler

    return register


class Analog(Tensor):
    """A Parameter whose weight is on arrays; `AnalogView`: a view, cast or detached copy of it.

    Functions that multiply by it read the array; views of it stay analog; everything else sees a
    plain tensor. Operators of other namespaces that are handed one are refused by name.
    """

    analog: AnalogWeight

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """See the class."""
        with plain():
            if name_of(func) == "__get__" and func not in VIEWED:  # an attribute, read many times
                return func(*args)
            kwargs = dict(kwargs) if kwargs else {}
            operator = qualified_name(func)  # "" of torch's own functions
            handler = PRODUCTS.get(operator or func)
            if handler is not None:
                traceable()
            written_by_a_compiler = (operator or "out" in kwargs) and _generated()
            if handler is not None and not written_by_a_compiler:
                args = tuple(map(dense, args))
                kwargs = {name: dense(x) for name, x in kwargs.items()}
                out = kwargs.pop("out", None)
                found = handler(*args, **kwargs)
                if found is not NotImplemented:
                    return found if out is None else out.copy_(found)
                kwargs = kwargs if out is None else {**kwargs, "out": out}
            elif func in VIEWED:
                return VIEWED[func](func, args, kwargs)
            elif writes(func, args, kwargs):
                _written(args, kwargs)
            elif written_by_a_compiler:
                return func(*args, **kwargs)
            elif unreadable(func):
                if any(not is_copy(w) for w in handles(args, kwargs)):
                    raise unread(operator or getattr(func, "__name__", str(func)))
            return _computed(func, func(*args, **kwargs), args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A Parameter of its own on a copy of the array; of a view, a plain copy."""
        if id(self) in memo:
            return memo[id(self)]
        with plain():
            new: Any = self.detach().clone()
            if type(self) is Analog:
                new = torch.nn.Parameter(new, self.requires_grad)
                memo[id(self)] = new
                carry(new, copy.deepcopy(self.analog, memo))
                new.analog.share(new)
            memo[id(self)] = new
            return new

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Of a Parameter: its values and its array; of a view: its values."""
        with plain():
            values = self.detach().as_subclass(Tensor)
            if type(self) is not Analog:
                return _same, (values,)
            return _restored, (values, self.requires_grad, self.analog)

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]
        """As torch's own Parameter."""
        with plain():
            values = self.detach().as_subclass(Tensor)
            text = "Parameter containing:" if type(self) is Analog else "Part of an analog weight:"
            return f"{text}\n{values!r}"


class AnalogView(Analog):
    """What a forward makes of a Parameter, or finds in its place."""

    free: bool  # detached: what is computed of it are plain numbers
    root: Tensor  # the whole weight, as torch sees it
    cells: Tensor | None  # the same view of root's memory: what part of the array; None: a copy
    start: int | None  # where the view begins in root's memory, counted while tracing; None: ?
    taken: tuple[Tensor, Any] | None  # of a copy w[index] of a stack's matrices: index and w


def traceable() -> None:
    """Refuse a trace that would freeze the cells, or that runs the forward on fake tensors.

    Raises:
        TypeError: in `torch.jit.trace`, `make_fx`, `torch.func.linearize`, and in
            `torch.export.export` without `strict=True`.
    """
    if torch.compiler.is_dynamo_compiling():
        return
    traced = torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None
    if traced or torch._C._get_dispatch_mode(_PROXIES) is not None:
        raise TypeError(
            "torch.jit.trace, make_fx, torch.func.linearize, and torch.export without strict=True, "
            "cannot follow the cells of analog weights: torch.export.export(model, args, "
            "strict=True) does"
        )


def unread(what: str) -> TypeError:
    """The refusal of a product that no handler reads on an array."""
    return TypeError(
        f"{what} would read an analog weight digitally, unnoticed: leave the weight digital with "
        "convert(..., exclude=[...]), or give it weight.detach().clone()"
    )


def handles(args: Any, kwargs: dict[str, Any]) -> Iterator[Analog]:
    """Every handle among the arguments of a function, in lists too."""
    for thing in (*args, *kwargs.values()):
        for w in thing if isinstance(thing, (list, tuple)) else (thing,):
            if isinstance(w, Analog):
                yield w


def _computed(func: Any, out: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What was computed elementwise of a whole weight, as a handle on its array.

    A float weight is read as it was computed (standardised, masked, merged with an adapter); of
    written cells no product with it exists, and a later product refuses it by name. So it does
    truth values, whole numbers and codes made of any weight.
    """
    if isinstance(out, (tuple, list)):
        name = name_of(func)
        if name.startswith("_foreach_") or not any(isinstance(t, Tensor) for t in out):
            return out
        each = [
            _computed(func, t, args, kwargs) if isinstance(t, Tensor) and _numbers(t) else t
            for t in out
        ]
        return type(out)(*each) if hasattr(out, "_make") else type(out)(each)
    if not isinstance(out, Tensor) or isinstance(out, Analog):
        return out
    name = name_of(func)
    if name == "__get__" or name.endswith("_like") or name.startswith(("new_", "arg")):
        return out
    gathered = gathers(func) or not _numbers(out)
    for w in sorted(handles(args, kwargs), key=is_copy):  # a weight times its mask is a weight
        alike = w.shape == out.shape or gathered
        if not alike or out.dim() < 2 or (type(w) is AnalogView and w.free):
            continue
        if any(out is t for t in args):  # written in place
            return out
        if not torch.is_grad_enabled() and (name == "clone" or optimiser() is not None):
            return out
        if w.analog.mode.written or is_copy(w) or gathered:
            return wrapped(out, w.analog, out)
        if w.is_contiguous():  # factors of a matrix lie column by column
            out = out.contiguous()
        return wrapped(out, w.analog, out, out)
    return out


def _numbers(t: Tensor) -> bool:
    return t.is_floating_point() and not t.is_quantized and t.layout == torch.strided


def dense(x: Any) -> Any:
    """An input of a product as the lines are driven: where it is sparse, by zeros elsewhere.

    Raises:
        TypeError: numbers of an analog weight in another layout.
    """
    if not isinstance(x, Tensor) or x.layout == torch.strided:
        return x
    return parts(x)[2] if isinstance(x, Analog) else x.to_dense()


# Where a compiled caller breaks its graph at a product, the product runs as it is: tracers would
# take up its frames one by one without the guard, and a read would be read again.
_SKIP = _eval_frame._FrameAction.SKIP
_eval_frame.set_code_exec_strategy(
    Analog.__torch_function__.__func__.__code__,  # type: ignore[attr-defined]
    _eval_frame._FrameExecStrategy(_SKIP, _SKIP),
)


def _generated() -> bool:
    """Whether code that a compiler wrote is calling: what it was traced from has read already."""
    if torch.compiler.is_compiling():
        return False
    frame, depth = sys._getframe(2), 0
    while frame is not None and depth < 4:
        if "extern_kernels" in frame.f_globals or frame.f_code.co_filename.startswith("<eval_with"):
            return True
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return False


def is_analog(parameter: Any) -> TypeGuard[Analog]:
    """Whether it is a Parameter (not a view of one) that carries its array."""
    return type(parameter) is Analog


def carry(parameter: torch.nn.Parameter, analog: AnalogWeight) -> None:
    """Let a Parameter carry its array: it stays the same object for optimisers and hooks."""
    if type(parameter) not in (torch.nn.Parameter, Analog):
        raise TypeError(
            f"{analog.name} is a {type(parameter).__name__}, which has a dispatch of its own: "
            "leave it digital with exclude="
        )
    with plain():
        fresh = not is_analog(parameter)
        parameter.__class__ = Analog  # type: ignore[assignment]
        carried: Any = parameter
        carried._is_param = True
        carried.analog = analog
        if fresh or carried.__dict__.get("committed") is not analog:
            listen(carried)


def listen(parameter: Any) -> None:
    """The hook by which a backward that accumulates into `.grad` counts as training.

    A frozen leaf takes none; it is given one when it is thawed and read.
    """
    if parameter.requires_grad and parameter.is_leaf:
        parameter.register_post_accumulate_grad_hook(_commit)
        parameter.committed = parameter.analog


def _commit(parameter: Any) -> None:
    analog = getattr(parameter, "analog", None)
    if analog is not None:
        analog.commit(parameter)


def uncarry(parameter: Any) -> None:
    """A plain Parameter again."""
    with plain():
        for name in ("analog", "committed", "_is_param"):
            parameter.__dict__.pop(name, None)
        parameter._post_accumulate_grad_hooks = None
        parameter.__class__ = torch.nn.Parameter


def wrapped(
    value: Tensor,
    analog: AnalogWeight,
    root: Any = None,
    cells: Any = None,
    start: int | None = 0,
) -> Any:
    """A tensor as a handle on (a part of) an analog weight, in the autograd graph of `value`.

    Without `root` it is the whole weight; with `root` and no `cells` a copy of some of its numbers.

    Raises:
        TypeError: see `traceable`.
    """
    traceable()
    with plain():
        found: Any = value.as_subclass(AnalogView)
        found.analog, found.free, found.taken, found.start = analog, False, None, start
        found.root = value if root is None else root
        found.cells = value if root is None else cells
        return found


def is_copy(t: Any) -> TypeGuard[AnalogView]:
    """Whether it holds numbers of a weight, gathered or laid out anew, and is no part of it."""
    return type(t) is AnalogView and t.cells is None


def parts(w: Any) -> tuple[AnalogWeight, Tensor, Tensor]:
    """Of a handle: its weight, the whole weight as torch sees it, and the view of that."""
    if type(w) is Analog:
        return w.analog, w, w
    if w.cells is None:
        raise TypeError(
            f"{w.analog.name}: numbers gathered from its array, laid out in another order or "
            "computed of it are on no array; multiply by the weight or by slices of it and "
            "compute with the outputs, or leave it digital with convert(..., exclude=[...])"
        )
    return w.analog, w.root, w.cells


def read(x: Tensor, w: Any, op: Operation, size: Size = (), cells: Tensor | None = None) -> Tensor:
    """The product of x with a handle; `cells`: the view in the shape that `op` multiplies by."""
    analog, root, own = parts(w)
    return analog.read(x, w, root, part(w, own if cells is None else cells, op), op, size)


def part(w: Any, cells: Tensor, op: Operation) -> Region:
    """The part of the matrix that a handle is; `cells`: it in the shape that `op` multiplies by."""
    analog, root, _ = parts(w)
    start = w.start if type(w) is AnalogView and torch.compiler.is_compiling() else None
    return analog.region(cells, root, op, start)


def _written(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Mark the weights that a function is about to write; refuse an optimiser that cannot."""
    for w in handles(args, kwargs):
        analog = w.analog
        analog.dirty = True
        root: Any = w
        analog.apart(root if is_analog(w) else root.root)
        step = optimiser() if analog.mode.written else None
        if step is not None and not getattr(step, "pulses", False):
            raise TypeError(
                f"{type(step).__name__} would write numbers into {analog.name}, whose cells take "
                "pulses: train in-situ weights with crossbar.InSituSGD(model, lr), or convert "
                "with mode=HardwareAware() for this optimiser"
            )


def _same(values: Tensor) -> Tensor:
    return values


def _restored(values: Tensor, requires_grad: bool, analog: AnalogWeight) -> Any:
    parameter = torch.nn.Parameter(values, requires_grad)
    carry(parameter, analog)
    analog.share(parameter)
    return parameter
