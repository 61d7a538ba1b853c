"""Ferroelectric transistor: polarisation with the hysteresis of Preisach's kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, between, positive
from devices.draw import Draw
from devices.part import Pulses, Update, Window, whole_counts

FORGOTTEN = 1e-5
"""A polarisation this far from what its history says was set by something else than a voltage."""


class Turns(NamedTuple):
    """Turning points still remembered, maxima and minima in turn, each inside the two before it.

    [V] float64 on the voltage axis of a nominal cell; 0 is none. The first rises from negative
    saturation.
    """

    high1: Tensor  # (..., rows, cols)
    low1: Tensor
    high2: Tensor
    low2: Tensor
    high3: Tensor
    low3: Tensor


class Ferroelectric(NamedTuple):
    """History of every cell, and its coercive voltage relative to the nominal one."""

    turns: Turns
    coercive: Tensor  # (..., rows, cols) or ()


@dataclass(frozen=True)
class PreisachFeFET(Update):
    """Ferroelectric gate whose remanent polarisation sets the conductance.

        P±(V) = P_s tanh((V ∓ V_c)/2δ),   δ = V_c/ln((P_s + P_r)/(P_s − P_r))     saturated branches
        P(V) = P₁ + (P₀ − P₁) (P±(V) − P±(V₁))/(P±(V₀) − P±(V₁))                  minor branches
        g = g_min + (g_max − g_min) (P(0)/P_r + 1)/2

    A branch leaves the last turning point (V₁, P₁) for the one before it (V₀, P₀) and, once there,
    goes on as if the minor loop between them had never been: minor loops close and are wiped out.
    Voltages are excursions from zero: `drive` goes to v and back, however long (the branches are
    quasi-static), and g is the polarisation left at zero volts, P_r … −P_r on the window. Pulses of
    v_set and v_reset beyond the first of a kind therefore do nothing: amplitudes write, counts do
    not. Trains of both end with either, by chance. Three nested pairs of turning points are
    remembered; excursions inside the third do nothing. A cell that was programmed or drifted by
    1e−5 of P_s has the history of negative saturation and one maximum. Needs whole counts.

    Args:
        v_c: coercive voltage V_c [V], > 0.
        remanence: P_r/P_s, in [0.01, 0.999].
        v_set: voltage of an up pulse [V], > 0.
        v_reset: voltage of a down pulse [V], < 0.
        sigma_d2d: spread of V_c, and δ with it, from cell to cell, relative (never below a
            twentieth).

    Raises:
        TypeError, ValueError: a field out of range; fractional counts when pulsed.

    Source: Jiang et al., VLSI Technology 1997, doi:10.1109/VLSIT.1997.623738 (branches and turning
    points); Ni et al., IEEE Electron Device Lett. 39, 1656 (2018) (FeFET); the linear g(P) and the
    defaults (about those of 10 nm Hf-Zr oxide) are this package's, not confirmed in a source.
    """

    v_c: float = 1.0
    remanence: float = 0.8
    v_set: float = 1.3
    v_reset: float = -1.3
    sigma_d2d: float = 0.0

    whole = True

    def __post_init__(self) -> None:
        positive("v_c", self.v_c, "V")
        between("remanence", self.remanence, 0.01, 0.999)
        positive("v_set", self.v_set, "V")
        positive("-v_reset", -self.v_reset, "V")
        at_least("sigma_d2d", self.sigma_d2d, 0)

    @property
    def _delta(self) -> float:
        return self.v_c / math.log((1 + self.remanence) / (1 - self.remanence))

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Ferroelectric:
        """Cells in negative saturation, with their own coercive voltages."""
        none = (torch.zeros(shape, dtype=torch.float64, device=draw.device) for _ in range(6))
        return Ferroelectric(Turns(*none), draw.factor(shape, self.sigma_d2d).clamp(min=0.05))

    def step(self, window: Window) -> float:
        """Mean change of one nominal pulse from mid-window, of both directions [S]."""
        g = torch.tensor([(window.g_min + window.g_max) / 2], dtype=torch.float64)
        p = self.fabricate(window, (1,), Draw(None, torch.float64))
        p = p._replace(coercive=torch.ones_like(g))
        up, down = (self._excursion(window, g, p, g.new_tensor([v]))[0] for v in self._pulses)
        return float(up - down) / 2

    @property
    def _pulses(self) -> tuple[float, float]:
        return self.v_set, self.v_reset

    def _saturated(self, v: Tensor, rising: bool) -> Tensor:
        """P±/P_s of a saturated branch."""
        return torch.tanh((v - (self.v_c if rising else -self.v_c)) / (2 * self._delta))

    def _branch(
        self, v: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor], rising: bool
    ) -> Tensor:
        """Polarisation at v on the way between two turning points."""
        here, first, last = (self._saturated(t, rising) for t in (v, start[0], end[0]))
        way = (here - first) / torch.where(last == first, 1.0, last - first)
        return start[1] + (end[1] - start[1]) * way

    def _remanent(self, turns: Turns) -> Tensor:
        """P(0)/P_s of a history."""
        one = torch.ones_like(turns.high1)
        end, start = (one * math.inf, one), (one * -math.inf, -one)
        left = start[1]
        for k, v in enumerate(turns):
            reached = self._branch(v, start, end, rising=k % 2 == 0)
            used = (v != 0) if k else torch.ones_like(v, dtype=torch.bool)
            back = self._branch(torch.zeros_like(v), (v, reached), start, rising=k % 2 == 1)
            left = torch.where(used, torch.where(v == 0, reached, back), left)
            # slots are used from the first on, so what an unused one leaves is never asked for
            start, end = (v, reached), start
        return left

    def _history(self, turns: Turns, wanted: Tensor) -> Turns:
        """The history itself, or a new one of a single maximum where it does not give P(0)."""
        off = (self._remanent(turns) - wanted).abs() > FORGOTTEN
        ratio = ((1 + wanted) / (1 + self.remanence)).clamp(max=1 - 1e-15)
        k = math.exp(self.v_c / self._delta)
        decay = (1 - ratio) / (ratio * k - 1 / k).clamp(min=1e-300)
        single = (-self._delta * torch.log(decay)).clamp(min=0)
        return Turns(*(torch.where(off, 0.0 if i else single, t) for i, t in enumerate(turns)))

    def _excursion(
        self, window: Window, g: Tensor, p: Ferroelectric, v: Tensor
    ) -> tuple[Tensor, Ferroelectric]:
        """The cells after a voltage each (0: none) and back at zero volts."""
        x = ((g.double() - window.g_min) / window.span).clamp(0, 1)
        turns = list(self._history(p.turns, (2 * x - 1) * self.remanence))
        v = v.double() / p.coercive.double()
        waiting, changed = v != 0, torch.zeros_like(v, dtype=torch.bool)
        before = torch.ones_like(changed)
        for k in range(len(turns)):
            old, side = turns[k], 1 if k % 2 == 0 else -1
            turned = waiting & before & (side * v >= side * old)
            before = old != 0  # a turn inside the ones before it needs one on the other side
            turns[k] = torch.where(turned, v, torch.where(changed, 0.0, old))
            changed, waiting = changed | turned, waiting & ~turned
        now = Turns(*turns)
        moved = window.g_min + window.span * (self._remanent(now) / self.remanence + 1) / 2
        kept = Turns(*(torch.where(changed, t, old) for t, old in zip(now, p.turns, strict=True)))
        return torch.where(changed, moved.to(g.dtype), g), Ferroelectric(kept, p.coercive)

    def drive(
        self, window: Window, g: Tensor, p: Ferroelectric, v: Tensor, dt: float, draw: Draw
    ) -> tuple[Tensor, Ferroelectric]:
        """To v and back to zero volts."""
        return self._excursion(window, g, p, v.expand_as(g))

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Ferroelectric,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Ferroelectric]:
        """One pulse of each kind that was given, in either order."""
        up, down = whole_counts(self, pulses)
        ups, downs = (up > 0) * self.v_set, (down > 0) * self.v_reset
        up_first = draw.to(torch.float64).uniform(g.shape) < 0.5
        g, p = self._excursion(window, g, p, torch.where(up_first, ups, downs))
        return self._excursion(window, g, p, torch.where(up_first, downs, ups))
