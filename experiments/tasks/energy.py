"""What an image costs on the arrays: metrics of every run that is read on a chip."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar.costs import HALF_SELECT, Costs

COSTS = xb.costs.neurosim_32nm.over(xb.costs.zigzag_28nm).having(bias=HALF_SELECT)
"""32 nm macro; converters of other resolutions than its own by ZigZag's law. The device says its
pulses."""

METRICS = ("energy", "energy low", "energy high", "latency")
"""Joules and seconds of an image; low and high: kinds of events err independently."""


IMAGES = 200
"""Of the first so many the joules are taken: they differ little from image to image."""


@torch.no_grad()
def of_an_image(model: nn.Module, x: Tensor, costs: Costs = COSTS) -> dict[str, float]:
    """`METRICS` of a model in eval mode, of a copy: its own noise stays as it is.

    None where a cost is missing, or where a part of the chip is not counted (such as charge-domain
    columns and inputs that are halved).
    """
    copied, x = copy.deepcopy(model), x[:IMAGES]
    try:
        with xb.ledger(copied) as ledger:
            copied(x)
        total = ledger.price(costs.scaled(1 / len(x))).total
        seconds = ledger.latency(costs).pipelined / len(x)
    except (KeyError, TypeError, ValueError):
        return {}
    return dict(zip(METRICS, (total.joules, *total.quadrature, seconds), strict=True))
