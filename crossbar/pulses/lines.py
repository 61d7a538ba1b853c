"""How often the lines of an array fire, for what their pulses do beside the coincidences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.regions import Region
from crossbar.wires.disturb import Fired
from devices import Pulses


class Phases(NamedTuple):
    """Which signs each vector has, (n, ..., 1) bool: a phase needs a row and a column."""

    plus: Tensor
    minus: Tensor
    rise: Tensor  # negative errors, which potentiate where the input is positive
    fall: Tensor


def phases(x: Tensor, d: Tensor) -> Phases:
    """Of vectors (n, ..., rows) and (n, ..., cols)."""
    signs = ((x > 0), (x < 0), (d < 0), (d > 0))
    return Phases(*(sign.any(-1, keepdim=True) for sign in signs))


def fired(
    x: Tensor, d: Tensor, played: Phases, dtype: torch.dtype, length: Tensor | float = 1.0
) -> Fired:
    """Line pulses of signed counts, of vectors (n, ..., rows) and (n, ..., cols).

    `length` (n, ..., 1): slots of each vector's trains, in each phase that is played.
    """

    def both(a: Tensor, up: Tensor, down: Tensor, dim: int) -> Pulses:
        # lines of one sign rise with `up`; those of the other sign do where these fall
        plus, minus = (v.to(dtype).movedim(0, -2) for v in (a.clamp(min=0), (-a).clamp(min=0)))
        turns = torch.cat([up, down], -1).to(dtype).movedim(0, -1)  # (..., 2, n)
        rise, fall = (turns @ plus + turns.flip(-2) @ minus).unbind(-2)
        return Pulses(rise.unsqueeze(dim), fall.unsqueeze(dim))

    return Fired(
        both(x, played.rise, played.fall, -1),
        both(-d, played.plus, played.minus, -2),
        slots(played, dtype, length),
    )


def spread(found: Fired, region: Region, lines: tuple[int, ...]) -> Fired:
    """Lines of a region as those of the matrix (..., rows, cols), of `lines`."""
    rows, cols, turns = found
    if region.transposed:
        rows, cols = (Pulses(*(None if t is None else t.mT for t in p)) for p in (cols, rows))  # type: ignore[arg-type]

    def placed(t: Tensor | None, row: bool) -> Tensor | None:
        if t is None:
            return None
        own = t.squeeze(-1 if row else -2)
        whole = own.new_zeros(lines[:-1] if row else (*lines[:-2], lines[-1]))
        part = region.of_rows(whole) if row else region.of_cols(whole)
        part.copy_(own.reshape(part.shape))
        return whole.unsqueeze(-1 if row else -2)

    return Fired(
        Pulses(*(placed(t, True) for t in rows)),  # type: ignore[arg-type]
        Pulses(*(placed(t, False) for t in cols)),  # type: ignore[arg-type]
        turns,
    )


def slots(played: Phases, dtype: torch.dtype, length: Tensor | float) -> Pulses:
    """Of trains of `length` (n, ..., 1) in each phase, (..., 1, 1)."""
    plus, minus, rise, fall = (sign.to(dtype) for sign in played)
    turns = (plus * rise + minus * fall) * length, (plus * fall + minus * rise) * length
    return Pulses(*(n.sum(0).unsqueeze(-1) for n in turns))
