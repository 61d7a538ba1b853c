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

    var = ∫ e^{2B(1−t)} (V↑' s↑² + V↓' s↓²) dt + n σ_add² expm1(2B)/2B,   V' = V + σ_c2c² · count

While |B| <= `NEAR` the sources are taken at the start; up to `FAR` at the middle of the flow: with
h = B/2 · (1 − 1/n) for n exact pulses (B/2 for random counts), e^{2h} times the sources at the
conductance after the fraction h; beyond it each source is taken to go exponentially from its start
to its end (`carried`). Both are exact to first order in the noise for pulses of one direction, and
for mixed ones where the conductance stays.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from devices.part import Pulses

LARGEST_GROWTH = 30.0
"""Cap of the exponent B where steps grow as the cell moves on: e^30 leaves any window, finitely."""

NEARER = 1e-3
"""Exponent |B| up to which expm1(B)/B is 1 + B/2 within 2e-7 in single precision."""

NEAR = 0.01
"""Exponent |B| up to which the start of the flow stands for all of it in the noise, within 1 %."""

FAR = 0.4
"""Exponent |B| up to which the middle of the flow stands for all of it in the noise, within 1 %."""

COARSE = 2e-3
"""Relative step |b| above which the corrections of order b to noise and random counts matter."""


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
        b_up: Tensor | None,
        b_down: Tensor | None,
        low: Tensor | None,  # [S]
        high: Tensor | None,  # [S]
        dtype: torch.dtype,
    ) -> Affine:
        """The leaf of a law from the coefficients of its single pulse, in `dtype`."""
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
    return (torch.log1p(b) / b).nan_to_num_(nan=1.0)


def expm1_ratio(b: Tensor) -> Tensor:
    """expm1(b)/b, continuous at 0."""
    return (torch.expm1(b) / b).nan_to_num_(nan=1.0, posinf=torch.inf)


