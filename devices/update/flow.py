"""Many pulses of any law at once: the mean flow of a single-pulse map, with its fluctuations.

A law states what one pulse does, g → g + s↑(g) or g → g + s↓(g) (s↓ <= 0). Few whole counts are
applied pulse by pulse, exactly; so are the last pulses of laws whose step in the middle of the
window is more than half of `limit` of it, random counts too (`devices.update.rounds`). All others
follow the flow

    dg/dt = Σ ρ s(g),    ρ the rate of `devices.update.moments` at the slope s' of the step,
    s' ≈ (s(g) − s(g − s/3)) / (s/3)

over t in [0, 1], up and down pulses evenly interleaved, random ones in random order. It is exact
for an affine s, and its third of a step backwards makes it right to third order in the step for any
smooth s (the term s² s''/12 of the formal iterative logarithm).

Integration: mean counts up to `SHORT` take the closed form of the affine law that touches the step
at g. More take the exponential Rosenbrock method exprb32 (Hochbruck & Ostermann, Acta Numerica 19,
209 (2010), doi:10.1017/S0962492910000048) with the slope of the velocity from s' above: exact for
affine laws whatever the counts, adaptive per cell for the others, so that millions of pulses cost
tens of evaluations and land on the fixed point. Error control: `SHARE` of a nominal step in each
substep; the sum stays below a tenth of a step for laws smooth over one step. A substep of less than
one pulse is taken as it is.

Fluctuations obey the flow linearised along its path, dσ²/dt = Θ σ² + Σ (w s² + α n²) with w, α and
Θ of `devices.update.closed` and n the noise that is no part of the step; each substep integrates
source and damping together as the logarithmic mean of its ends, exact for a constant source and for
a pure decay. Valid while the spread is small against the scale on which the step changes.

Beyond a hard bound the flow goes on with the step at the bound and the moved cell is clipped once,
at the end: right for pulses of one direction, while a cell that mixed pulses hold against its bound
is off by at most the pulses away from the bound that it was given in the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses
from devices.update.clip import Bound, clip_move
from devices.update.closed import LARGEST_GROWTH, lognormal, moved
from devices.update.moments import Count, carried, excess, expm1_ratio, largest, rate
from devices.update.rounds import limit, rounds

Step = Callable[[Tensor], Tensor]
"""Signed change of one pulse [S] at the conductance given [S]."""

Noise = Callable[[Tensor, Tensor], Tensor]
"""Standard deviation of one pulse [S] from the conductance and the signed step [S]."""

FEW = 4
"""Whole counts up to this sum are applied one pulse at a time."""

SHARE = 0.01
"""Error allowed in one substep, as a part of the nominal step."""

SHORT = 2.0
"""Mean counts up to this sum take one affine law, off by less than a hundredth of a step."""

STEEPEST = -0.999
"""A pulse that would jump past the point it saturates at is taken to stop just short of it."""


class Law(NamedTuple):
    """What one pulse does."""

    up: Step  # >= 0 on the whole window and a third of a step around it
    down: Step  # <= 0 likewise
    low: Bound  # [S]
    high: Bound  # [S]
    cycle: float = 0.0  # noise of a pulse relative to its step
    noise: Noise | None = None  # [S] noise beside it

    def pulse(self, g: Tensor, rising: Tensor, draw: Draw) -> Tensor:
        """Conductances after one pulse, up where told, else down."""
        step = torch.where(rising, self.up(g), self.down(g))
        after = g + step
        if self.cycle:
            after = after.addcmul(step, draw.normal(g.shape), value=self.cycle)
        if self.noise is not None:
            after = after + self.noise(g, step) * draw.normal(g.shape)
        return clip_move(g, after, self.low, self.high)


def flow_pulse(
    step_up: Step,
    step_down: Step,
    g: Tensor,  # (..., rows, cols) [S]
    pulses: Pulses,
    draw: Draw,
    *,
    nominal: float,  # [S] the step errors are measured by
    low: Bound,  # [S]
    high: Bound,  # [S]
    noise: Noise | None = None,
    cycle: float = 0.0,
) -> Tensor:
    """Conductances [S] after the pulses; see the module's equations.

    Args:
        step_up: potentiation step, >= 0 on the whole window and a third of a step around it.
        step_down: depression step, <= 0 likewise.
        g: conductances.
        pulses: counts or their moments.
        draw: of the noise, the random counts and the order of coarse pulses.
        nominal: nominal step of the law.
        low: lower bound of a cell's conductance.
        high: upper bound.
        noise: cycle-to-cycle noise of one pulse; None for none.
        cycle: noise of one pulse relative to its step, independent of the other: its product over
            many pulses is followed.
    """
    law = Law(step_up, step_down, low, high, cycle, noise)
    if not g.numel():
        return g
    if _coarse(law, g, pulses):
        return rounds(
            lambda g, rising: law.pulse(g, rising, draw),
            lambda g, given: clip_move(g, _many(law, g, given, draw, nominal), law.low, law.high),
            g,
            pulses,
            draw,
        )
    up, down = pulses.up, pulses.down
    if pulses.up_var is None and pulses.down_var is None:
        total = up + down
        few = (total <= FEW) & (up == up.floor()) & (down == down.floor())
        all_few = bool(few.all())
        given, singly = (up, total) if all_few else (torch.where(few, t, 0) for t in (up, total))
        share = given / singly.clamp(min=1)
        for k in range(int(singly.max())):  # spread evenly
            rising = (share * (k + 1) + 0.5).floor() > (share * k + 0.5).floor()
            g = torch.where(k < singly, law.pulse(g, rising, draw), g)
        if all_few:
            return g
        pulses = Pulses(*(torch.where(few, 0, t) for t in (up, down)))
    return clip_move(g, _many(law, g, pulses, draw, nominal), law.low, law.high)


def _coarse(law: Law, g: Tensor, pulses: Pulses) -> bool:
    """Whether a pulse that is given crosses more than `limit` of half a window from its middle."""
    low, high = (
        torch.as_tensor(end, dtype=g.dtype, device=g.device) for end in (law.low, law.high)
    )
    middle = ((low + high) / 2).expand_as(g)
    largest_step = [
        float((step(middle).abs() / (high - low)).mean())
        for step, count in ((law.up, pulses.up), (law.down, pulses.down))
        if bool((count > 0).any())
    ]
    return 2 * max(largest_step, default=0.0) > limit(pulses)


def _many(law: Law, g: Tensor, pulses: Pulses, draw: Draw, nominal: float) -> Tensor:
    if float((pulses.up + pulses.down).max()) > SHORT:
        return _flow(law, g, pulses, draw, nominal)
    inside = _inside(g, law)
    up, down = _local(law.up, inside), _local(law.down, inside)
    add = None
    if law.noise is not None:
        add = law.noise(inside, up[0]).square(), law.noise(inside, down[0]).square()
    size = max(largest(up[1], down[1]))
    steps, slopes = (up[0], down[0]), (up[1], down[1])
    return moved(g, steps, slopes, pulses, draw, cycle=law.cycle**2, add=add, size=size)


def _local(step: Step, g: Tensor) -> tuple[Tensor, Tensor]:
    """Step of one pulse at g, and its slope."""
    s = step(g)
    change = s - step(torch.sub(g, s, alpha=1 / 3))
    return s, change.div_(s).mul_(3).nan_to_num_(0.0, 0.0, 0.0).clamp_(min=STEEPEST)


def _phi3(z: Tensor) -> Tensor:
    """(e^z − 1 − z − z²/2)/z³, continuous at 0."""
    series = 1 / 6 + z / 24 * (1 + z / 5 * (1 + z / 6 * (1 + z / 7 * (1 + z / 8))))
    return torch.where(z.abs() < 0.5, series, (torch.expm1(z) - z - z * z / 2) / (z * z * z))


def _inside(g: Tensor, law: Law) -> Tensor:
    """The bounds' own conductance for a cell beyond them: what the law knows there."""
    ends = (torch.as_tensor(end, dtype=g.dtype, device=g.device) for end in (law.low, law.high))
    return torch.clamp(g, *ends)


