"""Arrays for people without networks: write a matrix, multiply, solve."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from crossbar.chip import Chip
from crossbar.complexes import ComplexMatrix, ComplexPart
from crossbar.matrix import Matrix
from crossbar.regions import Form
from crossbar.streams import derive
from crossbar.transposed import Part, numbers


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
    if weight.layout != torch.strided:
        raise TypeError(
            f"weight is {weight.layout}: an array has a cell for every entry, give to_dense()"
        )
    if weight.dim() != 2:
        raise ValueError(f"weight must be (m, n), got shape {tuple(weight.shape)}")
    return _written(weight, weight.detach(), chip or Chip(), seed)


def _written(weight: Tensor, like: Tensor, chip: Chip, seed: int | None) -> Matrix:
    """The weight on an array whose scale fits `like`."""
    w = weight.detach().mT
    chip.mapping.check(w)
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


def figures(y: Any, exact: Any) -> Figures:
    """Relative error, signal to noise and effective bits of a product y of any shape.

    Args:
        y: real or complex numbers.
        exact: what they should be, finite.

    Raises:
        ValueError: shapes that differ; nothing, only zeros or infinities to compare with.
    """
    y, exact = (numbers(t).detach() for t in (y, exact))
    if y.shape != exact.shape:
        raise ValueError(f"y {tuple(y.shape)} and exact {tuple(exact.shape)} must have one shape")
    wide = torch.promote_types(torch.promote_types(y.dtype, exact.dtype), torch.float64)
    y, exact = y.to(wide), exact.to(wide)
    top = exact.abs().amax() if exact.numel() else 0.0
    if not 0 < top < math.inf:
        raise ValueError("exact must be finite and have entries that are not zero")
    error = float((y / top - exact / top).norm() / (exact / top).norm())
    snr = -20 * math.log10(error) if error else math.inf
    return Figures(error, snr, (snr - 1.76) / 6.02)


def read_back(matrix: Matrix | ComplexMatrix) -> Tensor:
    """The weights (m, n) as the array's own converters see them, line by line, noise included.

    Raises:
        TypeError: no matrix.
    """
    if isinstance(matrix, ComplexMatrix):
        return torch.complex(read_back(matrix.real), read_back(matrix.imag))
    if not isinstance(matrix, Matrix):
        raise TypeError(
            f"read_back takes a matrix, got {type(matrix).__name__}; that of a layer's weight is "
            'layer.analog["weight"].matrix'
        )
    with torch.no_grad():
        return matrix.read_row(torch.arange(matrix.shape[1])).mT


def linear_operator(matrix: Matrix | ComplexMatrix | Part | ComplexPart) -> LinearOperator:
    """The array, or a part of it, as SciPy takes a matrix: `svds(linear_operator(A))`.

    float64 in and out, or complex128; `rmatvec` is the (conjugate) transposed read. Reads are noisy
    and quantised as the chip says: an algorithm that trusts its products to 1e-15 may not end.

    Raises:
        TypeError: no matrix.
    """
    if not isinstance(matrix, Matrix | ComplexMatrix | Part | ComplexPart):
        raise TypeError(f"linear_operator takes a matrix, got {type(matrix).__name__}")

    def read(product: object) -> object:
        def run(v: NDArray[Any]) -> NDArray[Any]:
            if np.iscomplexobj(v) and dtype is np.float64:
                return run(v.real) + 1j * run(v.imag)
            kind = np.complex128 if np.iscomplexobj(v) else np.float64
            x = torch.as_tensor(np.array(v, dtype=kind).reshape(len(v), -1), device=place)
            with torch.no_grad():
                y = product @ x  # type: ignore[operator]
            found: NDArray[Any] = y.cpu().numpy().astype(dtype).reshape(-1, *v.shape[1:])
            return found

        return run

    is_complex = isinstance(matrix, ComplexMatrix | ComplexPart)
    array: Any = matrix.real if is_complex else matrix  # type: ignore[union-attr]
    place = (array.matrix if isinstance(array, Part) else array).weight.device
    dtype: Any = np.complex128 if is_complex else np.float64
    forward, back = read(matrix), read(matrix.H if is_complex else matrix.T)  # type: ignore[union-attr]
    return LinearOperator(
        matrix.shape, matvec=forward, rmatvec=back, matmat=forward, rmatmat=back, dtype=dtype
    )
