"""States of arrays as trees of tensors, and arrays made of some cells of another.

Some weights taken out of an array are an array of their own, (K, n): a cell brings its leaf along
and knows no neighbours. What is done to them costs as much as they are many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from devices import Device, Pulses, State
from devices.trees import mapped

FEW = 1 << 14
"""Weights up to which a second call costs a CPU more than laying counts of all devices together."""

TURNED = 1 << 14
"""Size from which a matrix is turned by itself."""

Given = tuple[Pulses | None, ...]


class Writer(Protocol):
    """A way of writing an array, `Device.program` or a write-and-verify loop."""

    def __call__(
        self,
        device: Device,
        state: State,
        target: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The array after writing `target` [S], or what holds it as `state` (`Verified`)."""


@contextmanager
def writing() -> Iterator[None]:
    """State is written as ordinary tensors, whatever the caller's grad or inference mode."""
    if not (torch.is_grad_enabled() or torch.is_inference_mode_enabled()):  # as within another one
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def empty(state: Any, shape: tuple[int, ...]) -> Any:
    """The state of one cell as one of many, on the meta device."""
    return mapped(
        state, lambda t: torch.empty(shape if t.dim() else (), dtype=t.dtype, device="meta")
    )


def joined(how: Any, *trees: Any) -> Any:
    """The tree whose every tensor is `how` of those in its place."""
    first = trees[0]
    if isinstance(first, tuple):
        return type(first)(*[joined(how, *parts) for parts in zip(*trees, strict=True)])
    return None if first is None else how(*trees)


def device_of(state: State, k: int) -> State:
    """The state of one device of every weight; leaves of cells that are alike stay 0-dim."""
    return mapped(state, lambda t: t[k] if t.dim() else t)


def with_device(state: State, k: int, one: State) -> State:
    """The state with that of one device of every weight; leaves of cells that are alike are its."""

    def put(whole: Tensor, own: Tensor) -> Tensor:
        if not whole.dim():
            return own
        return torch.cat([whole[:k], own.unsqueeze(0), whole[k + 1 :]])

    found: State = joined(put, state, one)
    return found


def taken(state: State, at: Tensor) -> State:
    """The cells (K, n) of the weights at flat indices (n,); 0-dim leaves as they are."""
    return mapped(state, lambda t: t.view(len(t), -1).index_select(1, at) if t.dim() else t)


def copied(into: Tensor, value: Tensor) -> None:
    """`into.copy_(value)`; torch turns single matrices four times faster than several."""
    if value.dim() > 2 and not value.is_contiguous() and value[0].numel() >= TURNED:
        for one, other in zip(into, value, strict=True):
            copied(one, other)
    else:
        into.copy_(value)


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
    """Cells (K, n) of several arrays as one; what is alike in an array is so for each cell.

    What all arrays have alike stays one number, where the host sees that without waiting.
    """
    devices = some[0].g.shape[0]

    def one(*each: Tensor) -> Tensor:
        first = each[0]
        if first.device.type == "cpu" and not any(t.dim() for t in each):
            if all(t.numpy() == first.numpy() for t in each[1:]):
                return first
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
    """Give cells (K, n), in place, rounds of checked counts of each of the K devices, 1-D.

    A round is of the first so many of the weights. `written` says of the weights of each device
    whether they start a new life by it; None: all that are pulsed. Cells are walked in blocks,
    whose temporaries stay in cache.

    Returns:
        What has changed, None in the place of what has not.
    """
    driven = [k for k in range(len(some.g)) if any(given[k] is not None for given in rounds)]
    made: list[Any] = []
    whole = some.g.shape[1] <= FEW or some.g.device.type != "cpu"
    if len(driven) == len(some.g) and whole:  # one call for all of them
        masks = None if written is None else torch.stack(written)  # type: ignore[arg-type]
        made = [_walked(device, some, [_stacked(given) for given in rounds], generator, masks)]
        driven = []
    for k in driven:
        own: Any = [given[k] for given in rounds]
        mask = None if written is None else written[k]
        made.append(_walked(device, device_of(some, k), own, generator, mask))

    def one(whole: Tensor, *each: Tensor | None) -> Tensor | None:
        changed = [t for t in each if t is not None]
        return None if not changed else whole if whole.dim() else changed[-1]

    return joined(one, some, *made)


def _stacked(given: Given) -> Pulses:
    """Counts of every device, (K, n)."""
    fields: Any = zip(*given, strict=True)
    return Pulses(*(None if f[0] is None else torch.stack(f) for f in fields))  # type: ignore[arg-type]


def _walked(
    device: Device,
    some: State,
    rounds: Sequence[Pulses],
    generator: torch.Generator,
    written: Tensor | None,
) -> Any:
    """`pulsed` of cells (..., n) that are all given counts (..., at most n)."""
    made: Any = joined(lambda t: None, some)
    n = some.g.shape[-1]
    assert device.update is not None
    block = device.update.block if some.g.device.type == "cpu" else max(n, 1)
    one = block >= n
    for start in range(0, n, block):
        first = now = some if one else _cut(some, start, start + block)
        for pulses in rounds:
            given = pulses if one else _cut(pulses, start, start + block)
            size = given.up.shape[-1]
            if not size:
                break
            new_life = written if written is None else _cut(written, start, start + size)
            part = now if size == now.g.shape[-1] else _cut(now, 0, size)
            new = device.pulse(part, given, written=new_life, generator=generator, checked=True)
            now = new if part is now else joined(_before_rest, now, part, new)
        made = joined(_put_in, first, now)
    # a leaf that is one number for all cells is seen by every block as it was
    return made


def _cut(tree: Any, start: int, stop: int) -> Any:
    """Cells start … stop of a tree of (..., n)."""
    return mapped(tree, lambda t: t[..., start:stop] if t.dim() else t)


def _before_rest(whole: Tensor, was: Tensor, now: Tensor) -> Tensor:
    if now is was:
        return whole
    return torch.cat([now, whole[..., now.shape[-1] :]], -1) if whole.dim() else now


def _put_in(was: Tensor, now: Tensor) -> Tensor | None:
    if now is was:
        return None
    return was.copy_(now) if was.dim() else now
