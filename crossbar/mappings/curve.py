"""A pair whose conductances follow the weight by a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crossbar.layout import Layout
from crossbar.mappings.differential import Differential
from devices import Device
from devices._check import between, positive


@dataclass(frozen=True)
class Curve(Differential):
    """A pair that is written by g(w): both places in the window by tables, linear in between.

        |W|/w_max = k/(n − 1):  place⁺ = plus_k, place⁻ = minus_k; exchanged for W < 0
        W/w_max = (place⁺ − place⁻)/size

    The difference need not be what the weight asks for: a table may write more of what will drift
    more. `best_curve` finds one for a device. Pulses move the pair as its route says.

    Args:
        plus, minus: n >= 2 places each, 0 … 1, of evenly spaced sizes of the weight from 0 on.
        size: difference of the places that digital logic takes for w_max, > 0.
        route, converters, w_max and the rest: see `Differential`.

    Raises:
        TypeError, ValueError: a place out of range, tables of different length.

    Source: Mackin et al., Nat. Commun. 13:3765 (2022), doi:10.1038/s41467-022-31405-1.
    """

    plus: tuple[float, ...] = (0.0, 1.0)
    minus: tuple[float, ...] = (0.0, 0.0)
    size: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("size", self.size)
        for name in ("plus", "minus"):
            table = getattr(self, name)
            if not isinstance(table, tuple):
                raise TypeError(f"{name} must be a tuple of places, got {table!r}")
            for place in table:
                between(name, place, 0, 1)
        if len(self.plus) != len(self.minus) or len(self.plus) < 2:
            raise ValueError(
                "plus and minus must be of one length >= 2, got "
                f"{len(self.plus)} and {len(self.minus)}"
            )

    def layout(self, device: Device) -> Layout:
        """Not linear in the weight."""
        return replace(self.seen((1, -1), self.size), linear=None)

    def places(self, w: Tensor, device: Device) -> Tensor:
        """(2, ..., rows, cols)."""
        last = len(self.plus) - 1
        at = w.abs() * last
        left = at.detach().floor().clamp(0, last - 1)
        part, index = at - left, left.long()

        def found(table: tuple[float, ...]) -> Tensor:
            t = torch.tensor(table, dtype=w.dtype, device=w.device)
            return torch.lerp(t[index], t[index + 1], part)

        more, less = found(self.plus), found(self.minus)
        return torch.stack([torch.where(w < 0, less, more), torch.where(w < 0, more, less)])

    def again(self, w: Tensor, places: Tensor, k: int, device: Device) -> Tensor:
        """What is left of the difference in the table."""
        plus, minus = self.places(w, device)
        return super().again((plus - minus) / self.size, places, k, device)

    @property
    def gain(self) -> float:
        """That of the route, in a window that counts `size`."""
        return self.route.gain / self.size
