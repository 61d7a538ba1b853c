"""A10: networks trained with noise, on noisy and drifting cells, with and without compensation."""

from __future__ import annotations

import math

import crossbar as xb
from devices import Device, GaussianWrite, presets
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.studies.verify.runs import Clipped, Written
from experiments.tasks.data import Digits
from experiments.tasks.families import G_MAX, G_MIN
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

SOURCE = "Joshi et al., Nat. Commun. 11:2473 (2020); Rasch et al., Nat. Commun. 14:5282 (2023)"
NOTE = "64-54-10 on digits; noise 0.1 of the largest weight and clipping at 2.5 σ in training"
TIMES = (1.0, 86400.0, 365 * 86400.0)
NAMES = ("1 s", "1 d", "1 y")
NOISES = (0.0, 0.1, 0.2)


def noisy(eta: float) -> xb.Chip:
    """Weights that are written with errors of so much of the largest."""
    write = GaussianWrite(eta / math.sqrt(2)) if eta else None  # of each cell of a pair
    return xb.Chip(Device(G_MIN, G_MAX, write=write))


class Noise(Anchor):
    """Trained as they come (FP) and hardware-aware (HWA)."""

    key = "A10"
    about = "noise-injected training, drift and its global compensation"

    def train(self, aware: bool, seed: int) -> Train:
        """One network."""
        recipe = Recipe(3 if self.quick else 30, 25, 0.2)
        if not aware:
            return Train(Digits(), MLP((54,)), recipe, seed=seed)
        mode = xb.HardwareAware(modifiers=(xb.AdditiveNoise(0.1),))
        return Clipped(Digits(), MLP((54,)), recipe, noisy(0.0), mode, seed)

    def read(self, aware: bool, chip: xb.Chip, seed: int, **how: object) -> Written:
        """It, written."""
        chips = 2 if self.quick else 10
        return Written(self.train(aware, seed), chip, chips, **how)  # type: ignore[arg-type]

    def drifting(self, aware: bool, compensated: bool, seed: int) -> Written:
        """On phase-change cells."""
        chip = xb.Chip(presets.pcm())
        return self.read(aware, chip, seed, after=TIMES, compensated=compensated)

    @property
    def seeds(self) -> range:
        """Of networks and batches."""
        return range(1 if self.quick else 5)

    def runs(self) -> list[Run]:  # noqa: D102
        ways = [(aware, seed) for aware in (False, True) for seed in self.seeds]
        found: list[Run] = [self.read(a, noisy(eta), s) for eta in NOISES for a, s in ways]
        return found + [self.drifting(a, c, s) for c in (False, True) for a, s in ways]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        def row(setting: str, told: str, better: list[float], worse: list[float],
                **bounds: float) -> Claim:  # fmt: skip
            gaps = [a - b for a, b in zip(better, worse, strict=True)]
            return Claim(SOURCE, setting, "points", told, gaps, **bounds, note=NOTE)

        rows = []
        for eta, told, bounds in (
            (0.0, "clean accuracy unchanged", {"low": -1.0}),
            (0.1, "noise-trained above FP (prototype 4.3)", {"low": 2.0}),
            (0.2, "noise-trained above FP (prototype 19.3)", {"low": 8.0}),
        ):
            fp, aware = (
                [store[self.read(a, noisy(eta), s)].metrics["accuracy"] for s in self.seeds]
                for a in (False, True)
            )
            rows.append(row(f"HWA above FP, weight noise {eta:g}", told, aware, fp, **bounds))
        at = {
            (aware, compensated, k): [
                store[self.drifting(aware, compensated, s)].curves["accuracy"][k]
                for s in self.seeds
            ]
            for aware in (False, True)
            for compensated in (False, True)
            for k in range(len(TIMES))
        }
        for k, name in enumerate(NAMES):
            rows.append(row(f"HWA above FP on PCM after {name}", "noise-trained above FP",
                            at[True, False, k], at[False, False, k], low=-0.5))  # fmt: skip
        for aware, how in ((False, "FP"), (True, "HWA")):
            rows.append(row(f"{how} on PCM after 1 y, compensated above not", "GDC above none",
                            at[aware, True, 2], at[aware, False, 2], low=-0.5))  # fmt: skip
            rows.append(row(f"{how} on PCM, 1 s above 1 y", "falls with time",
                            at[aware, False, 0], at[aware, False, 2], low=-0.5))  # fmt: skip
        return rows
