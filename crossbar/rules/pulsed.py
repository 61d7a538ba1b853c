"""Stochastic gradient descent by pulses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crossbar import together
from crossbar.chip import Chip
from crossbar.pulses import Aggregated, Scheme
from crossbar.rules.rule import Job, Load, Rule, Work
from crossbar.streams import Streams
from crossbar.together import Asked
from devices._check import instance


@dataclass(frozen=True)
class Pulsed(Rule):
    """W ← W − lr Σ δᵀx, each outer product given to the cells as coincident pulses.

    Args:
        scheme: how x and δ become pulses.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016), doi:10.3389/fnins.2016.00333.
    """

    scheme: Scheme = field(default_factory=lambda: Aggregated(bl=31))

    def __post_init__(self) -> None:
        instance("scheme", self.scheme, Scheme, optional=False)

    def check(self, chip: Chip) -> None:
        """See `Rule`; whole counts and half-selected cells need schemes that give them."""
        super().check(chip)
        update, write = chip.device.update, chip.write
        assert update is not None
        if update.whole and not self.scheme.counts:
            raise TypeError(
                f"{type(update).__name__} needs whole pulse counts, which "
                f"{type(self.scheme).__name__} does not give: use ExactBits or Deterministic"
            )
        if write is not None and write.half_select and not self.scheme.parallel:
            raise TypeError(
                f"{type(self.scheme).__name__} does not pulse whole lines, so no cell is "
                "half-selected: use half_select=False or another scheme"
            )

    def work(self, load: Load) -> Work:
        """The largest of each x and δ are looked for."""
        return Work(optimiser_op=load.lines)

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """Small arrays of one chip are updated at the same time, see `together`."""
        asked = [Asked(j.matrices[-1], j.op, j.x, j.d, j.lr, j.region) for j in jobs]
        together.update(asked, self.scheme)
