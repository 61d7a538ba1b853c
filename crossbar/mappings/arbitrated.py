"""Several pairs of cells a weight, pulsed in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from crossbar.mappings.devices import Devices
from devices import Pulses


@dataclass(frozen=True)
class Arbitrated(Devices):
    """`count` pairs a weight, all read; a counter deals the weight's pulses out, one pair each.

    Of K pulses that a weight is given at once, pair (c + j) mod N takes the j-th, with c the rounds
    of pulses the array was given before; of random counts each takes the N-th part. For steps of
    spread σ_c, and σ_d from cell to cell, the spread of what K = qN + r pulses do is

        relative variance = σ_c²(1 + σ_d²)/K + σ_d² (q²(N − r) + (q + 1)² r)/K²

    so it falls as N^-1/2 at fixed pulses *per device*, and not at all for a single pulse.

    Args:
        count: pairs a weight, >= 1.
        route, converters, w_max and the rest: see `Differential`.

    Source: Boybat et al., Nat. Commun. 9:2514 (2018), doi:10.1038/s41467-018-04933-y.
    """

    arbitrated: ClassVar[bool] = True

    @property
    def gain(self) -> float:
        """One pair of `count` moves."""
        return super().gain / self.count

    @property
    def alike(self) -> bool:
        """All pairs take parts of one random count."""
        return True

    def given(self, pulses: Pulses) -> tuple[Pulses | None, ...]:
        """To the first pair first."""
        return self.dealt(pulses, 0)

    def dealt(self, pulses: Pulses, clock: int) -> tuple[Pulses | None, ...]:
        """See the class."""
        found: tuple[Pulses | None, ...] = ()
        for n in range(self.count):
            place = (n - clock) % self.count
            up, down, up_var, down_var, z = pulses
            if up_var is None and down_var is None:
                up, down = self._dealt(up, place), self._dealt(down, place)
            else:
                up, down = up / self.count, down / self.count
                up_var, down_var = (
                    None if v is None else v / self.count**2 for v in (up_var, down_var)
                )
            found += self.route(Pulses(up, down, up_var, down_var, z))
        return found

    def _dealt(self, counts: Tensor, place: int) -> Tensor:
        """Of counts those that fall to one of `count` that take them in turn."""
        turns = (counts / self.count).floor()
        return turns + (counts - turns * self.count - place).clamp(0, 1)
