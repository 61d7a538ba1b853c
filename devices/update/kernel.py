"""Transition kernels of conductance states: many pulses as a product of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from devices.part import Window

STATES = (128, 512)
"""Fewest and most grid states of a kernel."""


@dataclass(frozen=True)
class Kernel:
    """Up and down transition matrices of every measured cell, on an even grid of the window.

    A row holds the probabilities of the state after one pulse from the row's state. ΔG is rounded
    to the two neighbouring states so that its mean is exact; that adds a variance d(1 − d) of grid
    distances, d the part of a distance between, which is taken from the noise of the pulse itself
    (shrunk about its mean) as far as there is any.
    """

    grid: Tensor  # (states,) [S]
    up: Tensor  # (tables, states, states) float64
    down: Tensor  # (tables, states, states) float64

    @classmethod
    def of(cls, window: Window, nodes: Tensor, values: Tensor) -> Self:
        """The kernels of quantile tables (direction, table, node, quantile) [S].

        The grid is as fine as the root mean square noise of a pulse, within `STATES`.
        """
        middle = (values[..., 1:] + values[..., :-1]) / 2
        noise = float(middle.var(-1, unbiased=False).mean().sqrt())
        states = STATES[1] if noise <= 0 else int(window.span / noise)
        states = max(STATES[0], min(STATES[1], states))
        grid = torch.linspace(window.g_min, window.g_max, states, dtype=torch.float64)
        left = torch.searchsorted(nodes, grid, right=True).sub(1).clamp(0, len(nodes) - 2)
        share = ((grid - nodes[left]) / (nodes[left + 1] - nodes[left])).clamp(0, 1)
        quantiles = torch.lerp(values[:, :, left], values[:, :, left + 1], share[:, None])
        up, down = (_transitions(grid, steps) for steps in quantiles)
        return cls(grid, up, down)

    def to(self, device: torch.device) -> Kernel:
        """The same kernels on another device."""
        return Kernel(self.grid.to(device), self.up.to(device), self.down.to(device))

    def interleaved(self, up: int, down: int) -> Tensor:
        """The kernel of up and down pulses spread as evenly as whole counts can be.

        Euclid's algorithm: the fewer pulses cut the more into groups of two lengths, and the groups
        are themselves interleaved evenly; logarithmically many products.
        """
        return _even(self.up, up, self.down, down)

    def jump(self, product: Tensor, g: Tensor, table: Tensor, u: Tensor) -> Tensor:
        """The conductances after one draw each; the place between two states is kept [S]."""
        distance = self.grid[1] - self.grid[0]
        state = ((g.double() - self.grid[0]) / distance).round().clamp(0, len(self.grid) - 1)
        row = product.cumsum(-1)[table, state.long()]
        after = torch.searchsorted(row, (u * row[..., -1])[..., None], right=True)[..., 0]
        after = after.clamp(max=len(self.grid) - 1)
        moved = g.double() + (after - state) * distance
        low, high = g.double().clamp(max=self.grid[0]), g.double().clamp(min=self.grid[-1])
        return torch.clamp(moved, low, high).to(g.dtype)


def _transitions(grid: Tensor, steps: Tensor) -> Tensor:
    """One direction's kernel from its quantiles of ΔG (tables, states, quantiles) [S]."""
    states, fine = len(grid), 16
    distance = grid[1] - grid[0]
    at = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
    draws = torch.lerp(steps[..., :-1, None], steps[..., 1:, None], at).flatten(2) / distance
    mean = draws.mean(-1, keepdim=True)
    variance = draws.var(-1, unbiased=False, keepdim=True)
    shrunk = draws
    for _ in range(4):  # rounding adds a variance that itself depends on where the draws lie
        part = shrunk - shrunk.floor()
        added = (part * (1 - part)).mean(-1, keepdim=True)
        keep = ((variance - added).clamp(min=0) / variance.clamp(min=1e-30)).sqrt()
        shrunk = mean + (draws - mean) * keep
    landing = torch.arange(states, dtype=torch.float64)[:, None] + shrunk
    landing = landing.clamp(0, states - 1)
    left = landing.floor().clamp(max=states - 2)
    part = landing - left
    kernel = torch.zeros(*landing.shape[:2], states, dtype=torch.float64)
    kernel.scatter_add_(-1, left.long(), 1 - part)
    kernel.scatter_add_(-1, left.long() + 1, part)
    return kernel / kernel.sum(-1, keepdim=True)


def _even(a: Tensor, n: int, b: Tensor, m: int) -> Tensor:
    """n factors a and m factors b, spread evenly."""
    if n < m:
        return _even(b, m, a, n)
    if m == 0:
        return torch.linalg.matrix_power(a, n)
    length, longer = divmod(n, m)
    before, after = (torch.linalg.matrix_power(a, k) for k in ((length + 1) // 2, length // 2))
    short = before @ b @ after
    if not longer:
        return torch.linalg.matrix_power(short, m)
    # the extra factor goes to the side that is shorter
    long = short @ a if length % 2 else a @ short
    return _even(short, m - longer, long, longer)
