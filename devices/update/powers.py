"""What whole counts of pulses do to a cell of measured steps, made once for each pair of counts."""

from __future__ import annotations

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from devices.draw import Draw
from devices.part import Window

NODES = 65
"""Conductances at which the move of many pulses is tabulated, evenly over the window."""

BITS = 8
"""Of counts that are carried pulse by pulse; twice as many pulses are those twice, and so on."""

POINTS = 5
"""Of the quadrature over where cells are before a pulse."""

AT_ONCE = 1 << 17
"""Numbers (pairs x tables x nodes x points) that are carried together: they stay in cache."""


class Powers:
    """Mean and deviation of the move after (U, D) evenly interleaved pulses, for pairs asked for.

    Where a cell may be is carried from pulse to pulse as a normal distribution within the window,

        m ← E[g + μ(g)],   v ← Var[g + μ(g)] + E[σ²(g)],   g ~ N(m, v)

    with μ and σ² of the measured steps at g and both expectations by quadrature; pairs are carried
    side by side. At level n a pair stands for 2ⁿ times itself, with μ and σ² of level n − 1.
    """

    def __init__(self, window: Window, nodes: Tensor, values: Tensor) -> None:
        """`values` are quantiles of ΔG [S], (direction, table, node, quantile)."""
        self.window = window
        self.grid = torch.linspace(window.g_min, window.g_max, NODES, dtype=torch.float64)
        left, share = between_nodes(nodes, self.grid)
        steps = torch.lerp(values[:, :, left], values[:, :, left + 1], share[:, None])
        # (mean and variance, direction x table x node)
        self._single = torch.stack([t.flatten() for t in _moments(steps)])
        self._tables = values.shape[1]
        self._index: list[Tensor] = []  # of each level, by counts; −1: not made yet
        # (mean and deviation, pairs x tables x nodes) [S]; no pulses, no move
        self._moved = torch.zeros(2, self._tables * NODES, dtype=torch.float64)

    def move(
        self, g: Tensor, table: Tensor, up: Tensor, down: Tensor, draw: Draw, level: int = 0
    ) -> Tensor:
        """ΔG of every cell by 2^level times the counts, below 2^BITS, in the dtype of g [S]."""
        pair = self._pair(up, down, level)
        left, share = self._place(g.double())
        at = (pair * self._tables + table) * NODES + left
        mean, deviation = _between(self._moved.to(g.device), at, share)
        normal = draw.to(torch.float64).normal(g.shape)
        return (mean + deviation * normal).to(g.dtype)

    def _pair(self, up: Tensor, down: Tensor, level: int) -> Tensor:
        """The numbers of pairs, which are made where they are new."""
        while len(self._index) <= level:
            self._index.append(torch.full((1 << BITS, 1 << BITS), -1, dtype=torch.int64))
            self._index[-1][0, 0] = 0
        index = self._index[level]
        pair = index.to(up.device)[up, down]
        if not bool((pair < 0).any()):
            return pair
        pairs = torch.unique(torch.stack([t[pair < 0].cpu() for t in (up, down)]), dim=1)
        pairs = pairs[:, pairs.sum(0).argsort()]  # those carried together end together
        size = max(AT_ONCE // (self._tables * NODES * POINTS), 1)
        carry = self._doubled if level else self._carried
        made = [carry(some[0], some[1], level) for some in pairs.split(size, 1)]
        first = self._moved.shape[1] // (self._tables * NODES)
        index[pairs[0], pairs[1]] = first + torch.arange(pairs.shape[1])
        self._moved = torch.cat([self._moved, *made], 1)
        return index.to(up.device)[up, down]

    def _place(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the grid's node to the left, and the share of the way to the next."""
        low, high = self.window
        place = ((g - low) * ((NODES - 1) / (high - low))).clamp_(0, NODES - 1)
        left = place.long().clamp_(max=NODES - 2)
        return left, place.sub_(left)

    def _carried(self, up: Tensor, down: Tensor, level: int) -> Tensor:
        """Pulse by pulse, (2, pairs x tables x nodes) [S]."""
        shape = (len(up), self._tables, NODES)
        mean = self.grid.expand(shape).clone()
        variance = torch.zeros(shape, dtype=torch.float64)
        first, total = torch.arange(self._tables)[:, None] * NODES, up + down
        for k in range(int(total.max())):
            way = first + (~rising(up, down, k)).view(-1, 1, 1) * self._tables * NODES
            m, v = self._after(mean, variance, self._single, way)
            on = (k < total).view(-1, 1, 1)
            mean, variance = torch.where(on, m, mean), torch.where(on, v, variance)
        return self._of(mean, variance)

    def _doubled(self, up: Tensor, down: Tensor, level: int) -> Tensor:
        """Twice what is done at the level below."""
        first = self._pair(up, down, level - 1)[:, None, None] * self._tables * NODES
        first = first + torch.arange(self._tables)[:, None] * NODES
        step = torch.stack([self._moved[0], self._moved[1].square()])
        at = first + torch.arange(NODES)
        mean, variance = self.grid + step[0][at], step[1][at]
        return self._of(*self._after(mean, variance, step, first))

    def _after(
        self, mean: Tensor, variance: Tensor, step: Tensor, first: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moments after a step of moments `step`, whose nodes begin at `first`."""
        points, weight = (torch.from_numpy(t) for t in hermegauss(POINTS))
        points, weight = (t.view(-1, 1, 1, 1) for t in (points, weight / weight.sum()))
        g = (mean + variance.sqrt() * points).clamp_(*self.window)
        left, share = self._place(g)
        move, noise = _between(step, left + first, share)
        after = (g + move).clamp_(*self.window)
        mean = (weight * after).sum(0)
        return mean, (weight * ((after - mean).square_() + noise)).sum(0)

    def _of(self, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.stack([(mean - self.grid).flatten(), variance.sqrt().flatten()])


def rising(up: Tensor, down: Tensor, k: int) -> Tensor:
    """Whether the k-th of up and down pulses, spread as evenly as whole counts can be, is up.

    Either way round the order is the same, but for as many of both: these begin with an up pulse.
    """
    total = (up + down).clamp(min=1)

    def before(n: int) -> Tensor:  # down pulses among the first n, rounded half down
        return -((total - 2 * n * down) // (2 * total))

    return before(k + 1) == before(k)


def _between(tables: Tensor, at: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Both tables, linear between the node `at` and the next."""
    one, other = (torch.lerp(t[at], t[at + 1], share) for t in tables)
    return one, other


def _moments(quantiles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of what is linear between equally spaced quantiles."""
    a, b = quantiles[..., :-1], quantiles[..., 1:]
    mean = ((a + b) / 2).mean(-1)
    # about the mean: the square of a large mean would hide a small variance
    a, b = a - mean[..., None], b - mean[..., None]
    return mean, ((a * a + a * b + b * b) / 3).mean(-1)


def between_nodes(nodes: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the node to the left of every g, and the share of the way to the next."""
    left = torch.searchsorted(nodes, g.contiguous(), right=True).sub(1).clamp(0, len(nodes) - 2)
    share = (g - nodes[left]) / (nodes[left + 1] - nodes[left])
    return left, share.clamp(0, 1)


def levels(up: Tensor, down: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Counts as Σ 2^level (up, down) of counts below 2^BITS, the smallest first."""
    most, found = int(torch.maximum(up, down).max()), []
    while True:
        level = max(most.bit_length() - BITS, 0)
        found.append((level, up >> level, down >> level))
        if not level:
            return found[::-1]
        most = (1 << level) - 1
        up, down = up & most, down & most
