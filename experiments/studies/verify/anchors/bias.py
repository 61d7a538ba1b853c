"""A1: analog descent settles beside the minimum, by as much as gradients are noisy."""

from __future__ import annotations

from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.studies.verify.runs import Rest

SOURCE = "Wu et al., NeurIPS 2024 (arXiv:2406.12774)"
RATES = (0.1, 0.04)


class Bias(Anchor):
    """w = w*/(1 + E|g|/τ) whatever the rate."""

    key = "A1"
    about = "bias of analog descent, in closed form"

    def run(self, lr: float) -> Rest:
        """At one rate."""
        return Rest(lr, 1_000 if self.quick else 6_000)

    def runs(self) -> list[Run]:  # noqa: D102
        return [self.run(lr) for lr in RATES]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        closed = Rest.closed()
        found = {lr: store[self.run(lr)].curves["mean"] for lr in RATES}
        ratio = [100 * (a / b - 1) for a, b in zip(*found.values(), strict=True)]
        return [
            *(
                Claim(SOURCE, f"rest point of w* = ½, τ = 1, noise 1, lr {lr:g}", "w",
                      f"w*/(1 + E|g|/τ) = {closed:.4f}", means, 0.99 * closed, 1.01 * closed)
                for lr, means in found.items()
            ),
            Claim(SOURCE, f"rest point at lr {RATES[0]:g} over that at {RATES[1]:g}, less 1", "%",
                  "independent of the rate", ratio, -1.0, 1.0),
        ]  # fmt: skip
