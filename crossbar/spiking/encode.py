"""Values to spike trains (T, ...), and signals to events."""

from __future__ import annotations

import torch
from torch import Tensor

from devices._check import at_least, between, positive, whole


def _unit(x: Tensor) -> None:
    if x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            f"x must be in [0, 1], got {float(x.min()):g} … {float(x.max()):g}: scale it"
        )


def constant(x: Tensor, steps: int) -> Tensor:
    """The same current at every step: no spikes, the first layer sees the values. No copy."""
    return x.unsqueeze(0).expand(whole("steps", steps, 1), *x.shape)


def poisson(
    x: Tensor, steps: int, *, rate: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Independent spikes of probability rate · x at every step.

    Args:
        x: values in [0, 1].
        steps: T.
        rate: spikes a step of x = 1, in [0, 1].
        generator: their source.

    Raises:
        ValueError: x out of range.
    """
    _unit(x)
    between("rate", rate, 0, 1)
    size = (whole("steps", steps, 1), *x.shape)
    drawn = torch.rand(size, generator=generator, dtype=x.dtype, device=x.device)
    return (drawn < rate * x).to(x.dtype)


def regular(
    x: Tensor, steps: int, *, rate: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Evenly spaced spikes: a phase in [0, 1) grows by rate · x a step and spikes as it wraps.

    The start of each phase is drawn; counts differ from rate · x · T by less than one.

    Args:
        x: values in [0, 1].
        steps: T.
        rate: spikes a step of x = 1, in [0, 1].
        generator: of the starts.

    Raises:
        ValueError: x out of range.
    """
    _unit(x)
    between("rate", rate, 0, 1)
    start = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    n = torch.arange(whole("steps", steps, 1) + 1, dtype=x.dtype, device=x.device)
    wraps = (start + (rate * x) * n.view(-1, *(1,) * x.dim())).floor()
    return wraps[1:] - wraps[:-1]


def latency(x: Tensor, steps: int, *, tau: float = 5.0, threshold: float = 0.01) -> Tensor:
    """One spike each, the earlier the larger: when an RC circuit driven by x reaches `threshold`.

        t = τ ln(x/(x − threshold)), rounded down; none where x <= threshold or t >= T

    Args:
        x: values in [0, 1].
        steps: T.
        tau: time constant in steps, > 0.
        threshold: in (0, 1).

    Raises:
        ValueError: x out of range.
    """
    _unit(x)
    positive("tau", tau), between("threshold", threshold, 1e-12, 1 - 1e-12)
    fires = x > threshold
    t = tau * torch.log(x / (x - threshold).clamp(min=torch.finfo(x.dtype).tiny))
    when = torch.where(fires, t, float(steps)).clamp(max=steps).long()
    n = torch.arange(whole("steps", steps, 1), device=x.device).view(-1, *(1,) * x.dim())
    return (n == when).to(x.dtype)


def delta(signal: Tensor, threshold: float, *, off: bool = False) -> Tensor:
    """A spike wherever a signal (T, ...) rose by more than `threshold` since the step before.

    The first step is compared with zero.

    Args:
        signal: (T, ...).
        threshold: >= 0.
        off: whether falls give −1 as well, for a second line.
    """
    at_least("threshold", threshold, 0)
    moved = torch.diff(signal, dim=0, prepend=torch.zeros_like(signal[:1]))
    up = (moved > threshold).to(signal.dtype)
    return up - (moved < -threshold).to(signal.dtype) if off else up
