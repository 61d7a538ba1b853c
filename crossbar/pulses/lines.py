"""How often the lines of an array fire, for what their pulses do beside the coincidences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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


def fired(x: Tensor, d: Tensor, played: Phases, dtype: torch.dtype) -> Fired:
    """Line pulses of signed counts, of vectors (n, ..., rows) and (n, ..., cols)."""

    def both(a: Tensor, up: Tensor, down: Tensor, dim: int) -> Pulses:
        # lines of one sign rise with `up`; those of the other sign do where these fall
        plus, minus = a.clamp(min=0), (-a).clamp(min=0)
        counts = (
            torch.where(up, plus, 0) + torch.where(down, minus, 0),
            torch.where(down, plus, 0) + torch.where(up, minus, 0),
        )
        return Pulses(*(count.sum(0).to(dtype).unsqueeze(dim) for count in counts))

    return Fired(
        both(x, played.rise, played.fall, -1),
        both(-d, played.plus, played.minus, -2),
    )
