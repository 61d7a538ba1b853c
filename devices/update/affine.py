"""The affine laws: every pulse changes the conductance by an affine function of it.

One pulse does the signed step s(g) = k (a + b (g − at)), with a and b of its own direction.
Constant step, soft bounds, linear step and NeuroSim's exponential curves are this one law with
other coefficients, so they share one closed form for any (up, down) counts.

Many pulses have the closed form of `devices.update.closed`; cells of which a pulse crosses more
than `limit` of the way from the middle to its bound are pulsed one by one instead
(`devices.update.rounds`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses
from devices.trees import pick
from devices.update import fused
from devices.update.clip import Bound, clip_move
from devices.update.closed import Two, moved
from devices.update.moments import largest
from devices.update.rounds import limit, rounds


class Affine(NamedTuple):
    """Signed steps k (a + b (g − at)) of single pulses, per cell or 0-dim where cells are alike.

    What a law knows of every cell is kept as it was drawn, not multiplied out: a spread of sizes
    alone is one number a cell. `at` is the law's own, where its steps are counted from.
    """

    k: Tensor | None  # size of both directions; None: 1
    a_up: Tensor | None  # of the step at `at`; None: 0
    a_down: Tensor | None
    b_up: Tensor | None = None  # [1/S] times that of a; None: the step does not depend on g
    b_down: Tensor | None = None
    low: Tensor | None = None  # [S] the cell's own bounds where they are spread
    high: Tensor | None = None

    @staticmethod
    def of(
        k: Tensor | None,
        up: tuple[Tensor | None, Tensor | None],  # a and b of the step up
        down: tuple[Tensor | None, Tensor | None],  # a and b of the signed step down
        low: Tensor | None = None,  # [S]
        high: Tensor | None = None,  # [S]
        dtype: torch.dtype | None = None,
    ) -> Affine:
        """The leaf in `dtype`, or in that of what is given."""
        parts = (k, up[0], down[0], up[1], down[1], low, high)
        return Affine(*(None if t is None else _own(t, dtype or t.dtype) for t in parts))

    @property
    def largest(self) -> float:
        """Largest part of the way to the point of no steps that a pulse crosses."""
        if self.b_up is None or self.b_down is None:
            return 0.0
        if self.k is None:
            return max(largest(self.b_up, self.b_down))
        up, down, size = largest(self.b_up, self.b_down, self.k)
        return max(up, down) * size

    def slopes(self) -> Two | None:
        """b of both directions, multiplied out; None: 0."""
        if self.b_up is None or self.b_down is None:
            return None
        if self.k is None:
            return self.b_up, self.b_down
        return self.b_up * self.k, self.b_down * self.k

    def steps(self, g: Tensor, at: tuple[Bound, Bound]) -> Two:
        """Signed steps of one pulse [S]."""
        up = _line(self.a_up, self.b_up, g, at[0])
        down = _line(self.a_down, self.b_down, g, at[1])
        return (up, down) if self.k is None else (up * self.k, down * self.k)


def _own(t: Tensor, dtype: torch.dtype) -> Tensor:
    # 0-dim leaves of cells that are alike would share storage with each other; safetensors refuses
    return t.to(dtype, copy=t.dim() == 0)


def _line(a: Tensor | None, b: Tensor | None, g: Tensor, at: Bound) -> Tensor:
    if b is None:
        assert a is not None
        return a
    x = g if isinstance(at, float) and not at else g - at
    if a is None:
        return x * b
    # addcmul leaves its vector path where more than one of its tensors has a single element
    return torch.addcmul(a, b, x) if a.dim() else (x * b).add_(a)


def affine_pulse(
    g: Tensor,  # (..., rows, cols) [S]
    k: Affine,
    pulses: Pulses,
    draw: Draw,
    *,
    low: Bound,  # [S]
    high: Bound,  # [S]
    sigma_c2c: float = 0.0,
    sigma_add: float = 0.0,  # [S] per pulse
    at: tuple[Bound, Bound] = (0.0, 0.0),  # [S]
    jump: float = 0.0,
) -> Tensor:
    """Conductance after the pulses, which its device clips; see the module's equations.

    Args:
        g: conductances.
        k: coefficients of their single pulses.
        pulses: counts or their moments.
        draw: of the noise, the random counts and the order of coarse pulses.
        low: bound at which every single pulse of a coarse cell ends.
        high: the same above.
        sigma_c2c: noise of a pulse relative to its step.
        sigma_add: noise of a pulse.
        at: conductances that a of up and of down pulses belongs to, from which b counts.
        jump: part of half the window that a nominal pulse crosses, of steps that do not vanish at
            the bounds; cells are looked at where it is half the limit.
    """
    size = k.largest
    if not max(size, 2 * jump) > limit(pulses):
        return _closed(g, k, at, pulses, draw, sigma_c2c, sigma_add, size)
    ends = _like(g, (low, high))
    way = torch.maximum(*(t.abs() for t in k.slopes() or ends)) if size else g.new_zeros(())
    if jump:
        half = (ends[1] - ends[0]) / 2
        way = torch.maximum(way, torch.maximum(*map(torch.abs, k.steps(ends[0] + half, at))) / half)
    coarse = (way > limit(pulses)).expand(g.shape)
    if pulses.up_var is None and not sigma_c2c:  # sure of its end where all pulses go one way
        coarse = coarse & (pulses.up > 0) & (pulses.down > 0)
    found = coarse.flatten().nonzero().squeeze(-1)
    if len(found) == g.numel():
        return _single(g, k, _like(g, at), pulses, draw, ends, sigma_c2c, sigma_add)
    out = _closed(g, k, at, pulses, draw, sigma_c2c, sigma_add, size)
    if not len(found):
        return out
    few, own, zero, given, own_ends = pick((g, k, _like(g, at), pulses, ends), found)
    few = _single(few, own, zero, given, draw, own_ends, sigma_c2c, sigma_add)
    return out.flatten().index_copy(0, found, few).view_as(g)


def _like(g: Tensor, ends: tuple[Bound, Bound]) -> Two:
    low, high = (end if isinstance(end, Tensor) else g.new_tensor(end) for end in ends)
    return low, high


def _single(
    g: Tensor,
    k: Affine,
    at: Two,
    pulses: Pulses,
    draw: Draw,
    ends: Two,
    sigma_c2c: float,
    sigma_add: float,
) -> Tensor:
    """The pulses of coarse cells, one after another."""

    def one(g: Tensor, rising: Tensor) -> Tensor:
        step = torch.where(rising, *k.steps(g, at))
        after = g + step
        if sigma_c2c:
            after = after.addcmul(step, draw.normal(g.shape), value=sigma_c2c)
        if sigma_add:
            after = after.add(draw.normal(g.shape), alpha=sigma_add)
        return clip_move(g, after, *ends)

    def many(g: Tensor, rest: Pulses) -> Tensor:
        return clip_move(g, _closed(g, k, at, rest, draw, sigma_c2c, sigma_add, 1.0), *ends)

    return rounds(one, many, g, pulses, draw)


def _closed(
    g: Tensor,
    k: Affine,
    at: tuple[Bound, Bound],
    pulses: Pulses,
    draw: Draw,
    sigma_c2c: float,
    sigma_add: float,
    size: float,
) -> Tensor:
    cycle = sigma_c2c**2
    if fused.fits(g, pulses, size):
        return fused.near(g, k, at, pulses, draw, cycle, sigma_add**2)
    add = g.new_tensor(sigma_add**2) if sigma_add else None
    return moved(g, k.steps(g, at), k.slopes(), pulses, draw, cycle=cycle, add=add, size=size)
