"""What reads see of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.wires import (
    CellTiles,
    Efficacy,
    GatedTiles,
    Wires,
    effective,
    effective_back,
    tiled_write_shares,
)
from devices import State

Order = tuple[Tensor, Tensor]
"""Logical row and column at each physical place, (rows,) and (cols,), tile by tile."""


class Lying(NamedTuple):
    """Tiles with spare lines, of which the logical ones are some."""

    idle: Tensor  # (K, ..., rows, cols) [S] of all lines as they were made
    at: Tensor  # (..., logical rows, logical cols): place of each weight among rows · cols

    def laid(self, cells: Tensor) -> Tensor:
        """The cells of all lines, those of logical ones (K, ..., rows, cols) among them."""
        at = self.at.flatten(-2).expand(*cells.shape[:-2], -1)
        whole = self.idle.to(cells).flatten(-2).scatter(-1, at, cells.flatten(-2))
        return whole.view(self.idle.shape)

    def picked(self, t: Tensor) -> Tensor:
        """What belongs to the logical lines, of (K, ..., rows, cols) of all."""
        at = self.at.flatten(-2).expand(*t.shape[:-2], -1)
        return t.flatten(-2).gather(-1, at).unflatten(-1, self.at.shape[-2:])


class Planes(NamedTuple):
    """What a read sees of the cells, relative to the window ΔG; C columns of the layout."""

    matrix: Tensor  # (C, ..., rows, cols); with wires, of the effective conductances
    variance: Tensor | None = None  # () or (C, ..., rows, cols), of the read noise / ΔG²
    back: Tensor | None = None  # (C, ..., rows, cols) of the transposed read, where it differs
    tiles: CellTiles | None = None  # where no matrix reads the cells
    reach: Tensor | None = None  # (2, tiles, C, 4) of both directions, see `Layout.reach`


def planes_of(chip: Chip, state: State, order: Order | Lying | None = None) -> Planes:
    """What reads see of a state whose K cells a weight come first.

    With wires the matrix is the effective one of every tile, and a cell's noise is seen through
    the share W/g of itself that its effective conductance is: exact to first order in κ but for
    the noise it causes in other columns. Against the sensitivities of the whole circuit the
    standard deviation is on average 3 % off at κ = 0.2 and 12 % (too high) at κ = 1.
    """
    device, layout, span = chip.device, chip.layout, chip.device.window.span
    seen, std = device.seen(state), device.std(state)
    if device.iv is not None or chip.gate_bits is not None:
        tiles: CellTiles
        if chip.gate_bits is None:
            assert device.iv is not None
            tiles = CellTiles(
                seen, std, device.iv, chip.wires, chip.solver, chip.tile, layout.signs
            )
        else:
            assert chip.wires is not None
            tiles = GatedTiles(seen, std, chip.wires, chip.tile, chip.gate_bits, layout.signs)
        return Planes(layout.planes(seen.detach(), span), tiles=tiles)
    back = None
    if chip.wires is not None:
        cells = seen
        seen, other = through_wires(chip, cells, order)
        back = None if other is None else layout.planes(other, span)
        if std is not None:
            std = std * torch.where(cells > 0, (seen / cells).detach(), 1.0)
    variance = None if std is None else layout.power((std / span).square())
    return Planes(layout.planes(seen, span), variance, back)


class Seen(NamedTuple):
    """What reads see of some weights, each of whose columns hangs on its own cells alone."""

    matrix: Tensor  # (C, n)
    variance: Tensor | None  # () or (C, n)
    own: Tensor  # (C, n) what is left without read noise that lasts
    held: Tensor  # (n,) the weights of that, relative to the window


def seen_of(chip: Chip, some: State) -> Seen:
    """Of cells (K, n)."""
    planes = planes_of(chip, some)
    plain = chip.device.read is None  # nothing else is seen of them than they hold
    own = planes.matrix if plain else chip.layout.planes(some.g, chip.device.window.span)
    return Seen(planes.matrix, planes.variance, own, chip.layout.logical(own, chip.floor))


def over_line(
    chip: Chip, planes: Planes, line: Planes, at: Tensor | None = None, cols: int = 0
) -> Planes:
    """Planes, less how far a reference column is from what it is to show; its noise is added.

    `line` is what reads see of the columns' cells, (1, ..., rows, tiles across). `at`: the planes
    (C, n) are of these flat indices in a matrix of so many columns; None: of all weights.
    """
    layout, variance = chip.layout, planes.variance

    def less(matrix: Tensor, own: Tensor, sign: float) -> Tensor:
        wide = across(chip, own[0], cols or matrix.shape[-1], at)
        parts = []
        for plane, column in zip(matrix, layout.columns, strict=True):
            off = sign * column.reference(chip.floor) if sign < 0 else 0.0
            parts.append(plane if column.shared is None else plane + sign * wide - off)
        return torch.stack(parts)

    matrix = less(planes.matrix, line.matrix, -1.0)
    back = planes.back
    if back is not None:
        back = less(back, line.matrix if line.back is None else line.back, -1.0)
    if variance is not None and variance.dim() and line.variance is not None:
        own = line.variance.expand(line.matrix.shape)
        variance = less(variance.expand(planes.matrix.shape), own, 1.0)
    return planes._replace(matrix=matrix, variance=variance, back=back)


def across(chip: Chip, lines: Tensor, cols: int, at: Tensor | None = None) -> Tensor:
    """(..., rows, tiles across) as (..., rows, cols): to each column that of its tile.

    `at`: to the weights at these flat indices alone, (n,).
    """
    tiles = chip.tiles((1, cols), True)
    if at is None:
        sizes = torch.tensor([b - a for a, b in tiles], device=lines.device)
        return lines.repeat_interleave(sizes, -1)
    line = at.div(cols, rounding_mode="floor")
    if len(tiles) == 1:
        return lines.flatten().index_select(0, line)
    ends = torch.tensor([b for _, b in tiles], device=at.device)
    tile = torch.bucketize(at - line * cols, ends, right=True)
    return lines.flatten().index_select(0, line * len(tiles) + tile)


def reach_of(chip: Chip, planes: Planes) -> Tensor:
    """`Layout.reach` of every tile and column, (2, tiles, C, 4): forward and transposed reads."""
    layout, shape = chip.layout, tuple(planes.matrix.shape)
    tiles = [chip.tiles(shape, transposed) for transposed in (False, True)]
    back = planes.matrix if planes.back is None else planes.back
    size = (2, max(map(len, tiles)), shape[0], 4)
    found = planes.matrix.new_zeros(size, dtype=torch.float64)
    for m, own, ends in zip((planes.matrix, back.mT), found, tiles, strict=True):
        for k, (a, b) in enumerate(ends) if not m.is_meta else ():
            for c in range(shape[0]):
                own[k, c] = layout.reach(c, m[c][..., a:b, :], chip.floor)
    level = found[..., 0]
    level.masked_fill_(level == 0, 1)  # where nothing can flow
    return found


def efficacy_of(chip: Chip, cells: Any, order: Order | None) -> Efficacy | None:
    """Part of its step that each cell takes at the voltages of the write pulses."""
    update = chip.device.update
    if chip.write is None:
        return None
    assert update is not None
    state: State = cells.state
    if chip.wires is None:
        shares = state.g.new_full((2,), 0.5)
    else:
        shares = tiled_write_shares(placed(state.g, order), chip.wires, chip.tile)
        if order is not None:
            shares = placed(shares, (order[0].argsort(), order[1].argsort()))
    return chip.write.efficacy(shares, update, state.update)


def in_order(chip: Chip, cells: Tensor) -> Lying:
    """Tiles whose spare lines come after the others, of a chip's cells (K, ..., rows, cols)."""
    shape = tuple(cells.shape)
    lines = []
    for transposed in (False, True):
        both = zip(chip.tiles(shape, transposed), chip.made(shape, transposed), strict=True)
        lines.append([top + k for (a, b), (top, _) in both for k in range(b - a)])
    size = [chip.made(shape, transposed)[-1][1] for transposed in (False, True)]
    idle = cells.detach().new_full((*shape[:-2], *size), chip.device.window.g_min)
    rows, cols = (torch.tensor(part, device=cells.device) for part in lines)
    at = rows.unsqueeze(1) * size[1] + cols
    return Lying(idle, at.expand(shape[1:]).contiguous())


