"""Arrays for people without networks: write a matrix, multiply, solve."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from crossbar.chip import Chip
from crossbar.complexes import ComplexMatrix
from crossbar.matrix import Matrix
from crossbar.regions import Form
from crossbar.streams import derive


def matrix(weight: Tensor, chip: Chip | None = None, *, seed: int | None = None) -> Matrix:
    """Write a matrix onto a crossbar.

        A = matrix(W, chip);  y = A @ x;  z = A.T @ y

    Args:
        weight: (m, n), finite.
        chip: the hardware; None is ideal.
        seed: of the chip; None draws one.

    Raises:
        TypeError: no real floating tensor.
        ValueError: weight not two-dimensional or not finite.
    """
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise TypeError(
            f"weight must be a real floating tensor, got {getattr(weight, 'dtype', type(weight))}; "
            "torch.as_tensor(weight, dtype=torch.float64) makes one; complex_matrix is for complex"
        )
    if weight.dim() != 2:
        raise ValueError(f"weight must be (m, n), got shape {tuple(weight.shape)}")
    return _written(weight, weight.detach(), chip or Chip(), seed)


def _written(weight: Tensor, like: Tensor, chip: Chip, seed: int | None) -> Matrix:
    """The weight on an array whose scale fits `like`."""
    w = weight.detach().mT
    found = Matrix(chip, Form(), tuple(w.shape), seed)
    wide, scaled = (t if t.dtype == torch.float64 else t.float() for t in (w, like.mT))
    found.fabricate(chip.mapping.scale(scaled), wide.dtype, w.device, wide)
    found.program(wide)
    found.exact = weight.detach().clone()
    return found


def complex_matrix(
    weight: Tensor, chip: Chip | None = None, *, seed: int | None = None
) -> ComplexMatrix:
    """Write a complex matrix onto two crossbars of one scale.

        A = complex_matrix(W, chip);  y = A @ x;  z = A.H @ y

    Args:
        weight: (m, n), complex, finite.
        chip: the hardware; None is ideal.
        seed: of both chips; None draws them.

    Raises:
        TypeError: no complex tensor.
        ValueError: weight not two-dimensional or not finite.
    """
    if not isinstance(weight, Tensor) or not weight.is_complex():
        raise TypeError(f"weight must be a complex tensor, got {getattr(weight, 'dtype', weight)}")
    if weight.dim() != 2:
        raise ValueError(f"weight must be (m, n), got shape {tuple(weight.shape)}")
    parts = weight.detach().real, weight.detach().imag
    largest = torch.maximum(parts[0].abs(), parts[1].abs())
    seeds = (None, None) if seed is None else (derive(seed, "real"), derive(seed, "imaginary"))
    real, imaginary = (
        _written(part.contiguous(), largest, chip or Chip(), own)
        for part, own in zip(parts, seeds, strict=True)
    )
    return ComplexMatrix(real, imaginary)


class Figures(NamedTuple):
    """How good a product is, over all of its entries."""

    relative_error: float  # |y − exact|/|exact|
    snr_db: float  # 20 log10 of its inverse
    effective_bits: float  # (SNR − 1.76)/6.02: of the uniform converter that would err as much


def figures(y: Tensor, exact: Tensor) -> Figures:
    """Relative error, signal to noise and effective bits of a product y of any shape.

    Raises:
        ValueError: shapes that differ, nothing or only zeros to compare with.
    """
    if y.shape != exact.shape:
        raise ValueError(f"y {tuple(y.shape)} and exact {tuple(exact.shape)} must have one shape")
    size = float(exact.detach().double().norm())
    if not size > 0:
        raise ValueError("exact must have entries that are not zero")
    error = float((y.detach().double() - exact.detach().double()).norm()) / size
    snr = -20 * math.log10(error) if error else math.inf
    return Figures(error, snr, (snr - 1.76) / 6.02)


def read_back(matrix: Matrix) -> Tensor:
    """The weights (m, n) as the array's own converters see them, line by line, noise included."""
    with torch.no_grad():
        return matrix.read_row(torch.arange(matrix.shape[1])).mT


def linear_operator(matrix: Matrix) -> LinearOperator:
    """The array as SciPy takes a matrix, such as `scipy.sparse.linalg.svds(linear_operator(A))`.

    float64 in and out; `rmatvec` is the transposed read. Reads are noisy and quantised as the chip
    says: an algorithm that trusts its products to 1e-15 may not end.
    """

    def read(product: object) -> object:
        def run(v: NDArray[np.float64]) -> NDArray[np.float64]:
            x = torch.as_tensor(np.asarray(v, dtype=np.float64).reshape(len(v), -1))
            g = matrix.written.g
            with torch.no_grad():
                y = product @ x.to(g)  # type: ignore[operator]
            found: NDArray[np.float64] = y.double().cpu().numpy().reshape(-1, *v.shape[1:])
            return found

        return run

    forward, back = read(matrix), read(matrix.T)
    return LinearOperator(
        matrix.shape, matvec=forward, rmatvec=back, matmat=forward, rmatmat=back, dtype=np.float64
    )
