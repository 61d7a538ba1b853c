"""Sums of conductances along lines, in float64, as they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.ledger.sums import along_lines
from crossbar.planes import Lying, placed
from crossbar.wires import prepare
from crossbar.wires.lines import identity

CHUNK = 1 << 21
"""Cells of solved circuits held at a time."""


class Conductances:
    """What a matrix's cells conduct; sums are kept until cells are written."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self._stamp: Any = None
        self._kept: dict[str, Any] = {}

    def _fresh(self) -> dict[str, Any]:
        """What is kept of the cells as they are."""
        cells = self.matrix.written
        parts = [t for t in (cells.kept, cells.matrix) if isinstance(t, Tensor)]
        if any(t.is_inference() for t in parts):
            return {}
        stamp = tuple((id(t), t._version) for t in parts)
        if stamp != self._stamp:
            self._stamp, self._kept = stamp, {}
        return self._kept

    def _asked(self, name: str, make: Any) -> Any:
        kept = self._fresh()
        if name not in kept:
            kept[name] = make()
        return kept[name]

    @property
    def seen(self) -> Tensor:
        """Conductances (K, ..., rows, cols) as reads see them, slow noise included [S]."""
        cells = self.matrix.written
        found: Tensor = self.matrix.chip.device.seen(cells.state)
        return found

    @property
    def down(self) -> list[tuple[int, int]]:
        """First and last row of every tile."""
        return self.matrix.chip.tiles(self.matrix.lines, False)

    @property
    def across(self) -> list[tuple[int, int]]:
        """First and last column of every tile."""
        return self.matrix.chip.tiles(self.matrix.lines, True)

    @property
    def rows(self) -> Tensor:
        """(K, across, ..., rows) [S]."""
        return self._lines[0]

    @property
    def cols(self) -> Tensor:
        """(K, down, ..., cols) [S]."""
        return self._lines[1]

    @property
    def _lines(self) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self._asked(
            "lines", lambda: along_lines(self.seen, self.down, self.across)
        )
        return found

    @property
    def line(self) -> Tensor | None:
        """Reference columns (across, ..., rows) [S]; None: there are none."""
        line = self.matrix.written.line
        if line is None:
            return None
        found = line.chip.device.seen(line.state).double().sum(0)  # (..., rows, across)
        return found.movedim(-1, 0)

    def driven(self, transposed: bool) -> Tensor:
        """What hangs on each line that a read drives, (tiles sensed, ..., driven) [S]."""
        if transposed:
            return self._asked("driven cols", lambda: self.cols.sum(0))

        def make() -> Tensor:
            found, line = self.rows.sum(0), self.line
            return found if line is None else found + line

        return self._asked("driven rows", make)

    def circuits(self, transposed: bool) -> list[list[Tensor]]:
        """`admittances` of tiles with wires, of driven by sensed ones."""

        def make() -> list[list[Tensor]]:
            chip, order = self.matrix.chip, self.matrix.lies
            g = self.seen.detach()

            def solved(cells: Tensor, back: bool) -> Tensor:
                return admittances(prepare(cells, chip.wires, solver=chip.solver), back)

            if isinstance(order, Lying):
                tiles = _among_spares(chip, order, g, transposed, solved)
                return [list(t) for t in zip(*tiles, strict=True)] if transposed else tiles
            g = placed(g, order)
            tiles = [
                [solved(g[..., a:b, c:d], transposed) for c, d in self.across] for a, b in self.down
            ]
            line = self.matrix.written.line
            if line is not None and not transposed:
                own = line.chip.device.seen(line.state).detach()
                own = own if order is None else own.index_select(-2, order[0])
                for (a, b), row in zip(self.down, tiles, strict=True):
                    for k in range(len(row)):
                        row[k] = row[k] + solved(own[..., a:b, k : k + 1], False)
            return [list(t) for t in zip(*tiles, strict=True)] if transposed else tiles

        return self._asked(f"circuits {transposed}", make)


def _among_spares(
    chip: Chip,
    lies: Lying,
    g: Tensor,
    transposed: bool,
    solved: Callable[[Tensor, bool], Tensor],
) -> list[list[Tensor]]:
    """`admittances` between the logical lines of tiles that have spare ones, which rest at 0 V."""
    shape, whole = tuple(g.shape), lies.laid(g)
    width, found = whole.shape[-1], []
    for (a, b), (top, low) in zip(chip.tiles(shape, False), chip.made(shape, False), strict=True):
        line = []
        ends = zip(chip.tiles(shape, True), chip.made(shape, True), strict=True)
        for (c, d), (left, right) in ends:
            y = solved(whole[..., top:low, left:right], transposed)
            own = lies.at[..., a:b, c:d]
            at = own[..., 0, :] % width - left if transposed else own[..., 0] // width - top
            rows = at.unsqueeze(-1).expand(*at.shape, y.shape[-1])
            y = y.gather(-2, rows)
            line.append(y.gather(-1, at.unsqueeze(-2).expand(*y.shape[:-1], at.shape[-1])))
        found.append(line)
    return found


def admittances(network: Any, transposed: bool) -> Tensor:
    """Currents (..., lines, lines) [S] out of the drivers, per volt of one of them; others at 0 V.

    Of a circuit of ohmic cells, from the solution of one driven line after another.
    """
    interleaved = network.wires.interleaved
    inner = network.inner if interleaved else network
    if transposed:
        if not hasattr(inner, "transposed"):
            raise AttributeError(inner.solver)
        inner = inner.transposed
    lines = inner.rows
    step = max(1, CHUNK // max(1, inner.g.numel()))
    one = identity(lines, inner.stack)
    parts = [inner.fields(part).driver for part in one.split(step)]
    found = torch.cat(parts, -2).double()
    if not transposed:
        return found if interleaved else found.sum(0)
    found = found.flip(-1, -2)
    if not interleaved:
        return found.sum(0)
    sign = torch.tensor([1.0, -1.0], dtype=found.dtype, device=found.device)
    pairs = found.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))
    return torch.einsum("...iajb,a,b->...ij", pairs, sign, sign)


def dissipated(v: Tensor, y: Tensor) -> Tensor:
    """Σ_n vᵀ y v (...) [W] of vectors v (..., n, lines) [V]."""
    v = v.double()
    return ((v @ y) * v).sum((-1, -2))
