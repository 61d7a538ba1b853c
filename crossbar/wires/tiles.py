"""The effective matrices of a tiled layer, differentiable in its conductances and resistances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd.function import once_differentiable

from crossbar.quantise import balanced
from crossbar.wires.disturb import write_shares
from crossbar.wires.interleaved import unweave, weave
from crossbar.wires.lines import identity
from crossbar.wires.network import Readable
from crossbar.wires.prepare import prepare
from crossbar.wires.settings import Solver, Wires

Place = tuple[int, int, int, int]  # rows a…b, columns c…d of the layer
Solved = tuple[tuple[Readable, list[Place]], ...]


def groups(g: Tensor, tile: tuple[int, int] | None) -> Iterator[list[Place]]:
    """The tiles of a layer, those of equal shape together: at most four groups."""
    across, down = (balanced(g.shape[k - 2], tile and tile[k]) for k in range(2))
    found: dict[tuple[int, int], list[Place]] = {}
    for a, b in across:
        for c, d in down:
            found.setdefault((b - a, d - c), []).append((a, b, c, d))
    yield from found.values()


def _stacked(g: Tensor, places: list[Place]) -> Tensor:
    """Tiles (K, tiles, ..., rows, cols) of a layer's devices (K, ..., rows, cols)."""
    return torch.stack([g[..., a:b, c:d] for a, b, c, d in places], 1)


def _laid(tiles: Tensor, places: list[Place], out: Tensor, dim: int = 1) -> None:
    for (a, b, c, d), found in zip(places, tiles.unbind(dim), strict=True):
        out[..., a:b, c:d] = found


class _Effective(torch.autograd.Function):
    """g (K, ..., rows, cols) and resistances to effective matrices of the shape of g."""

    @staticmethod
    def forward(
        g: Tensor,
        wires: Wires,
        solver: Solver | None,
        tile: tuple[int, int] | None,
        *resistances: Tensor | float,
    ) -> tuple[Tensor, Solved]:
        solved = []
        out, wires = torch.empty_like(g), wires.having(resistances)
        for places in groups(g, tile):
            cells = _stacked(g.detach(), places).requires_grad_(g.requires_grad)
            network = prepare(cells, wires, solver=solver)
            seen = network.matrix  # or one row after another, where the solver reads without
            unit = identity(network.rows, cells)
            _laid(network.mv(unit) if seen is None else seen, places, out)
            solved.append((network, places))
        return out, tuple(solved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Solved]) -> None:
        ctx.solved = output[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[4:]
        grad, by_ohms = torch.empty_like(cotangent), [torch.zeros_like(cotangent.sum())] * 4
        for network, places in ctx.solved:
            bar = _stacked(cotangent, places)
            if any(wanted):
                _, by_g, *ohms = network.vjp(identity(network.rows, bar), bar)
                by_ohms = [a + b for a, b in zip(by_ohms, ohms, strict=True)]
            else:
                by_g = network.pullback(bar)  # cheaper
            _laid(by_g, places, grad)
        each = (r if want else None for r, want in zip(by_ohms, wanted, strict=True))
        return grad, None, None, None, *each

    @staticmethod
    def vmap(info: Any, in_dims: Any, g: Tensor, *settings: Any) -> Any:
        """Chips stacked by vmap are one more leading dimension."""
        return _Effective.apply(g.movedim(in_dims[0], 1), *settings), (1, None)  # type: ignore[no-untyped-call]


@_disable_dynamo  # which imports the compiler when called
def effective(
    g: Tensor,  # (K, ..., rows, cols) [S]
    wires: Wires,
    solver: Solver | None = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """Effective matrices (K, ..., rows, cols) [S] of a layer's tiles: currents = voltages @ W.

    Every tile is an array of its own; equal ones are solved together. Differentiable in g and in
    resistances given as tensors.
    """
    found: Tensor = _Effective.apply(g, wires, solver, tile, *wires.resistances)[0]  # type: ignore[no-untyped-call]
    return found


@_disable_dynamo  # which imports the compiler when called
@torch.no_grad()
def effective_back(
    g: Tensor, wires: Wires, solver: Solver | None = None, tile: tuple[int, int] | None = None
) -> Tensor | None:
    """W (K, ..., rows, cols) [S] of the transposed read, d @ Wᵀ; None: that of `effective`."""
    if wires.ohms[2] == wires.ohms[3]:
        return None
    out = torch.empty_like(g)
    for places in groups(g, tile):
        _laid(prepare(_stacked(g, places), wires, solver=solver).matrix_t, places, out)
    return out


@torch.no_grad()
def tiled_write_shares(
    g: Tensor,  # (K, ..., rows, cols) [S]
    wires: Wires,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """`write_shares` (2, K, ..., rows, cols) of every tile of a layer."""
    out = g.new_empty(2, *g.shape)
    single = replace(wires, interleaved=False)
    for places in groups(g, tile):
        cells = _stacked(g, places)
        if wires.interleaved:
            found = unweave(write_shares(prepare(weave(cells), single, reads=2))).movedim(0, 1)
        else:
            found = write_shares(prepare(cells, single, reads=2))
        _laid(found, places, out, 2)
    return out