def affine_pulse(
    g: Tensor,  # (..., rows, cols) [S]
    k: Affine,
    pulses: Pulses,
    *,
    sigma_c2c: float = 0.0,
    sigma_add: float = 0.0,  # [S] per pulse
    coarse: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Conductance after the pulses, unclipped; see the module's equations.

    `coarse=False` leaves out the corrections of order b, for laws whose relative step stays below
    `COARSE` (they change the mean and the noise by less than that).
    """
    pulses = pulses.to(g.dtype)
    up, down = pulses.up, pulses.down
    moments = pulses.up_var is not None
    up_var, down_var = pulses.up_var, pulses.down_var
    damping: Tensor | None = None

    if k.b_up is None or k.b_down is None:
        flow = torch.addcmul(up * k.a_up, down, k.a_down, value=-1)
        out = g + flow
        bend = None
        s_up, s_down = k.a_up, k.a_down
    else:
        assert k.rate_up is not None and k.rate_down is not None
        f_up, f_down = up, down
        if coarse and up_var is not None and down_var is not None:
            # second cumulant of the count: β/2 per unit of variance, β = λ b
            f_up = torch.addcmul(up, up_var, k.b_up, value=0.5)
            f_down = torch.addcmul(down, down_var, k.b_down, value=-0.5)
        bend = torch.addcmul(f_up * k.b_up, f_down, k.b_down, value=-1)
        flow = torch.addcmul(f_up * k.a_up, f_down, k.a_down, value=-1).addcmul_(bend, g)
        size = largest(bend)
        narrow = g.dtype != torch.float64  # where polynomials are within the rounding
        if size <= NEARER and narrow:
            ratio = None
            move = torch.addcmul(flow, flow, bend, value=0.5)
        elif size <= NEAR and narrow:
            ratio = (bend * (1 / 6)).add_(0.5).mul_(bend).add_(1)
            move = flow.mul_(ratio)
        else:
            bend = bend.clamp_(max=LARGEST_GROWTH)
            ratio = expm1_ratio(bend)
            move = flow.mul_(ratio)
        out = g + move
        if sigma_c2c or moments:
            if size <= NEAR:
                s_up, s_down = (
                    torch.addcmul(k.a_up, k.b_up, g),
                    torch.addcmul(k.a_down, k.b_down, g),
                )
            else:
                exact = coarse and not moments
                s_up, s_down, damping = _left(g, move, k, bend, up, down, size, exact=exact)
            if coarse:
                s_up, s_down = s_up / k.rate_up, s_down / k.rate_down

    if not (sigma_c2c or sigma_add or moments):
        return out

    cycle = sigma_c2c**2
    variance: Tensor | None = None
    scale = 1.0  # of the variance, left for the last product
    shared: Tensor | None = None
    if pulses.z is not None and up_var is not None and down_var is not None:
        # devices given the same pulses share the fluctuation of the counts, not of their cycles
        shared = pulses.z * _std(up_var, s_up, down_var, s_down)
        if sigma_c2c:
            variance, scale = _variance(up, s_up, down, s_down), cycle
    elif up_var is not None and down_var is not None:
        v_up, v_down = up_var, down_var
        if sigma_c2c:
            v_up, v_down = v_up.add(up, alpha=cycle), v_down.add(down, alpha=cycle)
        variance = _variance(v_up, s_up, v_down, s_down)
    elif sigma_c2c:
        variance, scale = _variance(up, s_up, down, s_down), cycle
    if damping is not None and shared is not None:
        shared = shared.mul_(damping)
    if damping is not None and variance is not None:
        variance = variance.mul_(damping).mul_(damping)
    if sigma_add:
        extra = (up + down).mul_(sigma_add**2)
        if bend is not None:
            extra = extra.mul_(
                _constant_source(bend, ratio, up, down, exact=coarse and not moments)
            )
        variance = extra if variance is None else extra.add_(variance, alpha=scale)
        scale = 1.0
    if shared is not None:
        out = out.add_(shared)
    if variance is not None:
        drawn = torch.randn(g.shape, generator=generator, dtype=g.dtype, device=g.device)
        out = out.addcmul_(drawn, variance.sqrt_(), value=scale**0.5)
    return out


def largest(t: Tensor) -> float:
    """Largest magnitude, 0 of nothing."""
    if not t.numel():
        return 0.0
    low, high = torch.aminmax(t)
    return max(-float(low), float(high))


def _constant_source(
    bend: Tensor, ratio: Tensor | None, up: Tensor, down: Tensor, *, exact: bool
) -> Tensor:
    """Variance left of a noise that every pulse makes alike, as a part of the variance made.

    ∫ e^{2B(1−t)} dt = expm1(2B)/2B, and for n exact pulses Σ (1+b)^{2k}/n, k = 0 … n − 1.
    """
    left = bend + 1 if ratio is None else ratio * (2 + bend * ratio) / 2
    if exact:
        one = bend / (up + down).clamp_(min=1)
        left = left * (1 - one + one.square() / 3)
    return left


def _variance(v_up: Tensor, s_up: Tensor, v_down: Tensor, s_down: Tensor) -> Tensor:
    return torch.addcmul(v_up * (s_up * s_up), v_down, s_down * s_down)  # square() is a slower pow


def _std(v_up: Tensor, s_up: Tensor, v_down: Tensor, s_down: Tensor) -> Tensor:
    return _variance(v_up, s_up, v_down, s_down).sqrt_()


def _left(
    g: Tensor,
    move: Tensor,
    k: Affine,
    bend: Tensor,
    up: Tensor,
    down: Tensor,
    size: float,
    *,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Steps up and down as noise sources and their damping, so that s·damping is what is left."""
    assert k.b_up is not None and k.b_down is not None
    if size > FAR:
        end, grow = g + move, 2 * bend
        own_up, own_down = (k.b_up.exp(), (-k.b_down).exp()) if exact else (1.0, 1.0)
        left_up, left_down = (
            carried(
                (torch.addcmul(a, b, g) / own).square_(),
                (torch.addcmul(a, b, end) / own).square_(),
                grow,
            ).sqrt_()
            for a, b, own in ((k.a_up, k.b_up, own_up), (k.a_down, k.b_down, own_down))
        )
        return left_up, left_down, None
    middle, damping = _middle(g, move, bend, up, down, exact=exact)
    return (
        torch.addcmul(k.a_up, k.b_up, middle),
        torch.addcmul(k.a_down, k.b_down, middle),
        damping,
    )


def carried(start: Tensor, end: Tensor, z: Tensor) -> Tensor:
    """∫₀¹ q(t) e^{z (1−t)} dt for q going exponentially from `start` to `end`, both >= 0.

    It is the logarithmic mean of `end` and `start`·e^z.
    """
    tiny = torch.finfo(start.dtype).tiny
    apart = torch.log((end + tiny) / (start + tiny)) - z
    return torch.maximum(end, start * torch.exp(z)) * expm1_ratio(-apart.abs())


def _middle(
    g: Tensor, move: Tensor, bend: Tensor, up: Tensor, down: Tensor, *, exact: bool
) -> tuple[Tensor, Tensor]:
    """Conductance in the middle of the flow, and the damping e^h of noise made there.

    For |B| <= `FAR`, where the shares of move and damping are polynomials within 1 %.
    """
    if not exact:
        h = bend * 0.5
        share = 0.5 - h * 0.25  # of the move made by half the flow
    else:
        half = (up + down).clamp_(min=1).reciprocal_().mul_(-0.5).add_(0.5)
        h = bend * half
        share = (h - bend).mul_(0.5).add_(1).mul_(half)
    damping = (h * 0.5).add_(1).mul_(h).add_(1)
    return torch.addcmul(g, move, share), damping
