"""Losses of spike trains (T, B, classes), and of what they cost."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from devices._check import at_least, between, positive


def rate_cross_entropy(spikes: Tensor, target: Tensor) -> Tensor:
    """Cross entropy at every step, averaged over steps; of membranes or spikes.

    snnTorch's `ce_rate_loss`.
    """
    steps, batch = spikes.shape[:2]
    return F.cross_entropy(spikes.reshape(steps * batch, -1), target.repeat(steps))


def count_cross_entropy(spikes: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of the counts Σ_t; snnTorch's `ce_count_loss`."""
    return F.cross_entropy(spikes.sum(0), target)


def count_mse(
    spikes: Tensor, target: Tensor, correct: float = 0.8, incorrect: float = 0.2
) -> Tensor:
    """Mean squared error of the counts, over T, from wanted rates.

    snnTorch's `mse_count_loss`.

    Args:
        spikes: (T, B, classes).
        target: (B,) classes.
        correct: rate of the right class, in [0, 1].
        incorrect: rate of all others.
    """
    between("correct", correct, 0, 1), between("incorrect", incorrect, 0, 1)
    steps = len(spikes)
    hot = F.one_hot(target, spikes.shape[-1]).to(spikes.dtype)
    wanted = hot * int(steps * correct) + (1 - hot) * int(steps * incorrect)
    return F.mse_loss(spikes.sum(0), wanted) / steps


def van_rossum(spikes: Tensor, wanted: Tensor, tau: float) -> Tensor:
    """Distance (1/τ) Σ_t (f − f_wanted)² of trains filtered by e^(−t/τ), mean over lines.

    Args:
        spikes: (T, ...).
        wanted: (T, ...).
        tau: time constant in steps, > 0.

    Source: van Rossum, Neural Comput. 13, 751 (2001).
    """
    decay = math.exp(-1 / positive("tau", tau))
    f, total = torch.zeros_like(spikes[0]), spikes.new_zeros(())
    for d in (spikes - wanted).unbind(0):
        f = decay * f + d
        total = total + f.square().mean()
    return total / tau


def rate_bounds(spikes: Tensor, low: float, high: float) -> Tensor:
    """Squared violation of rates in [low, high] a step, mean over neurons: keeps layers alive.

    Source: Zenke & Vogels, Neural Comput. 33, 899 (2021).
    """
    at_least("low", low, 0), at_least("high", high, low)
    rate = spikes.mean(0)
    return ((low - rate).clamp(min=0).square() + (rate - high).clamp(min=0).square()).mean()
