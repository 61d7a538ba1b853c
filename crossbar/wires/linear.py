"""Networks of ohmic cells: factored, iterated, or approximated."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from crossbar.wires import krylov
from crossbar.wires.lines import circuit
from crossbar.wires.network import Gradients, Network, State
from crossbar.wires.settings import (
    Approximate,
    Exact,
    Floating,
    Iterative,
    NotConverged,
    Wires,
)
from crossbar.wires.tree import Tree


def turned(g: Tensor, wires: Wires) -> tuple[Tensor, Wires]:
    """The array seen from the side: its bitlines, from the sense end, as wordlines."""
    side = replace(
        wires,
        r_wordline=wires.r_bitline,
        r_bitline=wires.r_wordline,
        both_drivers=wires.both_senses,
        both_senses=wires.both_drivers,
    )
    return g.flip(-1, -2).mT, side


def differentiated(*values: object) -> bool:
    """Whether autograd will want a gradient with respect to any of them."""
    return any(isinstance(v, Tensor) and v.requires_grad for v in values)


class Ohmic(Network):
    """Cells with i = g u."""

    @cached_property
    def transposed(self) -> Network:
        """The same solver on the array seen from the side."""
        return type(self)(*turned(self.g, self.wires), self.solver, self._turned_lines())

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
            off = None if self.floating is None else self._mask()
            # the joints are kept where gradients will ask for the fields, else made on demand
            keep = differentiated(g, *wires.resistances)
            tree = Tree(self.stack, self.circuit, off, keep)
            if keep:
                self.tree = tree
            self.admittance = tree.admittance()
            self.matrix = self._response().flip(-2).reshape(g.shape).to(g.dtype)

    @cached_property
    def tree(self) -> Tree:
        """The circuit with its joints, from which fields follow."""
        return Tree(self.stack, self.circuit, None if self.floating is None else self._mask())

    def mv_t(self, d: Tensor) -> Tensor:
        """By reciprocity where driver and sense ends are alike, else a circuit of its own."""
        alike = self.wires.ohms[2] == self.wires.ohms[3]
        if alike and not differentiated(d, self.g, *self.wires.resistances):
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

    def _read(self, x: Tensor) -> Tensor:
        return (x.to(self.matrix.dtype) @ self.matrix).to(x.dtype)

    def _response(self) -> Tensor:
        return self.admittance[:, : self.rows, self.rows :]

    def _state(self, x: Tensor, y: Tensor) -> State:
        return State(*self.tree.solve(x, y))


class Iterated(Ohmic):
    """`Iterative`: conjugate gradients for every set of inputs."""

    solver: Iterative
    matrix = None

    def __init__(
        self, g: Tensor, wires: Wires, solver: Iterative, floating: Floating | None = None
    ) -> None:
        if floating is not None:
            raise ValueError("Iterative() needs every line held at one end; use Exact()")
        super().__init__(g, wires, solver)

    @property
    def bilinear(self) -> bool:
        """Merged sets would need the effective matrix, which this solver avoids."""
        return False

    def _state(self, x: Tensor, y: Tensor) -> State:
        u0 = self.circuit.open_circuit(x, y)
        found = krylov.solve(
            self.circuit, self.stack[:, None], u0, self.solver.tolerance, self.solver.max_steps
        )
        worst = float(found.residual.max()) if u0.numel() else 0.0
        # rounding of the true residual adds to the recursive one that CG watches
        if not worst <= 10 * self.solver.tolerance:
            raise NotConverged(
                f"residual {worst:.1e} after {self.solver.max_steps} steps, wanted "
                f"{self.solver.tolerance:.1e} (kappa = {self.kappa:.3g}); raise max_steps or use "
                "Exact()"
            )
        return State(found.u, found.i, x, y)

    def _read(self, x: Tensor) -> Tensor:
        sets, shape = self._sets(x, self.rows)
        parts = [
            self._state(sets[:, part].flip(-1), sets.new_zeros(len(sets), 1, self.cols)).i.sum(-2)
            for part in self._parts(sets.shape[1])
        ]
        result = torch.cat(parts, 1) if parts else sets.new_zeros(*sets.shape[:-1], self.cols)
        return result.reshape(*shape, self.cols).to(x.dtype)


class Approximated(Network):
    """`Approximate`: the effective matrix by one formula, with its error measured on demand."""

    matrix: Tensor

    def __init__(
        self, g: Tensor, wires: Wires, solver: Approximate, floating: Floating | None = None
    ) -> None:
        if floating is not None:
            raise ValueError("Approximate() needs every line held at one end; use Exact()")
        super().__init__(g, wires, solver)
        with torch.no_grad():
            self.matrix = self._formula(g, wires)

    def _formula(self, g: Tensor, wires: Wires) -> Tensor:
        """W ≈ g / (1 + R g), differentiable."""
        cells = g.flip(-2)
        lines = circuit(wires, self.rows, self.cols, g)
        return (cells / (1 + lines.drop(cells))).flip(-2)

    @cached_property
    def transposed(self) -> Network:
        """The approximation of the array seen from the side."""
        return Approximated(*turned(self.g, self.wires), Approximate())

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

    def _read(self, x: Tensor) -> Tensor:
        return (x.to(self.matrix.dtype) @ self.matrix).to(x.dtype)

    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """Gradients of the approximation itself."""
        with torch.enable_grad():
            g = self.g.detach().requires_grad_()
            ohms = [
                torch.as_tensor(r, dtype=g.dtype, device=g.device).detach().requires_grad_()
                for r in self.wires.resistances
            ]
            wires = replace(
                self.wires,
                r_wordline=ohms[0],
                r_bitline=ohms[1],
                r_driver=ohms[2],
                r_sense=ohms[3],
            )
            inputs = x.detach().to(g.dtype).requires_grad_()
            read = inputs @ self._formula(g, wires)
            found = torch.autograd.grad(
                read,
                (inputs, g, *ohms),
                cotangent.to(read.dtype).expand_as(read),
                allow_unused=True,
            )
        full = [g.new_zeros(()) if v is None else v for v in found[2:]]
        return Gradients(found[0].to(x.dtype), found[1], *full)

    def _state(self, x: Tensor, y: Tensor) -> State:
        raise TypeError("Approximate() knows no voltages inside the array; use Exact()")

    def _adjoint(self, state: State, y: Tensor) -> Tensor:
        raise TypeError("Approximate() knows no voltages inside the array; use Exact()")
