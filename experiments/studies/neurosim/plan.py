"""Which cells are put through the protocol, and what NeuroSim itself gives for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from devices import NeuroSim
from experiments.studies.neurosim.software import Software
from experiments.tasks.materials import MATERIALS, cell
from experiments.tasks.neurosim import Mlp

BENT = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
RETRACED = (1.0, 2.0, 4.0, 6.0)
NOISE = (0.01, 0.02, 0.035, 0.05)
LEVELS = (16, 32, 64, 100)


@dataclass(frozen=True)
class Listed:
    """An accuracy that NeuroSim's own code reached, and how near ours must come [%]."""

    accuracy: float
    within: float = 3.0
    below: float | None = None  # collapsed rows are compared with this bound instead

    def holds(self, found: float) -> bool:
        """Whether an accuracy agrees."""
        if self.below is not None:
            return found < self.below
        return abs(found - self.accuracy) <= self.within


HIGH, MIDDLE, LOW = MATERIALS[1:5], MATERIALS[5:7], MATERIALS[7:]
"""NeuroSim's own groups, without access resistance and with the first write corrected."""

SOFTWARE, IDEAL = "floating point", MATERIALS[0].name
LISTED = {
    SOFTWARE: Listed(96.0),
    IDEAL: Listed(95.0),
    "EpiRAM": Listed(93.6),
    "linear, 32 levels": Listed(91.2),
    "linear, noise 3.5 %": Listed(77.2, within=5.0),
    "label +1/−1": Listed(92.5),
    "label +2/+2": Listed(95.9),
    "linear, 8 levels, rates x4": Listed(14.5, below=25.0),
}
"""Test accuracy of NeuroSim's own code on this data, last 5 of 100 epochs, 3 seeds."""

FROZEN = ("TaOx/TiO2", "GST-PCM", "PCMO")
"""Rows that stay at chance as shipped."""


class Plan:
    """All runs by name; the sweeps are 100 levels, linear and noiseless but for what is named."""

    def __init__(self, epochs: int, seeds: int, *, listed_only: bool) -> None:
        make = partial(Mlp, epochs=epochs, seeds=seeds)
        self.software = Software(epochs=epochs, seeds=seeds)
        self.corrected = {m.name: make(m.cell) for m in MATERIALS}
        self.shipped = {
            m.name: make(m.cell, access=m.access, lost_g_min=True) for m in MATERIALS[1:]
        }
        flat = NeuroSim(100, 100)

        def swept(law: NeuroSim) -> Mlp:
            return make(cell(law))

        self.levels = {
            f"linear, {n} levels": swept(replace(flat, states_up=n, states_down=n)) for n in LEVELS
        }
        eight = swept(replace(flat, states_up=8, states_down=8))
        self.levels = {
            "linear, 8 levels, rates x4": replace(eight, rates=(1.6, 0.8)),
            **self.levels,
        }
        self.noise = {
            f"linear, noise {100 * s:g} %": swept(replace(flat, sigma_c2c=s)) for s in NOISE
        }
        self.bent = {
            f"label +{a:g}/−{a:g}": swept(replace(flat, nl_up=a, nl_down=-a)) for a in BENT
        }
        self.retraced = {
            f"label +{a:g}/+{a:g}": swept(replace(flat, nl_up=a, nl_down=a)) for a in RETRACED
        }
        if listed_only:
            self.shipped = {}
            for runs in (self.corrected, self.levels, self.noise, self.bent, self.retraced):
                for name in set(runs) - set(LISTED):
                    del runs[name]

    def named(self) -> dict[str, Mlp | Software]:
        """Every run but the devices as shipped, by the name under which it is listed."""
        runs = [self.corrected, self.levels, self.noise, self.bent, self.retraced]
        return {SOFTWARE: self.software, **{k: run for part in runs for k, run in part.items()}}

    def all(self) -> list[Mlp | Software]:
        """Every run, those with a listed accuracy first."""
        named = self.named()
        first = [named[name] for name in LISTED]
        return [*first, *(r for r in [*named.values(), *self.shipped.values()] if r not in first)]
