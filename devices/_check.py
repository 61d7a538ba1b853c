"""Validation: each message names the field or verb, what was given and what is allowed."""

from __future__ import annotations

import inspect
import math
from numbers import Real


def finite(name: str, value: object) -> float:
    """`value` as a float.

    Raises:
        TypeError: not a real number.
        ValueError: NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def positive(name: str, value: object, unit: str = "") -> float:
    """`value` as a float > 0; raises like `finite`."""
    number = finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be > 0{unit and ' ' + unit}, got {number!r}")
    return number


def at_least(name: str, value: object, low: float, unit: str = "") -> float:
    """`value` as a float >= low; raises like `finite`."""
    number = finite(name, value)
    if number < low:
        raise ValueError(f"{name} must be >= {low:g}{unit and ' ' + unit}, got {number!r}")
    return number


def between(name: str, value: object, low: float, high: float, unit: str = "") -> float:
    """`value` as a float in [low, high]; raises like `finite`."""
    number = finite(name, value)
    if not low <= number <= high:
        raise ValueError(
            f"{name} must be in [{low:g}, {high:g}]{unit and ' ' + unit}, got {number!r}"
        )
    return number


def whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """`value` as an int in [low, high].

    Raises:
        TypeError: not an int.
        ValueError: out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r} ({type(value).__name__})")
    if value < low or (high is not None and value > high):
        allowed = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return value


def flag(name: str, value: object) -> None:
    """Raise TypeError unless `value` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def instance(name: str, value: object, kind: type, optional: bool = True) -> None:
    """Raise TypeError unless `value` is a `kind` (or None where `optional`)."""
    if value is None and optional:
        return
    if not isinstance(value, kind):
        hint = f"; did you mean {value.__name__}()?" if isinstance(value, type) else ""
        absent = " or None" if optional else ""
        raise TypeError(f"{name} must be a {kind.__name__}{absent}, got {value!r}{hint}")


def verbs(cls: type, home: str) -> None:
    """Whether every verb that `cls` overrides can be called as its kind, in module `home`, says.

    Raises:
        TypeError: one that cannot.
    """
    for name, verb in vars(cls).items():
        kinds = [k for k in cls.__mro__[1:] if k.__module__ == home and name in vars(k)]
        if not kinds or not inspect.isfunction(verb):
            continue
        wanted, own = inspect.signature(vars(kinds[0])[name]), inspect.signature(verb)
        if "draw" not in wanted.parameters:
            continue
        named = {q.name: None for q in wanted.parameters.values() if q.kind is q.KEYWORD_ONLY}
        old = "generator" in own.parameters
        try:
            own.bind(*[None] * (len(wanted.parameters) - len(named)), **named)
            fits = not old
        except TypeError:
            fits = False
        if not fits:
            what = "has the signature of 0.1" if old else "cannot be called as a device does"
            since = "since 0.2 it is" if old else "it must be"
            raise TypeError(
                f"{cls.__name__}.{name} {what}, {_bare(name, own)}; {since} "
                f"{_bare(name, wanted)}, see devices.Draw"
            )


def _bare(name: str, signature: inspect.Signature) -> str:
    """A verb as it is called, without types."""
    given = [q.replace(annotation=q.empty) for q in signature.parameters.values()]
    return f"{name}{inspect.Signature(given[1:])}"
