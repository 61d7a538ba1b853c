"""1T1R arrays with a source line beside every bitline: the wordlines only open the cells.

Columns do not see each other. In a column, driven by v,

    u = v − (R_source + R_bit) i,    i = g u where the gate is on,

which is the circuit of `lines` again with per-sample conductances, hence `krylov`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.wires import krylov
from crossbar.wires.lines import Lines, identity, lines
from crossbar.wires.network import Fields, Gradients, Network, State, segments, unbroadcast
from crossbar.wires.settings import Iterative, NotConverged, Wires


class Ladders(NamedTuple):
    """The two lines of every column; rows counted from the sense amplifiers."""

    bit: Lines
    source: Lines
    opposite: bool  # source lines driven at the end away from the sense amplifiers

    def sourced(self, i: Tensor) -> Tensor:
        """Voltage lost along the source lines [V]."""
        if self.opposite:
            return self.source.drop(i.flip(-2).mT).mT.flip(-2)
        return self.source.drop(i.mT).mT

    def drop(self, i: Tensor) -> Tensor:
        """Loss of cell voltage [V] for cell currents i (..., rows, cols) [A]."""
        return self.bit.drop(i.mT).mT + self.sourced(i)


class Gated(Network):
    """Reads with inputs 0 and ±v, the negative ones in a phase of their own, subtracted.

    The transposed read opens one row after another (a gate cannot be sensed): the source lines
    are driven with d, and the currents of all bitlines are added. Only one cell of a column
    conducts, in series with the lines up to it, hence with R_i their resistance at row i

        y_i = Σ_j d_j g_ij / (1 + R_i g_ij),

    linear in d, which may be of any size. Away from R g = 0 it is not the transpose of the read,
    in which the open cells of a column share its lines.

    Gradients with respect to inputs take a gate as conducting in part, g_i x_i/v, at the point of
    the read (straight through the gates). In `fields` the source lines take the place of the
    wordlines.
    """

    matrix = None

    def __init__(self, g: Tensor, wires: Wires) -> None:
        assert wires.source is not None
        super().__init__(g, wires, Iterative(1e-13))
        self.kappa = (
            wires.kappa(g)
            + self.rows**2 * wires.source.r_segment * float(g.detach().mean((-2, -1)).max()) / 2
        )
        self.source = wires.source
        with torch.no_grad():
            line = self._source_line(self.stack)
        self.ladders = Ladders(self.circuit.cols, line, self.source.opposite)

    @property
    def bilinear(self) -> bool:
        """The gates make every read a circuit of its own."""
        return False

    def _phases(self, x: Tensor) -> tuple[Tensor, Tensor]:
        level = x / self.source.v
        code = level.round()
        if bool(((level - code).abs() > 1e-6).any()) or bool((code.abs() > 1).any()):
            raise ValueError(
                f"gated inputs must be 0 or ±{self.source.v} V; slice other inputs into bits"
            )
        return (code > 0).to(self.stack), (code < 0).to(self.stack)

    def _gated(self, on: Tensor, u0: Tensor) -> krylov.Krylov:
        """Solve with the gates `on` (T, k, rows) for open-circuit voltages u0."""
        g = self.stack[:, None] * on[..., None]
        found = krylov.solve(self.ladders, g, u0.expand_as(g), 1e-14, 5000)
        worst = float(found.residual.max()) if g.numel() else 0.0
        if not worst <= 1e-11:
            raise NotConverged(f"residual {worst:.1e}, wanted 1e-11 (kappa = {self.kappa:.3g})")
        return found

    def mv_t(self, d: Tensor) -> Tensor:
        """Currents (..., rows) [A] of the rows, opened in turn, with source lines at d [V]."""
        self._check(d, self.cols, "d", "cols")
        return (d.to(self.g.dtype) @ self.matrix_t.mT).to(d.dtype)

    @property
    def matrix_t(self) -> Tensor:
        """Matrix (..., rows, cols) [S] of the transposed read, mv_t(d) = d @ matrix_tᵀ."""
        bit = lines(
            *(self.wires.r_bitline, self.wires.r_sense, self.wires),
            *(self.wires.both_senses, self.rows, self.g),
        )
        series = self.ladders._replace(bit=bit, source=self._source_line(self.g))
        one = identity(self.rows, self.g)[..., None]  # one open row after another
        path = series.drop(one)[..., 0].diagonal()[:, None]
        cells = self.g.flip(-2)
        return (cells / (1 + path * cells)).flip(-2)

    def _source_line(self, like: Tensor) -> Lines:
        source = self.source
        return lines(source.r_segment, source.r_driver, self.wires, False, self.rows, like)

    def _read(self, x: Tensor) -> Tensor:
        sets, shape = self._sets(x, self.rows)
        v = sets.new_full((1, 1, 1, 1), self.source.v)
        parts = []
        for part in self._parts(sets.shape[1]):
            up, down = self._phases(sets[:, part].flip(-1))
            found = self._gated(up, v).i.sum(-2)
            if bool(down.any()):
                found = found - self._gated(down, v).i.sum(-2)
            parts.append(found)
        result = torch.cat(parts, 1) if parts else sets.new_zeros(*sets.shape[:-1], self.cols)
        return result.reshape(*shape, self.cols).to(x.dtype)

    def _state(self, x: Tensor, y: Tensor) -> State:
        up, down = self._phases(x)
        if bool(down.any()) or bool(y.any()):
            raise ValueError("fields of a gated array: inputs 0 or +v and grounded bitlines")
        found = self._gated(up, x.new_full((1, 1, 1, 1), self.source.v))
        return State(found.u, found.i, x, y)

    def _describe(self, state: State, x: Tensor, y: Tensor, shape: tuple[int, ...]) -> Fields:
        _, i, _, _ = state
        bit, source = self.ladders.bit, self.ladders.source
        down = segments(bit, i.mT, None)[0].mT
        v_col = bit.drop(i.mT).mT
        v_source = self.source.v - self.ladders.sourced(i)
        if self.source.opposite:
            along = -source.currents(i.flip(-2).mT).mT.flip(-2)
        else:
            along = source.currents(i.mT).mT
        u = v_source - v_col
        on = x[..., None] != 0
        g = self.stack[:, None] * on
        residual = float((g * u - i).abs().max()) / max(float(i.abs().max()), 1e-300)

        def drawn(v: Tensor) -> Tensor:
            return v.flip(-2).reshape(*shape, *v.shape[-2:])

        output = i.sum(-2)
        return Fields(
            output.reshape(*shape, self.cols),
            i.sum(-1).flip(-1).reshape(*shape, self.rows),
            drawn(u),
            drawn(i),
            drawn(v_source),
            drawn(v_col),
            drawn(along),
            drawn(down),
            (self.source.v * output.sum(-1)).reshape(shape),
            residual,
        )

    def _adjoint(self, state: State, y: Tensor) -> Tensor:
        return self._gated(state.near_rows, y[..., None, :]).u

    def _slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        raise TypeError("a gated cell's slope depends on its gate")

    def vjp(self, x: Tensor, cotangent: Tensor) -> Gradients:
        """Gradients: inputs straight through the gates, g, the bitline's resistances."""
        sets, shape = self._sets(x.detach(), self.rows)
        y, _ = self._sets(cotangent.detach(), self.cols)
        grad_g = torch.zeros_like(self.stack)
        grad_x = torch.zeros_like(sets)
        ohms = self.stack.new_zeros(4)
        with torch.no_grad():
            v = sets.new_full((1, 1, 1, 1), self.source.v)
            sets = sets.flip(-1)
            for part in self._parts(sets.shape[1]):
                negative = sets[:, part] < 0
                phases = zip((1, -1), self._phases(sets[:, part]), strict=True)
                for sign, on in phases:
                    read, back = self._gated(on, v), self._gated(on, sign * y[:, part, None, :])
                    by_cell = read.u * back.u
                    grad_g += (by_cell * on[..., None]).sum(1)
                    by_gate = (self.stack[:, None] * by_cell).sum(-1) * (sign / self.source.v)
                    grad_x[:, part] += torch.where(negative == (sign < 0), by_gate, 0.0)
                    a, b = (segments(self.ladders.bit, s.i.mT, None) for s in (read, back))
                    product = -(a[0] * b[0]).flatten(0, -2).sum(0)
                    ends = product[0] - (a[1] * b[1]).sum()
                    ohms[3] += ends
                    ohms[1] += product[1:].sum() + (ends if self.wires.end_segments else 0)
        g = grad_g.flip(-2).reshape(self.g.shape).to(self.g.dtype)
        x_grad = grad_x.flip(-1).reshape(*shape, self.rows).to(x.dtype)
        return Gradients(unbroadcast(x_grad, x.shape), g, *ohms)

    def _variance(self, state: State, spread: Tensor, weights: Tensor) -> Tensor:
        on = state.near_rows
        s = self._gated(on, torch.ones_like(state.u)).u
        each = (state.u * s * on[..., None] * spread[:, None]).square().sum(-2)
        return each @ weights.square().mT
