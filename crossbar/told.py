"""What a matrix tells its probe of writes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossbar.probe import Probe
from crossbar.programming import Written
from crossbar.pulses.lines import spread
from crossbar.pulses.scheme import Lines
from crossbar.readable import Readable
from crossbar.regions import EVERYWHERE, Region
from crossbar.wires import Fired
from devices import Pulses


class Told(Readable):
    """A matrix whose writes are told to a probe."""

    def told(self, written: Sequence[Written]) -> None:
        """Writings of cells, to the probe."""
        if self.probe is not None:
            for one in written:
                self.probe.wrote(self, one)

    def tell(
        self,
        at: Tensor | None,
        rounds: Sequence[Pulses],
        lines: Lines = None,
        phase: str = "update",
    ) -> None:
        """Rounds of pulses, of all weights or of the first so many of those `at`, to the probe."""
        if self.probe is None:
            return
        self.probe.struck(self, at, rounds, lines, phase)
        if type(self.probe).pulsed is Probe.pulsed:
            return
        none = torch.zeros(self.lines, device=self.written.w_max.device).flatten()
        for ahead, pulses in enumerate(rounds):
            whole = pulses
            if at is not None:
                first = at[: len(pulses.up)]
                dealt = [None if t is None else none.to(t).index_add(0, first, t) for t in pulses]
                whole = Pulses(*(None if t is None else t.view(self.lines) for t in dealt))  # type: ignore[arg-type]
            self.probe.pulsed(self, self.written.given(whole, ahead))

    def lines_of(self, lines: Lines, region: Region) -> Lines:
        """Lines of a region as those of the whole matrix."""
        if lines is None or region == EVERYWHERE:
            return lines

        def whole() -> Fired | None:
            found = lines()
            return None if found is None else spread(found, region, self.lines)

        return whole
