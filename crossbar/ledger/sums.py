"""Sums over the cells of an array, tile by tile and in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossbar.ledger import jit

Tiles = list[tuple[int, int]]
"""First and last line of every tile."""


def numbers(tiles: Tiles, device: torch.device) -> Tensor:
    """The tile of every line."""
    sizes = torch.tensor([b - a for a, b in tiles], device=device)
    return torch.arange(len(tiles), device=device).repeat_interleave(sizes)


def compiled(t: Tensor) -> bool:
    """Whether the loop serves it."""
    return jit.lines is not None and t.device.type == "cpu"


def along_lines(g: Tensor, down: Tiles, across: Tiles) -> tuple[Tensor, Tensor]:
    """Sums of (K, ..., rows, cols) along lines.

    Of rows within each column tile, (K, across, ..., rows); of columns within each row tile, (K,
    down, ..., cols).
    """
    k, *lead, rows, cols = g.shape
    if compiled(g):
        flat = g.detach().reshape(-1, rows, cols).contiguous()
        r = torch.empty(len(flat), len(across), rows, dtype=torch.float64)
        c = torch.zeros(len(flat), len(down), cols, dtype=torch.float64)
        tile = numbers(down, g.device).numpy()
        assert jit.lines is not None
        jit.lines(flat.numpy(), tile, _ends(across), r.numpy(), c.numpy())
        shaped = (t.view(k, *lead, *t.shape[1:]).movedim(-2, 1) for t in (r, c))
        by_row, by_col = shaped
        return by_row, by_col
    wide = g.detach().double()
    return (
        torch.stack([wide[..., a:b].sum(-1) for a, b in across], 1),
        torch.stack([wide[..., a:b, :].sum(-2) for a, b in down], 1),
    )


def doses(
    at: Tensor | None, up: Tensor, down: Tensor, g: Tensor, tiles: tuple[Tiles, Tiles]
) -> Tensor:
    """Σ up, Σ down, Σ up g and Σ down g of one device of every weight, (4, down, across).

    Args:
        at: flat indices (n,) of the weights that the first so many counts are of; None: counts
            are (..., rows, cols).
        up: counts.
        down: counts.
        g: (..., rows, cols) [S].
        tiles: rows and columns of the tiles.
    """
    rows, cols = g.shape[-2:]
    out = torch.zeros(4, len(tiles[0]), len(tiles[1]), dtype=torch.float64, device=g.device)
    if compiled(g):
        assert jit.dense is not None and jit.sparse is not None
        tile = numbers(tiles[0], g.device).numpy()
        cells = g.detach().contiguous()
        if at is None:
            counts = (t.detach().expand(g.shape).contiguous() for t in (up, down))
            parts = (t.view(-1, rows, cols).numpy() for t in (*counts, cells))
            jit.dense(*parts, tile, _ends(tiles[1]), out.numpy())
        else:
            across = numbers(tiles[1], g.device).numpy()
            some = (t.detach().contiguous().numpy() for t in (at, up, down))
            jit.sparse(*some, cells.view(-1).numpy(), rows, cols, tile, across, out.numpy())
        return out
    wide = g.detach().double()
    if at is None:
        u, d = (t.detach().double().expand(g.shape) for t in (up, down))
        each = torch.stack([u, d, u * wide, d * wide])
        for i, (a, b) in enumerate(tiles[0]):
            for j, (c, e) in enumerate(tiles[1]):
                out[:, i, j] = each[..., a:b, c:e].flatten(1).sum(1)
        return out
    at = at[: len(up)]
    line = at // cols
    lying, standing = (numbers(t, g.device) for t in tiles)
    tile = lying[line % rows] * len(tiles[1]) + standing[at - line * cols]
    u, d, some = up.detach().double(), down.detach().double(), wide.reshape(-1)[at]
    out.view(4, -1).index_add_(1, tile, torch.stack([u, d, u * some, d * some]))
    return out


def by_tile(t: Tensor, tiles: Tiles) -> Tensor:
    """Sums of (..., lines) over the lines of each tile, (..., tiles)."""
    if len(tiles) == 1:
        return t.sum(-1, keepdim=True)
    return torch.stack([t[..., a:b].sum(-1) for a, b in tiles], -1)


def _ends(tiles: Tiles) -> np.ndarray:
    return np.array([tiles[0][0], *(b for _, b in tiles)])
