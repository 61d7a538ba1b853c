"""The affine laws: every pulse changes the conductance by an affine function of it.

One potentiation pulse adds s↑(g) = a↑ + b↑ g, one depression pulse removes s↓(g) = a↓ + b↓ g.
Constant step, soft bounds, linear step and NeuroSim's exponential curves are this one law with
other coefficients, so they share one closed form for any (up, down) counts.

In flow form, with U potentiation and D depression pulses evenly interleaved,

    dg/dt = U λ↑ s↑(g) − D λ↓ s↓(g) = A + B g,   λ↑ = log1p(b↑)/b↑,  λ↓ = log1p(−b↓)/(−b↓)
    g(1) = g + (A + B g) · expm1(B)/B

which for pulses of one direction is exactly g ← g + s(g) repeated. Random counts (mean U, variance
V) move the mean by E[(1+b)^N] ≈ exp(U β + V β²/2), β = log1p(b), the second cumulant of the count.

Fluctuations are those of the linearised flow, made by every pulse and damped by those after it,

    var = ∫ e^{2B(1−t)} (V↑' n↑² + V↓' n↓²) dt + σ_add² Σ e^{2B(1−t)},   V' = V + σ_c2c² · count
    n = s for random counts, s/(1 ± b) for exact ones (a pulse does not damp its own noise)

Above `NEGLIGIBLE`, while |B| <= `NEAR`, the integrals are the sources at the start times 1 + 3B/2,
which lies between pulses of one direction (e^{2B}) and balanced ones (1 + B); up to `FAR` they are
those in the middle of the move, as far as half the pulses damp them; beyond it each is taken to go
exponentially from its start to its end (`carried`). The last two are exact to first order in the
noise for pulses of one direction, and for mixed ones where the conductance stays.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from devices.draw import Draw
from devices.part import Pulses

LARGEST_GROWTH = 30.0
"""Cap of the exponent B where steps grow as the cell moves on: e^30 leaves any window, finitely."""

NEGLIGIBLE = 5e-3
"""Exponent |B| that changes the noise by less than half a percent."""

NEAR = 0.06
"""Exponent |B| up to which first order in B stands for it in the noise, within 1 %."""

FAR = 0.25
"""Exponent |B| up to which the middle of the move stands for all of it in the noise."""

COARSE = 2e-3
"""Relative step |b| above which the corrections of order b to noise and random counts matter."""

SERIES = 6
"""Terms beyond which the series of expm1(B)/B takes longer than the function."""


class Affine(NamedTuple):
    """Coefficients per cell (or 0-dim where cells are alike) in siemens and pure numbers.

    a and b are those of the flow, λa and λb; dividing by λ gives the single pulse's.
    """

    a_up: Tensor  # [S]
    a_down: Tensor  # [S]
    b_up: Tensor | None = None  # None: the step does not depend on g
    b_down: Tensor | None = None
    rate_up: Tensor | None = None  # λ↑, λ↓
    rate_down: Tensor | None = None
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
        """The leaf of a law from the coefficients of its single pulse, in `dtype` or theirs."""
        dtype = dtype or a_up.dtype
        rate_up = rate_down = None
        if b_up is not None and b_down is not None:
            rate_up, rate_down = log1p_ratio(b_up), log1p_ratio(-b_down)
            a_up, b_up = a_up * rate_up, b_up * rate_up
            a_down, b_down = a_down * rate_down, b_down * rate_down
        parts = (a_up, a_down, b_up, b_down, rate_up, rate_down, low, high)
        return Affine(*(None if t is None else _own(t, dtype) for t in parts))  # type: ignore[arg-type]


def _own(t: Tensor, dtype: torch.dtype) -> Tensor:
    # 0-dim leaves of cells that are alike would share storage with each other; safetensors refuses
    return t.to(dtype, copy=t.dim() == 0)


def log1p_ratio(b: Tensor) -> Tensor:
    """log1p(b)/b, continuous at 0 (a fabricated step of exactly zero is legal)."""
    return torch.log1p(b).div_(b).nan_to_num_(nan=1.0)


def expm1_ratio(b: Tensor, largest: float = math.inf) -> Tensor:
    """expm1(b)/b, continuous at 0.

    Where |b| <= `largest` is small, a series that leaves 1 + expm1(b) within a few roundings.
    """
    rounding = 4 * torch.finfo(b.dtype).eps
    for last in range(1, SERIES):
        if largest ** (last + 2) <= rounding * math.factorial(last + 2):
            out = b * (1 / math.factorial(last + 1))
            for n in range(last, 1, -1):
                out = out.add_(1 / math.factorial(n)).mul_(b)
            return out.add_(1)
    return (torch.expm1(b) / b).nan_to_num_(nan=1.0, posinf=torch.inf)


def affine_pulse(
    g: Tensor,  # (..., rows, cols) [S]
    k: Affine,
    pulses: Pulses,
    draw: Draw,
    *,
    sigma_c2c: float = 0.0,
    sigma_add: float = 0.0,  # [S] per pulse
    coarse: bool = True,
) -> Tensor:
    """Conductance after the pulses, unclipped; see the module's equations.

    `coarse=False` leaves out the corrections of order b, for laws whose relative step stays below
    `COARSE` (they change the mean and the noise by less than that).
    """
    pulses = pulses.to(g.dtype)
    up, down, up_var, down_var, z = pulses
    flow = _flow(g, k, pulses, coarse)
    out = g + flow.move
    random, cycle = up_var is not None and down_var is not None, sigma_c2c**2
    variance: Tensor | None = None
    scale = 1.0  # of the variance, left for the last product
    if up_var is not None and down_var is not None:
        if z is not None:
            # devices given the same pulses share the fluctuation of the counts, not of their cycles
            out = out.addcmul_(z, _left(k, flow, up_var, down_var, coarse).sqrt_())
            if cycle:
                variance, scale = _left(k, flow, up, down, coarse), cycle
        else:
            if cycle:
                up_var, down_var = up_var.add(up, alpha=cycle), down_var.add(down, alpha=cycle)
            variance = _left(k, flow, up_var, down_var, coarse)
    elif cycle:
        variance, scale = _left(k, flow, up, down, coarse, exact=True), cycle
    if sigma_add:
        extra = _constant_source(k, flow, up, down, coarse and not random).mul_(sigma_add**2)
        variance = extra if variance is None else extra.add_(variance, alpha=scale)
        scale = 1.0
    if variance is not None:
        out = out.addcmul_(draw.normal(g.shape), variance.sqrt_(), value=scale**0.5)
    return out


class _Flow(NamedTuple):
    """The mean of a law's pulses and what it is made of."""

    move: Tensor  # [S]
    up: Tensor  # [S] pulses of one direction times λ s at the start
    down: Tensor
    s_up: Tensor  # [S] λ s at the start
    s_down: Tensor
    bend: Tensor | None = None  # B; None: the step does not depend on g
    ratio: Tensor | None = None  # expm1(B)/B
    size: float = 0.0  # largest |B|


