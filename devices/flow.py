"""Many pulses of any law at once: the mean flow of a single-pulse map, with its fluctuations.

A law states what one pulse does, g → g + s↑(g) or g → g + s↓(g) (s↓ <= 0). Few whole counts are
applied pulse by pulse, exactly. More pulses, fractional mean counts and random counts follow the
flow whose time-1 map is that pulse: with s' the slope of the step

    v(g) = s · log1p(s')/s',      s' ≈ (s(g) − s(g − s/3)) / (s/3)

which is exact for an affine s, and whose third of a step backwards makes v right to third order in
the step for any smooth s (the term s² s''/12 of the formal iterative logarithm). Up and down pulses
are evenly interleaved, so dg/dt = V(g) = U v↑ + D v↓ over t in [0, 1]. Random counts of mean U and
variance V enter the mean as U + V log1p(s')/2 (for Poisson counts: E[(1 + s')^N]).

Integration: the exponential Rosenbrock method exprb32 (Hochbruck & Ostermann, Acta Numerica 19, 209
(2010), doi:10.1017/S0962492910000048) with the slope of V from the log1p(s') above: exact for
affine laws whatever the counts, adaptive per cell for the others, so that millions of pulses cost
tens of evaluations and land on the fixed point. Error control: `SHARE` of a nominal step in each
substep; the sum stays below a tenth of a step for laws smooth over one step. A substep of less than
one pulse is taken as it is.

Fluctuations obey the flow linearised along its path, dσ²/dt = 2 V' σ² + U n↑² + D n↓² with n the
noise of one pulse, and likewise with the count's variance and v for random counts; each substep
integrates source and damping together as the logarithmic mean of its ends, exact for a constant
source and for a pure decay. Valid while the spread is small against the scale on which the step
changes.

Beyond a hard bound the flow goes on with the step at the bound and the moved cell is clipped once,
at the end: right for pulses of one direction, while a cell that mixed pulses hold against its bound
is off by at most the pulses away from the bound that it was given in the call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from devices.affine import carried, expm1_ratio, log1p_ratio
from devices.clip import Bound, clip_move
from devices.draw import Draw
from devices.part import Pulses

Step = Callable[[Tensor], Tensor]
"""Signed change of one pulse [S] at the conductance given [S]."""

Noise = Callable[[Tensor, Tensor], Tensor]
"""Standard deviation of one pulse [S] from the conductance and the signed step [S]."""

FEW = 4
"""Whole counts up to this sum are applied one pulse at a time."""

SHARE = 0.01
"""Error allowed in one substep, as a part of the nominal step."""

SHORT = 2.0
"""Mean counts up to this sum take one midpoint step, off by less than a hundredth of a step."""

STEEPEST = -0.95
"""A pulse that would jump past the point it saturates at is taken to stop just short of it."""


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
) -> Tensor:
    """Conductances [S] after the pulses; see the module's equations.

    Args:
        step_up: potentiation step, >= 0 on the whole window and a third of a step around it.
        step_down: depression step, <= 0 likewise.
        g: conductances.
        pulses: counts or their moments.
        draw: of the noise and the random counts.
        nominal: nominal step of the law.
        low: lower bound of a cell's conductance.
        high: upper bound.
        noise: cycle-to-cycle noise of one pulse; None for none.
    """
    pulses = pulses.to(g.dtype)
    up, down = pulses.up, pulses.down
    if pulses.up_var is None and pulses.down_var is None:
        total = up + down
        few = (total <= FEW) & (up == up.floor()) & (down == down.floor())
        all_few = bool(few.all())
        given, singly = (up, total) if all_few else (torch.where(few, t, 0) for t in (up, total))
        for k in range(int(singly.max()) if g.numel() else 0):
            g = _one(step_up, step_down, g, given, singly, k, low, high, noise, draw)
        if all_few:
            return g
        up, down = (torch.where(few, 0, t) for t in (up, down))
    if not g.numel():
        return g
    if float((up + down).max()) <= SHORT:
        moved, std, shared = _short(step_up, step_down, g, up, down, pulses, low, high, noise)
    else:
        moved, std, shared = _flow(
            step_up, step_down, g, up, down, pulses, nominal, low, high, noise
        )
    if std is not None:
        moved = moved + std * draw.normal(g.shape)
    if shared is not None and pulses.z is not None:
        moved = moved + shared * pulses.z
    return clip_move(g, moved, low, high)


def _one(
    step_up: Step,
    step_down: Step,
    g: Tensor,
    up: Tensor,
    total: Tensor,
    k: int,
    low: Bound,
    high: Bound,
    noise: Noise | None,
    draw: Draw,
) -> Tensor:
    """The k-th of `total` pulses, `up` of them potentiating and spread evenly."""
    share = up / total.clamp(min=1)
    rising = (share * (k + 1) + 0.5).floor() > (share * k + 0.5).floor()
    step = torch.where(rising, step_up(g), step_down(g))
    moved = g + step
    if noise is not None:
        moved = moved + noise(g, step) * draw.normal(g.shape)
    return torch.where(k < total, clip_move(g, moved, low, high), g)


def _velocity(step: Step, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Step s, flow velocity v = s log1p(s')/s' and exponent log1p(s') of one pulse at g."""
    s = step(g)
    change = s - step(torch.sub(g, s, alpha=1 / 3))
    slope = change.div_(s).mul_(3).nan_to_num_(0.0, 0.0, 0.0).clamp_(min=STEEPEST)
    rate = log1p_ratio(slope)
    return s, s * rate, slope.mul_(rate)


