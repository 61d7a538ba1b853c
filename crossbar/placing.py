"""Fresh cells, with weights placed around the faulty ones where there are spares."""

from __future__ import annotations

from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from crossbar.chip import Chip
from crossbar.planes import Lying
from devices import State
from devices.trees import mapped


def fabricated(
    chip: Chip,
    shape: tuple[int, ...],
    w: Tensor | None,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[State, Lying | None]:
    """Cells (K, ..., rows, cols) of a fresh chip, and where wires find them among spare ones.

    Args:
        chip: whose they are.
        shape: (..., rows, cols) of the logical matrix.
        w: W/w_max that is about to be written; None: nothing yet, spares stay unused.
        generator: of all that differs between cells.
        dtype: of the cells.
        device: where they are.
    """
    spares, count = chip.spares, chip.layout.devices
    own: Any = {"generator": generator, "dtype": dtype, "device": device}
    if spares is None:
        return chip.device.fabricate((count, *shape), **own), None
    *lead, rows, cols = shape
    down, across = chip.tiles(shape, False), chip.tiles(shape, True)
    high, wide = chip.made(shape, False), chip.made(shape, True)
    size = high[-1][1], wide[-1][1]
    state = chip.device.fabricate((count, *lead, *size), **own)
    assert chip.device.faults is not None
    window = chip.device.window
    stuck = (chip.device.faults.stuck(state.faults) - window.g_min) / window.span
    stuck = stuck.to(dtype).view(count, -1, *size)
    groups = stuck.shape[1]
    w = None if w is None else w.clamp(-1, 1).view(groups, rows, cols)
    row = torch.zeros(groups, rows, cols, dtype=torch.int64, device=device)
    col = torch.zeros_like(row)
    for n in range(groups):
        for i, (a, b) in enumerate(down):
            for j, (c, d) in enumerate(across):
                (top, low), (left, right) = high[i], wide[j]
                tile = stuck[:, n, top:low, left:right]
                at, to = torch.arange(b - a, device=device), torch.arange(d - c, device=device)
                if w is not None:
                    wanted = w[n, a:b, c:d]
                    if spares.rows is not None:
                        at = _assigned(chip, wanted, tile[:, :, : d - c])
                    if spares.columns is not None:
                        to = _assigned(chip, wanted.mT, tile[:, at].mT)
                row[n, a:b, c:d] = top + at.unsqueeze(1)
                col[n, a:b, c:d] = left + to
    flat = (row * size[1] + col).view(1, groups, -1)

    def picked(t: Tensor) -> Tensor:
        if not t.dim():
            return t
        cells = t.view(count, groups, -1).gather(-1, flat.expand(count, -1, -1))
        return cells.view(count, *shape)

    found: State = mapped(state, picked)
    lying = None if chip.wires is None else Lying(state.g, flat.view(shape))
    return found, lying


def _assigned(chip: Chip, w: Tensor, stuck: Tensor) -> Tensor:
    """The physical line of each logical one, of w (lines, m) and stuck places (K, lines', m)."""
    bad = ~stuck.isnan().all(0)
    cost = w.new_zeros(w.shape[0], stuck.shape[1])
    for p in range(stuck.shape[1]):
        at = bad[p].nonzero().squeeze(-1)
        if len(at):
            cost[:, p] = left_over(chip, w[:, at], stuck[:, p, at].unsqueeze(1)).square().sum(-1)
    _, found = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(found, device=w.device)


def left_over(chip: Chip, w: Tensor, stuck: Tensor) -> Tensor:
    """Error of W/w_max where cells are stuck at places (K, ...), NaN of healthy ones.

    After all that writing, in turns too, can do about it.
    """
    device, mapping, layout = chip.device, chip.mapping, chip.layout
    at = mapping.places(w, device)
    at = torch.where(stuck.isnan(), at, stuck)
    for k in mapping.turns(device):
        at[k] = torch.where(stuck[k].isnan(), mapping.again(w, at, k, device), at[k])
    return layout.logical(layout.planes(at, 1.0), 0.0) - w
