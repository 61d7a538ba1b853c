"""Unsupervised learning: columns that compete, a winner's cells follow what it saw."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.operations import Matmul
from crossbar.regions import Form
from crossbar.stacks import Batch
from crossbar.streams import derive
from devices import Pulses
from devices._check import at_least, instance, positive, whole
from devices.draw import seeded


def stack(weights: Tensor, chip: Chip | None = None, *, seed: int | None = None) -> Matrix:
    """Write several matrices of one size onto arrays that are read and pulsed at the same time.

    Args:
        weights: (arrays, m, n), finite.
        chip: the hardware of each; None is ideal.
        seed: of the chips; None draws one.

    Raises:
        ValueError: weights not three-dimensional.
    """
    if weights.dim() != 3 or not weights.is_floating_point():
        raise ValueError(f"weights must be (arrays, m, n) of floats, got {tuple(weights.shape)}")
    w = weights.detach().mT
    w = w if w.dtype == torch.float64 else w.float()
    chip = chip or Chip()
    found = Matrix(chip, Form(stack=True), tuple(w.shape), seed)
    chip.mapping.check(w)
    found.fabricate(chip.mapping.scale(w), w.dtype, w.device, w)
    found.program(w)
    return found


class Neurons(NamedTuple):
    """Digital work of columns that integrate and compete."""

    digital_mac: float  # a leak each
    activation: float  # a comparison with the threshold each
    optimiser_op: float  # clocks of rows, and thresholds that move


class WinnerTakesAll:
    """Leaky integrate-and-fire columns with lateral inhibition, Querlioz's rule and homeostasis.

        V ← V e^(−1/τ) + Gᵀ x;   of the columns at or above their threshold the one furthest wins:
        all membranes go to 0, and of its cells those whose row spiked in the last `window` steps
        get a pulse up, all others one down; after a pattern θ_i ← θ_i + γ θ₀ (n_i − mean n)

    where n_i are the spikes of the pattern: the mean threshold stays. Membranes start at 0 with
    every pattern. A stack of arrays learns at the same time, each from trains of its own.

    Steps are read ahead of the next winner, and those after it once more; a ledger is told of each
    step once, as the circuit reads it, and refuses a stack that learns.

    Args:
        matrix: (rows, cols) or a `stack` of them, of a device with an update law.
        tau: leak τ in steps, > 0.
        threshold: θ₀ in units of the read, > 0.
        window: T_LTP in steps, >= 1; this step counts.
        homeostasis: γ >= 0; 0: thresholds stay.
        refractory: steps after a spike in which nothing is integrated, >= 0.
        sigma_threshold: spread of the thresholds from neuron to neuron, relative, drawn once.
        lowest: smallest threshold, as a part of θ₀.
        seed: of that spread.

    Raises:
        ValueError: a value out of range.

    Source: Querlioz et al., IEEE Trans. Nanotechnol. 12, 288 (2013),
    doi:10.1109/TNANO.2013.2250995.
    """

    def __init__(
        self,
        matrix: Matrix,
        *,
        tau: float,
        threshold: float,
        window: int,
        homeostasis: float = 0.0,
        refractory: int = 0,
        sigma_threshold: float = 0.0,
        lowest: float = 0.2,
        seed: int = 0,
    ) -> None:
        instance("matrix", matrix, Matrix, optional=False)
        self.matrix, self.tau = matrix, positive("tau", tau, "steps")
        self.rest = positive("threshold", threshold)
        self.window, self.gamma = (
            whole("window", window, 1),
            at_least("homeostasis", homeostasis, 0),
        )
        self.refractory = whole("refractory", refractory, 0)
        self.lowest = at_least("lowest", lowest, 0)
        at_least("sigma_threshold", sigma_threshold, 0)
        *self.lead, self.rows, self.cols = matrix.lines
        if len(self.lead) > 1:
            raise ValueError(f"one stack of arrays at most, got {matrix.lines}")
        _ = matrix.granularity  # refuses what pulses cannot train
        g = matrix.written.g
        generator = seeded(f"{derive(seed, 'thresholds')}", torch.device("cpu"))
        drawn = torch.randn(*self.lead, self.cols, generator=generator).to(g)
        self.spread = (1 + sigma_threshold * drawn).clamp(min=0.05)
        self.theta = torch.full_like(self.spread, self.rest)  # as homeostasis moves it

    def _read(self, spikes: Tensor) -> Tensor:
        """Currents (T, ..., cols) of spikes (T, ..., rows), one read a step, told to nobody."""
        probe, self.matrix.probe = self.matrix.probe, None
        try:
            if not self.lead:
                return self.matrix.mv(spikes, Matmul())
            return self.matrix.mv(spikes.transpose(0, 1), Batch()).transpose(0, 1)
        finally:
            self.matrix.probe = probe

    def _tell(self, spikes: Tensor) -> None:
        """Steps that the circuit did read: the same read once more, for who watches."""
        if self.matrix.probe is None:
            return
        before = self.matrix.streams.state.clone()
        self.matrix.mv(spikes, Matmul())
        self.matrix.streams.state.copy_(before)
        n = float(len(spikes))
        work = Neurons(n * self.cols, n * self.cols, n * self.rows)
        self.matrix.probe.worked(self.matrix, work, "forward")

    @torch.no_grad()
    def present(self, spikes: Tensor) -> Tensor:
        """Learn from one pattern (T, ..., rows) for each array; spikes of the columns (..., cols).

        The steps up to the next winner are read at once; after it, the rest anew.
        """
        if self.lead and self.matrix.probe is not None:
            self.matrix.probe.untold(self.matrix, "a stack whose arrays learn step by step")
        g = self.matrix.written.g
        spikes, steps = spikes.to(g), len(spikes)
        padded = F.pad(spikes.movedim(0, -1), (self.window - 1, 0))
        recent = 2 * padded.unfold(-1, self.window, 1).amax(-1).movedim(-1, 0) - 1
        n = torch.arange(steps, device=g.device)
        age = (n.unsqueeze(-1) - n).to(g.dtype)
        leak = torch.where(age >= 0, torch.exp(-age / self.tau), 0.0)
        begin = torch.zeros(self.lead, dtype=torch.int64, device=g.device)
        clock = n.view(-1, *(1,) * len(self.lead))
        counts, theta = torch.zeros_like(self.theta), self.theta * self.spread
        while True:
            counted = (clock >= begin).unsqueeze(-1)
            first = int(begin.min())
            if first >= steps:
                break
            current = self._read(spikes[first:]) * counted[first:]
            v = torch.tensordot(leak[first:, first:], current, 1)
            best, who = (v - theta).max(-1)
            fires = (best >= 0) & counted[first:, ..., 0]
            any_fires = fires.any(0)
            if not bool(any_fires.any()):
                self._tell(spikes[first:])
                break
            when = fires.to(torch.int8).argmax(0)
            if not self.lead:
                self._tell(spikes[first : first + int(when) + 1])
            winner = who.gather(0, when.unsqueeze(0))[0]
            post = F.one_hot(winner, self.cols).to(g) * any_fires.unsqueeze(-1)
            at = (when + first).unsqueeze(0).unsqueeze(-1).expand(1, *self.lead, self.rows)
            self._pulse(recent.gather(0, at)[0], post)
            counts += post
            begin = torch.where(any_fires, when + first + 1 + self.refractory, steps)
        if self.gamma:
            if self.matrix.probe is not None:
                work = Neurons(0.0, 0.0, 2.0 * counts.numel())
                self.matrix.probe.worked(self.matrix, work, "update")
            move = self.gamma * self.rest * (counts - counts.mean(-1, keepdim=True))
            self.theta = (self.theta + move).clamp(min=self.lowest * self.rest)
        return counts

    def _pulse(self, way: Tensor, post: Tensor) -> None:
        """One pulse for every cell of the winners: `way` (..., rows) is 1 or −1."""
        given = way.unsqueeze(-1) * post.unsqueeze(-2)
        self.matrix.pulse(Pulses(given.clamp(min=0), (-given).clamp(min=0)))

    @torch.no_grad()
    def respond(self, spikes: Tensor) -> Tensor:
        """Spikes of the columns (..., B, cols) to patterns (T, B, rows), nothing learned.

        Patterns (T, arrays, B, rows) are each array's own.
        """
        g = self.matrix.written.g
        spikes = spikes.to(g)
        if not self.lead:
            current = self.matrix.mv(spikes, Matmul())
        else:
            each = (
                spikes if spikes.dim() == 4 else spikes.unsqueeze(1).expand(-1, *self.lead, -1, -1)
            )
            flat = each.movedim(1, 0).flatten(1, 2)
            current = self.matrix.mv(flat, Batch()).unflatten(1, (len(spikes), -1))
            current = current.movedim(1, 0)  # (T, arrays, B, cols)
        theta = (self.theta * self.spread).unsqueeze(-2)
        if self.matrix.probe is not None:
            n = float(current.numel())
            self.matrix.probe.worked(self.matrix, Neurons(n, n, 0.0), "forward")
        decay, v = math.exp(-1 / self.tau), torch.zeros_like(current[0])
        counts, rest = torch.zeros_like(v), torch.zeros_like(v[..., :1])
        for now in current.unbind(0):
            v = torch.where(rest > 0, 0.0, v * decay + now)
            best, who = (v - theta).max(-1, keepdim=True)
            fires = best >= 0
            counts.scatter_add_(-1, who, fires.to(v.dtype))
            v = torch.where(fires, 0.0, v)
            rest = torch.where(fires, float(self.refractory), (rest - 1).clamp(min=0))
        return counts


def labels(counts: Tensor, target: Tensor, classes: int) -> Tensor:
    """The class that each column (..., cols) answers most on average, of counts (..., B, cols).

    `target` is (B,) or (..., B).
    """
    hot = F.one_hot(target, classes).to(counts.dtype)
    means = (hot / hot.sum(-2, keepdim=True).clamp(min=1)).mT @ counts  # (..., classes, cols)
    return means.argmax(-2)


def votes(counts: Tensor, label: Tensor, classes: int) -> Tensor:
    """Class (..., B) of the largest mean count over the columns that bear its label."""
    hot = F.one_hot(label, classes).to(counts.dtype)  # (..., cols, classes)
    share = hot / hot.sum(-2, keepdim=True).clamp(min=1)
    return (counts @ share).argmax(-1)
