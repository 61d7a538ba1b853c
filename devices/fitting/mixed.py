"""Fisher scoring of a nonlinear model whose parameters differ from cell to cell.

Cell c has the parameters x + δ_c, δ_c ~ N(0, T), T diagonal; x are the means, the shape of the law
and the noise variances, common to all cells. Around the current x and δ every cell gives a score
s_c and an expected information F_c over (x, δ), from prediction errors v with variance S of its
reads:

    s = Σ −∂v v/S + ½ ∂S/S (v²/S − 1),    F = Σ ∂v ∂vᵀ/S + ½ ∂S ∂Sᵀ/S²

Integrating δ_c out of this quadratic model leaves, with J = F_δδ and A = (J + T⁻¹)⁻¹,

    I = Σ_c F_xx − F_xδ A F_δx         information on x, whose inverse is its covariance
    w_c = T⁻¹ δ̂_c,  W_c = J − J A J     score and information on T, by restricted likelihood

all finite where T = 0. The integral also leaves −½ log det(1 + T J), whose slope along x and δ
(`Correction`) returns to the noise the share of variance that fitting each cell took away; without
it the noise of C cells is too small by their number of parameters per read.

Source: Lindstrom & Bates, Biometrics 46, 673 (1990), doi:10.2307/2532087 (nonlinear mixed effects);
Patterson & Thompson, Biometrika 58, 545 (1971), doi:10.1093/biomet/58.3.545 (restricted
likelihood).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices.fitting.filter import Screen


class Evidence(NamedTuple):
    """What the reads of every cell say about x and δ at the current estimate."""

    score: Tensor  # (C, X + R)
    information: Tensor  # (C, X + R, X + R)
    log_likelihood: Tensor  # (C,)


@dataclass(frozen=True)
class Step:
    """The next estimate, and what is known of it."""

    dx: Tensor  # (X,) change of x
    delta: Tensor  # (C, R) deviations of the cells if x changes by dx
    follow: Tensor  # (C, R, X) how they follow another change, −A F_δx
    dt: Tensor  # (M,) change of the spreads' variances
    covariance: Tensor  # (X, X) of x
    spread_variance: Tensor  # (M, M) covariance of the spreads' variances
    inner: Tensor  # (C, R, R) A, the posterior covariance of the cells' deviations
    prior: Tensor  # (C,) what integrating the deviations out adds to the log-likelihood at `delta`
    log_likelihood: Tensor  # (C,) of every cell's reads with its deviations integrated out


def evidence(
    errors: Tensor,  # (times, 1 + D, blocks): at the estimate, then with each parameter moved
    variances: Tensor,
    screen: Screen,
    seen: Tensor,  # (times, blocks) where there is a read
    moved: Tensor,  # (D,) by how much
    cell: Tensor,  # (blocks,)
    cells: int,
    outlier: float,  # standard deviations beyond which a read is not used
) -> Evidence:
    """Score, information and log-likelihood of every cell."""
    use, v, s = screen.use, errors[:, 0], variances[:, 0]
    scale, part = 1 / moved[:, None], (0.5 * use * screen.free).sqrt()
    z2 = v.square() / s
    # both halves of the information in one product over (times of v, times of S)
    tall = torch.empty(len(cell), len(moved), 2 * len(v), dtype=v.dtype)
    by_v, by_s = tall[..., : len(v)].permute(2, 1, 0), tall[..., len(v) :].permute(2, 1, 0)
    torch.mul(errors[:, 1:] - errors[:, :1], scale * (use / s).sqrt()[:, None], out=by_v)
    torch.mul(variances[:, 1:] - variances[:, :1], scale * (part / s)[:, None], out=by_s)
    off = torch.cat([-v * (use / s).sqrt(), part * (z2 - 1)])
    information = tall @ tall.mT
    score = tall @ off.T[..., None]
    # a read that is left out counts as one at the threshold: the likelihood has no jump there
    far = torch.lerp(torch.full_like(z2, outlier**2), z2, use) + torch.log(2 * math.pi * s)
    fit = -0.5 * (far * seen)[1:].sum(0)
    d = len(moved)
    return Evidence(
        torch.zeros(cells, d, dtype=v.dtype).index_add_(0, cell, score.squeeze(-1)),
        torch.zeros(cells, d, d, dtype=v.dtype).index_add_(0, cell, information),
        torch.zeros(cells, dtype=v.dtype).index_add_(0, cell, fit),
    )


def inverse(information: Tensor) -> Tensor:
    """Pseudo-inverse of a symmetric matrix in the scale of its own diagonal.

    Variances of noise and shape parameters differ in scale by many orders of magnitude: without
    that scale a small eigenvalue would be taken for zero, and its parameter for known.
    """
    scale = information.diagonal().clamp(min=1e-300).rsqrt()
    scaled = scale[:, None] * information * scale
    inverted: Tensor = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-13)
    return scale[:, None] * inverted * scale


class Marginal(NamedTuple):
    """The quadratic model with the cells' deviations integrated out, for one T."""

    back: Tensor  # (C, X + R) score as it would be with δ = 0
    gain: Tensor  # (C, X + R, R) F_·δ A
    inner: Tensor  # (C, R, R) A
    log_det: Tensor  # (C,) of 1 + T J
    information: Tensor  # (C, X + R, X + R) F − F_·δ A F_δ·
    push: Tensor  # (X,) score of x


