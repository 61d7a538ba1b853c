"""A6: asymmetric against symmetric bending, levels, noise of cycles and of cells, on digits."""

from __future__ import annotations

from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.bending import Plan
from experiments.tasks.online import Online

BENT = "Agarwal et al., IJCNN 2016; Chang et al., arXiv:1712.05895"
PENG = "Chen, Peng & Yu, TCAD 2018; Peng et al., 2020"
NOTE = "an independent prototype on the same digits: "


class Curves(Anchor):
    """Image by image with stochastic whole pulses, 100 levels unless said."""

    key = "A6"
    about = "nonlinearity, levels, noise: what they cost on digits"

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        plan = Plan(*((1, 2) if quick else (16, 10)))
        self.named: dict[str, Online] = {
            "straight": plan.straight,
            "asymmetric 1": plan.bent[1.0],
            "asymmetric 3": plan.bent[3.0],
            "asymmetric 5": plan.bent[5.0],
            "symmetric 5": plan.retraced[5.0],
            "8 levels": plan.levels[8],
            "32 levels": plan.levels[32],
            "512 levels": plan.levels[512],
            "cycles 2 %": plan.noise[0.02],
            "cycles 5 %": plan.noise[0.05],
            "cells 2": plan.spread[2.0],
        }

    def runs(self) -> list[Run]:  # noqa: D102
        return list(self.named.values())

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        found = {name: store[run].curves["accuracy"] for name, run in self.named.items()}

        def row(
            source: str, better: str, worse: str, published: str, told: str, **bounds: float
        ) -> Claim:
            gaps = [a - b for a, b in zip(found[better], found[worse], strict=True)]
            return Claim(source, f"{better} above {worse}", "points", published, gaps, **bounds,
                         note=NOTE + told)  # fmt: skip

        return [
            row(BENT, "symmetric 5", "asymmetric 5", "severe, against none", "23.5", low=15),
            row(BENT, "straight", "symmetric 5", "no effect", "−0.2", low=-1.5, high=1.5),
            row(BENT, "asymmetric 1", "asymmetric 3", "monotone", "10.4", low=2),
            row(BENT, "asymmetric 3", "asymmetric 5", "monotone", "3.9", low=1),
            row(PENG, "512 levels", "8 levels", "few levels hurt", "12.3", low=5),
            row(PENG, "512 levels", "32 levels", "a knee at 16 to 32", "0.3", low=-1, high=1.5),
            row(PENG, "straight", "cycles 2 %", "below 1 % harmless", "1.1", high=5),
            row(PENG, "cycles 2 %", "cycles 5 %", "5 % degrades strongly", "53", low=15),
            row(PENG, "asymmetric 1", "cells 2", "spread is harmless", "−0.1", high=2),
        ]
