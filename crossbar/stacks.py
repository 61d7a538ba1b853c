"""Operations of a stack of matrices, as experts are: every matrix has vectors of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from crossbar.directions import Dense, Direction
from crossbar.operations import Flat, Vectors
from crossbar.regions import Form
from crossbar.windows import Size

_VECTORS = Vectors()


@dataclass(frozen=True)
class Stacked(Dense):
    """As many vectors for each of the matrices (E, driven, sensed): (E, n, driven)."""

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """(E, n, sensed)."""
        return v @ m

    def lines(self, v: Tensor) -> Tensor:
        """Itself."""
        return v

    def summed(self, v: Tensor, lead: int) -> Tensor:
        """(E, driven)."""
        return v.sum(-2)

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """Itself."""
        return i

    def entry(self, t: Tensor) -> Tensor:
        """(E, 1, sensed)."""
        return t.unsqueeze(-2)

    sensed = driven = entry


class Routes(NamedTuple):
    """Which of `count` matrices each of n vectors is for, and the vectors matrix by matrix."""

    at: Tensor  # (n,) int64
    order: Tensor  # (n,) the vectors of the first matrix first
    place: Tensor  # (n,) where each is in that order
    rank: Tensor  # (n,) which of the vectors of its matrix each is
    sizes: tuple[int, ...]  # vectors of each matrix

    def packed(self, v: Tensor) -> Tensor:
        """(n, lines) as (E, most, lines), zero where a matrix has fewer."""
        out = v.new_zeros(len(self.sizes), max(self.sizes, default=0), v.shape[-1])
        return out.index_put((self.at, self.rank), v)


def routes(at: Tensor, count: int) -> Routes:
    """Routes to the matrices `at` (n,) of `count`.

    Raises:
        IndexError: there is no such matrix.
    """
    at = torch.where(at < 0, at + count, at).long()
    if at.numel() and not bool(((at >= 0) & (at < count)).all()):
        raise IndexError(f"a stack of {count} matrices has none at {int(at.max())}")
    order, sizes = at.argsort(stable=True), torch.bincount(at, minlength=count)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(at), device=at.device)
    begin = sizes.cumsum(0) - sizes
    return Routes(at, order, place, place - begin[at], tuple(sizes.tolist()))


@dataclass(frozen=True, eq=False)
class Route(Dense):
    """Vectors (n, driven), each for one of the matrices (E, driven, sensed)."""

    to: Routes

    def whole(self, v: Tensor, m: Tensor, size: Size) -> Tensor:
        """(n, sensed)."""
        if torch._C._functorch.is_functorch_wrapped_tensor(v):  # which have no sizes to go by
            return (v.unsqueeze(-2) @ m[self.to.at]).squeeze(-2)
        each = v[self.to.order].split(self.to.sizes)
        parts = [part @ m[k] for k, part in enumerate(each) if len(part)]
        return torch.cat(parts)[self.to.place] if parts else v @ m[0]

    def lines(self, v: Tensor) -> Tensor:
        """(E, most, driven)."""
        return self.to.packed(v)

    def dot(self, v: Tensor, u: Tensor) -> Tensor:
        """(n,)."""
        return (v * u[self.to.at]).sum(-1)

    def summed(self, v: Tensor, lead: int) -> Tensor:
        """(E, driven)."""
        return v.new_zeros(len(self.to.sizes), v.shape[-1]).index_add(0, self.to.at, v)

    def weighted(self, v: Tensor, s: Tensor) -> Tensor:
        """(E, driven)."""
        out = v.new_zeros(len(self.to.sizes), v.shape[-1])
        return out.index_add(0, self.to.at, v * s.unsqueeze(-1))

    def entries(self, i: Tensor, v: Tensor) -> Tensor:
        """(n, sensed)."""
        return i[self.to.at, self.to.rank]

    def entry(self, t: Tensor) -> Tensor:
        """(n, sensed), of the matrix that each vector is for."""
        return t[self.to.at]

    sensed = driven = entry


_STACKED, _EXPERTS = Stacked(), Form(stack=True)


class _Stack(Flat):
    @property
    def form(self) -> Form:
        """(E, out, in)."""
        return _EXPERTS

    def extent(self, x: Tensor, d: Tensor) -> tuple[int, ...]:
        """(E, rows, cols)."""
        return _VECTORS.extent(*self.vectors(x, d))

    def peaks(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, E, 1)."""
        return _VECTORS.peaks(*self.vectors(x, d))

    def sums(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, E, 1)."""
        return _VECTORS.sums(*self.vectors(x, d))


@dataclass(frozen=True)
class Batch(_Stack):
    """y = x @ m of (E, n, rows) with a stack (E, rows, cols)."""

    along: ClassVar[int] = 1

    @property
    def forward(self) -> Direction:
        """Every matrix its own."""
        return _STACKED

    backward = forward

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(E, rows, cols), in the memory order of torch's weight (E, cols, rows)."""
        return (d.mT @ x).mT

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(n, E, rows) and (n, E, cols)."""
        return x.transpose(0, 1), d.transpose(0, 1)

    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """By its errors."""
        return x, d * by.transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Routed(_Stack):
    """y = x @ m[at] of (n, rows): every vector meets one matrix of a stack (E, rows, cols)."""

    to: Routes

    def key(self) -> bytes:
        """With every index."""
        return self.to.at.cpu().numpy().tobytes()

    @property
    def forward(self) -> Direction:
        """Each to its own matrix."""
        return Route(self.to)

    backward = forward

    def outer(self, x: Tensor, d: Tensor) -> Tensor:
        """(E, rows, cols), in the memory order of torch's weight (E, cols, rows)."""
        each = (v[self.to.order].split(self.to.sizes) for v in (x, d))
        return torch.stack([q.mT @ p for p, q in zip(*each, strict=True)]).mT

    def vectors(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(most, E, rows) and (most, E, cols): vectors of different matrices at the same time."""
        return self.to.packed(x).transpose(0, 1), self.to.packed(d).transpose(0, 1)

    def weighed(self, x: Tensor, d: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """By its errors."""
        return x, d * by.flatten()[self.to.rank].unsqueeze(-1)
