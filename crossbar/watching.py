"""What a forward does with the weights of a model: which functions, and how products want them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from crossbar.carried.analog import PRODUCTS, Analog, is_analog, uncarry
from crossbar.carried.digital import DIGITAL as NAMES
from crossbar.carried.digital import FAMILIES
from crossbar.carried.kinds import value_of
from crossbar.carried.owner import Owner, disown, held, own, weights
from crossbar.carried.tables import VIEWS, gathers, qualified_name, writes
from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.operations import Operation
from crossbar.regions import EVERYWHERE, Form, Region
from crossbar.weight import AnalogWeight

Key = int
"""Identity of a Parameter, or of an analog weight where there is none."""

TABLE, PRODUCT, DIGITAL = "table", "product", "digital"

_LOOKUPS: dict[Any, int] = {F.embedding: 1, F.embedding_bag: 1}
_INPUTS: dict[Any, int] = {
    **_LOOKUPS,
    **dict.fromkeys((F.linear, F.conv1d, F.conv2d, F.conv3d), 1),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), 1),
    F.bilinear: 2,
    torch.bilinear: 2,
    F.multi_head_attention_forward: 3,
}
"""Functions whose first so many arguments are inputs, whatever they are."""
_SILENT = {"get", "set", "repr", "len", "iter", "dim", "size", "numel", "stride", "data_ptr"}
_SILENT |= {"is_floating_point", "is_complex", "element_size", "requires_grad"}
"""Functions that ask about a tensor, and use none of its numbers."""


class Seen(NamedTuple):
    """What functions did with one weight."""

    name: str  # of the function
    kind: str  # TABLE, PRODUCT or DIGITAL


class Watch(TorchFunctionMode):
    """Notes every function of torch that a weight of the model reaches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.seen: dict[Key, dict[Seen, None]] = {}
        self._of: dict[int, Key] = {}  # by storage
        self._held: list[Tensor] = []  # copies, whose storage must not be another's
        for module in model.modules():
            for parameter in module._parameters.values():
                if parameter is not None and not is_analog(parameter):
                    if not isinstance(parameter, nn.parameter.UninitializedParameter):
                        self._of[_storage(parameter)] = id(parameter)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """See the class."""
        kwargs = kwargs or {}
        keys = self._keys(args[_INPUTS.get(func, 0) :], kwargs)
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        for key in keys:
            if func in VIEWS or gathers(func):
                if isinstance(out, Tensor) and not isinstance(out, Analog):
                    if self._of.setdefault(_storage(out), key) == key:
                        self._held.append(out)
                continue
            product = (qualified_name(func) or func) in PRODUCTS
            kind = TABLE if func in _LOOKUPS else PRODUCT if product else DIGITAL
            plain_name = name.strip("_")
            if kind == DIGITAL:
                if plain_name in _SILENT:
                    continue
                listed = name in NAMES or name.startswith(FAMILIES) or writes(func, args, kwargs)
                plain_name += "" if listed else " (unlisted)"
            self.seen.setdefault(key, {})[Seen(plain_name, kind)] = None
        return out

    def _keys(self, args: Any, kwargs: dict[str, Any]) -> list[Key]:
        found: dict[Key, None] = {}
        for thing in (*args, *kwargs.values()):
            for t in thing if isinstance(thing, (list, tuple)) else (thing,):
                if isinstance(t, Analog):
                    found[id(t.analog)] = None
                elif isinstance(t, Tensor) and type(t) in (Tensor, nn.Parameter):
                    key = self._of.get(_storage(t))
                    if key is not None:
                        found[key] = None
        return list(found)


