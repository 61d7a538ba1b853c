"""A matrix from its columns, and the vectors that `@` multiplies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Transposed:
    """A matrix read from its columns."""

    def __init__(self, matrix: Any) -> None:
        self.T = matrix
        self.shape = matrix.shape[::-1]

    def __matmul__(self, y: Tensor) -> Tensor:
        """A.T @ y for y of shape (m,) or (m, k)."""
        return columns_of(y, self, self.T.mv_t)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ A.T for x of shape (n,) or (k, n)."""
        return rows_of(x, self.T, self.T.mv)

    def __repr__(self) -> str:
        return f"{self.T!r}, transposed"


def real(x: Any) -> Tensor:
    """A tensor, an array or a list of numbers as the matrix reads it.

    Raises:
        TypeError: complex numbers, or no numbers.
    """
    if not isinstance(x, Tensor):
        try:
            x = torch.as_tensor(x)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"x must be numbers, got {type(x).__name__}: {error}") from error
    if x.is_complex():
        raise TypeError("x must be real: read x.real and x.imag one after the other")
    return x


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
