"""What the solvers share: the checks of a read, its gradients, the fields of a solution."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossbar.wires.lines import Circuit, Lines, circuit, identity
from crossbar.wires.network import Fields, Gradients, Readable, Solvable
from crossbar.wires.settings import Floating, Solver, Wires

CHUNK = 1 << 23
"""Cell voltages held at a time while gradients and variances are summed (64 MiB)."""


class State(NamedTuple):
    """A solution in canonical orientation (see `lines`)."""

    u: Tensor  # (T, k, rows, cols) [V]
    i: Tensor  # (T, k, rows, cols) [A]
    near_rows: Tensor  # (T, k, rows) [V]
    near_cols: Tensor  # (T, k, cols) [V]


class Wired(Readable):
    """One kind of array, read with its effective matrix if nothing else is said."""

    def __init__(
        self, g: Tensor, wires: Wires, solver: Solver, floating: Floating | None = None
    ) -> None:
        self.g, self.wires, self.solver = g, wires, solver
        self.rows, self.cols = g.shape[-2:]
        self.kappa = wires.kappa(g)
        self.floating = floating
        #: floating rows and columns, in canonical orientation
        self.off: tuple[Tensor, Tensor] | None = None
        if floating is not None:
            rows, cols = floating.mask(self.rows, self.cols, g.device)
            self.off = rows.flip(-1), cols
        with torch.no_grad():
            #: (T, rows, cols) float64, canonical orientation
            self.stack = g.detach().double().reshape(-1, self.rows, self.cols).flip(-2)
            self.circuit: Circuit = circuit(wires, self.rows, self.cols, self.stack)

    def mv(self, x: Tensor) -> Tensor:
        """As `Readable.mv`, differentiable."""
        self._check(x, self.rows, "x", "rows")
        return _Read.apply(self, x, self.g, *self.wires.resistances)  # type: ignore[no-untyped-call]

    def _read(self, x: Tensor) -> Tensor:
        """Output currents of row voltages, both as in `mv`."""
        assert self.matrix is not None
        return (x.to(self.matrix.dtype) @ self.matrix).to(x.dtype)

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
            return x.double().reshape(1, math.prod(x.shape[:-1]), size), x.shape[:-1]
        sets = x if x.ndim > 1 else x[None]
        wide = sets.expand(*batch, *sets.shape[-2:])
        shape = wide.shape[:-1] if x.ndim > 1 else wide.shape[:-2]
        return wide.double().reshape(math.prod(batch), *sets.shape[-2:]), shape

    def _parts(self, sets: int) -> list[slice]:
        step = max(1, CHUNK // max(1, self.stack.numel()))
        return [slice(k, min(sets, k + step)) for k in range(0, sets, step)]


class Sided(Wired):
    """An array that is read from the side as it is from the front."""

    @cached_property
    def transposed(self) -> Sided:
        """The same array seen from the side: bitlines are driven, wordlines are sensed."""
        side = replace(
            self.wires,
            r_wordline=self.wires.r_bitline,
            r_bitline=self.wires.r_wordline,
            both_drivers=self.wires.both_senses,
            both_senses=self.wires.both_drivers,
        )
        floating = self.floating and Floating(
            tuple(self.cols - 1 - col for col in self.floating.cols),
            tuple(self.rows - 1 - row for row in self.floating.rows),
        )
        return self._like(self.g.flip(-1, -2).mT, side, floating)

    def _like(self, g: Tensor, wires: Wires, floating: Floating | None) -> Sided:
        """Another array of this kind."""
        return type(self)(g, wires, self.solver, floating)

    def mv_t(self, d: Tensor) -> Tensor:
        """As `Readable.mv_t`."""
        self._check(d, self.cols, "d", "cols")
        return self.transposed.mv(d.flip(-1)).flip(-1)

    @property
    def matrix_t(self) -> Tensor:
        """As `Readable.matrix_t`; of nonlinear cells at 1 V."""
        return self.mv_t(identity(self.cols, self.g)).mT


class Solved(Wired, Solvable):
    """An array whose node voltages are solved for every set of inputs, or on demand."""

    @abstractmethod
    def _state(self, x: Tensor, y: Tensor) -> State:
        """Solve k sets of canonical terminal voltages (T, k, rows) and (T, k, cols)."""

    @abstractmethod
    def _pulled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients (T, k, rows), (T, rows, cols) and (4,) of canonical x and cotangents y."""

    @abstractmethod
    def _variance(self, state: State, spread: Tensor, weights: Tensor) -> Tensor:
        """Σ (∂I/∂g σ)² (T, k, outputs) of the weighted outputs at a state."""

    def _read(self, x: Tensor) -> Tensor:
        if self.matrix is not None:
            return super()._read(x)
        sets, shape = self._sets(x, self.rows)
        parts = [self._currents(sets[:, part].flip(-1)) for part in self._parts(sets.shape[1])]
        result = torch.cat(parts, 1) if parts else self._grounds(sets)
        return result.reshape(*shape, self.cols).to(x.dtype)

    def _currents(self, x: Tensor) -> Tensor:
        """Output currents (T, k, cols) of canonical row voltages (T, k, rows)."""
        return self._state(x, self._grounds(x)).i.sum(-2)

    def _grounds(self, x: Tensor) -> Tensor:
        """Column voltages of zero (T, k, cols) for row voltages (T, k, rows)."""
        return x.new_zeros(*x.shape[:-1], self.cols)

    def fields(self, x: Tensor, y: Tensor | None = None) -> Fields:
        """As `Solvable.fields`."""
        self._check(x, self.rows, "x", "rows")
        sets, shape = self._sets(x.detach(), self.rows)
        if y is None:
            ends = self._grounds(sets)
        else:
            self._check(y, self.cols, "y", "cols")
            ends, shape_y = self._sets(y.detach(), self.cols)
            if ends.shape[1] != sets.shape[1]:
                if 1 not in (ends.shape[1], sets.shape[1]):
                    raise ValueError(f"x and y hold {sets.shape[1]} and {ends.shape[1]} sets")
                count = max(ends.shape[1], sets.shape[1])
                shape = shape if sets.shape[1] == count else shape_y
                sets, ends = (v.expand(-1, count, -1) for v in (sets, ends))
        sets, ends = sets.flip(-1), -ends

        def drawn(v: Tensor) -> Tensor:
            return v.flip(-2).reshape(*shape, *v.shape[-2:])

        with torch.no_grad():
            state = self._state(sets, ends)
            *maps, power, residual = self._along(state, sets, ends)
            output, driver = state.i.sum(-2), state.i.sum(-1).flip(-1)
            lines = (output.reshape(*shape, self.cols), driver.reshape(*shape, self.rows))
            maps = [drawn(v) for v in (state.u, state.i, *maps)]
            return Fields._make((*lines, *maps, power.reshape(shape), float(residual)))

    def _along(self, state: State, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Voltages and currents (T, k, rows, cols) of wordlines and bitlines, power, residual."""
        u, i, near_rows, near_cols = state
        off = self.off or (None, None)
        along, _ = segments(self.circuit.rows, i, off[0])
        down, _ = segments(self.circuit.cols, i.mT, off[1])
        v_row = near_rows[..., None] - (self.circuit.rows.r * along).cumsum(-1)
        v_col = (near_cols[..., None] - (self.circuit.cols.r * down).cumsum(-1)).mT
        scale = torch.cat((x, y), -1).abs().max() if x.numel() else 0.0
        residual = (v_row + v_col - u).abs().max() / scale if scale > 0 else x.new_zeros(())
        power = (x * i.sum(-1)).sum(-1) + (y * i.sum(-2)).sum(-1)
        return v_row, -v_col, along, down.mT, power, residual

    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """As `Readable.vjp`, by adjoint solves at the solution."""
        sets, shape = self._sets(x.detach(), self.rows)
        y, _ = self._sets(cotangent.detach(), self.cols)
        with torch.no_grad():
            by_x, by_g, by_r = self._pulled(sets.flip(-1), y)
        g = by_g.flip(-2).reshape(self.g.shape).to(self.g.dtype)
        x_grad = by_x.flip(-1).reshape(*shape, self.rows).to(x.dtype)
        return Gradients(x_grad.sum_to_size(x.shape), g, *by_r)

    @cached_property
    def residual(self) -> float:
        """As `Readable.residual`."""
        return self.fields(self.stack.new_full((self.rows,), self.volt)).residual

    def variance(self, x: Tensor, std: Tensor, outputs: Tensor | None = None) -> Tensor:
        """As `Solvable.variance`."""
        self._check(x, self.rows, "x", "rows")
        sets, shape = self._sets(x.detach(), self.rows)
        spread = std.detach().double().expand(self.g.shape).reshape(self.stack.shape).flip(-2)
        weights = identity(self.cols, self.stack) if outputs is None else outputs.detach()
        weights = weights.to(self.stack).expand(len(self.stack), -1, -1)
        result = sets.new_zeros(*sets.shape[:-1], weights.shape[1])
        with torch.no_grad():
            for part in self._parts(sets.shape[1]):
                driven = sets[:, part].flip(-1)
                state = self._state(driven, self._grounds(driven))
                result[:, part] = self._variance(state, spread, weights)
        return result.reshape(*shape, weights.shape[1]).to(x.dtype)


class Linearised(Sided, Solved):
    """Sensitivities by one solve of the network that is linearised at a solution, its adjoint.

    By Tellegen's theorem the sensitivity of the output to a conductance is the product of two cell
    voltages, u of the read and s of the network driven by the cotangent at its sense terminals
    (times (∂i/∂g)/u for a nonlinear cell); to a resistance it is minus the product of the two
    currents through it. (Director & Rohrer, IEEE Trans. Circuit Theory 16, 318 (1969),
    doi:10.1109/TCT.1969.1082965.)
    """

    @abstractmethod
    def _adjoint(self, state: State, y: Tensor) -> Tensor:
        """Cell voltages of the network linearised at a state, driven at its sense terminals.

        Cotangents y (T, k, cols) give cell voltages (T, k, rows, cols).
        """

    def _slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """∂i/∂u and ∂i/∂g of the cells at voltages u (T, k, rows, cols)."""
        return self.stack[:, None], u

    def _pulled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        by_x, by_g, by_r = torch.empty_like(x), torch.zeros_like(self.stack), x.new_zeros(4)
        for part in self._parts(x.shape[1]):
            state = self._state(x[:, part], torch.zeros_like(y[:, part]))
            s = self._adjoint(state, y[:, part])
            slope, per_g = self._slopes(state.u)
            i_hat = slope * s
            by_g += (per_g * s).sum(1)
            by_r += self._by_resistance(state.i, i_hat)
            by_x[:, part] = i_hat.sum(-1)
            if self.off is not None:
                by_x[:, part] *= ~self.off[0]
        return by_x, by_g, by_r

    def _by_resistance(self, i: Tensor, i_hat: Tensor) -> Tensor:
        """Gradients (4,) in the order of `Wires.resistances`."""
        off, whole = self.off or (None, None), self.wires.end_segments
        by_row, by_driver = by_ohms(self.circuit.rows, i, i_hat, whole, off[0])
        by_col, by_sense = by_ohms(self.circuit.cols, i.mT, i_hat.mT, whole, off[1])
        return torch.stack((by_row, by_col, by_driver, by_sense))

    def _variance(self, state: State, spread: Tensor, weights: Tensor) -> Tensor:
        caused = (self._slopes(state.u)[1] * spread[:, None]).square().flatten(2)
        parts = []
        for part in self._parts(weights.shape[1]):
            s = self._adjoint(state, weights[:, part])
            parts.append(caused @ s.square().flatten(2).mT)
        return torch.cat(parts, -1)


def segments(lines: Lines, i: Tensor, floating: Tensor | None) -> tuple[Tensor, Tensor]:
    """Currents of the segments (..., lines, nodes) and at the far ends (..., lines) [A]."""
    far = i.new_zeros(i.shape[:-1]) if lines.far is None else lines.far_current(i)
    if floating is not None:
        far = far * ~floating
    return lines.currents(i, far), far


def by_ohms(
    lines: Lines, i: Tensor, i_hat: Tensor, end_segments: bool, floating: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients () with respect to the resistance of a segment and of a terminal."""
    (a, far_a), (b, far_b) = (segments(lines, v, floating) for v in (i, i_hat))
    product = -(a * b).flatten(0, -2).sum(0)
    ends = product[0] - (far_a * far_b).sum()
    return product[1:].sum() + (ends if end_segments else 0), ends


class _Read(torch.autograd.Function):
    """mv, differentiated by the adjoint network."""

    @staticmethod
    def forward(ctx: Any, network: Wired, x: Tensor, g: Tensor, *resistances: Any) -> Tensor:
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
            return None, grad_x.to(x.dtype).sum_to_size(x.shape), None, None, None, None, None
        gradients: Sequence[Tensor] = network.vjp(x, cotangent)
        return None, *(v if need else None for v, need in zip(gradients, needs[1:], strict=True))
