"""What every solved array answers, whoever solved it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossbar.wires.lines import Circuit, Lines, circuit, identity
from crossbar.wires.settings import Floating, Solver, Wires

CHUNK = 1 << 23
"""Cell voltages held at a time while gradients and variances are summed (64 MiB)."""


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


class State(NamedTuple):
    """A solution in canonical orientation (see `lines`)."""

    u: Tensor  # (T, k, rows, cols) [V]
    i: Tensor  # (T, k, rows, cols) [A]
    near_rows: Tensor  # (T, k, rows) [V]
    near_cols: Tensor  # (T, k, cols) [V]


class Network(ABC):
    """An array of cells and wires, ready to be read: g (..., rows, cols) [S].

    Inputs carry one set of row voltages in the last dimension, sets in the last but one, and
    leading dimensions that broadcast to those of g, as in `torch.matmul`; a vector is one set.
    Reads are differentiable in the inputs, in g and in resistances given as tensors, by the
    adjoint at the solution. A network is frozen: prepare another one when a conductance changes.
    """

    matrix: Tensor | None
    """Effective matrix (..., rows, cols) [S], output = x @ matrix; None where there is none."""

    def __init__(
        self, g: Tensor, wires: Wires, solver: Solver, floating: Floating | None = None
    ) -> None:
        self.g, self.wires, self.solver = g, wires, solver
        self.rows, self.cols = g.shape[-2:]
        self.kappa = wires.kappa(g)
        self.unconnected = floating
        self.floating = None if floating is None else floating.mask(self.rows, self.cols, g.device)
        with torch.no_grad():
            #: (T, rows, cols) float64, canonical orientation
            self.stack = g.detach().double().reshape(-1, self.rows, self.cols).flip(-2)
            self.circuit: Circuit = circuit(wires, self.rows, self.cols, self.stack)

    # -- what a kind of network brings ------------------------------------------------------

    @abstractmethod
    def _read(self, x: Tensor) -> Tensor:
        """Output currents of row voltages, both as in `mv`."""

    @abstractmethod
    def _state(self, x: Tensor, y: Tensor) -> State:
        """Solve k sets of canonical terminal voltages (T, k, rows) and (T, k, cols)."""

    @abstractmethod
    def _adjoint(self, state: State, y: Tensor) -> Tensor:
        """Cell voltages of the network linearised at a state, driven at its sense terminals.

        Cotangents y (T, k, cols) give cell voltages (T, k, rows, cols).
        """

    def _slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """∂i/∂u and ∂i/∂g of the cells at voltages u (T, k, rows, cols)."""
        return self.stack[:, None], u

    @property
    def bilinear(self) -> bool:
        """Whether outputs are linear in the inputs, so that sets of inputs may be merged."""
        return True

    # -- reads ------------------------------------------------------------------------------

    def mv(self, x: Tensor) -> Tensor:
        """Output currents (..., cols) [A] of row voltages x (..., rows) [V]."""
        self._check(x, self.rows, "x", "rows")
        return _Read.apply(self, x, self.g, *self.wires.resistances)  # type: ignore[no-untyped-call]

    def mv_t(self, d: Tensor) -> Tensor:
        """The transposed read: bitlines driven by d (..., cols) [V], wordline currents sensed.

        The drivers, with their resistance, sit at the sense end of the bitlines and the sense
        amplifiers at the driver end of the wordlines; where r_driver equals r_sense this is, by
        reciprocity, the exact transpose of `mv`.
        """
        self._check(d, self.cols, "d", "cols")
        return self.transposed.mv(d.flip(-1)).flip(-1)

    @property
    def matrix_t(self) -> Tensor:
        """Matrix (..., rows, cols) [S] of the transposed read, mv_t(d) = d @ matrix_tᵀ."""
        return self.mv_t(identity(self.cols, self.g)).mT

    @cached_property
    def transposed(self) -> Network:
        """The same array seen from the side: bitlines are driven, wordlines are sensed."""
        raise TypeError(f"{type(self).__name__} has no transposed read")

    def fields(self, x: Tensor, y: Tensor | None = None) -> Fields:
        """Voltages and currents everywhere.

        Args:
            x: row voltages (..., rows) [V].
            y: voltages at the sense end of the bitlines (..., cols) [V]; None: virtual grounds.
        """
        self._check(x, self.rows, "x", "rows")
        sets, shape = self._sets(x.detach(), self.rows)
        if y is None:
            ends = sets.new_zeros(*sets.shape[:-1], self.cols)
        else:
            self._check(y, self.cols, "y", "cols")
            ends, shape_y = self._sets(y.detach(), self.cols)
            if ends.shape[1] != sets.shape[1]:
                if 1 not in (ends.shape[1], sets.shape[1]):
                    raise ValueError(f"x and y hold {sets.shape[1]} and {ends.shape[1]} sets")
                count = max(ends.shape[1], sets.shape[1])
                shape = shape if sets.shape[1] == count else shape_y
                sets, ends = (v.expand(-1, count, -1) for v in (sets, ends))
        with torch.no_grad():
            state = self._state(sets.flip(-1), -ends)
            return self._describe(state, sets.flip(-1), -ends, shape)

    def _describe(self, state: State, x: Tensor, y: Tensor, shape: tuple[int, ...]) -> Fields:
        u, i, near_rows, near_cols = state
        off = (None, None) if self.floating is None else self._mask()
        along, end_rows = segments(self.circuit.rows, i, off[0])
        down, end_cols = segments(self.circuit.cols, i.mT, off[1])
        v_row = near_rows[..., None] - (self.circuit.rows.r * along).cumsum(-1)
        v_col = (near_cols[..., None] - (self.circuit.cols.r * down).cumsum(-1)).mT
        driver, output = i.sum(-1), i.sum(-2)
        scale = max(float(x.abs().max()), float(y.abs().max())) if x.numel() else 0.0
        residual = float((v_row + v_col - u).abs().max()) / scale if scale > 0 else 0.0
        power = (x * driver).sum(-1) + (y * output).sum(-1)

        def drawn(v: Tensor) -> Tensor:
            return v.flip(-2).reshape(*shape, *v.shape[-2:])

        return Fields(
            output.reshape(*shape, self.cols),
            driver.flip(-1).reshape(*shape, self.rows),
            drawn(u),
            drawn(i),
            drawn(v_row),
            drawn(-v_col),
            drawn(along),
            drawn(down.mT),
            power.reshape(shape),
            residual,
        )

    @cached_property
    def residual(self) -> float:
        """max |Kirchhoff's voltage law| over 1 V when all rows are driven with 1 V."""
        return self.fields(self.stack.new_ones(self.rows)).residual

    # -- sensitivities ----------------------------------------------------------------------

    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """Gradients of sum(cotangent · mv(x)), by one adjoint solve at the solution.

        By Tellegen's theorem the sensitivity of the output to a conductance is the product of
        two cell voltages, u of the read and s of the network driven by the cotangent at its sense
        terminals (times (∂i/∂g)/u for a nonlinear cell); to a resistance it is minus the product
        of the two currents through it. (Director & Rohrer, IEEE Trans. Circuit Theory 16, 318
        (1969), doi:10.1109/TCT.1969.1082965.)
        """
        sets, shape = self._sets(x.detach(), self.rows)
        y, _ = self._sets(cotangent.detach(), self.cols)
        with torch.no_grad():
            sets = sets.flip(-1)
            grad_g = torch.zeros_like(self.stack)
            grad_r = self.stack.new_zeros(4)
            grad_x = torch.empty_like(sets)
            merged = self.bilinear and sets.shape[1] > min(self.rows, self.cols)
            if merged:
                grad_x = y @ self._response().mT
                sets, y = self._merge(sets.mT @ y)
            for part in self._parts(sets.shape[1]):
                state = self._state(sets[:, part], torch.zeros_like(y[:, part]))
                s = self._adjoint(state, y[:, part])
                slope, by_g = self._slopes(state.u)
                i_hat = slope * s
                grad_g += (by_g * s).sum(1)
                grad_r += self._by_resistance(state.i, i_hat)
                if not merged:
                    grad_x[:, part] = self._live_rows(i_hat.sum(-1))
        g = grad_g.flip(-2).reshape(self.g.shape).to(self.g.dtype)
        x_grad = grad_x.flip(-1).reshape(*shape, self.rows).to(x.dtype)
        return Gradients(unbroadcast(x_grad, x.shape), g, *grad_r)

    def pullback(self, cotangent: Tensor) -> Tensor:
        """Gradient with respect to g of sum(cotangent · matrix), both (..., rows, cols)."""
        return self.vjp(identity(self.rows, cotangent), cotangent).g

    def variance(self, x: Tensor, std: Tensor, outputs: Tensor | None = None) -> Tensor:
        """Variance of the output currents when every cell fluctuates from read to read [A²].

        First order in std: Σ_cells (∂I/∂g · std)², with the exact sensitivities of the circuit.

        Args:
            x: row voltages (..., rows) [V].
            std: independent standard deviation of each cell, broadcastable to g [S].
            outputs: which sums of columns are read (outputs, cols), for instance a difference of
                two bitlines that share their wordlines; None: every column by itself.
        """
        self._check(x, self.rows, "x", "rows")
        sets, shape = self._sets(x.detach(), self.rows)
        spread = std.detach().double().expand(self.g.shape).reshape(self.stack.shape).flip(-2)
        weights = identity(self.cols, self.stack) if outputs is None else outputs.detach()
        weights = weights.to(self.stack).expand(len(self.stack), -1, -1)
        result = sets.new_zeros(*sets.shape[:-1], weights.shape[1])
        with torch.no_grad():
            sets = sets.flip(-1)
            for part in self._parts(sets.shape[1]):
                state = self._state(
                    sets[:, part], sets.new_zeros(len(sets), len(sets[0, part]), self.cols)
                )
                result[:, part] = self._variance(state, spread, weights)
        return result.reshape(*shape, weights.shape[1]).to(x.dtype)

    def _variance(self, state: State, spread: Tensor, weights: Tensor) -> Tensor:
        """Σ (∂I/∂g σ)² (T, k, outputs) of the weighted outputs at a state."""
        caused = (self._slopes(state.u)[1] * spread[:, None]).square().flatten(2)
        parts = []
        for part in self._parts(weights.shape[1]):
            s = self._adjoint(state, weights[:, part])
            parts.append(caused @ s.square().flatten(2).mT)
        return torch.cat(parts, -1)

    # -- helpers ----------------------------------------------------------------------------

    def _check(self, x: Tensor, size: int, name: str, lines: str) -> None:
        if not x.is_floating_point():
            raise TypeError(f"{name} must be a floating tensor, got {x.dtype}")
        if x.ndim == 0 or x.shape[-1] != size:
            raise ValueError(
                f"{name} must hold {size} {lines} in its last dimension, got {tuple(x.shape)}"
            )
        lead, batch = x.shape[:-2], self.g.shape[:-2]
        fits = len(lead) <= len(batch) and all(
            a in (1, b) for a, b in zip(reversed(lead), reversed(batch), strict=False)
        )
        if batch and not fits:
            raise ValueError(
                f"leading dimensions of {name} {tuple(x.shape)} must broadcast to {tuple(batch)}, "
                "those of the conductances"
            )

    def _sets(self, x: Tensor, size: int) -> tuple[Tensor, tuple[int, ...]]:
        """(T, k, size) in float64 and the shape that results take in place of (T, k)."""
        batch = self.g.shape[:-2]
        if not batch:
            return x.double().reshape(1, -1, size), x.shape[:-1]
        sets = x if x.ndim > 1 else x[None]
        wide = sets.expand(*batch, *sets.shape[-2:])
        shape = wide.shape[:-1] if x.ndim > 1 else wide.shape[:-2]
        return wide.double().reshape(-1, *sets.shape[-2:]), shape

    def _turned_lines(self) -> Floating | None:
        """The unconnected lines of the array seen from the side."""
        if self.unconnected is None:
            return None
        rows, cols = self.unconnected.rows, self.unconnected.cols
        return Floating(
            tuple(self.cols - 1 - col for col in cols), tuple(self.rows - 1 - row for row in rows)
        )

    def _mask(self) -> tuple[Tensor, Tensor]:
        assert self.floating is not None
        return self.floating[0].flip(-1), self.floating[1]

    def _live_rows(self, current: Tensor) -> Tensor:
        return current if self.floating is None else current * ~self._mask()[0]

    def _response(self) -> Tensor:
        """Canonical effective matrix (T, rows, cols)."""
        raise TypeError(f"{type(self).__name__} has no effective matrix")

    def _merge(self, products: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and cotangents whose outer products add up to `products` (T, rows, cols)."""
        if self.rows <= self.cols:
            unit = identity(self.rows, products)
            return unit.expand(len(products), -1, -1), products
        unit = identity(self.cols, products)
        return products.mT, unit.expand(len(products), -1, -1)

    def _parts(self, sets: int) -> list[slice]:
        step = max(1, CHUNK // max(1, self.stack.numel()))
        return [slice(k, min(sets, k + step)) for k in range(0, sets, step)]

    def _by_resistance(self, i: Tensor, i_hat: Tensor) -> Tensor:
        """Gradients (4,) in the order of `Wires.resistances`."""
        off = (None, None) if self.floating is None else self._mask()
        result = i.new_zeros(4)
        for family, lines in enumerate((self.circuit.rows, self.circuit.cols)):
            a, b = (i, i_hat) if family == 0 else (i.mT, i_hat.mT)
            seg_a, far_a = segments(lines, a, off[family])
            seg_b, far_b = segments(lines, b, off[family])
            product = -(seg_a * seg_b).flatten(0, -2).sum(0)
            ends = product[0]
            if lines.far is not None:
                ends = ends - (far_a * far_b).sum()
            result[family] = product[1:].sum() + (ends if self.wires.end_segments else 0)
            result[2 + family] = ends
        return result


def segments(lines: Lines, i: Tensor, floating: Tensor | None) -> tuple[Tensor, Tensor]:
    """Currents of the segments (..., lines, nodes) and at the far ends (..., lines) [A]."""
    if lines.far is None:
        far = i.new_zeros(i.shape[:-1])
    else:
        far = lines.far_current(i)
        if floating is not None:
            far = far * ~floating
    return lines.currents(i, far), far


def unbroadcast(grad: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the dimensions along which an input was repeated."""
    return grad.sum_to_size(shape) if grad.shape != shape else grad


class _Read(torch.autograd.Function):
    """mv, differentiated by the adjoint network."""

    @staticmethod
    def forward(ctx: Any, network: Network, x: Tensor, g: Tensor, *resistances: Any) -> Tensor:
        ctx.network = network
        ctx.save_for_backward(x)
        return network._read(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        network, needs = ctx.network, ctx.needs_input_grad
        if network.matrix is not None and not any(needs[2:]):
            grad_x = cotangent.to(network.matrix.dtype) @ network.matrix.mT
            return None, unbroadcast(grad_x.to(x.dtype), x.shape), None, None, None, None, None
        gradients: Sequence[Tensor] = network.vjp(x, cotangent)
        return None, *(v if need else None for v, need in zip(gradients, needs[1:], strict=True))
