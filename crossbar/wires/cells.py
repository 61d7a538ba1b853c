"""The tiles of a layer without an effective matrix: every input vector is its own circuit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.quantise import balanced
from crossbar.wires.network import Readable
from crossbar.wires.prepare import prepare
from crossbar.wires.settings import Solver, Wires
from crossbar.wires.solved import CHUNK
from devices.part import IV

IDEAL = Wires(0.0, 0.0)
Signs = tuple[tuple[float, ...], ...]
"""How the currents of K devices make C columns: C tuples of K numbers −1, 0 or 1."""


@dataclass(frozen=True)
class Tile:
    """One array: rows a…b and columns c…d of the layer."""

    a: int
    b: int
    c: int
    d: int
    network: Readable


class CellTiles:
    """Reads of K devices a weight whose cells have a current–voltage law, tile by tile.

    A layout has C columns a weight, column c the sum Σ_k signs[c][k] · current of device k: one
    differential pair is K = 2, C = 1, signs ((1, −1),), as interleaved wires need it. Vectors are
    (..., k, lines) [V] with the leading dimensions of one device, currents [A] in float32 or wider.
    """

    def __init__(
        self,
        g: Tensor,  # (K, ..., rows, cols) [S]
        std: Tensor | None,  # () or g's shape [S], white read noise of each cell
        iv: IV | None,
        wires: Wires | None,
        solver: Solver | None,
        tile: tuple[int, int] | None,
        signs: Signs,  # C tuples of K
    ) -> None:
        wires = wires or IDEAL
        if any(len(column) != len(g) for column in signs):
            raise ValueError(f"signs must hold {len(g)} devices a column, got {signs!r}")
        if wires.interleaved and signs != ((1, -1),):
            raise ValueError(f"interleaved wires need signs ((1, -1),), got {signs!r}")
        if wires.differentiated and torch.is_grad_enabled():
            raise TypeError(
                "resistances of cells read vector by vector (a current-voltage law, 1T1R) get no "
                "gradient in a layer; give them as numbers, or use prepare(...)"
            )
        self.g, self.std, self.iv, self.signs = g.detach(), std, iv, signs
        self.interleaved = wires.interleaved
        self.tiles = [
            Tile(a, b, c, d, prepare(self.g[..., a:b, c:d], wires, iv, solver))
            for a, b in balanced(g.shape[-2], tile and tile[0])
            for c, d in balanced(g.shape[-1], tile and tile[1])
        ]

    def mv(self, v: Tensor, a: int) -> Tensor:
        """Currents (C, ..., k, cols) [A] of the row tile beginning at a; v (..., k, rows) [V]."""
        v = wide(v)
        parts = [t.network.mv(v[..., t.a : t.b]) for t in self.tiles if t.a == a]
        return self._columns(torch.cat(parts, -1))

    def mv_t(self, v: Tensor, c: int) -> Tensor:
        """Currents (C, ..., k, rows) [A] of the column tile beginning at c; v (..., k, cols) [V].

        Every device's bitline is driven with v, those of an interleaved pair with ±v at once.
        """
        v = wide(v)
        parts = [(t.network, v[..., t.c : t.d]) for t in self.tiles if t.c == c]
        if self.interleaved:
            return torch.cat([n.mv_t(torch.stack([d, -d])) for n, d in parts], -1)[None]
        return self._columns(torch.cat([n.mv_t(d) for n, d in parts], -1))

    def vjp(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of Σ cotangent · current of all row tiles, by the adjoint circuit.

        v (..., k, rows) [V] and cotangents (C, ..., k, cols) give those of v, in float32 or wider,
        and of g (K, ..., rows, cols).
        """
        v, cotangent = wide(v), wide(cotangent)
        grad_v, grad_g = torch.zeros_like(v), torch.zeros_like(self.g)
        devices = self._weights(cotangent).transpose(0, 1)
        pulled = (devices * cotangent).sum(1)
        for t in self.tiles:
            found = t.network.vjp(v[..., t.a : t.b], pulled[..., t.c : t.d])
            grad_v[..., t.a : t.b] += found.x
            grad_g[..., t.a : t.b, t.c : t.d] = found.g
        return grad_v, grad_g

    def variance(self, v: Tensor, a: int, b: int) -> Tensor | None:
        """Noise Σ (∂i/∂g σ)² (C, ..., k, cols) [A²] of rows a…b; None without read noise.

        Slopes are taken at the applied voltages: exact with ideal lines, with wires too high by
        the square of the voltage share that the lines keep from a cell.
        """
        return self._noise(v[..., a:b, None], slice(a, b), slice(None), -2)

    def variance_t(self, v: Tensor, c: int, d: int) -> Tensor | None:
        """The same of a transposed read of columns c…d, (C, ..., k, rows)."""
        return self._noise(v[..., None, c:d], slice(None), slice(c, d), -1)

    def _noise(self, v: Tensor, rows: slice, cols: slice, dim: int) -> Tensor | None:
        if self.std is None:
            return None
        assert self.iv is not None
        g, current = self.g[..., rows, cols], self.iv.current
        std = self.std if self.std.dim() == 0 else self.std[..., rows, cols].unsqueeze(-3)

        def summed(part: Tensor) -> Tensor:
            with torch.enable_grad():
                cells, volts = torch.broadcast_tensors(g.unsqueeze(-3), part.detach())
                cells = cells.clone().requires_grad_()
                (slope,) = torch.autograd.grad(current(cells, volts).sum(), cells)
            return (slope * std).square().sum(dim)

        # v is (..., k, rows, 1) or (..., k, 1, cols): one matrix of slopes a vector
        step = max(1, CHUNK // max(1, g.numel()))
        return self._columns(torch.cat([summed(part) for part in wide(v).split(step, -3)], -2), 2)

    def _weights(self, like: Tensor, power: int = 1) -> Tensor:
        """signs ** power (C, K, 1, ...) for sums over columns or devices (., ...)."""
        signs = torch.tensor(self.signs, dtype=like.dtype, device=like.device) ** power
        return signs.view(*signs.shape, *[1] * (like.dim() - 1))

    def _columns(self, devices: Tensor, power: int = 1) -> Tensor:
        """Σ_k signs[c][k] ** power · devices (K, ...) as (C, ...); no matrix product, no TF32."""
        return (self._weights(devices, power) * devices).sum(1)


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
        g: Tensor,  # (K, ..., rows, cols) [S]
        std: Tensor | None,
        wires: Wires,
        tile: tuple[int, int] | None,
        bits: int,
        signs: Signs,
    ) -> None:
        assert wires.source is not None
        super().__init__(g, std, None, wires, None, tile, signs)
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
        currents = super().mv(planes, a).unflatten(-2, (len(weight), v.shape[-2]))
        return (currents * weight[:, None, None]).sum(-3).to(wide(v).dtype)

    def vjp(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """As `CellTiles.vjp`: an input moves the gates of all its digits alike."""
        planes, weight = self._planes(v)
        pulled = (cotangent.double().unsqueeze(-3) * weight[:, None, None]).flatten(-3, -2)
        by_planes, by_g = super().vjp(planes, pulled)
        by_digit = by_planes.unflatten(-2, (len(weight), v.shape[-2]))
        return by_digit.sum(-3).to(wide(v).dtype), by_g

    def variance(self, v: Tensor, a: int, b: int) -> Tensor | None:
        """As `CellTiles.variance`, each digit read with a noise of its own."""
        if self.std is None:
            return None
        planes, weight = self._planes(v[..., a:b])
        each = planes.unflatten(-2, (len(weight), v.shape[-2])) * weight[:, None, None]
        return each.square().sum(-3).to(wide(v).dtype) @ self._power(v)[..., a:b, :]

    def variance_t(self, v: Tensor, c: int, d: int) -> Tensor | None:
        """As `CellTiles.variance_t`."""
        if self.std is None:
            return None
        return wide(v)[..., c:d].square() @ self._power(v)[..., c:d].mT

    def _power(self, v: Tensor) -> Tensor:
        """σ² (C, ..., rows, cols) of the columns [S²]."""
        assert self.std is not None
        return self._columns(self.std.square().expand(self.g.shape), 2).to(wide(v).dtype)


def wide(v: Tensor) -> Tensor:
    """In float32 or wider: amperes are below what half precision can hold."""
    return v.to(torch.promote_types(v.dtype, torch.float32))
