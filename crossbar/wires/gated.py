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
from crossbar.wires.settings import Iterative, Wires
from crossbar.wires.solved import Solved, State, by_ohms, segments


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


class Gated(Solved):
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
        self.source, self.volt = wires.source, wires.source.v
        with torch.no_grad():
            line = self._source_line(self.stack)
        self.ladders = Ladders(self.circuit.cols, line, self.source.opposite)

    def _phases(self, x: Tensor) -> tuple[Tensor, Tensor]:
        level = x / self.volt
        code = level.round()
        if bool(((level - code).abs() > 1e-6).any()) or bool((code.abs() > 1).any()):
            raise ValueError(f"gated inputs must be 0 or ±{self.volt} V; slice others into bits")
        return (code > 0).to(self.stack), (code < 0).to(self.stack)

    def _gated(self, on: Tensor, u0: Tensor) -> tuple[Tensor, Tensor]:
        """Solve with the gates `on` (T, k, rows) for open-circuit voltages u0."""
        g, hint = self.stack[:, None] * on[..., None], f"(kappa = {self.kappa:.3g})"
        return krylov.solve(self.ladders, g, u0.expand_as(g), 1e-14, 5000, 1e3, hint)

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

    def _currents(self, x: Tensor) -> Tensor:
        (up, down), v = self._phases(x), x.new_full((1, 1, 1, 1), self.volt)
        found = self._gated(up, v)[1].sum(-2)
        return found - self._gated(down, v)[1].sum(-2) if bool(down.any()) else found

    def _state(self, x: Tensor, y: Tensor) -> State:
        up, down = self._phases(x)
        if bool(down.any()) or bool(y.any()):
            raise ValueError("fields of a gated array: inputs 0 or +v and grounded bitlines")
        return State(*self._gated(up, x.new_full((1, 1, 1, 1), self.volt)), up, y)

    def _along(self, state: State, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The source lines in place of the wordlines."""
        u, i, on, _ = state
        bit, source = self.ladders.bit, self.ladders.source
        down = segments(bit, i.mT, None)[0].mT
        v_col = bit.drop(i.mT).mT
        v_source = self.volt - self.ladders.sourced(i)
        if self.source.opposite:
            along = -source.currents(i.flip(-2).mT).mT.flip(-2)
        else:
            along = source.currents(i.mT).mT
        g = self.stack[:, None] * (on != 0)[..., None]
        residual = (g * u - i).abs().max() / i.abs().max().clamp_min(1e-300)
        return v_source, v_col, along, down, self.volt * i.sum((-2, -1)), residual

    def _pulled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs straight through the gates, g, the bitline's resistances."""
        by_x, by_g, by_r = torch.zeros_like(x), torch.zeros_like(self.stack), x.new_zeros(4)
        v, zero = x.new_full((1, 1, 1, 1), self.volt), x.new_zeros(())
        for part in self._parts(x.shape[1]):
            negative = x[:, part] < 0
            for sign, on in zip((1, -1), self._phases(x[:, part]), strict=True):
                u, i = self._gated(on, v)
                s, i_hat = self._gated(on, sign * y[:, part, None, :])
                by_g += (u * s * on[..., None]).sum(1)
                by_gate = (self.stack[:, None] * (u * s)).sum(-1) * (sign / self.volt)
                by_x[:, part] += torch.where(negative == (sign < 0), by_gate, 0.0)
                whole = self.wires.end_segments
                segment, end = by_ohms(self.ladders.bit, i.mT, i_hat.mT, whole)
                by_r += torch.stack((zero, segment, zero, end))
        return by_x, by_g, by_r

    def _variance(self, state: State, spread: Tensor, weights: Tensor) -> Tensor:
        on = state.near_rows
        s, _ = self._gated(on, torch.ones_like(state.u))
        each = (state.u * s * on[..., None] * spread[:, None]).square().sum(-2)
        return each @ weights.square().mT
