"""A7: rules of in-situ learning over the number of states, on digits."""

from __future__ import annotations

import crossbar as xb
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.programming import chip, rules
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

SOURCE = "Rasch et al. 2024; Nandakumar et al. 2020; Li et al. 2025"
NOTE = "64-54-10, soft bounds with spreads 0.3, rate 0.1, auto_granularity 200"
CASES = [("SGD", 20, 0.0), ("mixed precision", 20, 0.0)]
CASES += [("TTv2", n, s) for n in (20, 500) for s in (0.0, 0.5)]
CASES += [("c-TTv2", n, 0.5) for n in (20, 500)]


class States(Anchor):
    """Which rule bears 20 states, and a symmetry point that is badly known."""

    key = "A7"
    about = "SGD, TTv2, c-TTv2 and mixed precision over the number of states"

    def train(self, case: tuple[str, int, float], seed: int) -> Train:
        """One network."""
        name, states, sigma = case
        mode = xb.InSitu(rule=rules(states, sigma)[name], gradient=False)
        recipe = Recipe(1 if self.quick else 12, 10, 0.1, decay=1.0)
        return Train(Digits(), MLP((54,)), recipe, chip(states, False), mode, seed)

    @property
    def seeds(self) -> range:
        """Of networks, cells and batches."""
        return range(1 if self.quick else 3)

    def runs(self) -> list[Run]:  # noqa: D102
        return [self.train(case, seed) for case in CASES for seed in self.seeds]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        found = {}
        for case in CASES:
            trained = [self.train(case, seed) for seed in self.seeds]
            found[case] = [run.late_accuracy(store[run]) for run in trained]
        fell, back = {}, {}
        for n in (20, 500):
            known, blind, chopped = (
                found[case] for case in (("TTv2", n, 0.0), ("TTv2", n, 0.5), ("c-TTv2", n, 0.5))
            )
            fell[n] = [a - b for a, b in zip(known, blind, strict=True)]
            back[n] = [a - b for a, b in zip(chopped, blind, strict=True)]
        known = found["TTv2", 20, 0.0]
        sgd, mixed = (found[name, 20, 0.0] for name in ("SGD", "mixed precision"))
        half = [b - f / 2 for f, b in zip(fell[20], back[20], strict=True)]
        less = [a - b for a, b in zip(back[20], back[500], strict=True)]

        def row(setting: str, published: str, ours: list[float], low: float) -> Claim:
            return Claim(SOURCE, setting, "points", published, ours, low, note=NOTE)

        return [
            row("20 states, mixed precision above TTv2", "least sensitive",
                [a - b for a, b in zip(mixed, known, strict=True)], -1),
            row("20 states, TTv2 above SGD", "SGD fails",
                [a - b for a, b in zip(known, sgd, strict=True)], 10),
            row("20 states, TTv2 at σ_r 0 above 0.5", "breaks", fell[20], 5),
            row("20 states, c-TTv2 above TTv2 at σ_r 0.5, less half that fall", "recovers", half,
                0),
            row("what c-TTv2 recovers, 20 above 500 states", "less with many states", less, 0),
        ]  # fmt: skip
