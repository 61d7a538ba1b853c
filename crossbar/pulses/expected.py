"""Mean counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.operations import Operation
from crossbar.pulses.lines import fired, phases
from crossbar.pulses.scheme import Scheme, all_positive, halves
from crossbar.wires.disturb import Fired
from devices import Pulses


@dataclass(frozen=True)
class Expected(Scheme):
    """The mean counts themselves: no fluctuation of counts, no limit of a train's length.

    Cycle-to-cycle noise of the device still applies. What digital SGD would do, on the device.
    """

    counts = False
    parallel = True

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        up, down = halves(op, x, d * rate, all_positive(x))
        return Pulses(up, down)

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """By the shortest trains that make the counts: the largest x and δ fire in every slot."""
        xs, ds = op.vectors(x, d)
        top_x, top_d = op.peaks(x, d)
        xs, ds = xs * (rate * top_d), ds * (rate * top_x)
        pulses = self.pulses(op, x, d, rate, generator=generator)
        length = rate * top_x * top_d
        return pulses, fired(xs, ds, phases(xs, ds), x.dtype, length)
