"""Complex matrices: two arrays, four real products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crossbar.matrix import Matrix
from crossbar.solve import Solution, solve
from crossbar.transposed import Part, numbers


class ComplexPart:
    """Some rows and columns of A = R + i I, or of its transpose or conjugate transpose.

        A @ x = (R x' − I x″) + i (I x' + R x″)

    Every product with a complex vector reads each array twice; of a real one, once.
    """

    __array_ufunc__ = None  # an array on the left leaves the product to `__rmatmul__`

    def __init__(self, real: Matrix | Part, imag: Matrix | Part, sign: float = 1.0) -> None:
        self.real, self.imag, self.sign = real, imag, sign
        self.shape: tuple[int, int] = real.shape

    @property
    def T(self) -> ComplexPart:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        return ComplexPart(self.real.T, self.imag.T, self.sign)

    @property
    def H(self) -> ComplexPart:  # noqa: N802 - torch's name
        """The conjugate transpose."""
        return ComplexPart(self.real.T, self.imag.T, -self.sign)

    def __getitem__(self, key: Any) -> ComplexPart:
        """Some rows and columns, by slices."""
        return ComplexPart(self.real[key], self.imag[key], self.sign)

    def __matmul__(self, x: Any) -> Tensor:
        """A @ x for x of shape (n,) or (n, k), real or complex."""
        x = numbers(x)

        def both(part: Tensor) -> tuple[Tensor, Tensor]:
            return self.real @ part, self.sign * (self.imag @ part)

        along, across = both(x.real if x.is_complex() else x)
        if not x.is_complex():
            return torch.complex(along, across)
        back, ahead = both(x.imag)
        return torch.complex(along - ahead, across + back)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ A for x of shape (m,) or (k, m), real or complex."""
        x = numbers(x)
        return self.T @ x if x.dim() < 2 else (self.T @ x.mT).mT

    @property
    def weight(self) -> Tensor:
        """Logical weights that its cells hold now, rows = inputs."""
        return torch.complex(self.real.weight, self.sign * self.imag.weight)

    def solve(self, b: Any, exact: Any = None, **options: Any) -> Solution:
        """x of A x = b as `Matrix.solve` finds it, of both parts as one real system.

        (R −I) (x')   (b')
        (I  R) (x″) = (b″)
        """
        if exact is None:
            known, other = self.real.exact, self.imag.exact
            exact = (
                None if known is None or other is None else torch.complex(known, self.sign * other)
            )
        if exact is None:
            raise ValueError("solve needs exact=: the cells have moved since they were written")
        b = numbers(b)
        b = b if b.is_complex() else torch.complex(b.double(), torch.zeros_like(b.double()))
        parts = torch.cat([b.real, b.imag])
        found = solve(_Embedded(self), parts, _embedded(numbers(exact)), **options)
        return found._replace(x=torch.complex(*found.x.chunk(2)))


class ComplexMatrix(nn.Module):
    """A = R + i I on an array each, as `crossbar.matrix` writes it; see `ComplexPart`.

    Its arrays, `real` and `imag`, have the verbs that write.
    """

    __array_ufunc__ = None  # as that of `ComplexPart`

    def __init__(self, real: Matrix, imaginary: Matrix) -> None:
        super().__init__()
        self.real, self.imag = real, imaginary
        self.shape = real.shape

    @property
    def whole(self) -> ComplexPart:
        """All of it."""
        return ComplexPart(self.real, self.imag)

    @property
    def T(self) -> ComplexPart:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        return self.whole.T

    @property
    def H(self) -> ComplexPart:  # noqa: N802 - torch's name
        """The conjugate transpose."""
        return self.whole.H

    def __getitem__(self, key: Any) -> ComplexPart:
        """Some rows and columns, by slices."""
        return self.whole[key]

    def __matmul__(self, x: Any) -> Tensor:
        """A @ x for x of shape (n,) or (n, k), real or complex."""
        return self.whole @ x

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ A for x of shape (m,) or (k, m), real or complex."""
        return self.whole.__rmatmul__(x)

    @property
    def weight(self) -> Tensor:
        """Logical weights (rows, cols) that the cells hold now."""
        return torch.complex(self.real.weight, self.imag.weight)

    def advance(self, dt: float, temperature: float = 300.0) -> None:
        """Let dt seconds pass for both arrays, at `temperature` [K]."""
        for part in (self.real, self.imag):
            part.advance(dt, temperature)

    def solve(self, b: Any, exact: Any = None, **options: Any) -> Solution:
        """x of A x = b as `Matrix.solve` finds it; see `ComplexPart.solve`."""
        return self.whole.solve(b, exact, **options)

    def __repr__(self) -> str:
        """Both parts."""
        return f"ComplexMatrix{self.shape} on {self.real.chip!r}"


class _Embedded:
    """A complex matrix as the real one of real and imaginary parts."""

    def __init__(self, matrix: ComplexPart) -> None:
        self.matrix = matrix
        self.shape = (2 * matrix.shape[0], 2 * matrix.shape[1])

    @property
    def weight(self) -> Tensor:
        return _embedded(self.matrix.weight.mT).mT

    def __matmul__(self, x: Tensor) -> Tensor:
        y = self.matrix @ torch.complex(*x.chunk(2))
        return torch.cat([y.real, y.imag])


def _embedded(a: Tensor) -> Tensor:
    return torch.cat([torch.cat([a.real, -a.imag], 1), torch.cat([a.imag, a.real], 1)])