def _flow(g: Tensor, k: Affine, pulses: Pulses, coarse: bool) -> _Flow:
    up, down = pulses.up, pulses.down
    if k.b_up is None or k.b_down is None:
        up, down = up * k.a_up, down * k.a_down
        return _Flow(up - down, up, down, k.a_up, k.a_down)
    s_up, s_down = _line(k.a_up, k.b_up, g), _line(k.a_down, k.b_down, g)
    if coarse and pulses.up_var is not None and pulses.down_var is not None:
        # second cumulant of the count: β/2 per unit of variance, β = λ b
        up = torch.addcmul(up, pulses.up_var, k.b_up, value=0.5)
        down = torch.addcmul(down, pulses.down_var, k.b_down, value=-0.5)
    bend = torch.addcmul(up * k.b_up, down, k.b_down, value=-1)
    size = largest(bend)
    if size > LARGEST_GROWTH:
        bend = bend.clamp_(max=LARGEST_GROWTH)
    ratio = expm1_ratio(bend, size)
    up, down = up * s_up, down * s_down
    return _Flow((up - down).mul_(ratio), up, down, s_up, s_down, bend, ratio, size)


def _line(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    # addcmul leaves its vector path where more than one of its tensors has a single element
    return torch.addcmul(a, b, x) if a.dim() else (x * b).add_(a)


def _left(
    k: Affine, flow: _Flow, v_up: Tensor, v_down: Tensor, coarse: bool, *, exact: bool = False
) -> Tensor:
    """What the flow leaves of the variances v (of exact counts: the counts) in squared steps."""
    s_up, s_down = flow.s_up, flow.s_down
    w_up, w_down = (flow.up, flow.down) if exact else (v_up * s_up, v_down * s_down)
    if flow.bend is None or flow.ratio is None or k.b_up is None or k.b_down is None:
        return torch.addcmul(w_up * s_up, w_down, s_down)
    if flow.size <= NEAR:
        e_up, e_down = s_up, s_down
    else:
        e_up = torch.addcmul(s_up, k.b_up, flow.move)
        e_down = torch.addcmul(s_down, k.b_down, flow.move)
    if flow.size > FAR:
        z = 2 * flow.bend
        w_up, e_up = v_up, carried(s_up * s_up, e_up.mul_(e_up), z)
        w_down, e_down = v_down, carried(s_down * s_down, e_down.mul_(e_down), z)
    if coarse:
        assert k.rate_up is not None and k.rate_down is not None
        rates = (k.rate_up, k.rate_down)
        if exact:  # λ (1 ± b): a pulse does not damp its own noise
            rates = (k.rate_up + k.b_up, k.rate_down - k.b_down)
        w_up, w_down = w_up / (rates[0] * rates[0]), w_down / (rates[1] * rates[1])
    made = torch.addcmul(w_up * e_up, w_down, e_down)
    if flow.size <= NEGLIGIBLE:
        return made
    if flow.size <= NEAR:
        return made.addcmul_(made, flow.bend, value=1.5)
    if flow.size <= FAR:
        # half way the square of an exponential is the product of its ends, which is negative
        # where a cell crosses the point at which its steps vanish
        growth = (flow.bend * flow.ratio).add_(1)
        made = made.mul_(growth).clamp_(min=0)
    return made


def _constant_source(k: Affine, flow: _Flow, up: Tensor, down: Tensor, exact: bool) -> Tensor:
    """What is left of a unit variance that every pulse makes alike.

    ∫ e^{2B(1−t)} dt = expm1(2B)/2B per pulse, over the same of one pulse where they are counted:
    Σ e^{2βk} = expm1(2βn)/expm1(2β), k = 0 … n − 1, and 2β/expm1(2β) = 2λ²/(2λ + β) with β = λb.
    """
    if flow.bend is None or flow.ratio is None:
        return up + down
    if exact:
        assert k.b_up is not None and k.rate_up is not None
        assert k.b_down is not None and k.rate_down is not None
        up = up * (k.rate_up.square() / (k.rate_up + k.b_up / 2))
        down = down * (k.rate_down.square() / (k.rate_down - k.b_down / 2))
    made = up + down
    if flow.size <= NEAR:
        return made.addcmul_(made, flow.bend)
    half = flow.ratio / 2
    return made.mul_(torch.addcmul(flow.ratio, half * flow.ratio, flow.bend))


def largest(t: Tensor) -> float:
    """Largest magnitude, 0 of nothing."""
    if not t.numel():
        return 0.0
    return max(-float(t.amin()), float(t.amax()))  # aminmax takes longer than both


def carried(start: Tensor, end: Tensor, z: Tensor) -> Tensor:
    """∫₀¹ q(t) e^{z (1−t)} dt for q going exponentially from `start` to `end`, both >= 0.

    It is the logarithmic mean of `end` and `start`·e^z.
    """
    tiny = torch.finfo(start.dtype).tiny
    apart = torch.log((end + tiny) / (start + tiny)) - z
    return torch.maximum(end, start * torch.exp(z)) * expm1_ratio(-apart.abs())