def through_wires(
    chip: Chip, cells: Tensor, order: Order | Lying | None
) -> tuple[Tensor, Tensor | None]:
    """Effective conductances of the forward and, where it differs, of the transposed read."""
    wires = chip.wires
    assert wires is not None
    if chip.spares is not None:
        lies = order if isinstance(order, Lying) else in_order(chip, cells)
        return _among_spares(chip, wires, cells, lies)
    assert not isinstance(order, Lying)
    lying = placed(cells, order)
    there = effective(lying, wires, chip.solver, chip.tile)
    back = effective_back(lying.detach(), wires, chip.solver, chip.tile)
    undone = None if order is None else (order[0].argsort(), order[1].argsort())
    return placed(there, undone), None if back is None else placed(back, undone)


def _among_spares(
    chip: Chip, wires: Wires, cells: Tensor, lies: Lying
) -> tuple[Tensor, Tensor | None]:
    """`through_wires` of lines among spare ones, whose drivers and sense nodes rest at 0 V."""
    whole, shape = lies.laid(cells), tuple(cells.shape)
    down, across = chip.made(shape, False), chip.made(shape, True)

    def each(solved: Callable[..., Tensor | None], g: Tensor) -> Tensor | None:
        found = [[solved(g[..., a:b, c:d], wires, chip.solver) for c, d in across] for a, b in down]
        if any(tile is None for line in found for tile in line):
            return None
        return lies.picked(torch.cat([torch.cat(line, -1) for line in found], -2))  # type: ignore[arg-type]

    there = each(effective, whole)
    assert there is not None
    return there, each(effective_back, whole.detach())


def placed(t: Tensor, order: Order | None) -> Tensor:
    """(..., rows, cols) taken in another order."""
    if order is None:
        return t
    return t.index_select(-2, order[0]).index_select(-1, order[1])
