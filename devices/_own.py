"""Whether every cell has its own: parameters where some are pulsed alone, counts, noise, age."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from devices._drawn import numbered
from devices.device import Device
from devices.draw import Draw
from devices.part import Part, Pulses, Read, Retention, State, Window
from devices.trees import tensors

ERRORS = 5.0
GIVEN = ((12.0, 2.0), (1e3, 0.0), (0.0, 1e3))
"""Up and down pulses after which cells are compared: a few, and so many that bounds decide."""


def alone_off(device: Device, state: State) -> str | None:
    """What is wrong with cells that are pulsed alone, against the same cells among all.

    Cell by cell: the two may differ as two runs of all cells differ by their noise.
    """
    at = torch.arange(0, state.g.numel(), 2)
    for up, down in GIVEN:
        given = Pulses(torch.full_like(state.g, up), torch.full_like(state.g, down))
        one, two = (device.pulse(state, given, generator=numbered(k)) for k in (21, 22))
        if (said := noise_off((one.g, two.g).__getitem__)) is not None:
            return said
        few = Pulses(given.up[at], given.down[at])
        some = device.pulse(state, few, generator=numbered(23), at=at)
        usual, off = ((run.g[at] - one.g[at]).square() for run in (two, some))
        allowed = 1.1 * usual.mean() + _error(usual, off) + (1e-6 * device.window.span) ** 2
        if off.mean() > allowed:
            return f"must move cells that are pulsed alone ({up:g} up, {down:g} down) as among all"
        for leaf, own in zip(tensors(one.update), tensors(some.update), strict=True):
            if leaf.dim():
                a, b = (t[at].double().nan_to_num() for t in (leaf, own))
                if (a - b).mean().abs() > _error(a, b) + 1e-6 * a.abs().max():
                    return "must keep the same leaf of cells that are pulsed alone as among all"
    return None


def shared_off(device: Device, state: State) -> str | None:
    """What is wrong with random counts that devices of a weight share (`Pulses.z`), if anything.

    Two runs of one z must differ less than those of two, by half of what the counts add at least;
    and what is pulsed the other way, as the device across a pair is, must move as much as these.
    """
    like = state.g
    mean, none = torch.full_like(like, 2.0), torch.zeros_like(like)
    exact, counts = Pulses(mean, none), Pulses(mean, none, mean, none)

    def moved(given: Pulses, seed: int) -> Tensor:
        return device.pulse(state, given, generator=numbered(seed)).g - like

    one, other = (torch.randn(like.shape, generator=numbered(k), dtype=like.dtype) for k in (1, 2))
    first, again, apart = (
        moved(counts._replace(z=z), seed) for z, seed in ((one, 31), (one, 32), (other, 33))
    )
    across, away = (moved(counts._replace(z=z).swapped(), 34) for z in (one, other))
    up, down = (
        (run.var() - moved(given, 35).var(), run.var())
        for run, given in ((first, exact), (across, exact.swapped()))
    )
    words = "must take the counts that devices of a weight share (z) from z"
    if up[0] > 0.2 * up[1]:  # else its noise is not that of counts
        same, two = (first - again).square(), (first - apart).square()
        if two.mean() - same.mean() < up[0] - _error(same, two):
            return words
        same, two = ((first + run - (first + run).mean()).square() for run in (across, away))
        if down[0] > 0.2 * down[1]:
            if two.mean() - same.mean() < (up[0] * down[0]).sqrt() - _error(same, two):
                return f"{words}, and those of pulses the other way from −z"
    return None


def noise_off(run: Callable[[int], Tensor]) -> str | None:
    """What is wrong with noise that all cells share: two runs then differ as a whole."""
    off = run(0) - run(1)
    off = off[off.isfinite()]
    if off.mean().abs() > ERRORS * off.std() / max(len(off), 1) ** 0.5 + 1e-9 * off.abs().max():
        return "must draw noise for every cell, not one for all"
    return None


def written_off(part: Part, window: Window, g: Tensor, leaf: Any, draw: Draw) -> str | None:
    """What is wrong with the leaf after some cells were written, if anything."""
    mask = torch.arange(g.numel()).view(g.shape) % 2 == 0
    for old, new in zip(
        tensors(leaf), tensors(part.written(window, g, leaf, mask, draw)), strict=True
    ):
        rest = [t if t.dim() == 0 else t.expand(g.shape)[~mask] for t in (old, new)]
        if not torch.equal(*(t.nan_to_num() for t in rest)):
            return "must leave the leaf of cells alone that were not written"
    return None


def age_off(part: Read | Retention, of: Callable[[Tensor], Tensor]) -> str | None:
    """What is wrong with a part that does not ask for ages and depends on them, if anything."""
    young, old = (of(torch.full((), age, dtype=torch.float64)) for age in (0.0, 1e7))
    if not part.ages and not torch.equal(young, old):
        return "depends on the age of cells: it must say ages = True, or rewritten cells stay old"
    return None


def _error(a: Tensor, b: Tensor) -> Tensor:
    return ERRORS * ((a.var() + b.var()) / a.numel()).sqrt()
