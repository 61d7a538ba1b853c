"""A matrix on a crossbar, no network needed."""

from __future__ import annotations

import torch
from torch import Tensor

from crossbar.chip import Chip, Programmed
from crossbar.nn import AnalogLinear
from crossbar.read import read_t
from crossbar.streams import Streams


class Matrix:
    """A (m, n) matrix whose products are analog reads; see `matrix`."""

    def __init__(self, layer: AnalogLinear, transposed: bool = False) -> None:
        self.layer = layer
        self._transposed = transposed

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self.layer.out_features, self.layer.in_features
        return (n, m) if self._transposed else (m, n)

    @property
    def T(self) -> Matrix:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        return Matrix(self.layer, not self._transposed)

    def __matmul__(self, x: Tensor) -> Tensor:
        """A @ x for x of shape (n,) or (n, k).

        Raises:
            ValueError: x of another height.
        """
        if x.dim() not in (1, 2) or x.shape[0] != self.shape[1]:
            raise ValueError(
                f"x must be ({self.shape[1]},) or ({self.shape[1]}, k), got {tuple(x.shape)}"
            )
        if not self._transposed:
            y: Tensor = self.layer(x.mT if x.dim() == 2 else x)
        else:
            array = self.layer.array
            assert array is not None
            d = x.mT if x.dim() == 2 else x
            shape = torch.Size((*d.shape[:-1], self.layer.in_features))
            y = read_t(
                d, array.plane(self.layer.order), array.w_max / self.layer.span, self.layer, shape
            )
        return y.mT if x.dim() == 2 else y

    def __repr__(self) -> str:
        return f"Matrix{self.shape} on {self.layer.chip!r}"


def matrix(weight: Tensor, chip: Chip | None = None, *, seed: int | None = None) -> Matrix:
    """Write a matrix onto a crossbar.

        A = matrix(W, chip);  y = A @ x;  z = A.T @ y

    Args:
        weight: (m, n), finite.
        chip: the hardware; None is ideal.
        seed: of the chip; None draws one.

    Raises:
        ValueError: weight not two-dimensional or not finite.
    """
    if weight.dim() != 2:
        raise ValueError(f"weight must be (m, n), got shape {tuple(weight.shape)}")
    m, n = weight.shape
    layer = torch.nn.Linear(n, m, bias=False, device=weight.device, dtype=weight.dtype)
    layer.weight = torch.nn.Parameter(weight.detach().clone())
    return Matrix(
        AnalogLinear.from_digital(layer, chip or Chip(), Programmed(), Streams(seed).seed)
    )
