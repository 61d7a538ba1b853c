"""Networks of cells with a nonlinear I-V."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.wires import krylov
from crossbar.wires.settings import Floating, Newton, NotConverged, Wires
from crossbar.wires.solved import CHUNK, Linearised, State
from crossbar.wires.tree import Tree
from devices.part import IV

SHORTEST = 2.0**-20
"""Part of a Newton step below which it is taken as it is: rounding alone stops the search."""


@dataclass(frozen=True)
class Reversed(IV):
    """A cell seen from its other terminal; the same as the law itself where that is odd."""

    law: IV

    def current(self, g: Tensor, v: Tensor) -> Tensor:
        """−I(−V) [A]."""
        return -self.law.current(g, -v)


class Nonlinear(Linearised):
    """`Newton`: u = u₀ − R i(g, u), solved for every set of inputs.

    Chord steps put the difference j = i(u) − g₀ u to the ohmic cells as current sources into the
    factored ohmic circuit, one solve for all sets at once. Where they stop paying, Newton steps
    solve (1 + R i′) δ = −(u − u₀ + R i) by conjugate gradients, each set with its own slopes;
    with floating lines, which R knows nothing of, by elimination of the circuit of these slopes.
    """

    solver: Newton
    matrix = None

    def __init__(
        self,
        g: Tensor,
        wires: Wires,
        solver: Newton,
        iv: IV,
        floating: Floating | None = None,
    ) -> None:
        super().__init__(g, wires, solver, floating)
        self.iv = iv
        with torch.no_grad():
            self.ohmic = self._slopes(torch.zeros_like(self.stack[:, None]))[0][:, 0]
            self.tree = Tree(self.ohmic, self.circuit, self.off)

    def _like(self, g: Tensor, wires: Wires, floating: Floating | None) -> Nonlinear:
        """Seen from the side, the current through a cell flows the other way."""
        iv = self.iv.law if isinstance(self.iv, Reversed) else Reversed(self.iv)
        return Nonlinear(g, wires, self.solver, iv, floating)

    def _current(self, u: Tensor) -> Tensor:
        return self.iv.current(self.stack[:, None], u)

    def _slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            v = u.detach().requires_grad_()
            g = self.stack[:, None].expand_as(v).clone().requires_grad_()
            by_u, by_g = torch.autograd.grad(self.iv.current(g, v).sum(), (v, g))
        return by_u, by_g

    def _state(self, x: Tensor, y: Tensor) -> State:
        u, i = self._solution(x, y)
        if self.off is None:
            return State(u, i, x, y)
        # floating lines take a voltage of their own
        return State(u, i, *self.tree.solve(x, y, i - self.ohmic[:, None] * u)[2:])

    def _solution(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scale = (x[..., :, None].abs() + y[..., None, :].abs()).amax((-2, -1), keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
        u, c, _, _ = self.tree.solve(x, y)
        i = self._current(u)
        worst = self._worst(i - c, scale)
        for _ in range(self.solver.max_steps):
            if worst <= self.solver.tolerance:
                return u, i
            next_u, next_c, _, _ = self.tree.solve(x, y, i - self.ohmic[:, None] * u)
            next_i = self._current(next_u)
            reached = self._worst(next_i - next_c, scale)
            if not reached <= worst / 2:
                break
            u, c, i, worst = next_u, next_c, next_i, reached
        return self._newton(u, c, scale)

    def _worst(self, error: Tensor, scale: Tensor) -> float:
        """Largest violation of Kirchhoff's voltage law, relative to the applied voltages.

        With u = u₀ − R c for assumed currents c, that is R (i(u) − c); with floating lines, what
        the ohmic circuit answers to i(u) − c.
        """
        if not error.numel():
            return 0.0
        if self.off is None:
            lost = self.circuit.drop(error)
        else:
            lost = self.tree.solve(*self._grounded(error), error)[0]
        return float((lost.abs() / scale).max())

    def _direction(self, slope: Tensor, error: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Newton's change of the currents and the fall of the cell voltages that goes with it."""
        if self.off is None:
            root = slope.sqrt()
            b = torch.where(root > 0, error / root, 0.0)
            d = root * krylov.system(self.circuit, root, b, tolerance, 5000)[0]
            return d, self.circuit.drop(d)
        u, i = self._linear(slope, *self._grounded(error), error)
        return i, -u

    def _grounded(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Terminal voltages of zero for the sets of `like` (T, k, rows, cols)."""
        return torch.zeros_like(like[..., 0]), torch.zeros_like(like[..., 0, :])

    def _linear(
        self, slope: Tensor, x: Tensor, y: Tensor, j: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Voltages and currents of cells i = slope · u + j, each set a circuit of its own."""
        parts = []
        step = max(1, CHUNK // (64 * self.stack.numel()))
        for k in range(0, slope.shape[1], step):
            sets = slice(k, k + step)
            values = (slope, x, y) if j is None else (slope, x, y, j)
            cells, *given = (v[:, sets].flatten(0, 1) for v in values)
            tree = Tree(cells, self.circuit, self.off)
            found = tree.solve(*(v[:, None] for v in given))[:2]
            parts.append([v[:, 0].unflatten(0, (len(self.stack), -1)) for v in found])
        u, i = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return u, i

    def _newton(self, u: Tensor, c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Damped Newton on the assumed currents c, each set with its own step length.

        The co-content Φ(c) = Σ ∫ i du + ½ cᵀR c is convex with gradient −R ρ, ρ = i(u) − c, and
        Newton's direction d, (1 + i′ R) d = ρ, goes downhill. A step is short enough when Φ does
        not rise at its end more steeply than it fell half as much at its start: no antiderivative
        of the I-V is needed.
        """
        worst = float("inf")
        for _ in range(self.solver.max_steps):
            i = self._current(u)
            error = i - c
            worst = self._worst(error, scale)
            if worst <= self.solver.tolerance:
                return u, i
            d, fall = self._direction(self._slopes(u)[0], error, min(1e-4, max(1e-13, worst)))
            start = krylov.dot(error, fall)
            length = torch.ones_like(start)
            while True:
                end = krylov.dot(self._current(u - length * fall) - c - length * d, fall)
                good = end >= -start / 2
                if bool(good.all()) or float(length.min()) < SHORTEST:
                    break
                length = torch.where(good, length, length / 2)
            u, c = u - length * fall, c + length * d
        raise NotConverged(
            f"residual {worst:.1e} of the applied voltage, wanted {self.solver.tolerance:.1e} "
            f"(kappa = {self.kappa:.3g}, {self.iv!r}); raise max_steps or the tolerance"
        )

    def _adjoint(self, state: State, y: Tensor) -> Tensor:
        slope = self._slopes(state.u)[0]
        if self.off is not None:
            return self._linear(slope, torch.zeros_like(slope[..., 0]), y)[0]
        u0 = self.circuit.open_circuit(y.new_zeros(*y.shape[:-1], self.rows), y)
        u0 = u0.expand_as(slope)
        return krylov.solve(self.circuit, slope, u0, 1e-13, 5000, 1e3, "in the adjoint")[0]

    def _variance(self, state: State, spread: Tensor, weights: Tensor) -> Tensor:
        """Every set has its own adjoint network, hence one solve per output and set."""
        caused = self._slopes(state.u)[1] * spread[:, None]
        parts = []
        for k in range(weights.shape[1]):
            y = weights[:, k, None].expand(-1, state.u.shape[1], -1)
            parts.append((caused * self._adjoint(state, y)).square().sum((-2, -1)))
        return torch.stack(parts, -1)
