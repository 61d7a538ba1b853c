"""Equilibrium propagation: a resistive network that settles twice, and learns from both states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.mappings import SingleCell
from crossbar.matrix import Matrix
from crossbar.operations import Numbers
from crossbar.regions import EVERYWHERE, Form
from crossbar.rules import Job, Pulsed, Rule
from crossbar.streams import Streams, derive
from devices import Device
from devices._check import at_least, flag, positive, whole


class ResistiveNetwork:
    """Layers of nodes, every two neighbours joined by an array of single cells; inputs are clamped.

    Kirchhoff's law is solved for all other nodes (float64, dense):

        Σ_j g_ij (v_i − v_j) + g_leak v_i = 0,   at outputs + β (v_o − t_o) in the nudged state

    With the cost C = ½ Σ (v_o − t_o)² the gradient is local, of the voltages across each cell:

        dC/dg_e = d/dβ ½ (Δv_e)² at β = 0 = −Δv_e Δλ_e,   K λ = v_o − t at the outputs

    `gradient` takes the difference of two states for the derivative: of β and −β, with an error of
    O(β²), or of β and 0, with O(β). `step` gives it to the cells through any rule.

    Args:
        sizes: nodes of each layer, inputs first, outputs last.
        device: the cells, ohmic; conductances [S] are the weights.
        beta: nudging conductance, as a part of the window, > 0.
        symmetric: whether the other state is nudged by −β (an active element) or is free.
        leak: conductance of every node to ground, as a part of the window, >= 0.
        rule: how a step reaches the cells.
        seed: of the arrays.

    Raises:
        TypeError: a device without an update law, or one that is not ohmic.

    Source: Scellier & Bengio, Front. Comput. Neurosci. 11:24 (2017),
    doi:10.3389/fncom.2017.00024; Kendall et al., "Training End-to-End Analog Neural Networks with
    Equilibrium Propagation", arXiv:2006.01981; Laborieux et al., Front. Neurosci. 15:633674
    (2021), doi:10.3389/fnins.2021.633674 (symmetric nudging).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        device: Device,
        *,
        beta: float = 0.01,
        symmetric: bool = True,
        leak: float = 0.0,
        rule: Rule | None = None,
        seed: int = 0,
    ) -> None:
        self.sizes = tuple(whole("sizes", n, 1) for n in sizes)
        if len(self.sizes) < 2:
            raise ValueError(f"sizes must name two layers at least, got {sizes!r}")
        if device.iv is not None:
            raise TypeError("ResistiveNetwork solves ohmic cells: leave device.iv=None")
        flag("symmetric", symmetric)
        span = device.window.span
        self.beta, self.symmetric = positive("beta", beta) * span, symmetric
        self.leak = at_least("leak", leak, 0) * span
        self.chip = Chip(device, SingleCell(w_max=span / 2))  # weights are siemens, 0 mid-window
        self.rule, self.streams, self.arrays = rule or Pulsed(), Streams(seed), []
        self.rule.check(self.chip)
        if len(self.rule.slots()) > 1:
            raise TypeError(f"{type(self.rule).__name__} wants more arrays than the network has")
        for k, lines in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            array = Matrix(self.chip, Form(), lines, derive(seed, f"layer {k}"))
            array.fabricate(torch.tensor(span / 2), torch.float64, torch.device("cpu"))
            draw = torch.Generator().manual_seed(derive(seed, f"start {k}"))
            start = torch.rand(lines, generator=draw, dtype=torch.float64) - 0.5
            array.program(start * span / 2)
            self.arrays.append(array)
        self.leaves = [self.rule.fabricate(a.lines, [a]) for a in self.arrays]

    @property
    def conductances(self) -> list[Tensor]:
        """Of each array, (rows, cols) [S]."""
        return [array.written.g[0] for array in self.arrays]

    def settle(self, x: Tensor, target: Tensor | None = None, beta: float = 0.0) -> list[Tensor]:
        """Voltages of every layer (n, nodes) [V] for inputs x (n, inputs), nudged by β [S]."""
        for array in self.arrays:
            if array.probe is not None:
                array.probe.untold(array, "a network that settles (ResistiveNetwork.settle)")
        return settled(self.conductances, x, target, beta, self.leak)

    def gradient(self, x: Tensor, target: Tensor, beta: float | None = None) -> list[Tensor]:
        """dC/dg of each array, summed over samples [V²], of the two states."""
        beta = self.beta if beta is None else beta
        other = -beta if self.symmetric else 0.0
        ends = [energies(self.settle(x, target, b)) for b in (beta, other)]
        return [(a - b) / (beta - other) for a, b in zip(*ends, strict=True)]

    def step(self, x: Tensor, target: Tensor, lr: float) -> None:
        """g ← g − lr dC/dg [S] by the rule's pulses, row by row."""
        jobs = []
        gradients = self.gradient(x, target)
        for array, leaf, d in zip(self.arrays, self.leaves, gradients, strict=True):
            ones = torch.ones_like(d[..., :1])
            jobs.append(Job([array], leaf, Numbers(), ones, d, lr, EVERYWHERE))
        self.rule.update(jobs, streams=self.streams)


def settled(
    conductances: Sequence[Tensor],
    x: Tensor,
    target: Tensor | None,
    beta: float,
    leak: float,
) -> list[Tensor]:
    """Kirchhoff's law of layers of nodes; see `ResistiveNetwork`."""
    free = [g.shape[1] for g in conductances]
    at = [sum(free[:k]) for k in range(len(free) + 1)]
    k = conductances[0].new_zeros(at[-1], at[-1])
    b = k.new_zeros(len(x), at[-1])
    diagonal = [g.sum(0) + leak for g in conductances]
    for n, g in enumerate(conductances[1:]):
        diagonal[n] = diagonal[n] + g.sum(1)
        rows, cols = slice(at[n], at[n + 1]), slice(at[n + 1], at[n + 2])
        k[rows, cols], k[cols, rows] = -g, -g.mT
    outputs = slice(at[-2], at[-1])
    b[:, : free[0]] = x.to(k) @ conductances[0]
    if target is not None and beta:
        diagonal[-1] = diagonal[-1] + beta
        b[:, outputs] += beta * target.to(k)
    k = k + torch.diag(torch.cat(diagonal))
    v = torch.linalg.solve(k, b.mT).mT
    return [x.to(k), *v.split(free, -1)]


def energies(v: Sequence[Tensor]) -> list[Tensor]:
    """½ Σ (Δv)² of the cells between layers, (rows, cols) [V²]."""
    pairs = zip(v, v[1:], strict=False)
    return [0.5 * (a.unsqueeze(-1) - b.unsqueeze(-2)).square().sum(0) for a, b in pairs]
