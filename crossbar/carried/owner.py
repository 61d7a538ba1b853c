"""A property per weight name on a module: what lies under the name is read on its array."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.carried.analog import carry, is_analog, listen, plain, wrapped
from crossbar.carried.sharded import sharded
from crossbar.weight import AnalogWeight


class Arrays(nn.Module):
    """The analog weights of one module by parameter name; a tied one is registered at its first.

    No `nn.ModuleDict`, which refuses names that a dictionary has, as `keys` and `values`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tied: dict[str, AnalogWeight] = {}

    def __getitem__(self, name: str) -> AnalogWeight:
        found: Any = self.tied[name] if name in self.tied else self._modules[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter((*self._modules, *self.tied))

    def __len__(self) -> int:
        return len(self._modules) + len(self.tied)

    def apply(self, fn: Any) -> Any:
        """Functions for the layers of a model, as initialisers are, pass arrays by."""
        return self


class OwnerType(type):
    """The type of owner classes, which keep their properties."""

    def __delattr__(cls, name: str) -> None:
        if name in cls.__dict__.get("_analog_names", ()):
            raise TypeError(
                f"{cls.__name__}.{name} is analog: to_digital(model) before its parametrization "
                "is removed"
            )
        super().__delattr__(name)


def _called_by(name: str) -> bool:
    return sys._getframe(2).f_code.co_name == name


class Owner(metaclass=OwnerType):
    """What a module of any class gains when it owns analog weights.

    Under a weight's name may lie its Parameter, or what takes its place in a forward: the tensors
    of `functional_call`, a pruned or normed weight. All are read on the array.
    """

    @property
    def analog(self) -> Arrays:
        """The analog weights by parameter name, `module.analog["weight"]`; ties are shared."""
        return self.__dict__["_modules"][CHILD]

    def __delattr__(self, name: str) -> None:
        """As torch's; a parametrization put over an analog weight would hide its array."""
        if name in weights(self) and _called_by("register_parametrization"):
            raise TypeError(
                f"{type(self).__name__}.{name} is analog: register parametrizations before "
                "convert(model, chip)"
            )
        super().__delattr__(name)

    def register_parameter(self, name: str, param: Any) -> None:
        """As torch's; a Parameter put in the place of an analog one carries its array."""
        weight = held(self, name)
        super().register_parameter(name, param)  # type: ignore[misc]
        if weight is not None and param is not None and type(param) is nn.Parameter:
            carry(param, weight)
            weight.dirty = True

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """As torch's; the Parameters go on carrying their arrays."""
        for name in weights(self):
            parameter, analog = self._parameters.get(name), held(self, name)  # type: ignore[attr-defined]
            if parameter is not None and analog is not None:
                analog.sync(parameter)
        with plain():
            super()._apply(fn, recurse)  # type: ignore[misc]
        for name in weights(self):
            parameter, analog = self._parameters.get(name), held(self, name)  # type: ignore[attr-defined]
            if parameter is not None and analog is not None:
                carry(parameter, analog)
                analog.remember(parameter)
                analog.share(parameter)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        for name in weights(self):
            key = f"{prefix}{name}"
            if key in destination:
                analog = held(self, name)
                assert analog is not None
                parameter = self._parameters.get(name)  # type: ignore[attr-defined]
                if parameter is not None:
                    analog.sync(parameter)
                if analog.mode.written:
                    del destination[key]
                elif not keep_vars:
                    with plain():
                        destination[key] = destination[key].detach().as_subclass(Tensor)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing: list[str] = []
        with plain():
            super()._load_from_state_dict(  # type: ignore[misc]
                state_dict, prefix, local_metadata, strict, missing, unexpected_keys, error_msgs
            )
        old = {f"{prefix}_extra_state", f"{prefix}array.g"} & set(state_dict)
        if old:
            error_msgs.append(
                f"{prefix}* is of version 0.1 ({old.pop()}), which does not say on which chip its "
                "conductances lie: load it with that version and save to_digital(model)"
            )
        for name in weights(self):
            analog = held(self, name)
            assert analog is not None
            lies, key = f"{prefix}{CHILD}.{name}.", f"{prefix}{name}"
            if name in self.analog.tied:  # its first owner loads it
                if analog.mode.written and key in missing:
                    missing.remove(key)
                continue
            cells = any(k.startswith(lies) and ".cells." in k[len(lies) :] for k in state_dict)
            if cells and not analog.mode.written:
                error_msgs.append(
                    f"{key}: the checkpoint holds cells, and this weight is a float: convert or "
                    "program the model as the saved one was"
                )
            elif cells and key in missing:
                missing.remove(key)
            elif not cells:  # of torch, or of a float weight: what it lacks of the chip stays
                with_own = analog.state_dict(prefix=lies)
                own = f"{lies}_extra_state"  # a float weight's identity binds nobody
                state_dict.update(
                    {k: v for k, v in with_own.items() if k not in state_dict or k == own}
                )
                analog.plain = analog.dirty = key in state_dict
        missing_keys.extend(missing)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Owner classes are made again from the class they own weights for."""
        kind = type(self)
        if "_analog_base" not in kind.__dict__:
            return super().__reduce_ex__(protocol)
        made = nn.Module.__getstate__ if hasattr(nn.Module, "__getstate__") else None
        state = self.__dict__ if made is None else self.__getstate__()
        return _remade, (kind._analog_base, kind._analog_names), state  # type: ignore[attr-defined]

    def extra_repr(self) -> str:
        """torch's own, then mode and chip of the weights."""
        first = next(iter(self.__dict__["_carried"].values()), None)
        own: str = super().extra_repr()  # type: ignore[misc]
        return own if first is None else f"{own}, mode={first.mode!r}, chip={first.chip!r}"

    def __repr__(self) -> str:
        """As torch's, without the children that hold the arrays."""
        modules = self.__dict__["_modules"]
        kept = {k: v for k, v in modules.items() if k != CHILD}
        try:
            self.__dict__["_modules"] = kept
            return str(super().__repr__())
        finally:
            self.__dict__["_modules"] = modules


CHILD = "analog"
"""Name of the child that holds a module's analog weights."""


def weights(module: Any) -> tuple[str, ...]:
    """Names of a module's analog weights."""
    return type(module)._analog_names if isinstance(module, Owner) else ()  # type: ignore[attr-defined]


def held(module: Any, name: str) -> AnalogWeight | None:
    """The analog weight under a name; that of a tied Parameter may be registered elsewhere."""
    if name not in weights(module):
        return None
    found: AnalogWeight | None = module.__dict__.get("_carried", {}).get(name)
    return found


def _property(name: str) -> property:
    def get(module: Any) -> Any:
        fields = module.__dict__
        analog = fields["_carried"][name]
        value = fields["_parameters"].get(name)
        if analog.computed != (value is None):
            analog.computed = value is None
            analog.check(analog.mode, analog.chip)
        if value is None:
            if name not in fields:
                below = getattr(_base(module), name, None)
                if not isinstance(below, property):
                    raise AttributeError(f"{_base(module).__name__} has no attribute {name!r}")
                value = below.fget(module)  # type: ignore[misc]
            else:
                value = fields[name]
        if is_analog(value):  # the Parameter itself
            if analog.mode.written and not torch.compiler.is_compiling():
                with plain():
                    if analog.stale(value):
                        with contextlib.suppress(ValueError):  # the read that follows says it
                            analog.sync(value)
                    if value.__dict__.get("committed") is not analog:
                        listen(value)
            return value
        if type(value).__name__ == "DTensor":
            return sharded(value, analog, sys._getframe(1))
        return stand_in(value, analog) if isinstance(value, Tensor) else value

    def put(module: Any, value: Any) -> None:
        module.__dict__[name] = value

    def drop(module: Any) -> None:
        if name not in module.__dict__:
            raise AttributeError(name)
        del module.__dict__[name]

    return property(get, put, drop)


def stand_in(value: Tensor, analog: AnalogWeight) -> Any:
    """What takes a Parameter's place in a forward, as a handle on its array.

    Raises:
        TypeError: other values than the cells hold, without that chip's cells.
    """
    written = analog.mode.written and not torch.compiler.is_compiling()
    if written and analog.computed:
        return wrapped(analog.follow(value), analog)
    if written:
        cells = analog.matrix.written
        if not cells.replaced and not _shows(value, analog):
            raise TypeError(
                f"{analog.name}: functional_call gives the weight other values than its cells "
                "hold; give the cells too (torch.func.stack_module_state, or the buffers of a "
                "model of that chip), or use mode=HardwareAware()"
            )
    return wrapped(value, analog)


def _shows(value: Tensor, analog: AnalogWeight) -> bool:
    while torch._C._functorch.is_functorch_wrapped_tensor(value):
        if torch._C._functorch.is_batchedtensor(value):
            return False
        value = torch._C._functorch.get_unwrapped(value)
    with plain(), torch.no_grad():
        shown = analog.form.weight(analog.held, analog.shape)
        return value.shape == shown.shape and bool((value.detach() == shown.to(value.dtype)).all())


def _base(module: Any) -> type:
    return type(module)._analog_base


@functools.cache
def owner(base: type, names: tuple[str, ...]) -> type:
    """A subclass of any module class with a property for each weight name.

    Of torch's own classes it is the drop-in class, so that isinstance(m, xb.AnalogLinear) holds.
    """
    if issubclass(base, Owner):
        base = base._analog_base  # type: ignore[attr-defined]
    known = DROP_INS.get(base)
    if known is None:
        return type(f"Analog{base.__name__}", (Owner, base), made(base, names))
    if known._analog_names == names:  # type: ignore[attr-defined]
        return known
    return type(known.__name__, (known,), {**made(base, names), "__doc__": known.__doc__})


DROP_INS: dict[type, type] = {}
"""The drop-in class of each of torch's classes that has one."""


def made(base: type, names: tuple[str, ...]) -> dict[str, Any]:
    """What an owner class has: its base, its weights' names, a property for each."""
    space: dict[str, Any] = {name: _property(name) for name in names}
    if issubclass(base, nn.RNNBase):
        space["_flat_weights"] = property(_as_read, _as_kept)
    return {"_analog_base": base, "_analog_names": names, "__module__": base.__module__, **space}


def _as_read(module: Any) -> list[Any]:
    """What a recurrent forward hands its kernel: its weights by name, as they are read."""
    if not torch.compiler.is_compiling() and _called_by("__setattr__"):  # torch notes a new one
        return [module._parameters.get(name) for name in module._flat_weights_names]
    return [getattr(module, name, None) for name in module._flat_weights_names]


def _as_kept(module: Any, value: list[Any]) -> None:
    module.__dict__["_flat_weights"] = value


def _remade(base: type, names: tuple[str, ...]) -> Any:
    kind: Any = owner(base, names)
    return kind.__new__(kind)


def own(module: Any, name: str, analog: AnalogWeight, registered: bool) -> None:
    """Make a module the owner of an analog weight under a name, in place.

    `registered`: whether it is the one that registers it; the others of a tied set do not.
    """
    base: Any = _base(module) if isinstance(module, Owner) else type(module)
    if not isinstance(module, Owner) and (hasattr(module, CHILD)):
        raise TypeError(f"{base.__name__} has an attribute {CHILD!r} of its own: exclude it")
    names = tuple(dict.fromkeys((*weights(module), name)))
    module.__class__ = owner(base, names)
    if CHILD not in module._modules:
        module._modules[CHILD] = Arrays()
        module.register_load_state_dict_post_hook(_loaded)
    if registered:
        module._modules[CHILD]._modules[name] = analog
        module._modules[CHILD].tied.pop(name, None)
    else:
        module._modules[CHILD].tied[name] = analog
    module.__dict__.setdefault("_carried", {})[name] = analog
    parameter = module._parameters.get(name)
    if parameter is not None:
        carry(parameter, analog)


def disown(module: Any) -> None:
    """The module as it was."""
    kind = type(module)._analog_base
    del module._modules[CHILD]
    module.__dict__.pop("_carried")
    module.__class__ = kind
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()
    hooks = module._load_state_dict_post_hooks
    for key in [k for k, hook in hooks.items() if hook is _loaded]:
        del hooks[key]


def _loaded(module: Any, incompatible: Any) -> None:
    """After a checkpoint: a plain one is written onto the cells, else the Parameter shows them."""
    for name in weights(module):
        analog = held(module, name)
        parameter = module._parameters.get(name)
        if analog is None or parameter is None:
            continue
        shown = analog.mode.written and parameter.is_meta
        if shown and not analog.matrix.written.w_max.is_meta:  # cells alone were assigned
            blank = torch.empty_like(parameter, device=analog.matrix.written.w_max.device)
            parameter = nn.Parameter(blank.as_subclass(Tensor), parameter.requires_grad)
            module._parameters[name] = parameter
        if type(parameter) is nn.Parameter:  # load_state_dict(assign=True)
            carry(parameter, analog)
        analog.loaded(parameter)
