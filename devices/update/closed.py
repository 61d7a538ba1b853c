"""Where cells end after pulses of steps that are affine in the conductance, in closed form.

With the rates ρ, w and α = ρ(b₂) of `devices.update.moments` and signed steps s, the mean m and the
variance v of the conductance follow, over t in [0, 1],

    dm/dt = Σ ρ s(m) = A + B m,        m(1) = g + (A + B g) expm1(B)/B
    dv/dt = Θ v + Σ (w s(m)² + α σ_add²),        Θ = 2B + Σ w b²

exact for pulses of one direction whatever their count, exact or random, and for Poisson counts in
random order; whole counts of both directions are taken as evenly interleaved. Two regimes of the
second integral, chosen by the largest cell of a call: `FINE` steps that bend by at most `NEAR` take
the sources in the middle of the move, all others its closed form.

Noise that is a part of the distance to the nearer of the points at which steps vanish is drawn
lognormally about it in the second regime, as a product of many factors is: it never passes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses
from devices.update.moments import (
    Count,
    between,
    excess,
    expm1_ratio,
    largest,
    log1p_ratio,
    rate,
    remainders,
)

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
    up, down, up_var, down_var, _ = pulses
    noisy = bool(cycle) or add is not None or (up_var is not None and down_var is not None)
    if slope is None:
        move = (up * step[0]).addcmul_(down, step[1])
        return _near(g + move, step, None, pulses, draw, cycle, add) if noisy else g + move
    n, rho = _rates(slope, pulses, size)
    bend = (rho[0] * slope[0]).addcmul_(rho[1], slope[1])
    (far,) = largest(bend)
    if far > LARGEST_GROWTH:
        bend = bend.clamp_(max=LARGEST_GROWTH)
    ratio = expm1_ratio(bend, far)
    move = (rho[0] * step[0]).addcmul_(rho[1], step[1]).mul_(ratio)
    if not noisy:
        return g + move
    if size > FINE or far > NEAR:
        return _far(g, step, slope, pulses, n, bend, move, draw, cycle, add)
    half = move * 0.5
    middle = torch.addcmul(step[0], slope[0], half), torch.addcmul(step[1], slope[1], half)
    if n is not None:  # a pulse's noise is damped by its own step
        middle = (
            middle[0] / (slope[0] * n[0].p + 1),
            middle[1] / (slope[1] * n[1].p + 1),
        )
    growth = bend.mul_(ratio).add_(1) if far > FIRST / 2 else None
    return _near(g + move, middle, growth, pulses, draw, cycle, add)


def _near(
    mean: Tensor,
    step: Two,
    growth: Tensor | None,
    pulses: Pulses,
    draw: Draw,
    cycle: float,
    add: Tensor | Two | None,
) -> Tensor:
    """The mean with normal noise, as much as of pulses that all do these steps."""
    up, down, up_var, down_var, z = pulses
    square = step[0].square(), step[1].square()
    own = shared = None
    if cycle:
        own = _weighted((up, down), square).mul_(cycle)
    if up_var is not None and down_var is not None:
        shared = _weighted((up_var, down_var), square)
        if z is None:
            own, shared = shared if own is None else own.add_(shared), None
    if add is not None:
        alike = (up + down) * add if isinstance(add, Tensor) else _weighted((up, down), add)
        own = alike if own is None else own.add_(alike)
    if shared is not None and z is not None:
        shared = shared if growth is None else shared.mul_(growth)
        mean = mean.addcmul(z, shared.clamp_(min=0).sqrt_())
    if own is None:
        return mean
    own = own if growth is None else own.mul_(growth)
    return mean.addcmul(draw.normal(mean.shape), own.clamp_(min=0).sqrt_())


def _far(
    g: Tensor,
    step: Two,
    slope: Two,
    pulses: Pulses,
    n: tuple[Count, Count] | None,
    bend: Tensor,
    move: Tensor,
    draw: Draw,
    cycle: float,
    add: Tensor | Two | None,
) -> Tensor:
    """The moved cells with noise whose sources follow the whole way of the mean."""
    up, down, up_var, down_var, z = pulses
    random = up_var is not None and down_var is not None

    def weights(cycle: float) -> Two:
        """w of both directions."""
        if n is not None:
            return excess(slope[0], n[0], cycle), excess(slope[1], n[1], cycle)
        if up_var is None or down_var is None:
            return up * cycle, down * cycle
        return up_var.add(up, alpha=cycle), down_var.add(down, alpha=cycle)

    counts = weights(0.0) if random and z is not None else None
    cycles = weights(cycle) if cycle or (random and z is None) else None
    if counts is not None and cycles is not None:  # what is left beside that of the counts
        cycles = cycles[0] - counts[0], cycles[1] - counts[1]
    theta = 2 * bend
    for w in (counts, cycles):
        if w is not None:
            theta = theta.addcmul(w[0], slope[0].square()).addcmul(w[1], slope[1].square())
    theta = theta.clamp_(max=LARGEST_GROWTH)
    flat = torch.where(bend.abs() < FLAT, torch.copysign(bend.new_tensor(FLAT), bend), bend)
    still = torch.zeros_like(theta)
    kernel = between(still, theta), between(flat, theta), between(2 * flat, theta)
    uneven = between(still, 2 * flat) - between(still, flat).square()
    swing = move / torch.expm1(flat)
    order = [None if v is None else m - v for m, v in ((up, up_var), (down, down_var))]

    def carried(w: Two | None, counts: bool) -> Tensor | None:
        """∫ e^{Θ(1−t)} w s(t)² dt, s(t) = s + b·swing (e^{Bt} − 1), and the order of the counts."""
        if w is None:
            return None
        out = torch.zeros_like(g)
        for weight, s, t, white in zip(w, step, slope, order, strict=True):
            tail = t * swing
            rest = s - tail
            held = rest.square() * kernel[0] + 2 * rest * tail * kernel[1]
            out = out.addcmul(weight, held.addcmul_(tail.square(), kernel[2]))
            if counts and white is not None:
                out = out.addcmul(white * uneven, rest.square())
        return out.clamp_(min=0)

    shared, own = carried(counts, True), carried(cycles, z is None)
    out = lognormal(g, move, step, slope, shared, own, z, draw)
    if add is None:
        return out
    made = up, down
    if n is not None:
        twice = [2 * b + b * b * (1 + cycle) for b in slope]
        made = rate(twice[0], n[0]), rate(twice[1], n[1])
    pair = (add, add) if isinstance(add, Tensor) else add
    alike = _weighted(made, pair).mul_(kernel[0])
    return out.addcmul(alike.sqrt_(), draw.normal(g.shape))


def _weighted(w: Two, square: Two) -> Tensor:
    return (w[0] * square[0]).addcmul_(w[1], square[1])


def _rates(b: Two, pulses: Pulses, size: float) -> tuple[tuple[Count, Count] | None, Two]:
    """The counts, where more than their moments are needed, and ρ of both."""
    up, down, up_var, down_var, _ = pulses
    if size > FIRST:
        n = Count.of(up, up_var), Count.of(down, down_var)
        return n, (rate(b[0], n[0]), rate(b[1], n[1]))
    out = []
    exact = [m for m, v in ((up, up_var), (down, down_var)) if v is None]
    parts = iter(remainders(*exact))  # the host waits once for both
    for t, mean, variance in ((b[0], up, up_var), (b[1], down, down_var)):
        if variance is None:
            rho = mean * log1p_ratio(t, size)
            if (part := next(parts)) is not None:
                rho = rho.addcmul(part - part.square(), t, value=0.5)
        else:
            rho = mean.addcmul(torch.minimum(mean - variance, mean.square()), t, value=-0.5)
        out.append(rho)
    return None, (out[0], out[1])


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
    power, straight = torch.zeros_like(g), torch.zeros_like(g)
    done = way.square().clamp(min=torch.finfo(g.dtype).tiny)
    for variance, normal in ((shared, z), (own, None)):
        if variance is None:
            continue
        xi = draw.normal(g.shape) if normal is None else normal
        width = torch.log1p(variance / done)
        power = power + side * xi * width.sqrt() - width / 2
        straight = straight.addcmul(xi, variance.sqrt())
        done = done + variance
    return g + move + torch.where(inside, side * way * torch.expm1(power), straight)
