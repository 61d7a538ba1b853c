"""Parts of a matrix, from its rows or its columns, and the vectors that `@` multiplies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossbar.regions import EVERYWHERE, WHOLE, Region
from crossbar.solve import Solution, solve


class Part:
    """Some rows and columns of a matrix, read along or across: `A[2:5, ::2]`, `A.T`, `A.T[:3]`."""

    __array_ufunc__ = None  # an array on the left leaves the product to `__rmatmul__`

    def __init__(self, matrix: Any, region: Region) -> None:
        self.matrix, self.region = matrix, region
        rows, cols = (
            len(range(*part.indices(n)))
            for part, n in zip((region.rows, region.cols), matrix.lines[-2:], strict=True)
        )
        self.shape = (rows, cols) if region.transposed else (cols, rows)

    @property
    def T(self) -> Any:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        turned = self.region._replace(transposed=not self.region.transposed)
        return self.matrix if turned == EVERYWHERE else Part(self.matrix, turned)

    def __getitem__(self, key: Any) -> Part:
        """Some of its rows and columns, by slices."""
        return part_of(self.matrix, self.region, self.shape, key)

    def __matmul__(self, x: Any) -> Tensor:
        """A @ x for x of shape (n,) or (n, k)."""
        return columns_of(x, self, self._read)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ A for x of shape (m,) or (k, m)."""
        other = self.T
        return rows_of(x, other, other.mv if other is self.matrix else other._read)

    @property
    def weight(self) -> Tensor:
        """Logical weights that its cells hold now, rows = inputs."""
        return self._lying(self.matrix.weight)

    @property
    def exact(self) -> Tensor | None:
        """What was written, as `@` multiplies by it, until cells were pulsed."""
        known = self.matrix.exact
        return None if known is None else self._lying(known.mT).mT

    def _lying(self, m: Tensor) -> Tensor:
        m = self.region.of(m)
        return m.mT if self.region.transposed else m

    def solve(self, b: Any, exact: Any = None, **options: Any) -> Solution:
        """x of A.T x = b, or of the equations of a square part; see `Matrix.solve`."""
        return solved(self, b, exact, options)

    def _read(self, x: Tensor) -> Tensor:
        found: Tensor = self.matrix.mv_of(x, self.region)
        return found

    def __repr__(self) -> str:
        kind = ", transposed" if self.region.transposed else ""
        return f"{self.shape} of {self.matrix!r}{kind}"


def part_of(matrix: Any, region: Region, shape: tuple[int, int], key: Any) -> Part:
    """The part `key` of a matrix, or of a part, of `shape`.

    Raises:
        TypeError: no slices. ValueError: nothing, or backwards.
    """
    key = key if isinstance(key, tuple) else (key,)
    if len(key) > 2 or not all(isinstance(k, slice) for k in key):
        raise TypeError(
            f"A[...] takes slices of rows and columns, as A[2:3] or A[:, ::2], got {key!r}; "
            "read_column and read_row read single lines"
        )
    old = (region.rows, region.cols) if region.transposed else (region.cols, region.rows)
    lines = matrix.lines[-2:] if region.transposed else matrix.lines[:-3:-1]
    new = []
    for part, k, n in zip(old, (*key, WHOLE)[:2], lines, strict=True):
        found = range(*part.indices(n))[k]
        if not len(found) or found.step < 1:
            raise ValueError(f"A[...] takes lines in their order, and at least one, got {key!r}")
        some = slice(found.start, found.stop, found.step)
        new.append(WHOLE if found == range(n) else some)
    first, second = new
    rows, cols = (first, second) if region.transposed else (second, first)
    return Part(matrix, region._replace(rows=rows, cols=cols))


def solved(matrix: Any, b: Any, exact: Any, options: dict[str, Any]) -> Solution:
    """`solve` of a matrix, or of a part of one, by what is known of it.

    Raises:
        ValueError: nothing is, and nobody says.
    """
    exact = matrix.exact if exact is None else exact
    if exact is None:
        raise ValueError("solve needs exact=: the cells have moved since they were written")
    return solve(matrix, real(b), real(exact), **options)


def real(x: Any) -> Tensor:
    """A tensor, an array or a list of numbers as the matrix reads it.

    Raises:
        TypeError: complex numbers, or no numbers.
    """
    x = numbers(x)
    if x.is_complex():
        raise TypeError("x must be real: read x.real and x.imag one after the other")
    return x


def numbers(x: Any) -> Tensor:
    """The same, complex ones too."""
    if isinstance(x, Tensor):
        return x
    try:
        if isinstance(x, np.ndarray):  # in order and bytes that torch takes
            x = np.array(x, dtype=x.dtype.newbyteorder("="), order="C")
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"x must be numbers, got {type(x).__name__}: {error}") from error


def rows_of(x: Any, matrix: Any, product: Any) -> Tensor:
    """`product` of x of shape (n,), or of each row of (k, n); n columns of the matrix."""
    x = real(x)
    return columns_of(x, matrix, product) if x.dim() < 2 else columns_of(x.mT, matrix, product).mT


def columns_of(x: Any, matrix: Any, product: Any) -> Tensor:
    """`product` of x of shape (n,), or of each column of (n, k); n columns of the matrix."""
    x, height = real(x), matrix.shape[1]
    if x.dim() not in (1, 2) or x.shape[0] != height:
        raise ValueError(f"x must be ({height},) or ({height}, k), got {tuple(x.shape)}")
    return product(x) if x.dim() == 1 else product(x.mT).mT