def _phi3(z: Tensor) -> Tensor:
    """(e^z − 1 − z − z²/2)/z³, continuous at 0."""
    series = 1 / 6 + z / 24 * (1 + z / 5 * (1 + z / 6 * (1 + z / 7 * (1 + z / 8))))
    return torch.where(z.abs() < 0.5, series, (torch.expm1(z) - z - z * z / 2) / (z * z * z))


def _inside(g: Tensor, low: Bound, high: Bound) -> Tensor:
    """The bounds' own conductance for a cell beyond them: what the law knows there."""
    ends = (torch.as_tensor(end, dtype=g.dtype, device=g.device) for end in (low, high))
    return torch.clamp(g, *ends)


Moved = tuple[Tensor, Tensor | None, Tensor | None]
"""Mean after the pulses, std of the independent noise, std of the noise that goes with z."""


def _short(
    step_up: Step,
    step_down: Step,
    g: Tensor,
    up: Tensor,
    down: Tensor,
    pulses: Pulses,
    low: Bound,
    high: Bound,
    noise: Noise | None,
) -> Moved:
    """The flow of few pulses, from the law at the start alone."""
    inside = _inside(g, low, high)
    s_up, v_up, b_up = _velocity(step_up, inside)
    s_down, v_down, b_down = _velocity(step_down, inside)
    flow_up, flow_down = up, down
    if pulses.up_var is not None:
        flow_up = torch.addcmul(up, pulses.up_var, b_up, value=0.5)
    if pulses.down_var is not None:
        flow_down = torch.addcmul(down, pulses.down_var, b_down, value=0.5)
    damping = (flow_up * b_up).addcmul_(flow_down, b_down).mul_(0.5).exp_()
    half = (flow_up * v_up).addcmul_(flow_down, v_down).mul_(damping).mul_(0.5)
    moved = torch.add(g, half, alpha=2)
    by_up, by_down = (torch.addcmul(v, b, half) for v, b in ((v_up, b_up), (v_down, b_down)))
    counts = _counted(pulses, by_up.mul_(damping), by_down.mul_(damping))
    cycle = None
    if noise is not None:
        made_up, made_down = noise(inside, s_up), noise(inside, s_down)
        cycle = (up * (made_up * made_up)).addcmul_(down, made_down * made_down)
        if counts is not None:  # exact counts this few are noisier by no more than their damping
            cycle = cycle.mul_(damping).mul_(damping)
    return _apart(moved, counts, cycle, pulses)


