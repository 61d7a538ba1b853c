"""A matrix from its columns, and the vectors that `@` multiplies."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Transposed:
    """A matrix read from its columns."""

    def __init__(self, matrix: Any) -> None:
        self.T = matrix
        self.shape = matrix.shape[::-1]

    def __matmul__(self, y: Tensor) -> Tensor:
        """A.T @ y for y of shape (m,) or (m, k)."""
        return columns_of(y, self.shape[1], self.T.mv_t)

    def __repr__(self) -> str:
        return f"{self.T!r}, transposed"


def columns_of(x: Tensor, height: int, product: Any) -> Tensor:
    """`product` of x of shape (height,), or of each column of (height, k)."""
    if x.is_complex():
        raise TypeError("x must be real: read x.real and x.imag one after the other")
    if x.dim() not in (1, 2) or x.shape[0] != height:
        raise ValueError(f"x must be ({height},) or ({height}, k), got {tuple(x.shape)}")
    return product(x) if x.dim() == 1 else product(x.mT).mT
