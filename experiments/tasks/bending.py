"""The cells of the curves, and what was published for them as an order of magnitude."""

from __future__ import annotations

from dataclasses import replace

import crossbar as xb
from devices import NeuroSim
from experiments.lab.store import Store
from experiments.tasks.data import Digits
from experiments.tasks.materials import MATERIALS, cell
from experiments.tasks.networks import MLP
from experiments.tasks.online import LAST, Online
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

LR, W_MAX, HIDDEN = 0.02, 1.0, 54
FLAT = NeuroSim(100, 100)
STOCHASTIC, NEAREST = xb.Deterministic(stochastic=True), xb.Deterministic()
MAPPING = xb.Differential(route=xb.Reference(), w_max=W_MAX)

LEVELS = (8, 16, 32, 64, 128, 512)
BENT = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
RETRACED = (1.0, 3.0, 5.0)
NOISE = (0.005, 0.01, 0.02, 0.035, 0.05, 0.1)
SPREAD = (0.5, 1.0, 2.0)
CHECKED = ("straight", "bent", "retraced")

PROTOTYPE = {
    "levels": (85.3, 94.9, 97.3, 97.3, 97.3, 97.6),
    "bent": (97.8, 96.2, 92.0, 85.8, 81.9, 74.0, 65.6),
    "retraced": (97.5, 98.0, 97.5),
    "noise": (97.3, 97.6, 96.2, 81.9, 42.8, 9.9),
    "spread": (97.0, 96.9, 96.3),
}
"""Accuracies [%] of an independent prototype of the same task, 2 seeds, own learning rate."""


class Plan:
    """All runs, by sweep and value; cells have 100 straight, noiseless levels but for the sweep."""

    def __init__(self, epochs: int, seeds: int) -> None:
        self.epochs, self.seeds = epochs, seeds
        self.levels = {n: self._law(NeuroSim(n, n)) for n in LEVELS}
        self.nearest = {n: self._law(NeuroSim(n, n), NEAREST) for n in LEVELS}
        self.bent = {a: self._law(replace(FLAT, nl_up=a, nl_down=-a)) for a in BENT}
        self.retraced = {a: self._law(replace(FLAT, nl_up=a, nl_down=a)) for a in RETRACED}
        self.noise = {s: self._law(replace(FLAT, sigma_c2c=s)) for s in NOISE}
        self.spread = {
            s: self._law(replace(FLAT, nl_up=1.0, nl_down=-1.0, sigma_d2d=s)) for s in SPREAD
        }
        self.materials = {
            m.name: self._online(xb.Chip(device=m.cell, mapping=MAPPING)) for m in MATERIALS[1:]
        }
        self.straight = self._law(FLAT)
        pairs = {
            "straight": self.straight,
            "bent": self.bent[5.0],
            "retraced": self.retraced[5.0],
        }
        self.digital = [self._train(None, seed) for seed in range(seeds)]
        self.layers = {
            name: (pairs[name], [self._train(pairs[name], seed) for seed in range(2)])
            for name in CHECKED
        }

    def _law(self, law: NeuroSim, scheme: xb.Scheme = STOCHASTIC) -> Online:
        return self._online(xb.Chip(device=cell(law), mapping=MAPPING), scheme)

    def _online(self, chip: xb.Chip, scheme: xb.Scheme = STOCHASTIC) -> Online:
        return Online(Digits(), chip, scheme, LR, self.epochs, HIDDEN, self.seeds)

    def _train(self, like: Online | None, seed: int) -> Train:
        """The same training by torch and, where it is analog, by the drop-in layers."""
        recipe = Recipe(epochs=self.epochs, batch=1, lr=LR, decay=1.0)
        run = Train(Digits(), MLP(hidden=(HIDDEN,)), recipe, seed=seed)
        if like is None:
            return run
        return replace(run, chip=like.chip, mode=xb.InSitu(xb.Sequential(like.scheme)))

    def online(self) -> list[Online]:
        """Every batch of networks."""
        sweeps = (self.levels, self.nearest, self.bent, self.retraced, self.noise, self.spread)
        return [
            self.straight,
            *(run for sweep in sweeps for run in sweep.values()),
            *self.materials.values(),
        ]

    def all(self) -> list[Online | Train]:
        """Every run."""
        layers = [run for _, runs in self.layers.values() for run in runs]
        return [*self.online(), *self.digital, *layers]


def late(store: Store, run: Train) -> float:
    """Mean accuracy of the last epochs [%]."""
    return sum(store[run].curves["accuracy"][-LAST:]) / LAST
