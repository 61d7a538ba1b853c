"""The tiles of a layer without an effective matrix: every input vector is its own circuit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.quantise import balanced
from crossbar.wires.network import Network
from crossbar.wires.prepare import prepare
from crossbar.wires.settings import Solver, Wires
from crossbar.wires.solved import CHUNK
from devices.part import IV

IDEAL = Wires(0.0, 0.0)


@dataclass(frozen=True)
class Tile:
    """One array: rows a…b and columns c…d of the layer."""

    a: int
    b: int
    c: int
    d: int
    network: Network


class CellTiles:
    """Reads of differential pairs of cells with a current–voltage law, tile by tile.

    Vectors are (..., k, lines) with the leading dimensions of one device of the pair; currents are
    in amperes at voltages in volts, already subtracted in the pair.
    """

    def __init__(
        self,
        g: Tensor,  # (2, ..., rows, cols) [S]
        std: Tensor | None,  # () or g's shape [S], white read noise of each cell
        iv: IV | None,
        wires: Wires | None,
        solver: Solver | None,
        tile: tuple[int, int] | None,
    ) -> None:
        self.g, self.std, self.iv = g.detach(), std, iv
        self.interleaved = wires is not None and wires.interleaved
        rows, cols = g.shape[-2:]
        self.tiles = [
            Tile(a, b, c, d, prepare(self.g[..., a:b, c:d], wires or IDEAL, iv, solver))
            for a, b in balanced(rows, tile and tile[0])
            for c, d in balanced(cols, tile and tile[1])
        ]

    def mv(self, v: Tensor, a: int) -> Tensor:
        """Column currents (..., k, cols) [A] of the row tile that begins at a; v (..., k, rows)."""
        parts = [t.network.mv(v[..., t.a : t.b]) for t in self.tiles if t.a == a]
        pair = torch.cat(parts, -1)
        return pair[0] - pair[1]

    def mv_t(self, v: Tensor, c: int) -> Tensor:
        """Row currents (..., k, rows) [A] of the column tile that begins at c; v (..., k, cols)."""
        parts = []
        for t in self.tiles:
            if t.c == c:
                d = v[..., t.c : t.d]
                if self.interleaved:
                    parts.append(t.network.mv_t(torch.stack([d, -d])))
                else:
                    pair = t.network.mv_t(d)
                    parts.append(pair[0] - pair[1])
        return torch.cat(parts, -1)

    def vjp(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of Σ cotangent · current with respect to v and g, by the adjoint circuit."""
        grad_v, grad_g = torch.zeros_like(v), torch.zeros_like(self.g)
        pair = torch.stack([cotangent, -cotangent])
        for t in self.tiles:
            found = t.network.vjp(v[..., t.a : t.b], pair[..., t.c : t.d])
            grad_v[..., t.a : t.b] += found.x
            grad_g[..., t.a : t.b, t.c : t.d] = found.g
        return grad_v, grad_g

    def variance(self, v: Tensor, a: int, b: int) -> Tensor | None:
        """Noise Σ (∂i/∂g σ)² (..., k, cols) [A²] of rows a…b; None without read noise.

        Slopes are taken at the applied voltages: exact with ideal lines, with wires too high by
        the square of the voltage share that the lines keep from a cell.
        """
        return self._noise(v[..., a:b, None], slice(a, b), slice(None), -2)

    def variance_t(self, v: Tensor, c: int, d: int) -> Tensor | None:
        """The same of a transposed read of columns c…d, (..., k, rows)."""
        return self._noise(v[..., None, c:d], slice(None), slice(c, d), -1)

    def _noise(self, v: Tensor, rows: slice, cols: slice, dim: int) -> Tensor | None:
        if self.std is None:
            return None
        assert self.iv is not None
        g, current = self.g[..., rows, cols], self.iv.current
        std = self.std if self.std.dim() == 0 else self.std[..., rows, cols].unsqueeze(-3)

        def summed(part: Tensor) -> Tensor:
            slope = slope_by_g(current, g.unsqueeze(-3), part)
            return (slope * std).square().sum((0, dim))

        # v is (..., k, rows, 1) or (..., k, 1, cols): one matrix of slopes a vector
        step = max(1, CHUNK // max(1, g.numel()))
        return torch.cat([summed(part) for part in v.split(step, -3)], -2)


class GatedTiles(CellTiles):
    """Reads of 1T1R tiles whose gates take the input's bits, one plane after another.

    The size of a code of b bits, up to T = 2^(b−1) − 1, has b − 1 binary digits; with the gates of
    digit n open a tile gives I_n, and Σ 2ⁿ I_n / T is added up before the ADC, negative inputs in
    phases of their own. Every digit is a circuit of its own: the IR drop depends on which cells are
    open with it. Gradients go straight through the bits (`Gated`); the transposed read is
    `Gated.mv_t`.
    """

    def __init__(
        self,
        g: Tensor,  # (2, ..., rows, cols) [S]
        std: Tensor | None,
        wires: Wires,
        tile: tuple[int, int] | None,
        bits: int,
    ) -> None:
        assert wires.source is not None
        super().__init__(g, std, None, wires, None, tile)
        self.v, self.top = wires.source.v, 2 ** max(bits - 1, 1) - 1

    def _planes(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Gate voltages (..., digits·k, rows) of the codes and the weights (digits,) of digits."""
        code = (v.double() * (self.top / self.v)).round()
        digits = torch.arange(self.top.bit_length(), device=v.device)
        on = code.abs().long().unsqueeze(-3) >> digits[:, None, None] & 1
        planes = on * code.sign().unsqueeze(-3) * self.v
        return planes.flatten(-3, -2), torch.exp2(digits.double()) / self.top

    def mv(self, v: Tensor, a: int) -> Tensor:
        """As `CellTiles.mv`."""
        planes, weight = self._planes(v)
        currents = super().mv(planes, a).unflatten(-2, (len(weight), -1))
        return (currents * weight[:, None, None]).sum(-3).to(v.dtype)

    def vjp(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """As `CellTiles.vjp`: an input moves the gates of all its digits alike."""
        planes, weight = self._planes(v)
        pulled = (cotangent.double().unsqueeze(-3) * weight[:, None, None]).flatten(-3, -2)
        by_planes, by_g = super().vjp(planes, pulled)
        return by_planes.unflatten(-2, (len(weight), -1)).sum(-3).to(v.dtype), by_g

    def variance(self, v: Tensor, a: int, b: int) -> Tensor | None:
        """As `CellTiles.variance`, each digit read with a noise of its own."""
        if self.std is None:
            return None
        planes, weight = self._planes(v[..., a:b])
        each = planes.unflatten(-2, (len(weight), -1)) * weight[:, None, None]
        return each.square().sum(-3).to(v.dtype) @ self._power(v)[..., a:b, :]

    def variance_t(self, v: Tensor, c: int, d: int) -> Tensor | None:
        """As `CellTiles.variance_t`."""
        if self.std is None:
            return None
        return v[..., c:d].square() @ self._power(v)[..., c:d].mT

    def _power(self, like: Tensor) -> Tensor:
        """σ² (..., rows, cols) of a pair [S²]."""
        assert self.std is not None
        return self.std.square().expand(self.g.shape).sum(0).to(like.dtype)


def slope_by_g(current: Callable[[Tensor, Tensor], Tensor], g: Tensor, v: Tensor) -> Tensor:
    """∂i/∂g of every cell at voltages v, broadcast together."""
    with torch.enable_grad():
        g, v = torch.broadcast_tensors(g.detach(), v.detach())
        cells = g.clone().requires_grad_()
        (slope,) = torch.autograd.grad(current(cells, v).sum(), cells)
    return slope
