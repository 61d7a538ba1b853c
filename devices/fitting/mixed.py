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


class Evidence(NamedTuple):
    """What the reads of every cell say about x and δ at the current estimate."""

    score: Tensor  # (C, X + R)
    information: Tensor  # (C, X + R, X + R)
    log_likelihood: Tensor  # (C,)


@dataclass(frozen=True)
class Step:
    """The next estimate, and what is known of it."""

    dx: Tensor  # (X,) change of x
    delta: Tensor  # (C, R) deviations of the cells
    dt: Tensor  # (M,) change of the spreads' variances
    covariance: Tensor  # (X, X) of x
    spread_variance: Tensor  # (M, M) covariance of the spreads' variances
    inner: Tensor  # (C, R, R) A, the posterior covariance of the cells' deviations
    log_likelihood: Tensor  # (C,) of every cell's reads with its deviations integrated out


def evidence(
    errors: Tensor,  # (times, 1 + D, blocks): at the estimate, then with each parameter moved
    variances: Tensor,
    use: Tensor,  # (times, blocks)
    free: Tensor,  # (times, blocks) reads that tell the noise
    moved: Tensor,  # (D,) by how much
    cell: Tensor,  # (blocks,)
    cells: int,
) -> Evidence:
    """Score, information and log-likelihood of every cell."""
    v, s = errors[:, 0], variances[:, 0]
    w = torch.where(use, 1 / s, 0.0)
    v = torch.where(use, v, 0.0)
    scale = 1 / moved[:, None]
    dv = torch.where(use[:, None], (errors[:, 1:] - errors[:, :1]) * scale, 0.0)
    ds = (variances[:, 1:] - variances[:, :1]) * scale * (w * free)[:, None]
    dv_, ds_ = dv.permute(2, 1, 0), ds.permute(2, 1, 0)  # (blocks, D, times)
    information = (dv_ * w.T[:, None]) @ dv_.mT + 0.5 * ds_ @ ds_.mT
    surprise = torch.where(use, v * v * w - 1, 0.0)
    score = -(dv_ @ (v * w).T[..., None]) + 0.5 * ds_ @ surprise.T[..., None]
    fit = -0.5 * torch.where(use, v * v * w + torch.log(2 * math.pi * s), 0.0).sum(0)
    d = len(moved)
    return Evidence(
        torch.zeros(cells, d, dtype=v.dtype).index_add_(0, cell, score.squeeze(-1)),
        torch.zeros(cells, d, d, dtype=v.dtype).index_add_(0, cell, information),
        torch.zeros(cells, dtype=v.dtype).index_add_(0, cell, fit),
    )


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
    cells, random = delta.shape
    n = found.score.shape[1] - random
    f, s = found.information, found.score
    fx, j = f[:, :, n:], f[:, n:, n:]
    root = spread.sqrt()
    eye = torch.eye(random, dtype=s.dtype)
    kernel = eye + root[:, None] * j * root
    inner = root[:, None] * torch.linalg.inv(kernel) * root  # A, finite where T = 0
    if random == 0:
        inner = s.new_zeros(cells, 0, 0)
    # the score as it would be with δ = 0, by the quadratic model
    back = s + (fx @ delta[..., None]).squeeze(-1)
    gain = fx @ inner
    marginal = f - gain @ fx.mT
    towards = back - (gain @ back[:, n:, None]).squeeze(-1)
    info = marginal[:, :n, :n].sum(0)
    covariance = torch.linalg.pinv(info, hermitian=True, rtol=1e-13)
    # the mode follows x by −A F_δx, and log det(1 + T J) follows both
    follows = slope[:, :n] - (gain[:, :n] @ slope[:, n:, None]).squeeze(-1)
    push = (towards[:, :n] - follows).sum(0)
    if damping == 0:
        dx = covariance @ push
    elif math.isinf(damping):
        dx = torch.zeros_like(push)
    else:
        dx = torch.linalg.pinv(info + damping * info.diagonal().diag(), hermitian=True) @ push
    rest = back[:, n:] - f[:, n:, :n] @ dx
    new = (inner @ rest[..., None]).squeeze(-1)

    pull = rest - (j @ new[..., None]).squeeze(-1)  # w_c = T⁻¹ δ̂_c
    weight = marginal[:, n:, n:]  # W_c
    cross = marginal[:, n:, :n]
    taken = torch.diagonal(cross @ covariance @ cross.mT, dim1=1, dim2=2)
    inside = pull.square() - torch.diagonal(weight, dim1=1, dim2=2) + taken
    score_t = 0.5 * inside.sum(0) @ design
    info_t = 0.5 * design.T @ weight.square().sum(0) @ design
    spread_variance = torch.linalg.pinv(info_t, hermitian=True)
    dt = spread_variance @ score_t / (1 + damping)
    log_likelihood = (
        found.log_likelihood
        - 0.5 * (new * pull).sum(-1)
        - 0.5 * torch.linalg.slogdet(kernel).logabsdet
    )
    return Step(dx, new, dt, covariance, spread_variance, inner, log_likelihood)
