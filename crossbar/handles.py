"""Numbers that stand for objects inside operators, whose arguments are tensors and numbers."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

_next = itertools.count(1)
_objects: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def handle_of(thing: Any) -> int:
    """A number by which operators find `thing` while it lives; another one at every call."""
    number = next(_next)
    _objects[number] = thing
    return number


def held_by(handle: int) -> Any:
    """What a number stands for."""
    return _objects[handle]
