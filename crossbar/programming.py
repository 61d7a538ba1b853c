"""Writing weights onto cells, and what makes up for the errors of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar import states
from crossbar.chip import Chip
from crossbar.mappings import Mapping
from crossbar.states import Writer
from devices import Device, State


class Written(NamedTuple):
    """One writing of cells (K, ..., rows, cols), or of one device of every weight.

    By a write-and-verify, or else by one pulse a cell.
    """

    g: Tensor  # [S] afterwards
    mask: Tensor | None  # bool, which were written; None: all
    found: Any = None  # what the writer returned, `Verified` where it says its pulses
    reads: int = 0  # of every cell that went before


def programmed(
    chip: Chip,
    state: State,
    w: Tensor,
    writer: Writer | None,
    mask: Tensor | None,
    generator: torch.Generator,
) -> tuple[State, Tensor, list[Written]]:
    """The cells after writing w = W/w_max (..., rows, cols), and the wanted conductances [S].

    Also every writing that was made.

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

    made: list[Written] = []

    def written(state: State, target: Tensor, reads: int = 0) -> State:
        part = {} if mask is None else {"mask": mask.expand_as(target)}
        # a write-and-verify also says which cells failed
        found = write(device, state, target, generator=generator, **part)
        held: State = getattr(found, "state", found)
        made.append(Written(held.g, part.get("mask"), None if held is found else found, reads))
        return held

    state = written(state, targets)
    for k in mapping.turns(device):
        places = (measured(device, state, generator) - g_min) / span
        targets[k] = mapping.again(w, places, k, device) * span + g_min
        one = written(states.device_of(state, k), targets[k], reads=len(state.g))
        state = states.with_device(state, k, one)
    return state, targets, made


def rewritten(
    chip: Chip, state: State, w: Tensor, generator: torch.Generator
) -> tuple[State, Tensor] | None:
    """The cells after writing, to the w they hold, the weights that the mapping finds worn.

    And which cells these are; None: none.
    """
    device, mapping = chip.device, chip.mapping
    worn = mapping.worn((state.g - device.g_min) / device.window.span)
    if not bool(worn.any()):
        return None
    mask = worn.expand_as(state.g)
    targets = mapping.targets(w, device)
    return device.program(state, targets, mask=mask, generator=generator), mask


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
