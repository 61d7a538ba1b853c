"""Differential pairs whose two devices lie side by side on one wordline."""

from __future__ import annotations

from torch import Tensor

from crossbar.wires.network import Fields, Gradients, Readable, Solvable
from crossbar.wires.settings import Wires


def weave(pair: Tensor) -> Tensor:
    """(2, ..., n) as (..., 2n): plus, minus, plus, minus."""
    return pair.movedim(0, -1).flatten(-2)


def unweave(columns: Tensor) -> Tensor:
    """(..., 2n) as (2, ..., n)."""
    return columns.unflatten(-1, (-1, 2)).movedim(-1, 0)


class Interleaved(Readable):
    """A pair of arrays g (2, ..., rows, cols) as one array of alternating bitlines.

    Outputs, and the inputs of the transposed read, carry the pair in their first dimension, as g
    does. `fields` shows the physical array of 2·cols bitlines, and so do `floating` and the
    `outputs` of `variance` count them: `outputs = [[1, −1, 0, ...], ...]` is the noise of the
    differences, which share their wordlines.
    """

    def __init__(self, g: Tensor, wires: Wires, inner: Readable) -> None:
        self.inner = inner  # of the physical array
        self.g, self.wires, self.solver, self.kappa = g, wires, inner.solver, inner.kappa
        self.rows, self.cols = g.shape[-2:]
        self.matrix = None if inner.matrix is None else unweave(inner.matrix)

    @property
    def residual(self) -> float:
        """Of the physical array."""
        return self.inner.residual

    @property
    def matrix_t(self) -> Tensor:
        """As `matrix`, of the transposed read."""
        return unweave(self.inner.matrix_t)

    def mv(self, x: Tensor) -> Tensor:
        """Output currents (2, ..., cols) [A] of row voltages x (..., rows) [V]."""
        return unweave(self.inner.mv(x))

    def mv_t(self, d: Tensor) -> Tensor:
        """Wordline currents (..., rows) [A] when all bitlines are driven by d (2, ..., cols)."""
        return self.inner.mv_t(weave(d))

    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """Gradients of Σ cotangent · mv(x), cotangent (2, ..., cols)."""
        found = self.inner.vjp(x, weave(cotangent))
        return found._replace(g=unweave(found.g))

    def pullback(self, cotangent: Tensor) -> Tensor:
        """As `Readable.pullback`, for cotangents (2, ..., rows, cols)."""
        return unweave(self.inner.pullback(weave(cotangent)))


class InterleavedSolved(Interleaved, Solvable):
    """The same of an array whose voltages are known."""

    inner: Solvable

    def fields(self, x: Tensor, y: Tensor | None = None) -> Fields:
        """Voltages and currents of the physical array; y (..., 2·cols)."""
        return self.inner.fields(x, y)

    def variance(self, x: Tensor, std: Tensor, outputs: Tensor | None = None) -> Tensor:
        """As `Solvable.variance`, of the 2·cols physical columns or of sums of them."""
        return self.inner.variance(x, weave(std.expand(self.g.shape)), outputs)
