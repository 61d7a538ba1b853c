"""Complex matrices: two arrays, four real products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossbar.matrix import Matrix


class ComplexMatrix(nn.Module):
    """A = R + i I on an array each, as `crossbar.matrix` writes it.

        A @ x = (R x' − I x″) + i (I x' + R x″),   A.T @ y,   A.H @ y (conjugate transpose)

    Every product with a complex vector reads each array twice; of a real one, once.
    """

    def __init__(self, real: Matrix, imaginary: Matrix) -> None:
        super().__init__()
        self.real, self.imag = real, imaginary
        self.shape = real.shape

    @property
    def T(self) -> ComplexTransposed:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        return ComplexTransposed(self, conjugate=False)

    @property
    def H(self) -> ComplexTransposed:  # noqa: N802 - torch's name
        """The conjugate transpose."""
        return ComplexTransposed(self, conjugate=True)

    def __matmul__(self, x: Tensor) -> Tensor:
        """A @ x for x of shape (n,) or (n, k), real or complex."""
        return _product(self.real, self.imag, x, 1.0)

    def __repr__(self) -> str:
        """Both parts."""
        return f"ComplexMatrix{self.shape} on {self.real.chip!r}"


class ComplexTransposed:
    """A complex matrix read from its columns."""

    def __init__(self, matrix: ComplexMatrix, *, conjugate: bool) -> None:
        self.matrix, self.sign = matrix, -1.0 if conjugate else 1.0
        self.shape = matrix.shape[::-1]

    def __matmul__(self, y: Tensor) -> Tensor:
        """A.T @ y, or A.H @ y, for y of shape (m,) or (m, k), real or complex."""
        return _product(self.matrix.real.T, self.matrix.imag.T, y, self.sign)


def _product(real: object, imaginary: object, x: Tensor, sign: float) -> Tensor:
    def both(part: Tensor) -> tuple[Tensor, Tensor]:
        return real @ part, sign * (imaginary @ part)  # type: ignore[operator]

    along, across = both(x.real if x.is_complex() else x)
    if not x.is_complex():
        return torch.complex(along, across)
    back, ahead = both(x.imag)
    return torch.complex(along - ahead, across + back)
