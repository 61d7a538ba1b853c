"""A2: the 20 × 20 weight-programming task of cells with 20 states."""

from __future__ import annotations

from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.programming import Programming

SOURCE = "Rasch et al., Nat. Commun. 15:7133 (2024), Fig. 4"
NOTE = "RMS(W − T) over the last quarter of 20,000 vectors"
CASES = (("SGD", 0.0), ("TTv2", 0.0), ("TTv2", 0.5), ("c-TTv2", 0.5), ("AGAD", 0.5))


class Task(Anchor):
    """Which rule programs a matrix, with symmetry points known to σ_r."""

    key = "A2"
    about = "programming a 20 × 20 matrix by gradients, 20 states"

    def run(self, rule: str, sigma: float) -> Programming:
        """One rule at one error of the symmetry points."""
        return Programming(rule, 20, sigma, 8, 400 if self.quick else 20_000)

    def runs(self) -> list[Run]:  # noqa: D102
        return [self.run(rule, sigma) for rule, sigma in CASES]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        rms = {case: store[self.run(*case)].curves["errors"] for case in CASES}
        sgd, known = rms["SGD", 0.0], rms["TTv2", 0.0]
        ratio = [a / b for a, b in zip(sgd, known, strict=True)]

        def broken(rule: str, published: str, low: float, high: float) -> Claim:
            return Claim(SOURCE, f"{rule}, σ_r = 0.5", "RMS", published, rms[rule, 0.5], low, high,
                         note=NOTE)  # fmt: skip

        inf = float("inf")
        return [
            Claim(SOURCE, "TTv2, σ_r = 0", "RMS", "0.05", known, 0.035, 0.065, note=NOTE),
            Claim(SOURCE, "SGD over TTv2, σ_r = 0", "ratio", "> 0.25 over 0.05", ratio, 2.5),
            broken("TTv2", "breaks: as bad as SGD", 0.25, inf),
            broken("c-TTv2", "holds", -inf, 0.25),
            broken("AGAD", "as without an error", -inf, 0.1),
        ]
