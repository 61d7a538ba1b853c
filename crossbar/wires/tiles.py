"""The effective matrices of a tiled layer, differentiable in its conductances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossbar.quantise import balanced
from crossbar.wires.disturb import write_shares
from crossbar.wires.interleaved import unweave, weave
from crossbar.wires.lines import identity
from crossbar.wires.network import Network
from crossbar.wires.prepare import prepare
from crossbar.wires.settings import Solver, Wires

Place = tuple[int, int, int, int]  # rows a…b, columns c…d of the layer
Solved = tuple[tuple[Network, list[Place]], ...]


def groups(rows: int, cols: int, tile: tuple[int, int] | None) -> Iterator[list[Place]]:
    """The tiles of a layer, those of equal shape together: at most four groups."""
    across, down = balanced(rows, tile and tile[0]), balanced(cols, tile and tile[1])
    found: dict[tuple[int, int], list[Place]] = {}
    for a, b in across:
        for c, d in down:
            found.setdefault((b - a, d - c), []).append((a, b, c, d))
    yield from found.values()


def _stacked(g: Tensor, places: list[Place]) -> Tensor:
    """Tiles (pair, tiles, ..., rows, cols) of a pair of layers (pair, ..., rows, cols)."""
    return torch.stack([g[..., a:b, c:d] for a, b, c, d in places], 1)


def _laid(tiles: Tensor, places: list[Place], out: Tensor) -> None:
    for k, (a, b, c, d) in enumerate(places):
        out[..., a:b, c:d] = tiles[:, k]


class _Effective(torch.autograd.Function):
    """g (pair, ..., rows, cols) to effective matrices of the same shape."""

    @staticmethod
    def forward(
        g: Tensor, wires: Wires, solver: Solver | None, tile: tuple[int, int] | None
    ) -> tuple[Tensor, Solved]:
        rows, cols = g.shape[-2:]
        solved = []
        out = torch.empty_like(g)
        for places in groups(rows, cols, tile):
            cells = _stacked(g.detach(), places).requires_grad_(g.requires_grad)
            network = prepare(cells, wires, solver=solver)
            _laid(matrix_of(network), places, out)
            solved.append((network, places))
        return out, tuple(solved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Solved]) -> None:
        ctx.solved = output[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor, _: Any) -> tuple[Tensor | None, None, None, None]:
        grad = torch.empty_like(cotangent)
        for network, places in ctx.solved:
            _laid(network.pullback(_stacked(cotangent, places)), places, grad)
        return grad, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, g: Tensor, *settings: Any) -> Any:
        """Chips stacked by vmap are one more leading dimension."""
        return _Effective.apply(g.movedim(in_dims[0], 1), *settings), (1, None)  # type: ignore[no-untyped-call]


def matrix_of(network: Network) -> Tensor:
    """The effective matrix, also where the solver reads without one."""
    if network.matrix is not None:
        return network.matrix.detach()
    with torch.no_grad():
        return network.mv(identity(network.rows, network.g))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def effective(
    g: Tensor,  # (pair, ..., rows, cols) [S]
    wires: Wires,
    solver: Solver | None = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """Effective matrices (pair, ..., rows, cols) [S] of a layer's tiles: currents = voltages @ W.

    Every tile is an array of its own; equal ones are solved together.
    """
    found: Tensor = _Effective.apply(g, wires, solver, tile)[0]  # type: ignore[no-untyped-call]
    return found


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def effective_back(
    g: Tensor, wires: Wires, solver: Solver | None = None, tile: tuple[int, int] | None = None
) -> Tensor | None:
    """W (pair, ..., rows, cols) [S] of the transposed read, d @ Wᵀ; None: that of `effective`."""
    if wires.ohms[2] == wires.ohms[3]:
        return None
    out = torch.empty_like(g)
    rows, cols = g.shape[-2:]
    for places in groups(rows, cols, tile):
        network = prepare(_stacked(g, places), wires, solver=solver)
        _laid(network.matrix_t, places, out)
    return out


@torch.no_grad()
def tiled_write_shares(
    g: Tensor,  # (pair, ..., rows, cols) [S]
    wires: Wires,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """`write_shares` (2, pair, ..., rows, cols) of every tile of a layer."""
    rows, cols = g.shape[-2:]
    out = g.new_empty(2, *g.shape)
    single = replace(wires, interleaved=False)
    for places in groups(rows, cols, tile):
        cells = _stacked(g, places)
        if wires.interleaved:
            found = unweave(write_shares(prepare(weave(cells), single, reads=2))).movedim(0, 1)
        else:
            found = write_shares(prepare(cells, single, reads=2))
        for k, (a, b, c, d) in enumerate(places):
            out[..., a:b, c:d] = found[:, :, k]
    return out
