"""Measured devices: the whole distribution of ΔG against G, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from devices._check import finite
from devices.draw import Draw
from devices.part import Pulses, Update, Window, whole_counts
from devices.update.clip import clip_move
from devices.update.powers import Powers, between_nodes, levels, rising

FEW = 3
"""Pulses of a cell up to which each is drawn, with the shape of its distribution."""

SHOWN = 64
"""Numbers of a table up to which they are all in its repr."""

Table = tuple[tuple[tuple[float, ...], ...], ...]
"""Quantiles of ΔG [S]: measured cells x nodes x quantiles."""


class Chosen(NamedTuple):
    """Which measured cell each cell is a copy of."""

    table: Tensor  # (..., rows, cols) int64, or () where only one was measured


@dataclass(frozen=True, repr=False)
class LookupStep(Update):
    """Steps drawn from the measured distribution of ΔG at the present conductance.

        G ← G + ΔG,   ΔG = F⁻¹(u | G, direction),   u uniform in (0, 1)

    with F⁻¹ linear between its quantiles and between the nodes of G, constant beyond them. Mean and
    noise both depend on G and keep their shape. Every cell of an array is a copy of one measured
    cell at random: that is the device-to-device spread. Up to `FEW` pulses are drawn
    from the table one after another; (U, D) of more, evenly interleaved, are one draw from a normal
    distribution of their mean and variance (`devices.update.powers`), which are made once for each
    pair of counts. Needs whole counts.

    Args:
        nodes: increasing conductances [S] at which the quantiles are given, at least two.
        up: for each measured cell and node the quantiles of ΔG of an up pulse [S], increasing, at
            equally spaced probabilities from 0 to 1, at least two.
        down: the same for a down pulse.

    Raises:
        TypeError, ValueError: tables that are not nested tuples of the shapes above, not finite, or
            not increasing.

    Source: the jump tables of Burr et al., IEEE Trans. Electron Devices 62, 3498 (2015),
    doi:10.1109/TED.2015.2439635, and the lookup tables of CrossSim 2, Agarwal et al., IJCNN 2016,
    doi:10.1109/IJCNN.2016.7727298.
    """

    nodes: tuple[float, ...]
    up: Table
    down: Table

    whole = True

    def __post_init__(self) -> None:
        nodes = [finite(f"nodes[{i}]", g) for i, g in enumerate(self.nodes)]
        if len(nodes) < 2 or sorted(set(nodes)) != nodes:
            raise ValueError(f"nodes must be at least two increasing conductances, got {nodes!r}")
        for name in ("up", "down"):
            table = getattr(self, name)
            try:
                values = torch.tensor(table, dtype=torch.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name} must be cells x nodes x quantiles: {error}") from error
            if values.dim() != 3 or values.shape[1] != len(nodes) or values.shape[2] < 2:
                raise ValueError(
                    f"{name} must be cells x {len(nodes)} nodes x at least 2 quantiles, got the "
                    f"shape {tuple(values.shape)}"
                )
            if not bool(torch.isfinite(values).all()) or bool((values.diff(dim=2) < 0).any()):
                raise ValueError(f"{name} must be finite and increasing along the quantiles")
        if len(self.up) != len(self.down):
            raise ValueError(
                f"up and down must be of the same cells, got {len(self.up)} and {len(self.down)}"
            )

    def __repr__(self) -> str:
        """Rebuilds the part where its tables are small, else says how large they are."""
        cells, quantiles = len(self.up), len(self.up[0][0])
        if cells * len(self.nodes) * quantiles <= SHOWN:
            return f"LookupStep(nodes={self.nodes!r}, up={self.up!r}, down={self.down!r})"
        low, high = self.nodes[0], self.nodes[-1]
        return (
            f"LookupStep(<{cells} cells x {len(self.nodes)} nodes x {quantiles} quantiles, "
            f"{low:.3g} ... {high:.3g} S>)"
        )

    @classmethod
    def from_pulses(
        cls,
        cells: Sequence[tuple[Tensor, Tensor, Tensor]],
        *,
        nodes: int = 16,
        quantiles: int = 21,
    ) -> Self:
        """The tables of raw pulses.

        Each node takes the pulses from conductances nearest to it; a node that no pulse of a cell
        started from takes the quantiles of the cell's nearest node that has some. Read noise in the
        data ends up in the tables: average reads beforehand.

        Args:
            cells: for each measured cell the conductances before and after every pulse [S] and
                whether the pulse was up.
            nodes: number of nodes over the range of all reads.
            quantiles: number of quantiles.

        Raises:
            ValueError: no cell, or a cell without a pulse of each direction.
        """
        if not cells:
            raise ValueError("cells must hold at least one measured cell, got none")
        before = torch.cat([b.double().flatten() for b, _, _ in cells])
        grid = torch.linspace(float(before.min()), float(before.max()), nodes, dtype=torch.float64)
        at = torch.linspace(0, 1, quantiles, dtype=torch.float64)
        tables: list[list[tuple[tuple[float, ...], ...]]] = [[], []]
        for index, (g, after, up) in enumerate(cells):
            for way, table in zip(("up", "down"), tables, strict=True):
                chosen = up.bool() if way == "up" else ~up.bool()
                start, step = g.double()[chosen], (after - g).double()[chosen]
                if not start.numel():
                    raise ValueError(f"cell {index} has no {way} pulse to learn from")
                nearest = (start[:, None] - grid).abs().argmin(1)
                filled = nearest.unique()
                rows = []
                for node in range(nodes):
                    source = filled[(filled - node).abs().argmin()]
                    rows.append(tuple(torch.quantile(step[nearest == source], at).tolist()))
                table.append(tuple(rows))
        return cls(tuple(grid.tolist()), tuple(tables[0]), tuple(tables[1]))

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes, and both tables stacked as (direction, cell, node, quantile)."""
        values = torch.tensor([self.up, self.down], dtype=torch.float64)
        nodes = torch.tensor(self.nodes, dtype=torch.float64)
        inner = values[..., 1:] / 2 + values[..., :-1] / 2
        return nodes, values, inner.mean(-1)

    @cached_property
    def _powers(self) -> dict[Window, Powers]:
        """Tables of many pulses, for every window the law was used on."""
        return {}

    def _many(self, window: Window) -> Powers:
        if window not in self._powers:
            nodes, values, _ = self._tables
            self._powers[window] = Powers(window, nodes, values)
        return self._powers[window]

    def step(self, window: Window) -> float:
        """Mean |ΔG| over nodes, cells and directions [S]."""
        return float(self._tables[2].abs().mean())

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Chosen:
        """Give every cell the tables of one measured cell."""
        if len(self.up) == 1:
            return Chosen(torch.zeros((), dtype=torch.int64, device=draw.device))
        return Chosen(draw.below(len(self.up), shape))

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Chosen,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Chosen]:
        """Few pulses one by one, many at once."""
        up, down = (count.long() for count in whole_counts(self, pulses))
        table, total = p.table.expand(g.shape), up + down
        few, most = total <= FEW, int(total.max()) if total.numel() else 0
        if most > FEW:
            powers = self._many(window)
            for level, u, d in levels(up.masked_fill(few, 0), down.masked_fill(few, 0)):
                moved = g + powers.move(g, table, u, d, draw, level)
                g = torch.where(u + d > 0, clip_move(g, moved, *window), g)
        found = (few & (total > 0)).flatten().nonzero()[:, 0]
        if not len(found):
            return g, p
        some, table, up, down = (t.flatten()[found] for t in (g, table, up, down))
        for k in range(FEW):
            moved = some + self._draw(some, table, (~rising(up, down, k)).long(), draw)
            some = torch.where(k < up + down, clip_move(some, moved, *window), some)
        return g.flatten().index_copy(0, found, some).view_as(g), p

    def _draw(self, g: Tensor, table: Tensor, way: Tensor, draw: Draw) -> Tensor:
        """ΔG of one pulse, in the dtype of g [S]."""
        nodes, values, _ = (t.to(g.device) for t in self._tables)
        u = draw.to(torch.float64).uniform(g.shape)
        left, share = between_nodes(nodes, g.double())
        place = u * (values.shape[-1] - 1)
        low = place.floor().long().clamp(max=values.shape[-1] - 2)
        part = place - low

        def quantile(node: Tensor) -> Tensor:
            row = values[way, table, node]
            ends = row.gather(-1, torch.stack([low, low + 1], -1))
            return torch.lerp(ends[..., 0], ends[..., 1], part)

        return torch.lerp(quantile(left), quantile(left + 1), share).to(g.dtype)
