"""Iterative write-and-verify: read, pulse in the wanted direction, read again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import positive, whole
from devices.device import Device
from devices.part import Pulses, State


class Verified(NamedTuple):
    """What a write-and-verify left behind."""

    state: State
    failed: Tensor  # (..., rows, cols) bool, not within tolerance at the last verifying read
    pulses: Tensor  # (..., rows, cols) number of pulses each cell was given
    up: Tensor  # (..., rows, cols) those of them that raised it
    dose: Pulses  # (..., rows, cols) Σ of its conductance before each, up and down [S]
    reads: Tensor  # (..., rows, cols) verifying reads


def write_verify(
    device: Device,
    state: State,
    target: Tensor,  # (..., rows, cols) [S]
    *,
    tolerance: float,
    max_pulses: int = 1000,
    reads: int = 1,
    patience: int = 1,
    generator: torch.Generator | None = None,
) -> Verified:
    """Bring every cell to its target by its own pulses and its own noisy reads.

    Every round reads each unfinished cell (the mean of `reads` reads), declares it finished when
    the read was within tolerance `patience` times in a row, and otherwise gives it one pulse
    towards the target. A finished cell is left alone, so a lucky read of a noisy cell counts: raise
    `reads` or `patience` against that.

    Args:
        device: the cells' device, with an update law.
        state: where the cells start.
        target: wanted conductances, clipped to the window.
        tolerance: largest accepted deviation of the read [S], > 0.
        max_pulses: rounds, and so pulses per cell, at most.
        reads: reads averaged in a verification, >= 1.
        patience: successive accepting verifications that finish a cell, >= 1.
        generator: of pulse and read noise.

    Returns:
        The state, the cells that failed and the pulses each was given.

    Raises:
        TypeError: a write-only device.
        ValueError: tolerance or a count out of range, or a target of another shape.
    """
    positive("tolerance", tolerance, "S")
    whole("max_pulses", max_pulses, 1)
    whole("reads", reads, 1)
    whole("patience", patience, 1)
    if device.update is None:
        raise TypeError("write_verify needs a device with an update law, got update=None")
    if target.dim() > state.g.dim() or any(
        ours not in (1, theirs)
        for ours, theirs in zip(target.shape[::-1], state.g.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"target must broadcast to the cells {tuple(state.g.shape)}, got {tuple(target.shape)}"
        )
    target = target.to(state.g.dtype).clamp(device.g_min, device.g_max).expand_as(state.g)
    given, raised, read = (torch.zeros_like(state.g) for _ in range(3))
    dose = Pulses(torch.zeros_like(state.g), torch.zeros_like(state.g))
    accepted = torch.zeros_like(state.g)
    for _ in range(max_pulses + patience):
        error = _read(device, state, reads, generator) - target
        near = error.abs() <= tolerance
        open_ = accepted < patience
        read = read + open_.to(read) * reads
        accepted = torch.where(open_, torch.where(near, accepted + 1, 0.0), accepted)
        wanting = open_ & ~near & (given < max_pulses)
        if not bool((accepted < patience).any()) or not bool((wanting | (open_ & near)).any()):
            break
        up, down = (wanting & (error < 0)).to(given), (wanting & (error > 0)).to(given)
        dose = Pulses(dose.up + up * state.g, dose.down + down * state.g)
        state = device.pulse(state, Pulses(up, down), generator=generator)
        given, raised = given + up + down, raised + up
    return Verified(state, accepted < patience, given, raised, dose, read)


def _read(device: Device, state: State, reads: int, generator: torch.Generator | None) -> Tensor:
    """Mean of some reads of every cell [S]."""
    g = device.seen(state)
    std = device.std(state)
    if std is None:
        return g
    drawn = torch.randn(g.shape, generator=generator, dtype=g.dtype, device=g.device)
    return g + std * drawn / reads**0.5
