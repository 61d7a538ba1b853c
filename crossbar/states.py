"""States of arrays as trees of tensors, and arrays made of some cells of another.

Some weights taken out of an array are an array of their own, (K, n): a cell brings its leaf along
and knows no neighbours. What is done to them costs as much as they are many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from devices import Device, Pulses, State
from devices.trees import mapped

BLOCK = 1 << 15
"""Weights whose cells are pulsed together."""

FEW = 1 << 12
"""Weights up to which a second call costs more than laying the counts of all devices together."""

Given = tuple[Pulses | None, ...]


@contextmanager
def writing() -> Iterator[None]:
    """State is written as ordinary tensors, whatever the caller's grad or inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def empty(leaf: Any, shape: tuple[int, ...]) -> Any:
    """A leaf of one cell as one of many, on the meta device."""
    if isinstance(leaf, Tensor):
        return torch.empty(shape if leaf.dim() else (), dtype=leaf.dtype, device="meta")
    return leaf if leaf is None else type(leaf)(*(empty(x, shape) for x in leaf))


def joined(how: Any, *trees: Any) -> Any:
    """The tree whose every tensor is `how` of those in its place."""
    first = trees[0]
    if isinstance(first, Tensor):
        return how(*trees)
    if first is None:
        return None
    return type(first)(*(joined(how, *parts) for parts in zip(*trees, strict=True)))


def copied(leaf: Any) -> Any:
    """A copy."""
    return mapped(leaf, Tensor.clone)


def device_of(state: State, k: int) -> State:
    """The state of one device of every weight; leaves of cells that are alike stay 0-dim."""
    return mapped(state, lambda t: t[k] if t.dim() else t)


def taken(state: State, at: Tensor) -> State:
    """The cells (K, n) of the weights at flat indices (n,); 0-dim leaves as they are."""
    return mapped(state, lambda t: t.view(len(t), -1).index_select(1, at) if t.dim() else t)


def put_back(state: State, at: Tensor | None, made: State) -> None:
    """Write into an array what `pulsed` made of its cells `at`; None: it was pulsed itself."""

    def one(old: Tensor, new: Tensor | None) -> None:
        if new is None or new is old:
            return
        if not old.dim():  # all cells are alike, those that were taken too
            old.copy_(new[0, 0] if new.dim() else new)
        elif at is not None:
            old.view(len(old), -1).index_copy_(1, at, new)

    joined(one, state, made)


def side_by_side(some: Sequence[State], sizes: Sequence[int]) -> State:
    """Cells (K, n) of several arrays as one; what is alike in an array is so for each cell."""

    def one(*each: Tensor) -> Tensor:
        devices = some[0].g.shape[0]
        wide = (t if t.dim() else t.expand(devices, n) for t, n in zip(each, sizes, strict=True))
        return torch.cat(list(wide), 1)

    return joined(one, *some)


def apart(tree: Any, sizes: Sequence[int]) -> list[Any]:
    """What lay `side_by_side`, views; None stays None."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return [_cut(tree, a, b) for a, b in itertools.pairwise(ends)]


def flattened(state: State) -> State:
    """All cells as (K, n), in the same memory."""
    return mapped(state, lambda t: t.view(len(t), -1) if t.dim() else t)


def pulsed(
    device: Device,
    some: State,
    rounds: Sequence[Given],
    generator: torch.Generator,
    written: tuple[Tensor | None, ...] | None = None,
) -> State:
    """Give cells (K, n), in place, rounds of what each of the K devices is given, 1-D counts.

    A round is of the first so many of the weights. `written` says of the weights of each device
    whether they start a new life by it; None: all that are pulsed. Cells are walked in blocks,
    whose temporaries stay in cache and below the size from which malloc hands memory back to the
    system each time.

    Returns:
        What has changed, None in the place of what has not.
    """
    made: Any = joined(lambda t: None, some)
    n = some.g.shape[1]
    block = BLOCK if some.g.device.type == "cpu" else max(n, 1)
    for start in range(0, n, block):
        first = _cut(some, start, start + block)
        now = first
        for given in rounds:
            counts = _cut(given, start, start + block)
            size = max((len(pulses.up) for pulses in counts if pulses is not None), default=0)
            if not size:
                break
            new_life = _cut(written, start, start + block)
            now = _first(device, now, counts, size, generator, new_life)
        made = joined(_written, first, now)
    # a leaf that is one number for all cells is seen by every block as it was
    return joined(lambda t, new: t if t.dim() and new is not None else new, some, made)


def _cut(tree: Any, start: int, stop: int) -> Any:
    """Weights start … stop, a tree of (K, n) or (n,)."""
    return mapped(tree, lambda t: t[..., start:stop] if t.dim() else t)


def _written(was: Tensor, now: Tensor) -> Tensor | None:
    if now is was:
        return None
    return was.copy_(now) if was.dim() else now


def _first(
    device: Device, some: State, given: Given, size: int, generator: torch.Generator, written: Any
) -> State:
    """A round of the first `size` weights; what does not change is the same tensor."""
    if size == some.g.shape[1]:
        return _round(device, some, given, generator, written)
    part = _cut(some, 0, size)
    new = _round(device, part, given, generator, _cut(written, 0, size))

    def one(whole: Tensor, was: Tensor, now: Tensor) -> Tensor:
        if now is was:
            return whole
        return torch.cat([now, whole[:, size:]], 1) if whole.dim() else now

    return joined(one, some, part, new)


def _round(
    device: Device, some: State, given: Given, generator: torch.Generator, written: Any
) -> State:
    if some.g.shape[1] <= FEW and all(pulses is not None for pulses in given):  # one call for all
        fields: Any = zip(*given, strict=True)
        both = Pulses(*(None if f[0] is None else torch.stack(f) for f in fields))  # type: ignore[arg-type]
        masks = None if written is None else torch.stack(written)
        return device.pulse(some, both, written=masks, generator=generator)
    old = [device_of(some, k) for k in range(len(given))]
    new = list(old)
    for k, pulses in enumerate(given):
        if pulses is not None:
            mask = None if written is None else written[k]
            new[k] = device.pulse(old[k], pulses, written=mask, generator=generator)

    def one(whole: Tensor, *each: Tensor) -> Tensor:
        was, now = each[: len(old)], each[len(old) :]
        changed = [b for a, b in zip(was, now, strict=True) if a is not b]
        if not changed:
            return whole
        return torch.stack(now) if whole.dim() else changed[-1]

    return joined(one, some, *old, *new)
