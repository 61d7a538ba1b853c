"""The affine laws: every pulse changes the conductance by an affine function of it.

One potentiation pulse adds s↑(g) = a↑ + b↑ g, one depression pulse removes s↓(g) = a↓ + b↓ g.
Constant step, soft bounds, linear step and NeuroSim's exponential curves are this one law with
other coefficients, so they share one closed form for any (up, down) counts.

With the rates ρ, w and α = ρ(b₂) of `devices.update.moments` and signed steps s, the mean m and the
variance v of the conductance follow, over t in [0, 1],

    dm/dt = Σ ρ s(m) = A + B m,        m(1) = g + (A + B g) expm1(B)/B
    dv/dt = Θ v + Σ (w s(m)² + α σ_add²),        Θ = 2B + Σ w b²

exact for pulses of one direction whatever their count, exact or random, and for Poisson counts in
random order; whole counts of both directions are taken as evenly interleaved. Two regimes of the
second integral, chosen by the largest cell of a call: `FINE` steps that bend by at most `NEAR` take
the sources in the middle of the move, all others its closed form. Cells of which a pulse crosses
more than `limit` of the way to its bound are pulsed one by one instead (`devices.update.rounds`).

Noise that is a part of the distance to the nearer of the points at which steps vanish is drawn
lognormally about it in the second regime, as a product of many factors is: it never passes it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses
from devices.trees import pick
from devices.update.clip import Bound, clip_move
from devices.update.moments import Count, between, excess, expm1_ratio, largest, log1p_ratio, rate
from devices.update.rounds import limit, rounds

LARGEST_GROWTH = 80.0
"""Cap of the exponents where steps grow as the cell moves on: e^80 leaves any window, finitely."""

FIRST = 7.5e-3
"""Relative step |b| up to which noise and random counts are right to first order, within 1 %."""

FINE = 0.05
"""The same once a pulse's noise is damped by its own step."""

NEAR = 0.25
"""Exponent |B| up to which the middle of the move stands for all of it in the noise."""

CLOSE = 0.01
"""Variance over the squared distance to the end up to which noise is normal: ten deviations."""

FLAT = 0.01
"""Smallest exponent |B| that the closed integrals follow; a smaller one is as good as this."""


Two = tuple[Tensor, Tensor]
"""Of up and of down pulses."""


class Affine(NamedTuple):
    """Coefficients of single pulses per cell, or 0-dim where cells are alike."""

    a_up: Tensor  # [S]
    a_down: Tensor  # [S] of the signed step
    b_up: Tensor | None = None  # None: the step does not depend on g
    b_down: Tensor | None = None
    low: Tensor | None = None  # [S] the cell's own bounds where they are spread
    high: Tensor | None = None

    @staticmethod
    def of(
        a_up: Tensor,  # [S]
        a_down: Tensor,  # [S]
        b_up: Tensor | None = None,
        b_down: Tensor | None = None,
        low: Tensor | None = None,  # [S]
        high: Tensor | None = None,  # [S]
        dtype: torch.dtype | None = None,
    ) -> Affine:
        """The leaf of a law that adds a↑ + b↑ g and removes a↓ + b↓ g, in `dtype` or theirs."""
        dtype = dtype or a_up.dtype
        parts = (a_up, -a_down, b_up, None if b_down is None else -b_down, low, high)
        return Affine(*(None if t is None else _own(t, dtype) for t in parts))  # type: ignore[arg-type]


