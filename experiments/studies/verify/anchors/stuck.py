"""A9: cells that do not respond, trained around or written over."""

from __future__ import annotations

from dataclasses import replace

import crossbar as xb
from devices import ConstantStep, Device, StuckAt
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.studies.verify.runs import Written
from experiments.tasks.data import Digits
from experiments.tasks.families import G_MAX, G_MIN
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

SOURCE = "Li et al., Nat. Commun. 9:2385 (2018)"
NOTE = "its 64-54-10 on digits; half of the stuck cells off, half on; window ±1 for both"
SHARES = (0.0, 0.11, 0.5)


def chip(share: float) -> xb.Chip:
    """Nearly linear cells in pairs, so many of them stuck."""
    law = ConstantStep((G_MAX - G_MIN) / 1000, sigma_c2c=0.3, sigma_d2d=0.3)
    faults = StuckAt(share / 2, share / 2) if share else None
    return xb.Chip(Device(G_MIN, G_MAX, update=law, faults=faults), xb.Differential(w_max=1.0))


class Stuck(Anchor):
    """In place, and trained digitally and written, on cells of which none, 11 and 50 % stick."""

    key = "A9"
    about = "training in place against writing, with stuck cells"

    def digital(self, seed: int) -> Train:
        """Without a chip."""
        recipe = Recipe(2 if self.quick else 20, 25, 0.1)
        return Train(Digits(), MLP((54,)), recipe, seed=seed)

    def in_place(self, share: float, seed: int) -> Train:
        """By pulses."""
        mode = xb.InSitu(gradient=False)
        return replace(self.digital(seed), chip=chip(share), mode=mode)

    def written(self, share: float, seed: int) -> Written:
        """On several chips."""
        return Written(self.digital(seed), chip(share), 2 if self.quick else 5)

    @property
    def seeds(self) -> range:
        """Of networks, cells and batches."""
        return range(1 if self.quick else 5)

    def runs(self) -> list[Run]:  # noqa: D102
        return [
            run
            for share in SHARES
            for seed in self.seeds
            for run in (self.in_place(share, seed), self.written(share, seed))
        ]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        place, wrote = {}, {}
        for share in SHARES:
            trained = [self.in_place(share, seed) for seed in self.seeds]
            place[share] = [run.late_accuracy(store[run]) for run in trained]
            wrote[share] = [store[self.written(share, s)].metrics["accuracy"] for s in self.seeds]

        def row(found: dict[float, list[float]], how: str, share: float, **bounds: float) -> Claim:
            lost = [a - b for a, b in zip(found[0.0], found[share], strict=True)]
            told = "in situ > 60 % with half stuck" if found is place else "ex situ degrades fast"
            return Claim(SOURCE, f"{how}, {100 * share:g} % stuck", "points lost", told, lost,
                         **bounds, note=NOTE)  # fmt: skip

        return [
            row(place, "trained in place", 0.11, high=1.5),
            row(place, "trained in place", 0.5, high=3),
            row(wrote, "written", 0.11, low=5),
            row(wrote, "written", 0.5, low=35),
        ]
