"""Spike-timing-dependent plasticity by pulses: every rule is a few outer products of two lines.

stdp = xb.spiking.Learner(matrix, xb.spiking.PairSTDP(a_plus=0.01, a_minus=0.0105), dt=1e-3)
stdp.step(pre, post)      # spikes {0, 1} of rows and columns; the cells take their pulses

What a rule asks for reaches the cells as pulses of a scheme, so that the device's nonlinearity,
bounds, variability and faults act on learning; reads between steps see what the cells hold.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from crossbar.matrix import Matrix
from crossbar.operations import Numbers, Vectors
from crossbar.pulses import Aggregated, Scheme
from crossbar.rules.rule import Work
from devices._check import at_least, flag, instance, positive


class Ask(NamedTuple):
    """A weight change rows_i cols_j that a rule asks for, in units of the weight."""

    rows: Tensor  # (..., rows)
    cols: Tensor  # (..., cols)


class SpikeRule(ABC):
    """What spikes of rows (before) and columns (after) do to the weights between them.

    Within a step: traces decay, then the rows' spikes act, then the columns': a coincidence is one
    of the row first (potentiation), as in Brian2.
    """

    counts_pulses: ClassVar[bool] = False
    """Whether it asks in numbers of pulses; else in units of the weight."""

    @abstractmethod
    def traces(self, like: Tensor, lines: tuple[int, ...]) -> Any:
        """Those of (..., rows, cols) weights at rest, a NamedTuple."""

    @abstractmethod
    def decayed(self, traces: Any, dt: float) -> Any:
        """The traces dt [s] later."""

    @abstractmethod
    def rows(self, traces: Any, pre: Tensor) -> tuple[Any, Ask | None]:
        """After spikes (..., rows) of the rows."""

    @abstractmethod
    def columns(self, traces: Any, post: Tensor) -> tuple[Any, Ask | None]:
        """After spikes (..., cols) of the columns."""


class Pair(NamedTuple):
    """Traces of pair-based STDP."""

    x: Tensor  # (..., rows)
    y: Tensor  # (..., cols)


def _at_rest(like: Tensor, lines: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    *lead, rows, cols = lines
    return like.new_zeros(*lead, rows), like.new_zeros(*lead, cols)


def _counted(trace: Tensor, spikes: Tensor, nearest: bool) -> Tensor:
    """A trace after spikes: all of them, or the last alone."""
    return torch.where(spikes > 0, spikes, trace) if nearest else trace + spikes


@dataclass(frozen=True)
class PairSTDP(SpikeRule):
    """Every pair of spikes, of row and column, Δt = t_post − t_pre apart.

        ΔW = A₊ e^(−Δt/τ₊)  (Δt >= 0),     ΔW = −A₋ e^(Δt/τ₋)  (Δt < 0)

    On uncorrelated Poisson trains with A₊τ₊ = A₋τ₋ the mean drift is the coincidences' alone, of
    the relative size dt/τ₊ of the potentiation.

    Args:
        a_plus, a_minus: amplitudes in units of the weight, >= 0.
        tau_plus, tau_minus: time constants [s], > 0.
        nearest: whether only the last spike of each line counts; else all of them do.

    Source: Song, Miller & Abbott, Nat. Neurosci. 3, 919 (2000); Morrison et al., Biol. Cybern. 98,
    459 (2008), doi:10.1007/s00422-008-0233-1 (nearest spike).
    """

    a_plus: float = 0.01
    a_minus: float = 0.0105
    tau_plus: float = 20e-3
    tau_minus: float = 20e-3
    nearest: bool = False

    def __post_init__(self) -> None:
        at_least("a_plus", self.a_plus, 0), at_least("a_minus", self.a_minus, 0)
        positive("tau_plus", self.tau_plus, "s"), positive("tau_minus", self.tau_minus, "s")
        flag("nearest", self.nearest)

    def traces(self, like: Tensor, lines: tuple[int, ...]) -> Pair:
        """See `SpikeRule`."""
        return Pair(*_at_rest(like, lines))

    def decayed(self, traces: Pair, dt: float) -> Pair:
        """See `SpikeRule`."""
        x, y = traces
        return Pair(x * math.exp(-dt / self.tau_plus), y * math.exp(-dt / self.tau_minus))

    def rows(self, traces: Pair, pre: Tensor) -> tuple[Pair, Ask | None]:
        """Depression by what the columns did before."""
        ask = Ask(pre, -self.a_minus * traces.y)
        return traces._replace(x=_counted(traces.x, pre, self.nearest)), ask

    def columns(self, traces: Pair, post: Tensor) -> tuple[Pair, Ask | None]:
        """Potentiation by what the rows did before."""
        ask = Ask(traces.x, self.a_plus * post)
        return traces._replace(y=_counted(traces.y, post, self.nearest)), ask


class Triplet(NamedTuple):
    """Fast and slow traces of rows and columns."""

    r1: Tensor  # (..., rows)
    r2: Tensor
    o1: Tensor  # (..., cols)
    o2: Tensor


@dataclass(frozen=True)
class TripletSTDP(SpikeRule):
    """Pairs, and a second earlier spike of the same line.

        row spikes:     W ← W − o₁ (A₂₋ + A₃₋ r₂),  then r₁ ← r₁ + 1, r₂ ← r₂ + 1
        column spikes:  W ← W + r₁ (A₂₊ + A₃₊ o₂),  then o₁ ← o₁ + 1, o₂ ← o₂ + 1

    Potentiation grows with the rate of pairing, which pairs alone cannot give.

    Args:
        a2_plus, a3_plus, a2_minus, a3_minus: amplitudes in units of the weight, >= 0.
        tau_plus, tau_minus: of r₁ and o₁ [s], > 0.
        tau_x, tau_y: of r₂ and o₂ [s], > 0.

    Source: Pfister & Gerstner, J. Neurosci. 26, 9673 (2006), doi:10.1523/JNEUROSCI.1425-06.2006
    (defaults: its visual cortex fit, all to all; not confirmed digit by digit).
    """

    a2_plus: float = 5e-10
    a3_plus: float = 6.2e-3
    a2_minus: float = 7e-3
    a3_minus: float = 2.3e-4
    tau_plus: float = 16.8e-3
    tau_minus: float = 33.7e-3
    tau_x: float = 101e-3
    tau_y: float = 125e-3

    def __post_init__(self) -> None:
        for name in ("a2_plus", "a3_plus", "a2_minus", "a3_minus"):
            at_least(name, getattr(self, name), 0)
        for name in ("tau_plus", "tau_minus", "tau_x", "tau_y"):
            positive(name, getattr(self, name), "s")

    def traces(self, like: Tensor, lines: tuple[int, ...]) -> Triplet:
        """See `SpikeRule`."""
        rows, cols = _at_rest(like, lines)
        return Triplet(rows, rows, cols, cols)

    def decayed(self, traces: Triplet, dt: float) -> Triplet:
        """See `SpikeRule`."""
        taus = self.tau_plus, self.tau_x, self.tau_minus, self.tau_y
        return Triplet(*(t * math.exp(-dt / tau) for t, tau in zip(traces, taus, strict=True)))

    def rows(self, traces: Triplet, pre: Tensor) -> tuple[Triplet, Ask | None]:
        """See the class."""
        r1, r2, o1, _ = traces
        ask = Ask(pre * (self.a2_minus + self.a3_minus * r2), -o1)
        return traces._replace(r1=r1 + pre, r2=r2 + pre), ask

    def columns(self, traces: Triplet, post: Tensor) -> tuple[Triplet, Ask | None]:
        """See the class."""
        r1, _, o1, o2 = traces
        ask = Ask(r1, post * (self.a2_plus + self.a3_plus * o2))
        return traces._replace(o1=o1 + post, o2=o2 + post), ask


class Since(NamedTuple):
    """Time since the last spike of every row."""

    x: Tensor  # (..., rows) [s]


@dataclass(frozen=True)
class Rectangular(SpikeRule):
    """At a column's spike the cells of rows that spiked in the last `window` go up, others down.

    Rows alone change nothing. All cells of the column are pulsed alike: how far they move is the
    device's (`devices.QuerliozStep`, `SoftBounds` with up_down).

    Args:
        window: T_LTP [s], > 0; a spike of this very step counts.
        step: pulses for each of them, > 0.

    Source: Querlioz et al., IEEE Trans. Nanotechnol. 12, 288 (2013),
    doi:10.1109/TNANO.2013.2250995.
    """

    counts_pulses: ClassVar[bool] = True

    window: float = 10e-3
    step: float = 1.0

    def __post_init__(self) -> None:
        positive("window", self.window, "s"), positive("step", self.step)

    def traces(self, like: Tensor, lines: tuple[int, ...]) -> Since:
        """See `SpikeRule`."""
        return Since(torch.full_like(_at_rest(like, lines)[0], math.inf))

    def decayed(self, traces: Since, dt: float) -> Since:
        """See `SpikeRule`."""
        return Since(traces.x + dt)

    def rows(self, traces: Since, pre: Tensor) -> tuple[Since, Ask | None]:
        """See the class."""
        return Since(torch.where(pre > 0, 0.0, traces.x)), None

    def columns(self, traces: Since, post: Tensor) -> tuple[Since, Ask | None]:
        """See the class."""
        # half a step's rounding of the clock never decides
        recent = traces.x < self.window * (1 - 1e-9)
        return traces, Ask(2 * recent.to(post.dtype) - 1, self.step * post)


class Learner:
    """A rule at work on one array, online: reads of the array may come between steps.

    Args:
        matrix: fabricated and written, of a device with an update law.
        rule: what spikes do.
        dt: a time step [s], > 0.
        scheme: how a wanted change becomes pulses. `Expected()`: fractional mean counts, exact to
            the rule on a device of constant step.

    Raises:
        TypeError: a device or mapping that pulses cannot train.
    """

    def __init__(
        self, matrix: Matrix, rule: SpikeRule, dt: float, scheme: Scheme | None = None
    ) -> None:
        instance("matrix", matrix, Matrix, optional=False)
        instance("rule", rule, SpikeRule, optional=False)
        instance("scheme", scheme, Scheme)
        self.matrix, self.rule, self.dt = matrix, rule, positive("dt", dt, "s")
        self.scheme = scheme or Aggregated(bl=31)
        granularity = matrix.granularity  # refuses what pulses cannot train
        if rule.counts_pulses and granularity.dim():
            raise ValueError(f"{rule!r} counts pulses: one w_max for all columns is needed")
        self.unit = float(granularity) if rule.counts_pulses else 1.0
        self.waited = 0  # steps since the traces were last brought up to date
        self.reset()

    def reset(self) -> None:
        """Forget what the lines did: traces at rest."""
        like = self.matrix.written.g
        self.state = self.rule.traces(like, self.matrix.lines)
        self.waited = 0

    def step(self, pre: Tensor, post: Tensor) -> None:
        """One time step with spikes {0, 1} of rows (..., rows) and columns (..., cols)."""
        self.waited += 1
        rows, cols = bool(pre.any()), bool(post.any())
        if not (rows or cols):
            return
        g = self.matrix.written.g
        pre, post = pre.to(g), post.to(g)
        self._catch_up()
        if self.matrix.probe is not None:
            self.matrix.probe.worked(self.matrix, self.work(), "update")
        if rows:
            self.state, ask = self.rule.rows(self.state, pre)
            self._give(ask)
        if cols:
            self.state, ask = self.rule.columns(self.state, post)
            self._give(ask)

    def work(self) -> Work:
        """What digital logic does in a step with spikes: each trace decays and may grow."""
        traces = sum(t.numel() for t in self.state if isinstance(t, Tensor))
        return Work(optimiser_op=2.0 * traces, optimiser_byte=8.0 * traces)

    def run(self, pre: Tensor, post: Tensor) -> None:
        """Steps of spikes (T, ..., rows) and (T, ..., cols)."""
        for before, after in zip(pre.unbind(0), post.unbind(0), strict=True):
            self.step(before, after)

    def _catch_up(self) -> None:
        self.state = self.rule.decayed(self.state, self.waited * self.dt)
        self.waited = 0

    def _give(self, ask: Ask | None) -> None:
        if ask is not None:
            x, d = ask.rows.unsqueeze(0), -ask.cols.unsqueeze(0)
            self.matrix.update(x, d, self.unit, self.scheme, op=Vectors())


class RewardLearner(Learner):
    """STDP that waits for a reward: c' = −c/τ_c + what the rule asks for;  W ← W + η r c.

    The eligibility c of every weight is digital (or a capacitor's); cells are pulsed only when a
    reward comes.

    Args:
        matrix, rule, dt, scheme: see `Learner`.
        tau: τ_c [s], > 0.

    Source: Izhikevich, Cereb. Cortex 17, 2443 (2007), doi:10.1093/cercor/bhl152.
    """

    def __init__(
        self,
        matrix: Matrix,
        rule: SpikeRule,
        dt: float,
        tau: float = 1.0,
        scheme: Scheme | None = None,
    ) -> None:
        self.tau = positive("tau", tau, "s")
        super().__init__(matrix, rule, dt, scheme)

    def reset(self) -> None:
        """No trace and no eligibility."""
        super().reset()
        self.eligible = self.matrix.written.g.new_zeros(self.matrix.lines)

    def reward(self, r: float, eta: float = 1.0) -> None:
        """W ← W + η r c by pulses, now: after the last step."""
        self._catch_up()
        d = -(eta * r) * self.eligible
        ones = torch.ones_like(d[..., :1])
        self.matrix.update(ones, d, 1.0, self.scheme, op=Numbers())

    def work(self) -> Work:
        """The traces, and the eligibility of every weight."""
        n = float(self.eligible.numel())
        return super().work() + Work(n, 2.0 * n, 8.0 * n)

    def _catch_up(self) -> None:
        self.eligible = self.eligible * math.exp(-self.waited * self.dt / self.tau)
        super()._catch_up()

    def _give(self, ask: Ask | None) -> None:
        if ask is not None:
            move = ask.rows.unsqueeze(-1) * ask.cols.unsqueeze(-2)
            self.eligible = self.eligible + self.unit * move
