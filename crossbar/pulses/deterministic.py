"""The net change, rounded to whole pulses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.operations import Operation
from crossbar.pulses.scheme import Scheme
from devices import Pulses
from devices._check import flag


@dataclass(frozen=True)
class Deterministic(Scheme):
    """Whole pulses for the net change of the whole (mini-)batch, rounded.

        n = round(rate · Σ x δ), all of one direction (NeuroSim's scheme)

    Args:
        stochastic: round up with the probability of the fraction instead of to the nearest, so
            that changes below half a pulse are not lost.
    """

    stochastic: bool = False

    def __post_init__(self) -> None:
        flag("stochastic", self.stochastic)

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        net = op.outer(x, d * -rate)
        if self.stochastic:
            net = net + torch.rand(
                net.shape, generator=generator, dtype=net.dtype, device=net.device
            ).sub_(0.5)
        whole_net = net.round()
        return Pulses(whole_net.clamp(min=0), (-whole_net).clamp(min=0))