class _Here(NamedTuple):
    """The flow at one place."""

    speed: Tensor  # A + B g
    bend: Tensor  # B
    counted: Tensor | None = None  # source of the variance of counts
    cycle: Tensor | None = None  # source of every other variance
    growth: Tensor | float = 0.0  # Θ − 2B
    steps: tuple[Tensor, ...] = ()  # of one pulse of each direction


def _here(law: Law, g: Tensor, counts: tuple[Count, Count], random: bool) -> _Here:
    speed, bend, growth = torch.zeros_like(g), torch.zeros_like(g), torch.zeros_like(g)
    counted = torch.zeros_like(g) if random else None
    cycle = torch.zeros_like(g) if law.cycle or law.noise is not None else None
    steps = []
    for step, n in ((law.up, counts[0]), (law.down, counts[1])):
        s, b = _local(step, g)
        steps.append(s)
        rho = rate(b, n)
        speed, bend = torch.addcmul(speed, rho, s), torch.addcmul(bend, rho, b)
        w = w0 = excess(b, n, 0.0) if random else None
        if law.cycle:
            w = excess(b, n, law.cycle**2)
        if w is None:
            w = torch.zeros_like(g)
        growth = growth.addcmul(w, b.square())
        square = s.square()
        if counted is not None and w0 is not None:
            counted, w = counted.addcmul(w0, square), w - w0
        if cycle is not None:
            cycle = cycle.addcmul(w, square)
            if law.noise is not None:
                alpha = rate(2 * b + b.square() * (1 + law.cycle**2), n)
                cycle = cycle.addcmul(alpha, law.noise(g, s).square())
    return _Here(speed, bend, counted, cycle, growth, tuple(steps))


