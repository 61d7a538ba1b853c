"""A8: what cells and pulses of an RPU may be, one parameter at a time."""

from __future__ import annotations

from dataclasses import replace

import crossbar as xb
from devices import ConstantStep, Device
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

SOURCE = "Gokmen & Vlasov, Front. Neurosci. 10:333 (2016)"
NOTE = "64-54-10 on digits in place of MNIST, batches of 10"
SPAN = 98e-6  # [S] no number depends on it
BASE = ConstantStep(
    0.001 / 1.2 * SPAN, sigma_c2c=0.3, sigma_d2d=0.3, sigma_up_down=0.01, sigma_bounds=0.3
)
CASES = {  # cell, bits of a train
    "baseline": (BASE, 10),
    "BL 1": (BASE, 1),
    "cycles 150 %": (replace(BASE, sigma_c2c=1.5), 10),
    "imbalance 0.2": (replace(BASE, up_down=0.2), 10),
}


class Stress(Anchor):
    """Its baseline and three departures from it, against digital training."""

    key = "A8"
    about = "bits of a train, cycle noise and imbalance of an RPU"

    def train(self, name: str, seed: int) -> Train:
        """One network; "digital" has no chip."""
        recipe = Recipe(2 if self.quick else 20, 10, 0.1, decay=1.0)
        run = Train(Digits(), MLP((54,)), recipe, seed=seed)
        if name == "digital":
            return run
        law, bits = CASES[name]
        # ±0.6 is the window; 7 bits in, of each vector; 9 bits of ±12 out, noise 0.06
        dac = xb.DAC(7, range=xb.PerVector())
        full = 12 / (2 * 0.6) * dac.v_max * SPAN
        port = xb.Periphery(dac, xb.ADC(9, range=xb.Fixed(full), noise=0.06 / 12))
        chip = xb.Chip(Device(1e-6, 99e-6, update=law), xb.OffsetColumn(w_max=0.6), port)
        return replace(run, chip=chip, mode=xb.InSitu(xb.ExactBits(bits), gradient=False))

    @property
    def seeds(self) -> range:
        """Of networks, cells and batches."""
        return range(1 if self.quick else 5)

    def runs(self) -> list[Run]:  # noqa: D102
        return [self.train(name, seed) for name in ("digital", *CASES) for seed in self.seeds]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        found = {}
        for name in ("digital", *CASES):
            trained = [self.train(name, seed) for seed in self.seeds]
            found[name] = [run.late_accuracy(store[run]) for run in trained]

        def row(better: str, worse: str, published: str, **bounds: float) -> Claim:
            gaps = [a - b for a, b in zip(found[better], found[worse], strict=True)]
            return Claim(SOURCE, f"{better} above {worse}", "points", published, gaps, **bounds,
                         note=NOTE)  # fmt: skip

        return [
            row("digital", "baseline", "0.3 lost", high=0.7),
            row("baseline", "BL 1", "BL 1 slightly worse", low=0),
            row("baseline", "cycles 150 %", "tolerated", high=1),
            row("baseline", "imbalance 0.2", "5 % is the limit", low=2),
        ]
