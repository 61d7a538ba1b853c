"""Signals that reservoirs are measured on, and the measure."""

from __future__ import annotations

import torch
from torch import Tensor

from devices._check import positive, whole


def narma(u: Tensor, order: int = 10) -> Tensor:
    """NARMA of inputs u (T,), in 0 … 0.5: y (T − order,), y_k belongs to u_(k + order).

        y_(t+1) = 0.3 y_t + 0.05 y_t Σ_(i<order) y_(t−order+i) + 1.5 u_(t−order) u_t + 0.1

    The convention of reservoirpy's `narma` (with a1=.3, a2=.05, b=1.5, c=.1), one lag off the
    literature's: the sum leaves out y_t, and the product reaches back `order` steps.

    Raises:
        ValueError: it diverged; other inputs are needed.
    """
    whole("order", order, 1), whole("len(u)", len(u), order + 2)
    given = u.double().tolist()
    y = [0.0] * len(given)
    for t in range(order, len(given) - 1):
        past = sum(y[t - order : t])
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * past + 1.5 * given[t - order] * given[t] + 0.1
        if not abs(y[t + 1]) < 1e3:
            raise ValueError("NARMA diverged: draw other inputs")
    return torch.tensor(y[order:], dtype=torch.float64)


def mackey_glass(steps: int, tau: int = 17, *, start: float = 1.2, fine: int = 10) -> Tensor:
    """dx/dt = 0.2 x(t − τ)/(1 + x(t − τ)^10) − 0.1 x, sampled once a unit of time, (steps,).

    Runge–Kutta of fourth order in `fine` steps a unit, the delayed value at mid-step being the mean
    of its neighbours; the history is `start`.

    Source: Mackey & Glass, Science 197, 287 (1977), doi:10.1126/science.267326.
    """
    whole("steps", steps, 1), whole("tau", tau, 1), whole("fine", fine, 1)
    h, lag = 1 / fine, tau * fine
    x = [positive("start", start)] * (lag + 1)

    def slope(now: float, old: float) -> float:
        return 0.2 * old / (1 + old**10) - 0.1 * now

    for _ in range((steps - 1) * fine):
        now, old, new = x[-1], x[-1 - lag], x[-lag]
        middle = (old + new) / 2
        k1 = slope(now, old)
        k2 = slope(now + h / 2 * k1, middle)
        k3 = slope(now + h / 2 * k2, middle)
        k4 = slope(now + h * k3, new)
        x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return torch.tensor(x[lag::fine], dtype=torch.float64)


def second_order(u: Tensor) -> Tensor:
    """y_t = 0.4 y_(t−1) + 0.4 y_(t−1) y_(t−2) + 0.6 u_t³ + 0.1 of inputs u (T,) in 0 … 0.5.

    Source: Du et al., Nat. Commun. 8:2204 (2017), doi:10.1038/s41467-017-02337-y.
    """
    y = [0.0, 0.0]
    for value in u.double().tolist():
        y.append(0.4 * y[-1] + 0.4 * y[-1] * y[-2] + 0.6 * value**3 + 0.1)
    return torch.tensor(y[2:], dtype=torch.float64)


def nrmse(guess: Tensor, target: Tensor) -> float:
    """Root mean squared error over the standard deviation of the target."""
    error = (guess.double() - target.double()).square().mean().sqrt()
    return float(error / target.double().std(correction=0))