def _storage(t: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        while torch._C._functorch.is_functorch_wrapped_tensor(t):
            t = torch._C._functorch.get_unwrapped(t)
        return t.untyped_storage()._cdata if t.layout == torch.strided else -id(t)


@contextlib.contextmanager
def rehearsed(model: nn.Module) -> Iterator[None]:
    """What runs within asks the emulator something: no probe of the model is told of it."""
    matrices = [m for m in model.modules() if isinstance(m, Matrix) and m.probe is not None]
    told = [m.probe for m in matrices]
    with contextlib.ExitStack() as stack:
        for probe in {id(p): p for p in told if p is not None}.values():
            stack.enter_context(probe.paused())
        for matrix in matrices:
            matrix.probe = None
        try:
            yield
        finally:
            for matrix, old in zip(matrices, told, strict=True):
                matrix.probe = old


def called(model: nn.Module, example: Any) -> Any:
    """The model of an example: a tensor, a tuple of arguments or a dictionary of named ones.

    In evaluation, without gradients; training flags and the random streams stay as they were, and
    probes are told nothing.
    """
    flags = [(m, m.training) for m in model.modules()]
    streams = [w.matrix.streams for w in analog_of(model)]
    before = [s.state.clone() for s in streams]
    try:
        for module, _ in flags:
            module.training = False
        with torch.no_grad(), rehearsed(model):
            if isinstance(example, Mapping):
                return model(**example)
            return model(*example) if isinstance(example, (tuple, list)) else model(example)
    finally:
        for module, flag in flags:
            module.training = flag
        for s, state in zip(streams, before, strict=True):
            if not s.state.is_meta:
                s.state.copy_(state)


def analog_of(model: nn.Module) -> list[AnalogWeight]:
    """The analog weights of a model, once each."""
    found: dict[int, AnalogWeight] = {}
    for module in model.modules():
        for name in weights(module):
            if (weight := held(module, name)) is not None:
                found[id(weight)] = weight
    return list(found.values())


class Traced(AnalogWeight):
    """A weight that stays what it is, and notes how products want it to lie."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.forms: list[Form] = []

    def region(
        self, cells: Tensor, root: Tensor, op: Operation, start: int | None = None
    ) -> Region:
        """See the class."""
        self.forms.append(wanted(cells, root, op))
        return EVERYWHERE

    @property
    def untouched(self) -> bool:
        """Products are torch's."""
        return True


class Use(NamedTuple):
    """What a traced forward did with a weight."""

    form: Form | None  # that the first product wants; None: none, or one for which any is right
    seen: tuple[Seen, ...]


def traced(model: nn.Module, example: Any) -> dict[tuple[nn.Module, str], Use]:
    """How an example uses the digital weights of two or more dimensions, by module and name."""
    stubs: dict[Any, Traced] = {}
    places: dict[tuple[nn.Module, str], Traced] = {}
    with _put_back(model, places):
        for module in list(model.modules()):
            for name in () if isinstance(module, Owner) else candidates(module):
                value = value_of(module, name)
                parameter = module._parameters.get(name)
                key = id(module), name
                stub = stubs.get(id(parameter)) if parameter is not None else None
                if stub is None:
                    form = Form(stack=value.dim() > 2)
                    stub = Traced(tuple(value.shape), form, Chip(), 0, name, value.device)
                    stubs[key if parameter is None else id(parameter)] = stub
                stub.computed = parameter is None
                own(module, name, stub, registered=False)
                places[module, name] = stub
        with Watch(model) as watch:
            called(model, example)
    return {
        at: Use(stub.forms[0] if stub.forms else None, tuple(watch.seen.get(id(stub), ())))
        for at, stub in places.items()
    }


@contextlib.contextmanager
def _put_back(model: nn.Module, places: dict[tuple[nn.Module, str], Traced]) -> Iterator[None]:
    try:
        yield
    finally:
        for module in dict.fromkeys(module for module, _ in places):
            for parameter in module._parameters.values():
                if is_analog(parameter):
                    uncarry(parameter)
            disown(module)


def candidates(module: nn.Module) -> list[str]:
    """Names of a module's digital weights of two or more dimensions, computed ones too."""
    if isinstance(module, nn.utils.parametrize.ParametrizationList):
        return []
    names = [n for n, p in module._parameters.items() if type(p) is nn.Parameter]
    names += list(getattr(module, "parametrizations", ()))
    found = []
    for name in names:
        if name in weights(module):
            continue
        value = value_of(module, name)
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1:
            found.append(name)
    return found


def wanted(cells: Tensor, root: Tensor, op: Operation) -> Form:
    """How a weight should lie so that an operation with this view of it drives its rows."""
    form = op.form
    if form.groups is not None:
        return form
    across = cells.stride(-1) > cells.stride(-2)
    if cells.dim() == 3:
        return Form(rows_first=across, stack=True)
    if root.dim() == 2:
        return Form(rows_first=across)
    if cells.numel() == root.numel() and cells.shape[0] == root.shape[0] and not across:
        return Form(1, False, cells.shape[1] // root.shape[1])  # kernels, laid out flat
    if cells.numel() == root.numel() and not across:
        return Form()
    return Form(rows_first=across, stack=True)