def _own(t: Tensor, dtype: torch.dtype) -> Tensor:
    # 0-dim leaves of cells that are alike would share storage with each other; safetensors refuses
    return t.to(dtype, copy=t.dim() == 0)


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
    zero: tuple[float, float] = (0.0, 0.0),  # [S]
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
        zero: conductances that a of up and of down pulses belongs to, from which b counts.
    """
    pulses = pulses.to(g.dtype)
    size = 0.0
    if k.b_up is not None and k.b_down is not None:
        size = max(largest(k.b_up), largest(k.b_down))
    if not size > limit(pulses):
        return _closed(g, k, zero, pulses, draw, sigma_c2c, sigma_add, size)
    assert k.b_up is not None and k.b_down is not None
    ends = tuple(end if isinstance(end, Tensor) else g.new_tensor(end) for end in (low, high))
    coarse = (torch.maximum(k.b_up.abs(), k.b_down.abs()) > limit(pulses)).expand(g.shape)
    if pulses.up_var is None and not sigma_c2c:  # sure of its end where all pulses go one way
        coarse = coarse & (pulses.up > 0) & (pulses.down > 0)
    at = coarse.flatten().nonzero().squeeze(-1)
    if len(at) == g.numel():
        return _single(g, k, zero, pulses, draw, ends, sigma_c2c, sigma_add)
    out = _closed(g, k, zero, pulses, draw, sigma_c2c, sigma_add, size)
    if not len(at):
        return out
    few, own, given = pick(g, at), pick(k, at), pick(pulses, at)
    own = _single(few, own, zero, given, draw, pick(ends, at), sigma_c2c, sigma_add)
    return out.flatten().index_copy(0, at, own).view_as(g)


def _single(
    g: Tensor,
    k: Affine,
    zero: tuple[float, float],
    pulses: Pulses,
    draw: Draw,
    ends: tuple[Tensor, ...],
    sigma_c2c: float,
    sigma_add: float,
) -> Tensor:
    """The pulses of coarse cells, one after another."""

    def one(g: Tensor, rising: Tensor) -> Tensor:
        step = torch.where(rising, *_steps(g, k, zero))
        moved = g + step
        if sigma_c2c:
            moved = moved.addcmul(step, draw.normal(g.shape), value=sigma_c2c)
        if sigma_add:
            moved = moved.add(draw.normal(g.shape), alpha=sigma_add)
        return clip_move(g, moved, *ends)

    def many(g: Tensor, rest: Pulses) -> Tensor:
        return clip_move(g, _closed(g, k, zero, rest, draw, sigma_c2c, sigma_add, 1.0), *ends)

    return rounds(one, many, g, pulses, draw)


def _closed(
    g: Tensor,
    k: Affine,
    zero: tuple[float, float],
    pulses: Pulses,
    draw: Draw,
    sigma_c2c: float,
    sigma_add: float,
    size: float,
) -> Tensor:
    slopes = None if k.b_up is None or k.b_down is None else (k.b_up, k.b_down)
    steps, add = _steps(g, k, zero), None if not sigma_add else g.new_tensor(sigma_add**2)
    cycle = sigma_c2c**2
    return moved(g, steps, slopes, pulses, draw, cycle=cycle, add=add, size=size)


def _steps(g: Tensor, k: Affine, zero: tuple[float, float]) -> Two:
    """Signed steps of one pulse [S]."""
    above = [g - at if at else g for at in zero]
    return _line(k.a_up, k.b_up, above[0]), _line(k.a_down, k.b_down, above[1])


def _line(a: Tensor, b: Tensor | None, x: Tensor) -> Tensor:
    if b is None:
        return a
    # addcmul leaves its vector path where more than one of its tensors has a single element
    return torch.addcmul(a, b, x) if a.dim() else (x * b).add_(a)


def moved(
    g: Tensor,  # (..., rows, cols) [S]
    step: Two,  # [S] signed steps of one pulse at g
    slope: Two | None,  # their derivatives by g; None: 0
    pulses: Pulses,
    draw: Draw,
    *,
    cycle: float = 0.0,
    add: Tensor | Two | None = None,  # [S²]
    size: float,
) -> Tensor:
    """Conductances [S] after pulses of steps that are affine in g; see the module's equations.

    Args:
        g: conductances.
        step: what one pulse of each direction does at g.
        slope: how that changes with g.
        pulses: counts or their moments, in the cells' dtype.
        draw: of the noise and the random counts.
        cycle: variance of a pulse, relative to its squared step.
        add: variance of a pulse beside that one, of both directions or each.
        size: largest |slope|.
    """
    up, down, up_var, down_var, z = pulses
    random = up_var is not None and down_var is not None
    if slope is None:
        move = torch.addcmul(up * step[0], down, step[1])
        fine, bend, ratio, n, b = True, None, None, None, None
    else:
        b = slope
        fine = size <= FINE
        n, rho = _rates(b, pulses, size)
        bend = torch.addcmul(rho[0] * b[0], rho[1], b[1])
        far = largest(bend)
        if far > LARGEST_GROWTH:
            bend = bend.clamp_(max=LARGEST_GROWTH)
        ratio = expm1_ratio(bend, far)
        move = torch.addcmul(rho[0] * step[0], rho[1], step[1]).mul_(ratio)
        fine = fine and far <= NEAR
    if not (random or cycle or add is not None):
        return g + move

    def weights(cycle: float, counts: bool) -> Two:
        """w of both directions."""
        if not fine and b is not None and n is not None:
            both = [excess(own, m, cycle) for own, m in zip(b, n, strict=True)]
            if not counts and random:
                alone = [excess(own, m, 0.0) for own, m in zip(b, n, strict=True)]
                both = [w - w0 for w, w0 in zip(both, alone, strict=True)]
            return both[0], both[1]
        made = (up * cycle, down * cycle)
        if counts and up_var is not None and down_var is not None:
            made = (up_var, down_var)
            if cycle:
                made = (up_var.add(up, alpha=cycle), down_var.add(down, alpha=cycle))
        if b is None or n is None:
            return made
        damped = [m / (1 + c.p * t).square() for m, c, t in zip(made, n, b, strict=True)]
        return damped[0], damped[1]

    apart = random and z is not None
    shared = weights(0.0, True) if apart else None
    own = weights(cycle, not apart) if cycle or (random and not apart) else None
    alike: Two | None = None
    if add is not None:
        pair = (add, add) if isinstance(add, Tensor) else add
        made = [up, down]
        if not fine and b is not None and n is not None:
            second = [2 * t + t.square() * (1 + cycle) for t in b]
            made = [rate(t, m) for t, m in zip(second, n, strict=True)]
        alike = made[0] * pair[0], made[1] * pair[1]
    if b is None or bend is None or ratio is None:
        left = [None if w is None else _squares(w, step) for w in (shared, own)]
        extra = None if alike is None else alike[0] + alike[1]
        return _gaussian(g + move, left[0], _sum(left[1], extra), z, draw)
    if fine:
        half = move * 0.5
        middle = (torch.addcmul(step[0], b[0], half), torch.addcmul(step[1], b[1], half))
        growth = None if far <= FIRST / 2 else torch.addcmul(torch.ones_like(bend), bend, ratio)
        left = [None if w is None else _squares(w, middle) for w in (shared, own)]
        extra = None if alike is None else alike[0] + alike[1]
        both = _sum(left[1], extra)
        left = [t if t is None or growth is None else t.mul_(growth) for t in (left[0], both)]
        return _gaussian(g + move, left[0], left[1], z, draw)
    total = [_sum(w0, w) for w0, w in zip(shared or (None, None), own or (None, None), strict=True)]
    theta = 2 * bend
    for w, t in zip(total, b, strict=True):
        if w is not None:
            theta = theta.addcmul(w, t.square())
    theta = theta.clamp_(max=LARGEST_GROWTH)
    flat = torch.where(bend.abs() < FLAT, torch.copysign(bend.new_tensor(FLAT), bend), bend)
    kernel = (
        between(torch.zeros_like(theta), theta),
        between(flat, theta),
        between(2 * flat, theta),
    )
    swing = move / torch.expm1(flat)

    def carried(w: Two | None, counts: bool) -> Tensor | None:
        """∫ e^{Θ(1−t)} w s(t)² dt, s(t) = s + b·swing (e^{Bt} − 1), and the order of the counts."""
        if w is None:
            return None
        out = torch.zeros_like(g)
        for weight, s, t, white in zip(w, step, b, order, strict=True):
            tail = t * swing
            rest = s - tail
            held = rest.square() * kernel[0] + 2 * rest * tail * kernel[1]
            out = out.addcmul(weight, held.addcmul_(tail.square(), kernel[2]))
            if counts and white is not None:
                out = out.addcmul(white * uneven, rest.square())
        return out.clamp_(min=0)

    order = [None if v is None else m - v for m, v in ((up, up_var), (down, down_var))]
    uneven = (
        between(torch.zeros_like(flat), 2 * flat) - between(torch.zeros_like(flat), flat).square()
    )

    extra = None if alike is None else (alike[0] + alike[1]).mul_(kernel[0])
    out = lognormal(g, move, step, b, carried(shared, True), carried(own, not apart), z, draw)
    return out if extra is None else out.addcmul(extra.sqrt_(), draw.normal(g.shape))


def _rates(b: Two, pulses: Pulses, size: float) -> tuple[tuple[Count, Count] | None, Two]:
    """The counts, where more than their moments are needed, and ρ of both."""
    up, down, up_var, down_var, _ = pulses
    if size > FIRST:
        n = Count.of(up, up_var), Count.of(down, down_var)
        return n, (rate(b[0], n[0]), rate(b[1], n[1]))
    out = []
    for t, mean, variance in ((b[0], up, up_var), (b[1], down, down_var)):
        if variance is None:
            rho, part = mean * log1p_ratio(t, size), mean.frac()
            if bool(part.any()):
                rho = rho.addcmul(part - part.square(), t, value=0.5)
        else:
            rho = mean.addcmul(torch.minimum(mean - variance, mean.square()), t, value=-0.5)
        out.append(rho)
    return None, (out[0], out[1])


def _squares(w: Two, step: Two) -> Tensor:
    return torch.addcmul(w[0] * step[0] * step[0], w[1] * step[1], step[1])


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _gaussian(
    mean: Tensor, shared: Tensor | None, own: Tensor | None, z: Tensor | None, draw: Draw
) -> Tensor:
    """The noise of shared counts goes with z, that of cycles never."""
    if shared is not None and z is not None:
        mean = mean.addcmul(z, shared.clamp_(min=0).sqrt_())
    if own is not None:
        mean = mean.addcmul(draw.normal(mean.shape), own.clamp_(min=0).sqrt_())
    return mean


def lognormal(
    g: Tensor,
    move: Tensor,
    step: Two,
    b: Two,
    shared: Tensor | None,
    own: Tensor | None,
    z: Tensor | None,
    draw: Draw,
) -> Tensor:
    """The mean move with its noise as factors of the distance to the nearer point of no steps."""
    if shared is None and own is None:
        return g + move
    above = torch.where(b[0] < 0, -step[0] / b[0] - move, torch.inf)
    below = torch.where(b[1] < 0, step[1] / b[1] + move, torch.inf)
    side = torch.where(above < below, -1.0, 1.0).to(g.dtype)
    way = torch.minimum(above, below)
    total = sum(v for v in (shared, own) if v is not None)
    inside = (way > 0) & way.isfinite() & (total > CLOSE * way.square())  # else as good as normal
    way = torch.where(inside, way, 1.0)
    power, straight, done = torch.zeros_like(g), torch.zeros_like(g), way.square()
    for variance, normal in ((shared, z), (own, None)):
        if variance is None:
            continue
        xi = draw.normal(g.shape) if normal is None else normal
        width = torch.log1p(variance / done)
        power = power + side * xi * width.sqrt() - width / 2
        straight = straight.addcmul(xi, variance.sqrt())
        done = done + variance
    return g + move + torch.where(inside, side * way * torch.expm1(power), straight)
