"""One matrix of a given condition number, solved with and without an array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import gmres

import crossbar as xb
from devices import Device, FiniteLevels, GaussianRead, GaussianWrite
from experiments.lab.run import Outcome, Run, Stored

RTOL = 1e-10
MOST = 240
TERMS = 8


@dataclass(frozen=True)
class Solved(Run):
    """A = I + α G/√n on pairs of 4-bit cells: iterations to a residual of 1e-10."""

    size: int
    alpha: float
    slices: int
    noise: float  # of a read of each cell, relative to the window
    bits: int | None  # of the converters
    seed: int = 0

    def label(self) -> str:  # noqa: D102
        return f"{self.slices} slices, α = {self.alpha:g}"

    def cost(self) -> float:  # noqa: D102
        return 20.0

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        generator = torch.Generator().manual_seed(self.seed)
        n = self.size
        noise = torch.randn(n, n, generator=generator, dtype=torch.float64)
        a = torch.eye(n, dtype=torch.float64) + self.alpha * noise / n**0.5
        b = torch.randn(n, generator=generator, dtype=torch.float64)
        cell = Device(
            0.0,
            1e-4,
            write=FiniteLevels(16, write=GaussianWrite(0.003)),
            read=GaussianRead(self.noise) if self.noise else None,
        )
        port = xb.Periphery()
        if self.bits is not None:
            port = xb.Periphery(xb.DAC(self.bits), xb.ADC(self.bits, range=xb.PerVector()))
        array = xb.matrix(a, xb.Chip(cell, xb.Slices((4,) * self.slices), forward=port), seed=0)
        held = array.weight.mT.double()
        eye = torch.eye(n, dtype=torch.float64)
        radius = torch.linalg.eigvals(eye - a @ torch.linalg.inv(held)).abs().max()
        condition = torch.linalg.cond(a)
        curves, metrics = {}, {"condition": float(condition), "radius": float(radius)}
        for method in ("refinement", "gmres"):
            found = array.solve(b, method=method, terms=TERMS, rtol=RTOL, most=MOST)
            curves[method] = found.residuals
            metrics[method] = float(len(found.residuals) - 1)
            metrics[f"{method} ends"] = float(found.verdict == "converged")
        alone: list[float] = []
        gmres(
            a.numpy(),
            b.numpy(),
            rtol=RTOL,
            restart=MOST,
            maxiter=1,
            callback=lambda r: alone.append(float(np.asarray(r))),
            callback_type="pr_norm",
        )
        curves["no array"] = alone
        metrics["no array"] = float(len(alone))
        return Outcome(metrics, curves)
