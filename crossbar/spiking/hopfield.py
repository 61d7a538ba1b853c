"""Associative memory: patterns are the fixed points of an array that reads its own signs."""

from __future__ import annotations

import torch
from torch import Tensor

from crossbar.arrays import matrix
from crossbar.chip import Chip
from devices._check import whole


class Hopfield:
    """A Hopfield network whose weights lie on an array.

        W = (1/N) Σ_μ ξ_μ ξ_μᵀ, diagonal 0;   s ← sgn(W s), all at once

    where s_i stays as it is where (W s)_i = 0.

    Args:
        patterns: (P, N) of ±1.
        chip: the hardware; None is ideal.
        seed: of the chip.
        dtype: of the cells.

    Raises:
        ValueError: patterns that are not ±1.

    Source: Hopfield, PNAS 79, 2554 (1982), doi:10.1073/pnas.79.8.2554.
    """

    def __init__(
        self,
        patterns: Tensor,
        chip: Chip | None = None,
        *,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if patterns.dim() != 2 or not bool((patterns.abs() == 1).all()):
            raise ValueError(f"patterns must be (P, N) of ±1, got {tuple(patterns.shape)}")
        x = patterns.to(torch.float64)
        self.weight = (x.mT @ x / x.shape[1]).fill_diagonal_(0.0)  # as digital logic knows it
        self.array = matrix(self.weight.to(dtype), chip, seed=seed)

    @torch.no_grad()
    def field(self, s: Tensor) -> Tensor:
        """W s of states (B, N), by the array."""
        return self.array.mv(s.to(self.array.written.w_max.dtype))

    def recall(self, cue: Tensor, steps: int = 40) -> Tensor:
        """States (B, N) of ±1 after at most so many steps from a cue (B, N)."""
        s = cue.to(self.array.written.w_max.dtype)
        for _ in range(whole("steps", steps, 1)):
            h = self.field(s)
            new = torch.where(h == 0, s, h.sign())
            if torch.equal(new, s):
                break
            s = new
        return s


def overlap(s: Tensor, patterns: Tensor) -> Tensor:
    """Share of agreement (s · ξ)/N of states (B, N) with a pattern each, in −1 … 1."""
    return (s * patterns.to(s.dtype)).mean(-1)