def _flow(law: Law, g: Tensor, pulses: Pulses, draw: Draw, nominal: float) -> Tensor:
    """The flow of many pulses, in substeps of each cell's own."""
    up, down, up_var, down_var, z = pulses
    counts = Count.of(up, up_var), Count.of(down, down_var)
    random = up_var is not None and down_var is not None
    # noise that grows with the step outgrows the window, which its bounds do not let it
    widest = float((torch.as_tensor(law.high) - torch.as_tensor(law.low)).max()) ** 2
    left = torch.ones_like(g)
    h = left
    variances = [torch.zeros_like(g), torch.zeros_like(g)]
    # mixed counts that are not Poisson's scatter less in all than in every part of the call
    order = random and bool(((up > 0) & (down > 0)).any())
    reply = [torch.zeros_like(g) for _ in range(4 if order else 0)]
    while True:
        inside0 = _inside(g, law)
        here = _here(law, inside0, counts, random)
        bend = torch.where(inside0 == g, here.bend, 0.0)
        way = (h * bend).clamp(max=2.0)
        ahead = g + h * here.speed * expm1_ratio(way)
        inside = _inside(ahead, law)
        there = _here(law, inside, counts, random)
        curved = there.speed - here.speed - bend * (inside - g)
        correction = 2 * h * _phi3(way) * curved
        error = correction.abs() / (SHARE * nominal)
        fine = ((error <= 1) & (h * bend <= 2)) | (h * (up + down) <= 1)
        theta = (2 * way + h * here.growth).clamp(max=LARGEST_GROWTH)
        sources = ((here.counted, there.counted), (here.cycle, there.cycle))
        for i, (begin, end) in enumerate(sources):
            if begin is not None and end is not None:
                made = torch.addcmul(h * carried(begin, end, theta), variances[i], theta.exp())
                variances[i] = torch.where(fine, made.clamp(max=widest), variances[i])
        for i, old in enumerate(reply):
            begin, end = (at.steps[i % 2].abs() ** (1 + i // 2) for at in (here, there))
            z_i = way * (1 + i // 2)
            new = torch.addcmul(h * carried(begin, end, z_i), old, z_i.exp())
            reply[i] = torch.where(fine, new, old)
        g = torch.where(fine, ahead + correction, g)
        left = torch.where(fine, left - h, left)
        if not bool((left > 0).any()):
            break
        factor = (0.8 * error.clamp(min=1e-6) ** (-1 / 3)).clamp(0.1, 5.0)
        h = torch.minimum(h * torch.where(h * bend > 2, factor.clamp(max=0.5), factor), left)
    shared, own = variances
    if order and up_var is not None and down_var is not None:
        for i, spare in enumerate((up - up_var, down - down_var)):
            shared = shared.addcmul(spare, reply[i + 2] - reply[i].square())
        shared = shared.clamp(min=0)
    if not random or z is None:
        shared, own, z = torch.zeros_like(g), shared + own, None
    noisy = random or bool(law.cycle) or law.noise is not None
    return _scattered(law, g, shared if z is not None else None, own if noisy else None, z, draw)


def _scattered(
    law: Law, g: Tensor, shared: Tensor | None, own: Tensor | None, z: Tensor | None, draw: Draw
) -> Tensor:
    """The noise of these variances about the mean."""
    inside = _inside(g, law)
    (up, b_up), (down, b_down) = _local(law.up, inside), _local(law.down, inside)
    if law.noise is not None:  # not a part of the step, so not of the distance
        b_up, b_down = torch.zeros_like(g), torch.zeros_like(g)
    still = torch.zeros_like(g)
    return lognormal(g, still, (up, down), (b_up, b_down), shared, own, z, draw)
