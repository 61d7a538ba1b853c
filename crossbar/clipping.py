"""Weights kept small enough for their window while they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from crossbar.model import placements
from devices._check import positive


@dataclass(frozen=True)
class Clip:
    """Clips hardware-aware weights, in place: `clip(model)` after each step, or `clip.after(…)`.

    Args:
        limit: largest |w|, > 0; None: none.
        sigmas: largest |w − mean| of a column, in its standard deviations, > 0; None: none.

    Raises:
        ValueError: neither, or out of range.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9 (clipping at
    2 standard deviations of each layer); per column as later recipes have it.
    """

    limit: float | None = None
    sigmas: float | None = None

    def __post_init__(self) -> None:
        if self.limit is None and self.sigmas is None:
            raise ValueError("give Clip a limit, or sigmas")
        for name in ("limit", "sigmas"):
            if (value := getattr(self, name)) is not None:
                positive(name, value)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        """Clip what the model's float weights are now; weights on cells stay.

        Raises:
            ValueError: no analog layer.
        """
        for _, _, parameter, weight in placements(model):
            if weight.mode.written or weight.computed:
                continue
            m = weight.form.matrix(parameter.detach().as_subclass(torch.Tensor))
            low, high = m.amin(-2, keepdim=True), m.amax(-2, keepdim=True)
            if self.sigmas is not None and m.shape[-2] > 1:
                mean, reach = m.mean(-2, keepdim=True), self.sigmas * m.std(-2, keepdim=True)
                low, high = torch.maximum(low, mean - reach), torch.minimum(high, mean + reach)
            if self.limit is not None:
                low, high = low.clamp(min=-self.limit), high.clamp(max=self.limit)
            parameter.copy_(
                weight.form.weight(torch.minimum(torch.maximum(m, low), high), weight.shape)
            )

    def after(self, optimizer: Optimizer, model: nn.Module) -> Any:
        """Clip after every step of an optimiser; returns the handle that removes the hook."""
        return optimizer.register_step_post_hook(lambda *_: self(model))
