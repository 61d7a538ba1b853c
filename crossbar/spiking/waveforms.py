"""STDP from voltages that overlap: no logic decides anything, the cell's threshold does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.matrix import Matrix
from devices._check import at_least, instance, positive


@dataclass(frozen=True)
class Waveform:
    """What a neuron lays on its line around a spike at t = 0: a pulse, then an opposite tail.

        u(t) = height for 0 <= t < width,   −tail e^(−(t − width)/τ) after,   0 before

    With a height of just the cells' threshold and a smaller tail a lone spike moves no cell; where
    the pulse of one neuron meets the tail of another the cell between them sees
    height + tail e^(−|Δt|/τ). On a cell whose rate is a power α of the overvoltage that is exactly
    the window e^(−α|Δt|/τ); on one of exponential law it is some per cent off. A height above
    threshold moves half-selected cells.

    Args:
        height: [V], > 0.
        width: [s], > 0.
        tail: [V], >= 0.
        tau: τ of the tail [s], > 0.

    Source: Serrano-Gotarredona et al., Front. Neurosci. 7:2 (2013), doi:10.3389/fnins.2013.00002.
    """

    height: float
    tail: float
    width: float = 1e-3
    tau: float = 20e-3

    def __post_init__(self) -> None:
        positive("height", self.height, "V"), at_least("tail", self.tail, 0, "V")
        positive("width", self.width, "s"), positive("tau", self.tau, "s")

    def voltage(self, t: Tensor) -> Tensor:
        """u(t) [V]; t < 0 or infinite: 0."""
        late = t.clamp(min=self.width) - self.width
        after = torch.where(t.isfinite(), -self.tail * torch.exp(-late / self.tau), 0.0)
        return torch.where(t < 0, 0.0, torch.where(t < self.width, self.height, after))


class WaveformLearner:
    """Neurons of rows and columns that lay their waveforms on the lines of an array.

    Drivers give −u: a cell sees row minus column, u_col − u_row, so a row's tail under a column's
    later pulse potentiates. A new spike begins its line's waveform anew (nearest spikes count).
    Voltages are those of mid-step.

    Args:
        matrix: of one cell a weight, with a device that has a voltage law (`Update.drive`).
        rows, columns: waveforms of the neurons before and after.
        dt: a time step [s], at most the width of both pulses.
        threshold: voltage up to which no cell moves [V]: such steps are not driven (exact on a
            device of that threshold); None: all are.

    Raises:
        TypeError: several cells a weight. ValueError: dt above a pulse's width.
    """

    def __init__(
        self,
        matrix: Matrix,
        rows: Waveform,
        columns: Waveform | None = None,
        *,
        dt: float,
        threshold: float | None = None,
    ) -> None:
        instance("matrix", matrix, Matrix, optional=False)
        instance("rows", rows, Waveform, optional=False)
        instance("columns", columns, Waveform)
        self.matrix, self.shapes = matrix, (rows, columns or rows)
        if matrix.layout.devices != 1:
            raise TypeError(
                f"waveforms meet on one cell a weight, and {matrix.chip.mapping!r} has "
                f"{matrix.layout.devices}: use Unipolar() or SingleCell()"
            )
        self.dt = positive("dt", dt, "s")
        shortest = min(shape.width for shape in self.shapes)
        if dt > shortest * (1 + 1e-9):
            raise ValueError(f"dt must be at most the width of a pulse, {shortest!r} s, got {dt!r}")
        self.threshold = None if threshold is None else at_least("threshold", threshold, 0, "V")
        *lead, n, m = matrix.lines
        self.times = tuple(torch.full((*lead, k), math.inf, dtype=torch.float64) for k in (n, m))
        self.driven = 0  # steps in which cells saw a voltage that could move them

    def step(self, pre: Tensor, post: Tensor) -> None:
        """One time step, begun by the spikes {0, 1} of rows (..., rows) and columns (..., cols)."""
        spikes = pre, post
        self.times = tuple(
            torch.where(s.to(t.device) > 0, 0.0, t + self.dt)
            for s, t in zip(spikes, self.times, strict=True)
        )
        before, after = (
            shape.voltage(t + self.dt / 2) for shape, t in zip(self.shapes, self.times, strict=True)
        )
        v = after.unsqueeze(-2) - before.unsqueeze(-1)
        most = float(v.abs().max()) if v.numel() else 0.0
        if most == 0 or (self.threshold is not None and most <= self.threshold * (1 + 1e-12)):
            return
        self.driven += 1
        self.matrix.drive(v.unsqueeze(0), self.dt)

    def run(self, pre: Tensor, post: Tensor) -> None:
        """Steps of spikes (T, ..., rows) and (T, ..., cols)."""
        for before, after in zip(pre.unbind(0), post.unbind(0), strict=True):
            self.step(before, after)
