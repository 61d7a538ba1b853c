"""Input lines in turn: which are read after which vector, and the signs they are driven with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from devices.draw import seeded


class Turns(NamedTuple):
    """The reads that fall due among some vectors, one line after another."""

    at: Tensor  # (q,) int64 number of the vector that each comes after
    line: Tensor  # (q,) int64
    sweep: Tensor  # (q,) int64 how often that line was read before

    @classmethod
    def among(cls, vectors: int, count: int, every: int, like: Tensor) -> Turns:
        """One after every `every` of them, `count` of which came before; `like` (..., lines)."""
        at = torch.arange(vectors, device=like.device)[-(count + 1) % every :: every]
        turn, lines = (count + at + 1) // every - 1, like.shape[-1]
        return cls(at, turn % lines, turn // lines)

    @property
    def reads(self) -> tuple[Tensor, Tensor] | None:
        """As `Matrix.update` takes them."""
        return (self.at, self.line) if len(self.at) else None

    def drawn(self, chance: float, seed: str) -> Tensor:
        """Which of them something happens at, with draws that no pulse shifts."""
        generator = seeded(seed, self.line.device)
        drawn = torch.rand(self.line.shape, generator=generator, device=self.line.device)
        return drawn < chance

    def chop(self, x: Tensor, chopper: Tensor, flip: Tensor) -> Tensor:
        """Vectors (n, ..., lines) times the signs of their lines, some of which flip at a read."""
        later = flip & (torch.arange(len(x), device=x.device).unsqueeze(-1) > self.at)
        signs = chopper.repeat(len(x), 1)
        signs[:, self.line] = torch.where(later, -signs[:, self.line], signs[:, self.line])
        return x.to(signs.dtype) * signs.view(len(x), *(1,) * (x.dim() - 2), -1)


def blocks(size: int, *given: Any) -> Iterator[tuple[Any, ...]]:
    """So many vectors at a time of every tensor; what is no tensor is the same for all."""
    for start in range(0, len(given[0]), size):
        part = slice(start, start + size)
        yield tuple(t[part] if isinstance(t, Tensor) else t for t in given)


def of_lines(t: Tensor, lines: Tensor) -> Tensor:
    """Input lines (q, ..., cols) of (..., rows, cols)."""
    return t.movedim(-2, 0).index_select(0, lines)


def put_lines(t: Tensor, lines: Tensor, value: Tensor) -> None:
    """Write them."""
    t.movedim(-2, 0).index_copy_(0, lines, value)


def each_line(t: Tensor, like: Tensor) -> Tensor:
    """(q,) as (q, 1, ..., 1), for values (q, ..., cols)."""
    return t.view(-1, *(1,) * (like.dim() - 1))


def peaks(x: Tensor, d: Tensor, tops: Tensor) -> Tensor:
    """Running means of max|x| times those of max|δ|, (n, ...), never 0; `tops` goes on with them.

    m ← (1 − τ) m + τ max|·|, τ = 0.01/n, starting at the first maximum.
    """
    largest = torch.stack([t.abs().amax(-1).movedim(0, -1) for t in (x, d)]).to(tops)
    mean = running(largest, tops, 1 - 0.01 / len(x)).movedim(-1, 1)  # (2, n, ...)
    tops.copy_(mean[:, -1])
    least = 1e8 * torch.finfo(mean.dtype).tiny  # whose inverse is a number
    return (mean[0] * mean[1]).clamp(min=least)


def running(values: Tensor, start: Tensor, keep: float) -> Tensor:
    """m ← keep · m + (1 − keep) v along the last dimension; 0 is skipped, the first v starts it.

    In closed form: m_n keepⁿ sums, which `keep` near one keeps in range.
    """
    some = (values > 0).to(values.dtype)
    n = some.cumsum(-1)
    first = some * (n == 1) * (start.unsqueeze(-1) == 0)
    gain, scale = some * (1 - keep) + first * keep, keep**n
    return scale * (start.unsqueeze(-1) + (gain * values / scale).cumsum(-1))
