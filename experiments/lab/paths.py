"""Fields of settings by dotted path, and values written as text.

`replace(chip, "device.update.sigma_c2c", 0.3)` gives a changed copy. `parse` reads Python
literals and calls of public constructors of `crossbar` and `devices`, or of dataclasses of one's
own by dotted name (`mylaw.Bell()`), and nothing else: text is never evaluated.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import crossbar
import devices
from devices import presets

T = TypeVar("T")


def replace(settings: T, path: str, value: Any) -> T:
    """A copy of nested frozen dataclasses with one field changed.

    Raises:
        ValueError: an empty path, a field that does not exist, or a path through an absent part.
    """
    return _replace(settings, path.split("."), value, done=())  # type: ignore[return-value]


def get(settings: Any, path: str) -> Any:
    """The value at a dotted path; raises like `replace`."""
    done: tuple[str, ...] = ()
    for name in path.split("."):
        _check(settings, name, done, path)
        settings, done = getattr(settings, name), (*done, name)
    return settings


def _replace(settings: Any, names: list[str], value: Any, done: tuple[str, ...]) -> Any:
    name, *rest = names
    _check(settings, name, done, ".".join((*done, *names)))
    if rest:
        value = _replace(getattr(settings, name), rest, value, (*done, name))
    return dataclasses.replace(settings, **{name: value})


def _check(settings: Any, name: str, done: tuple[str, ...], path: str) -> None:
    where = ".".join(done)
    if settings is None:
        raise ValueError(
            f"{path}: {where} is absent (None) here, so it has no field {name!r}; "
            f"set {where} itself, or start from settings that have it"
        )
    if not dataclasses.is_dataclass(settings):
        raise ValueError(f"{path}: {where} is {settings!r}, a value without fields")
    known = [field.name for field in dataclasses.fields(settings) if field.init]
    if name not in known:
        owner = f"{where}, a {type(settings).__name__}," if where else type(settings).__name__
        raise ValueError(
            f"{path}: {owner} has no field {name!r}{_hint(name, known)}; "
            f"it has {', '.join(known) or 'no fields'}"
        )


def short(value: Any) -> str:
    """The constructor call of settings without the fields that have their default."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    told = [
        f"{field.name}={short(found)}"
        for field in dataclasses.fields(value)
        if field.init and (found := getattr(value, field.name)) != field.default
    ]
    return f"{type(value).__name__}({', '.join(told)})"


def parse(text: str) -> Any:
    """The value of a Python literal or of a call such as `SoftBounds(dg_min=5e-8)`.

    Names are those of `crossbar` and `devices`, with or without `xb.`; `presets.pcm()` works.

    Raises:
        ValueError: anything else; the message lists what is known.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no Python value: {error.msg}") from None
    return _value(tree.body, text)


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.UnaryOp(ast.USub(), operand) if _is_number(number := _value(operand, text)):
            return -number
        case ast.UnaryOp(ast.UAdd(), operand) if _is_number(number := _value(operand, text)):
            return number
        case ast.Tuple(items):
            return tuple(_value(item, text) for item in items)
        case ast.List(items):
            return [_value(item, text) for item in items]
        case ast.Dict(keys, values) if None not in keys:
            return {
                _value(k, text): _value(v, text) for k, v in zip(keys, values, strict=True) if k
            }
        case ast.Call(function, arguments, keywords):
            made = _constructor(function, text)
            return made(
                *(_value(argument, text) for argument in arguments),
                **{_keyword(k, text): _value(k.value, text) for k in keywords},
            )
        case ast.Name("inf"):
            return float("inf")
        case ast.Name() | ast.Attribute():
            _constructor(node, text)
            raise ValueError(f"{text!r} names a constructor; write {ast.unparse(node)}()")
    raise ValueError(
        f"{ast.unparse(node)!r} in {text!r} is neither a literal nor a call of a public constructor"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _keyword(keyword: ast.keyword, text: str) -> str:
    if keyword.arg is None:
        raise ValueError(f"{text!r}: ** is not understood, write the arguments out")
    return keyword.arg


def _constructor(node: ast.expr, text: str) -> Any:
    names = ast.unparse(node).split(".")
    if names[0] in ("xb", "crossbar", "devices") and len(names) > 1:
        names = names[1:]
    if names[0] == "presets" and len(names) == 2:
        return _look_up(names[1], constructors(presets), "preset", text)
    if len(names) > 1 and all(name.isidentifier() for name in names):
        return _own(names, text)
    if len(names) == 1:
        return _look_up(names[0], {**constructors(devices), **constructors(crossbar)}, "name", text)
    raise ValueError(f"{ast.unparse(node)!r} in {text!r} is not a public constructor")


def _look_up(name: str, known: dict[str, Any], what: str, text: str) -> Any:
    if name not in known:
        hint = _hint(name, known) or f"; known: {', '.join(sorted(known))}"
        raise ValueError(f"unknown {what} {name!r} in {text!r}{hint}")
    return known[name]


def _own(names: list[str], text: str) -> Any:
    """A settings class of a module of the user's own: mylaw.Bell."""
    module, name = ".".join(names[:-1]), names[-1]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{module!r} in {text!r} is no module that can be imported from here ({error}); "
            "constructors without a module are those of crossbar and devices"
        ) from None
    except Exception as error:
        raise ValueError(f"importing {module!r}: {type(error).__name__}: {error}") from error
    value = getattr(found, name, None)
    if not (isinstance(value, type) and dataclasses.is_dataclass(value)):
        known = [n for n, v in vars(found).items() if dataclasses.is_dataclass(v) and n[0] != "_"]
        raise ValueError(
            f"{module}.{name} in {text!r} is not a public constructor: a dataclass of the module"
            f"{_hint(name, known)}"
        )
    return value


def constructors(module: ModuleType) -> dict[str, Any]:
    """Public settings of a module by name: its dataclasses, and the functions of `presets`."""
    names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    found = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if (isinstance(value, type) and dataclasses.is_dataclass(value))
        or (isinstance(value, FunctionType) and value.__module__.startswith(presets.__name__))
    }


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
