"""A4: what wires take from the currents of one array, by the nodal equations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from crossbar.wires import Approximate, Solver, Wires, prepare
from experiments.lab.run import Outcome, Run, Stored
from experiments.studies.verify.claims import Anchor, Claim

SOURCE = "an independent nodal solution, another array of the kind"
NOTE = "64 × 64, G even in 0 … g_max, all rows at 1 V; lost current of all columns"
CASES = (
    (25e-6, 1.0, 3.4, 0.2),
    (100e-6, 2.5, 25.6, 0.7),
)  # g_max [S], Ω, lost and ± [%]
KAPPA = ((0.02, 1e-4), (0.2, 0.004), (0.8, 0.04))  # of the fast formula, its stated error


@dataclass(frozen=True)
class Array(Run):
    """Column currents by the chosen solver, by SciPy's sparse one and without wires."""

    g_max: float
    ohms: float
    solver: Solver | None = None
    size: int = 64
    seed: int = 0

    def label(self) -> str:  # noqa: D102
        return f"array {self.size}, {self.g_max * 1e6:g} µS, {self.ohms:g} Ω"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        draw = torch.Generator().manual_seed(self.seed)
        n = self.size
        g = self.g_max * torch.rand(n, n, generator=draw, dtype=torch.float64)
        network = prepare(g, Wires(self.ohms, self.ohms), solver=self.solver)
        ours = network.mv(torch.ones(n, dtype=torch.float64)).numpy()
        nodal, ideal = _nodal(g.numpy(), self.ohms), g.sum(0).numpy()
        return Outcome(
            {
                "lost": 100 * (1 - ours.sum() / ideal.sum()),
                "error": abs(ours - nodal).max() / abs(nodal).max(),
            },
            {},
        )


def _nodal(g: np.ndarray, ohms: float) -> np.ndarray:
    """Currents of columns: Kirchhoff at every node, rows driven with 1 V at the left."""
    n = len(g)
    row, col = np.arange(n * n).reshape(n, n), n * n + np.arange(n * n).reshape(n, n)
    wire = 1 / ohms
    a = np.concatenate([row[:, 1:].ravel(), col[1:].ravel(), row.ravel()])
    b = np.concatenate([row[:, :-1].ravel(), col[:-1].ravel(), col.ravel()])
    y = np.concatenate([np.full(2 * n * (n - 1), wire), g.ravel()])
    ends = np.concatenate([row[:, 0], col[-1]])  # drivers and sense amplifiers
    i = np.concatenate([a, b, a, b, ends])
    j = np.concatenate([a, b, b, a, ends])
    values = np.concatenate([y, y, -y, -y, np.full(2 * n, wire)])
    driven = np.zeros(2 * n * n)
    driven[row[:, 0]] = wire
    v = spsolve(coo_array((values, (i, j))).tocsc(), driven)
    return v[col[-1]] * wire


class Lines(Anchor):
    """Two published losses, the solver against SciPy's, the fast formula within its error."""

    key = "A4"
    about = "IR drop by the nodal equations"
    exact = True

    def fast(self, kappa: float) -> Array:
        """An array of that κ by the fast formula."""
        return Array(50e-6, kappa / (64**2 * 25e-6), Approximate())

    def runs(self) -> list[Run]:  # noqa: D102
        exact: list[Run] = [Array(g_max, ohms) for g_max, ohms, *_ in CASES]
        return exact + [self.fast(kappa) for kappa, _ in KAPPA]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        rows = []
        for g_max, ohms, lost, within in CASES:
            found = store[Array(g_max, ohms)].metrics
            name = f"{g_max * 1e6:g} µS, {ohms:g} Ω a segment"
            rows += [
                Claim(SOURCE, name, "% lost", f"{lost:g}", [found["lost"]], lost - within,
                      lost + within, exact=True, note=NOTE),
                Claim("SciPy's sparse LU of the same equations", name, "largest error", "0",
                      [found["error"]], high=1e-3, exact=True),
            ]  # fmt: skip
        for kappa, most in KAPPA:
            error = store[self.fast(kappa)].metrics["error"]
            rows.append(Claim("as `Approximate` states", f"W ≈ g/(1 + R g), κ = {kappa:g}",
                              "largest error", f"{most:g}", [error], high=1.5 * most, exact=True,
                              note="stated as 'about'"))  # fmt: skip
        return rows