def _counted(pulses: Pulses, by_up: Tensor, by_down: Tensor) -> Tensor | None:
    """Variance that random counts make, from the change of g by one pulse of each kind."""
    up = None if pulses.up_var is None else pulses.up_var * (by_up * by_up)
    if pulses.down_var is None:
        return up
    down = pulses.down_var * (by_down * by_down)
    return down if up is None else up + down


def _apart(g: Tensor, counts: Tensor | None, cycle: Tensor | None, pulses: Pulses) -> Moved:
    """The noise of counts goes with z where there is one, that of cycles never."""
    if counts is None or pulses.z is None:
        both = cycle if counts is None else counts if cycle is None else counts + cycle
        return g, None if both is None else both.sqrt(), None
    return g, None if cycle is None else cycle.sqrt(), counts.sqrt()


def _flow(
    step_up: Step,
    step_down: Step,
    g: Tensor,
    up: Tensor,
    down: Tensor,
    pulses: Pulses,
    nominal: float,
    low: Bound,
    high: Bound,
    noise: Noise | None,
) -> Moved:
    """The flow of many pulses, in substeps of each cell's own."""
    exact = pulses.up_var is None and pulses.down_var is None
    spread = noise is not None or pulses.up_var is not None or pulses.down_var is not None
    flow_up, flow_down = up, down
    if pulses.up_var is not None:
        flow_up = (up + pulses.up_var * _velocity(step_up, g)[2] / 2).clamp(min=0)
    if pulses.down_var is not None:
        flow_down = (down + pulses.down_var * _velocity(step_down, g)[2] / 2).clamp(min=0)

    left = torch.ones_like(g)
    h = left
    cycle, counted = torch.zeros_like(g), torch.zeros_like(g)
    while True:
        inside0 = _inside(g, low, high)
        s_up, v_up, b_up = _velocity(step_up, inside0)
        s_down, v_down, b_down = _velocity(step_down, inside0)
        speed = flow_up * v_up + flow_down * v_down
        bend = torch.where(inside0 == g, flow_up * b_up + flow_down * b_down, 0.0)
        z = (h * bend).clamp(max=2.0)
        ahead = g + h * speed * expm1_ratio(z)
        inside = _inside(ahead, low, high)
        s_up1, v_up1, b_up1 = _velocity(step_up, inside)
        s_down1, v_down1, b_down1 = _velocity(step_down, inside)
        curved = flow_up * v_up1 + flow_down * v_down1 - speed - bend * (inside - g)
        correction = 2 * h * _phi3(z) * curved
        error = correction.abs() / (SHARE * nominal)
        fine = ((error <= 1) & (h * bend <= 2)) | (h * (up + down) <= 1)
        if spread:
            grow = torch.exp(z)
            if noise is not None:
                begin, end = noise(inside0, s_up), noise(inside, s_up1)
                begin_down, end_down = noise(inside0, s_down), noise(inside, s_down1)
                if exact:  # noise is made before its own pulse contracts, by e^{b}
                    begin, end = begin * torch.exp(-b_up), end * torch.exp(-b_up1)
                    begin_down = begin_down * torch.exp(-b_down)
                    end_down = end_down * torch.exp(-b_down1)
                begin = up * begin.square() + down * begin_down.square()
                end = up * end.square() + down * end_down.square()
                made = h * carried(begin, end, 2 * z)
                cycle = torch.where(fine, cycle * grow**2 + made, cycle)
            begins, ends = _counted(pulses, v_up, v_down), _counted(pulses, v_up1, v_down1)
            if begins is not None and ends is not None:
                made = h * carried(begins, ends, 2 * z)
                counted = torch.where(fine, counted * grow**2 + made, counted)
        g = torch.where(fine, ahead + correction, g)
        left = torch.where(fine, left - h, left)
        if not bool((left > 0).any()):
            break
        factor = (0.8 * error.clamp(min=1e-6) ** (-1 / 3)).clamp(0.1, 5.0)
        h = torch.minimum(h * torch.where(h * bend > 2, factor.clamp(max=0.5), factor), left)
    counts = None if exact else counted
    return _apart(g, counts, cycle if noise is not None else None, pulses)
