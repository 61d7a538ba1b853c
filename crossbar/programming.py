"""Writing weights onto cells, and what makes up for the errors of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossbar import states
from crossbar.chip import Chip
from crossbar.mappings import Mapping
from crossbar.states import Writer
from devices import Device, State


def programmed(
    chip: Chip,
    state: State,
    w: Tensor,
    writer: Writer | None,
    mask: Tensor | None,
    generator: torch.Generator,
) -> tuple[State, Tensor]:
    """The cells after writing w = W/w_max (..., rows, cols), and the wanted conductances [S].

    Args:
        chip: whose cells they are; its mapping may have devices written again (`corrections`).
        state: the cells (K, ..., rows, cols).
        w: clipped to ±1.
        writer: how cells are written; None: once, with the device's write error.
        mask: the weights that are written; None: all.
        generator: of write errors, and of the noise of the reads between the writes.
    """
    device, mapping = chip.device, chip.mapping
    g_min, span = device.g_min, device.window.span
    write: Any = Device.program if writer is None else writer
    w = w.clamp(-1, 1)
    targets = mapping.targets(w, device)

    def written(state: State, target: Tensor) -> State:
        part = {} if mask is None else {"mask": mask.expand_as(target)}
        # a write-and-verify also says which cells failed
        found = write(device, state, target, generator=generator, **part)
        held: State = getattr(found, "state", found)
        return held

    state = written(state, targets)
    for k in mapping.turns(device):
        places = (measured(device, state, generator) - g_min) / span
        targets[k] = mapping.again(w, places, k, device) * span + g_min
        one = written(states.device_of(state, k), targets[k])
        state = states.with_device(state, k, one)
    return state, targets


def rewritten(chip: Chip, state: State, w: Tensor, generator: torch.Generator) -> State | None:
    """The cells after writing, to the w they hold, the weights that the mapping finds worn."""
    device, mapping = chip.device, chip.mapping
    worn = mapping.worn((state.g - device.g_min) / device.window.span)
    if not bool(worn.any()):
        return None
    mask = worn.expand_as(state.g)
    return device.program(state, mapping.targets(w, device), mask=mask, generator=generator)


def measured(device: Device, state: State, generator: torch.Generator) -> Tensor:
    """One read of every cell [S]."""
    seen, std = device.seen(state), device.std(state)
    if std is None:
        return seen
    drawn = torch.randn(seen.shape, generator=generator, dtype=seen.dtype, device=seen.device)
    return seen + std * drawn


def rescaled(mapping: Mapping, w: Tensor, changed: Tensor, w_max: Tensor, scale: Tensor) -> bool:
    """Give weights their own scale, in place, where they are beyond it, or all new and finer.

    A mapping whose scale was asked for keeps it; a weight of zero is new on any scale.
    """
    if mapping.w_max is not None:
        return False
    if not bool((mapping.largest(w) > w_max).any()):
        finer = bool((scale < w_max).any()) and bool((changed | (w == 0)).all())
        if not finer:
            return False
    w_max.copy_(scale.expand_as(w_max))
    return True
