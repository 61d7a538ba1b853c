"""Networks of ohmic cells: factored, iterated, or approximated."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from crossbar.wires import krylov
from crossbar.wires.lines import circuit, identity
from crossbar.wires.network import Gradients
from crossbar.wires.settings import Approximate, Exact, Floating, Iterative, Wires
from crossbar.wires.solved import Linearised, Sided, State
from crossbar.wires.tree import Tree


class Ohmic(Linearised):
    """Cells with i = g u."""

    def _adjoint(self, state: State, y: Tensor) -> Tensor:
        return self._state(y.new_zeros(*y.shape[:-1], self.rows), y).u


class Factored(Ohmic):
    """`Exact`: the circuit is eliminated once, reads are products with the effective matrix."""

    matrix: Tensor

    def __init__(
        self, g: Tensor, wires: Wires, solver: Exact, floating: Floating | None = None
    ) -> None:
        super().__init__(g, wires, solver, floating)
        with torch.no_grad():
            # the joints are kept where gradients will ask for the fields, else made on demand
            keep = g.requires_grad or wires.differentiated
            tree = Tree(self.stack, self.circuit, self.off, keep)
            if keep:
                self.tree = tree
            self.admittance = tree.admittance()
            self.matrix = self._response().flip(-2).reshape(g.shape).to(g.dtype)

    @cached_property
    def tree(self) -> Tree:
        """The circuit with its joints, from which fields follow."""
        return Tree(self.stack, self.circuit, self.off)

    def mv_t(self, d: Tensor) -> Tensor:
        """By reciprocity where driver and sense ends are alike, else a circuit of its own."""
        alike = self.wires.ohms[2] == self.wires.ohms[3]
        sought = d.requires_grad or self.g.requires_grad or self.wires.differentiated
        if alike and not sought:
            self._check(d, self.cols, "d", "cols")
            return (d.to(self.matrix.dtype) @ self.matrix.mT).to(d.dtype)
        return super().mv_t(d)

    def pullback(self, cotangent: Tensor) -> Tensor:
        """Down the joints, at the cost of the elimination instead of one solve per row."""
        bar = self.stack.new_zeros(len(self.stack), *[self.rows + self.cols] * 2)
        bar[:, : self.rows, self.rows :] = cotangent.double().reshape(self.stack.shape).flip(-2)
        with torch.no_grad():
            g = self.tree.pullback(bar)
        return g.flip(-2).reshape(self.g.shape).to(self.g.dtype)

    def _response(self) -> Tensor:
        """Canonical effective matrix (T, rows, cols) [S]."""
        return self.admittance[:, : self.rows, self.rows :]

    def _pulled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of more sets than lines the sum of x yᵀ counts, which as many sets as lines have too."""
        if x.shape[1] <= min(self.rows, self.cols):
            return super()._pulled(x, y)
        products = x.mT @ y
        few = identity(min(self.rows, self.cols), x).expand(len(x), -1, -1)
        merged = (few, products) if self.rows <= self.cols else (products.mT, few)
        _, by_g, by_r = super()._pulled(*merged)
        return y @ self._response().mT, by_g, by_r

    def _state(self, x: Tensor, y: Tensor) -> State:
        return State(*self.tree.solve(x, y))


class Iterated(Ohmic):
    """`Iterative`: conjugate gradients for every set of inputs."""

    solver: Iterative
    matrix = None

    def _state(self, x: Tensor, y: Tensor) -> State:
        u0 = self.circuit.open_circuit(x, y)
        goal = (self.solver.tolerance, self.solver.max_steps, 10)
        hint = f"(kappa = {self.kappa:.3g}); raise max_steps or use Exact()"
        return State(*krylov.solve(self.circuit, self.stack[:, None], u0, *goal, hint), x, y)


class Approximated(Sided):
    """`Approximate`: the effective matrix by one formula, with its error measured on demand."""

    matrix: Tensor

    def __init__(
        self, g: Tensor, wires: Wires, solver: Approximate, floating: Floating | None = None
    ) -> None:
        super().__init__(g, wires, solver, floating)
        with torch.no_grad():
            self.matrix = self._formula(g, wires)

    def _formula(self, g: Tensor, wires: Wires) -> Tensor:
        """W ≈ g / (1 + R g), differentiable."""
        cells = g.flip(-2)
        lines = circuit(wires, self.rows, self.cols, g)
        return (cells / (1 + lines.drop(cells))).flip(-2)

    @cached_property
    def error(self) -> float:
        """max |error| / max |output|, measured against `Iterative` on two inputs.

        All rows at 1 V, and alternating rows at ±1 V. Relative to the output of all rows at its
        largest voltage, another input errs by less than twice that (random arrays of 8 to 48
        lines, κ from 0.01 to 100: at most 1.6 times).
        """
        ones = torch.ones(2, self.rows, dtype=self.g.dtype, device=self.g.device)
        ones[1, 1::2] = -1
        with torch.no_grad():
            truth = Iterated(self.g.detach(), self.wires, Iterative(1e-9))._read(ones)
            return float((self._read(ones) - truth).abs().max() / truth.abs().max())

    @property
    def residual(self) -> float:
        """The measured error: this solver has no node voltages to check Kirchhoff's laws on."""
        return self.error

    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """Gradients of the approximation itself."""
        with torch.enable_grad():
            g = self.g.detach().requires_grad_()
            ohms = [
                torch.as_tensor(r, dtype=g.dtype, device=g.device).detach().requires_grad_()
                for r in self.wires.resistances
            ]
            inputs = x.detach().to(g.dtype).requires_grad_()
            read = inputs @ self._formula(g, self.wires.having(ohms))
            found = torch.autograd.grad(
                read,
                (inputs, g, *ohms),
                cotangent.to(read.dtype).expand_as(read),
                allow_unused=True,
            )
        full = [g.new_zeros(()) if v is None else v for v in found[2:]]
        return Gradients(found[0].to(x.dtype), found[1], *full)
