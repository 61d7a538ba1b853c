"""What an image costs on the arrays: metrics of every run that is read on a chip."""

from __future__ import annotations

import crossbar as xb
from crossbar.costs import HALF_SELECT, Costs
from crossbar.ledger import Ledger

COSTS = xb.costs.neurosim_32nm.over(xb.costs.zigzag_28nm).having(bias=HALF_SELECT)
"""32 nm macro; converters of other resolutions than its own by ZigZag's law. The device says its
pulses."""

METRICS = ("energy", "energy low", "energy high", "latency")
"""Joules and seconds of an image; low and high: kinds of events err independently."""


def of_an_image(ledger: Ledger, images: int, costs: Costs = COSTS) -> dict[str, float]:
    """`METRICS` of what was counted for so many images; none where a cost is missing."""
    try:
        total = ledger.price(costs.scaled(1 / images)).total
        seconds = ledger.latency(costs).pipelined / images
    except KeyError:
        return {}
    return dict(zip(METRICS, (total.joules, *total.quadrature, seconds), strict=True))
