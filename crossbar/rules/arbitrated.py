"""Cells of several devices of which a clock picks one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from crossbar.chip import Chip
from crossbar.mappings import Devices
from crossbar.matrix import Matrix
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules.rule import Job, Rule, clock
from crossbar.streams import Streams
from devices._check import instance


class Arbiter(NamedTuple):
    """The global counter."""

    clock: Tensor  # () int64


@dataclass(frozen=True)
class Arbitrated(Rule):
    """Pulsed steps of multi-memristive cells: a global counter picks one pair of each weight.

    With the mapping `Devices(count=N)` step k pulses pair k mod N of every weight, whose device
    steps then move the weight by 1/N of what pulsing all of them would: N times the resolution and
    an N-th of the noise of a pulse, without more converters.

    Args:
        scheme: how x and δ become pulses.

    Source: Boybat et al., Nat. Commun. 9:2514 (2018), doi:10.1038/s41467-018-04933-y.
    """

    scheme: Scheme = field(default_factory=ExactBits)

    def __post_init__(self) -> None:
        instance("scheme", self.scheme, Scheme, optional=False)

    def check(self, chip: Chip) -> None:
        """See `Rule`; and cells of several devices."""
        super().check(chip)
        if not isinstance(chip.mapping, Devices):
            raise TypeError(
                f"Arbitrated() picks one of several pairs, {type(chip.mapping).__name__} has one: "
                "use mapping=Devices(count=N)"
            )

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Arbiter:
        """The first pair begins."""
        return Arbiter(clock(matrices[-1]))

    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """See the class."""
        clocks = {}
        for job in jobs:
            array, count = job.matrices[-1], job.matrices[-1].chip.mapping.count  # type: ignore[attr-defined]
            clocks[array] = job.leaf.clock
            array.written.pair = int(job.leaf.clock) % count
            job.onto(array, job.lr, self.scheme, g=array.granularity / count)
            array.written.pair = None
        for steps in clocks.values():
            steps.add_(1)
