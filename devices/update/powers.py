"""What any whole counts of pulses do to a cell of measured steps, made once for each pair."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Window
from devices.update.kernel import STATES, Kernel

NODES = 65
"""Conductances at which the move of many pulses is tabulated, evenly over the window."""

LEVELS = 33
"""Quantiles of a move."""

MOST = 255
"""Pulses of a direction that are one draw; more are several draws, evenly shared out."""


class Powers:
    """Tables of the move after (U, D) evenly interleaved pulses, for every pair that was asked for.

    Where the noise of a pulse exceeds half the distance of the finest grid of states, the
    distribution is that of the kernel's product (`devices.update.kernel`); below it the grid would
    add to the noise, and mean and variance are carried from pulse to pulse instead,

        m ← m + μ(m),   v ← v (1 + μ'(m))² + σ²(m)

    with a normal shape. Either way the table keeps mean and variance.
    """

    def __init__(self, window: Window, nodes: Tensor, values: Tensor) -> None:
        """`values` are quantiles of ΔG [S], (direction, table, node, quantile)."""
        self.window = window
        self.grid = torch.linspace(window.g_min, window.g_max, NODES, dtype=torch.float64)
        at = between_nodes(nodes, self.grid)
        self._steps = torch.lerp(values[:, :, at[0]], values[:, :, at[0] + 1], at[1][:, None])
        self._mean, variance = _moments(self._steps)
        self._variance = variance
        finest = window.span / (STATES[1] - 1)
        noise = variance.mean((1, 2)).sqrt()
        self._quiet = [float(n) < finest / 2 for n in noise]
        self._kernel = None if all(self._quiet) else Kernel.of(window, nodes, values)
        self._index = torch.full((MOST + 1, MOST + 1), -1, dtype=torch.int64)
        self._index[0, 0] = 0
        # (pairs, tables, nodes, levels) [S]; no pulses, no move
        self._table = torch.zeros(1, values.shape[1], NODES, LEVELS, dtype=torch.float64)
        level = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        normal = NormalDist()
        z = torch.tensor([normal.inv_cdf(float(p)) for p in level], dtype=torch.float64)
        self._z = _standard(z)

    def move(self, g: Tensor, table: Tensor, up: Tensor, down: Tensor, draw: Draw) -> Tensor:
        """ΔG of every cell, in the dtype of g [S]; counts up to `MOST` each."""
        up, down = up.long(), down.long()
        index, tables = self._index.to(g.device), self._table.to(g.device)
        pair = index[up, down]
        if bool((pair < 0).any()):
            self._make(up[pair < 0].cpu(), down[pair < 0].cpu())
            index, tables = self._index.to(g.device), self._table.to(g.device)
            pair = index[up, down]
        last = NODES - 1
        spacing = self.window.span / last
        place = ((g.double() - self.window.g_min) / spacing).clamp_(0, last)
        left = place.long().clamp_(max=last - 1)
        level = draw.to(torch.float64).uniform(g.shape) * (LEVELS - 1)
        low = level.long().clamp_(max=LEVELS - 2)
        at = ((pair * tables.shape[1] + table) * NODES + left) * LEVELS + low
        flat = tables.view(-1)
        part, share = level - low, place - left
        here = torch.lerp(flat[at], flat[at + 1], part)
        there = torch.lerp(flat[at + LEVELS], flat[at + LEVELS + 1], part)
        return torch.lerp(here, there, share).to(g.dtype)

    def _make(self, up: Tensor, down: Tensor) -> None:
        """The tables of pairs that were not asked for before."""
        pairs = torch.unique(torch.stack([up, down]), dim=1).t().tolist()
        made = []
        for k, (ups, downs) in enumerate(pairs):
            self._index[ups, downs] = len(self._table) + k
            quiet = (ups and self._quiet[0]) or (downs and self._quiet[1])
            if ups + downs == 1:
                made.append(self._single(downs))
            else:
                made.append(self._carried(ups, downs) if quiet else self._product(ups, downs))
        self._table = torch.cat([self._table, torch.stack(made)])

    def _single(self, way: int) -> Tensor:
        """The measured quantiles themselves (tables, nodes, levels) [S]."""
        steps = self._steps[way]
        place = torch.linspace(0, steps.shape[-1] - 1, LEVELS, dtype=torch.float64)
        left = place.long().clamp(max=steps.shape[-1] - 2)
        return torch.lerp(steps[..., left], steps[..., left + 1], place - left)

    def _carried(self, ups: int, downs: int) -> Tensor:
        """Mean and variance, pulse by pulse (tables, nodes, levels) [S]."""
        low, high = self.window
        spacing = float(self.grid[1] - self.grid[0])
        m = self.grid.expand(self._mean.shape[1:]).clone()
        v = torch.zeros_like(m)
        for way in _order(ups, downs):
            place = ((m - low) / spacing).clamp(0, NODES - 1)
            left = place.long().clamp(max=NODES - 2)
            share = place - left
            mean, noise = (
                torch.lerp(t[way].gather(1, left), t[way].gather(1, left + 1), share)
                for t in (self._mean, self._variance)
            )
            ahead = self._mean[way].gather(1, left + 1) - self._mean[way].gather(1, left)
            v = v * (1 + ahead / spacing).square() + noise
            m = (m + mean).clamp(low, high)
        after = m[..., None] + v.sqrt()[..., None] * self._z
        return after.clamp(low, high) - self.grid[:, None]

    def _product(self, ups: int, downs: int) -> Tensor:
        """Quantiles of the kernel's product (tables, nodes, levels) [S]."""
        kernel = self._kernel
        assert kernel is not None
        product = kernel.interleaved(ups, downs)
        states = product.shape[-1]
        distance = float(kernel.grid[1] - kernel.grid[0])
        left, share = between_nodes(kernel.grid, self.grid)
        # a node between two states is as much of either, moved by what it is away from it
        rows = product[:, left] * (1 - share)[:, None] + product[:, left + 1] * share[:, None]
        rows = rows / rows.sum(-1, keepdim=True)
        x = kernel.grid
        mean = (rows * x).sum(-1)
        within = share * (1 - share) * distance**2  # what being in two states adds
        variance = ((rows * x.square()).sum(-1) - mean.square() - within).clamp(min=0)
        total = rows.cumsum(-1)
        level = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        want = level.expand(*rows.shape[:2], LEVELS).contiguous()
        index = torch.searchsorted(total.contiguous(), want).clamp(max=states - 1)
        mass = rows.gather(-1, index).clamp(min=1e-12)
        before = total.gather(-1, index) - mass
        value = x[index] + ((want - before) / mass - 0.5).clamp(-0.5, 0.5) * distance
        own, spread = _moments(value)
        scale = (variance / spread.clamp(min=1e-300)).sqrt().clamp(max=4.0)
        value = mean[..., None] + (value - own[..., None]) * scale[..., None]
        return value.clamp(*self.window) - self.grid[:, None]


def _moments(quantiles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of what is linear between equally spaced quantiles."""
    a, b = quantiles[..., :-1], quantiles[..., 1:]
    mean = ((a + b) / 2).mean(-1)
    # about the mean: the square of a large mean would hide a small variance
    a, b = a - mean[..., None], b - mean[..., None]
    return mean, ((a * a + a * b + b * b) / 3).mean(-1)


def _standard(z: Tensor) -> Tensor:
    mean, variance = _moments(z)
    return (z - mean) / variance.sqrt()


def between_nodes(nodes: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the node to the left of every g, and the share of the way to the next."""
    left = torch.searchsorted(nodes, g.contiguous(), right=True).sub(1).clamp(0, len(nodes) - 2)
    share = (g - nodes[left]) / (nodes[left + 1] - nodes[left])
    return left, share.clamp(0, 1)


def _order(ups: int, downs: int) -> list[int]:
    """The directions of the pulses, 0 up and 1 down, spread as evenly as whole counts can be."""
    total = ups + downs
    return (
        [
            0 if ups and (2 * k + 1) * ups // (2 * total) != (2 * k - 1) * ups // (2 * total) else 1
            for k in range(total)
        ]
        if downs
        else [0] * total
    )


def shared(count: Tensor, part: int, parts: int) -> Tensor:
    """The pulses of one of several draws that share a count evenly."""
    count = count.long()  # float32 rounds a share of many up, beyond its largest
    each, rest = count // parts, count % parts
    return each + rest * (part + 1) // parts - rest * part // parts
