"""What solved arrays answer, whoever solved them: two contracts and what flows in an array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from torch import Tensor

from crossbar.wires.lines import identity
from crossbar.wires.settings import Solver, Wires


class Fields(NamedTuple):
    """Everything that flows in an array, as drawn: row 0 on top, drivers left, sensing below."""

    output: Tensor  # (..., k, cols) [A] into the sense amplifiers
    driver: Tensor  # (..., k, rows) [A] out of the drivers
    cell_voltage: Tensor  # (..., k, rows, cols) [V] wordline minus bitline
    cell_current: Tensor  # (..., k, rows, cols) [A] wordline to bitline
    wordline_voltage: Tensor  # (..., k, rows, cols) [V]
    bitline_voltage: Tensor  # (..., k, rows, cols) [V]
    wordline_current: Tensor  # (..., k, rows, cols) [A] rightwards into each node
    bitline_current: Tensor  # (..., k, rows, cols) [A] downwards out of each node
    power: Tensor  # (..., k) [W] delivered by drivers and sense amplifiers together
    residual: float  # max |Kirchhoff's voltage law| / largest applied voltage


class Gradients(NamedTuple):
    """Products of a cotangent of the output currents with the Jacobian of a read."""

    x: Tensor  # shape of x
    g: Tensor  # shape of g
    r_wordline: Tensor  # ()
    r_bitline: Tensor  # ()
    r_driver: Tensor  # ()
    r_sense: Tensor  # ()


class Unanswered(AttributeError, TypeError):
    """A question about voltages to a network that knows none."""


class Readable(ABC):
    """An array of cells and wires, ready to be read: g (..., rows, cols) [S].

    Inputs carry one set of row voltages in the last dimension, sets in the last but one, and
    leading dimensions that broadcast to those of g, as in `torch.matmul`; a vector is one set.
    Reads are differentiable in the inputs, in g and in resistances given as tensors, by the
    adjoint at the solution. A network is frozen: prepare another one when a conductance changes.
    """

    g: Tensor
    wires: Wires
    solver: Solver
    kappa: float
    rows: int
    cols: int
    matrix: Tensor | None
    """Effective matrix (..., rows, cols) [S], output = x @ matrix; None where there is none."""
    volt = 1.0
    """What drives a row where nothing else is said [V]."""

    @property
    @abstractmethod
    def residual(self) -> float:
        """max |Kirchhoff's voltage law| / 1 V with all rows at 1 V; of a formula, its error."""

    @abstractmethod
    def mv(self, x: Tensor) -> Tensor:
        """Output currents (..., cols) [A] of row voltages x (..., rows) [V]."""

    @abstractmethod
    def mv_t(self, d: Tensor) -> Tensor:
        """The transposed read: bitlines driven by d (..., cols) [V], wordline currents sensed.

        The drivers, with their resistance, sit at the sense end of the bitlines and the sense
        amplifiers at the driver end of the wordlines; where r_driver equals r_sense this is, by
        reciprocity, the exact transpose of `mv`.
        """

    @property
    @abstractmethod
    def matrix_t(self) -> Tensor:
        """Matrix (..., rows, cols) [S] of the transposed read, mv_t(d) = d @ matrix_tᵀ."""

    @abstractmethod
    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """Gradients of Σ cotangent · mv(x), x (..., k, rows) [V], cotangent (..., k, cols)."""

    def pullback(self, cotangent: Tensor) -> Tensor:
        """Gradient with respect to g of Σ cotangent · currents per volt of one row after another.

        Both (..., rows, cols); the currents are `matrix` where there is one.
        """
        return self.vjp(identity(self.rows, cotangent) * self.volt, cotangent / self.volt).g

    if not TYPE_CHECKING:  # a type checker says so before

        def __getattr__(self, name: str) -> NoReturn:
            if name in ("fields", "variance"):
                raise Unanswered(f"{self.solver!r} knows no voltages inside the array; use Exact()")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


Network = Readable


class Solvable(Readable):
    """A network that also knows the voltages and currents inside its array."""

    @abstractmethod
    def fields(self, x: Tensor, y: Tensor | None = None) -> Fields:
        """Voltages and currents everywhere.

        Args:
            x: row voltages (..., rows) [V].
            y: voltages at the sense end of the bitlines (..., cols) [V]; None: virtual grounds.
        """

    @abstractmethod
    def variance(self, x: Tensor, std: Tensor, outputs: Tensor | None = None) -> Tensor:
        """Variance of the output currents when every cell fluctuates from read to read [A²].

        First order in std: Σ_cells (∂I/∂g · std)², with the exact sensitivities of the circuit.

        Args:
            x: row voltages (..., rows) [V].
            std: independent standard deviation of each cell, broadcastable to g [S].
            outputs: which sums of columns are read (outputs, cols), for instance a difference of
                two bitlines that share their wordlines; None: every column by itself.
        """