def marginal(found: Evidence, delta: Tensor, spread: Tensor, slope: Tensor) -> Marginal:
    """Integrate the cells' deviations out; arguments as in `step`."""
    random = delta.shape[1]
    n = found.score.shape[1] - random
    f, s = found.information, found.score
    fx, j = f[:, :, n:], f[:, n:, n:]
    root = spread.sqrt()
    kernel = torch.eye(random, dtype=s.dtype) + root[:, None] * j * root
    inner = root[:, None] * torch.linalg.inv(kernel) * root  # A, finite where T = 0
    if random == 0:
        inner = s.new_zeros(len(delta), 0, 0)
    back = s + (fx @ delta[..., None]).squeeze(-1)
    gain = fx @ inner
    towards = back - (gain @ back[:, n:, None]).squeeze(-1)
    # the mode follows x by −A F_δx, and log det(1 + T J) follows both
    follows = slope[:, :n] - (gain[:, :n] @ slope[:, n:, None]).squeeze(-1)
    return Marginal(
        back,
        gain,
        inner,
        torch.linalg.slogdet(kernel).logabsdet,
        f - gain @ fx.mT,
        (towards[:, :n] - follows).sum(0),
    )


def restricted(found: Evidence, delta: Tensor, spread: Tensor, slope: Tensor) -> float:
    """Logarithm of the restricted likelihood of T, with x and δ integrated out, but for a constant.

    Arguments as in `step`; `spread` is the T that is asked about.
    """
    m = marginal(found, delta, spread, slope)
    n = len(m.push)
    own, info = m.back[:, n:, None], m.information[:, :n, :n].sum(0)
    explained = (own.mT @ m.inner @ own).sum() - m.log_det.sum()
    freed = m.push @ inverse(info) @ m.push
    return 0.5 * float(explained + freed - torch.linalg.slogdet(info).logabsdet)


def step(
    found: Evidence,
    delta: Tensor,  # (C, R) current deviations
    spread: Tensor,  # (R,) current diagonal of T
    design: Tensor,  # (R, M) T = design @ (variances of the spreads)
    slope: Tensor,  # (C, X + R) slope of ½ log det(1 + T J) along x and δ
    damping: float = 0.0,
) -> Step:
    """One scoring step of x, δ and T.

    `damping` adds a share of its diagonal to the information (Levenberg & Marquardt), which
    shortens the step; infinity keeps x and T (cells that the fit did not see).
    """
    n = found.score.shape[1] - delta.shape[1]
    f = found.information
    j = f[:, n:, n:]
    m = marginal(found, delta, spread, slope)
    info = m.information[:, :n, :n].sum(0)
    covariance = inverse(info)
    push = m.push
    if damping == 0:
        dx = covariance @ push
    elif math.isinf(damping):
        dx = torch.zeros_like(push)
    else:
        dx = inverse(info + damping * info.diagonal().diag()) @ push
    rest = m.back[:, n:] - f[:, n:, :n] @ dx
    new = (m.inner @ rest[..., None]).squeeze(-1)

    pull = rest - (j @ new[..., None]).squeeze(-1)  # w_c = T⁻¹ δ̂_c
    weight = m.information[:, n:, n:]  # W_c
    cross = m.information[:, n:, :n]
    taken = torch.diagonal(cross @ covariance @ cross.mT, dim1=1, dim2=2)
    inside = pull.square() - torch.diagonal(weight, dim1=1, dim2=2) + taken
    score_t = 0.5 * inside.sum(0) @ design
    info_t = 0.5 * design.T @ weight.square().sum(0) @ design
    spread_variance = inverse(info_t)
    dt = spread_variance @ score_t / (1 + damping)
    prior = -0.5 * ((new * pull).sum(-1) + m.log_det)
    reached = found.log_likelihood + prior
    follow = -m.gain[:, :n].mT
    return Step(dx, new, follow, dt, covariance, spread_variance, m.inner, prior, reached)
