"""States of arrays as trees of tensors, and arrays made of some cells of another.

Some weights taken out of an array are an array of their own, (K, n): a cell brings its leaf along
and knows no neighbours. What is done to them costs as much as they are many.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from devices import Device, Pulses, State

Given = tuple[Pulses | None, ...]


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
    return joined(Tensor.clone, leaf)


def device_of(state: State, k: int) -> State:
    """The state of one device of every weight; leaves of cells that are alike stay 0-dim."""
    return joined(lambda t: t[k] if t.dim() else t, state)  # type: ignore[no-any-return]


def put(state: State, k: int, new: State) -> None:
    """Write one device's new state into the cells', tensor by tensor, where it changed."""

    def one(old: Tensor, given: Tensor) -> None:
        place = old[k] if old.dim() else old
        if place.data_ptr() != given.data_ptr():
            place.copy_(given)

    joined(one, state, new)


def taken(state: State, at: Tensor) -> State:
    """The cells (K, n) of the weights at flat indices (n,); 0-dim leaves as they are."""
    return joined(  # type: ignore[no-any-return]
        lambda t: t.flatten(1).index_select(1, at) if t.dim() else t, state
    )


def put_back(state: State, at: Tensor, before: State, after: State) -> None:
    """Write into an array what has become of the cells that were `taken`, where it changed."""

    def one(old: Tensor, was: Tensor, now: Tensor) -> None:
        if now is was:
            return
        if old.dim():
            old.view(len(old), -1).index_copy_(1, at, now)
        else:
            old.copy_(now)

    joined(one, state, before, after)


def pulsed(
    device: Device, some: State, rounds: Iterable[Given], generator: torch.Generator
) -> State:
    """Cells (K, n) after rounds of what each of the K devices is given, 1-D counts.

    A round is of the first so many of the weights. What does not change is the same tensor.
    """
    for given in rounds:
        n = max(len(pulses.up) for pulses in given if pulses is not None)
        part = some
        if n < some.g.shape[1]:
            part = joined(lambda t, n=n: t[:, :n] if t.dim() else t, some)
        new = _round(device, part, given, generator)
        if part is not some:
            new = joined(_before_rest, some, part, new)
        some = new
    return some


def _before_rest(whole: Tensor, was: Tensor, now: Tensor) -> Tensor:
    if now is was:
        return whole
    return torch.cat([now, whole[:, now.shape[1] :]], 1) if whole.dim() else now


def _round(device: Device, some: State, given: Given, generator: torch.Generator) -> State:
    if all(pulses is not None for pulses in given):  # one call for all of them
        counts = zip(*(pulses[:2] for pulses in given), strict=True)  # type: ignore[index]
        return device.pulse(some, Pulses(*map(torch.stack, counts)), generator=generator)
    old = [device_of(some, k) for k in range(len(given))]
    new = [
        state if pulses is None else device.pulse(state, pulses, generator=generator)
        for state, pulses in zip(old, given, strict=True)
    ]

    def one(whole: Tensor, *each: Tensor) -> Tensor:
        was, now = each[: len(old)], each[len(old) :]
        changed = [b for a, b in zip(was, now, strict=True) if a is not b]
        if not changed:
            return whole
        return torch.stack(now) if whole.dim() else changed[-1]

    return joined(one, some, *old, *new)  # type: ignore[no-any-return]
