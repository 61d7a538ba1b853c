"""States and leaves as trees: NamedTuples, one in another, of tensors and None."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def mapped(tree: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """The same tree of tuples with `f` of every tensor."""
    if isinstance(tree, Tensor):
        return f(tree)
    if isinstance(tree, tuple):
        parts = [mapped(x, f) for x in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of the tree, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for item in tree:
            yield from tensors(item)


def pick(tree: Any, at: Tensor) -> Any:
    """Every tensor at flat indices, 1-D; 0-dim ones as they are."""
    return mapped(tree, lambda t: t.reshape(-1).index_select(0, at) if t.dim() else t)


def put(tree: Any, at: Tensor, before: Any, after: Any, shape: torch.Size) -> Any:
    """The tree of an array of `shape` with what became of its cells `at`, picked as `before`.

    What has not changed is the same tensor, and a 0-dim one is that of all cells.
    """
    if isinstance(tree, Tensor):
        if after is before:
            return tree
        if not after.dim():
            return after
        return tree.expand(shape).reshape(-1).index_copy(0, at, after).view(shape)
    if isinstance(tree, tuple):
        parts = zip(tree, before, after, strict=True)
        return type(tree)(*(put(t, at, b, a, shape) for t, b, a in parts))
    return tree
