"""The runs of the main job, by what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import crossbar as xb
from devices import GaussianRead, PowerLawDrift, StuckAt
from experiments.lab import paths
from experiments.lab.run import Run
from experiments.tasks.budget import Budget
from experiments.tasks.data import DataSet
from experiments.tasks.families import PULSES, Family, families, pcm
from experiments.tasks.runs import Evaluate, Response, Train
from experiments.tasks.training import Best, Recipe

SECOND, HOUR, DAY, YEAR = 1.0, 3600.0, 86400.0, 365.25 * 86400.0
TIMES = (SECOND, 60.0, HOUR, DAY, 30 * DAY, YEAR, 10 * YEAR)
AT_YEAR = TIMES.index(YEAR)


@dataclass(frozen=True)
class Sweep:
    """One property of the chip, changed under a trained network."""

    key: str
    title: str
    unit: str
    levels: tuple[float, ...]
    path: str
    value: Callable[[float], Any]
    percent: bool = False  # the levels are shown in percent

    def apply(self, chip: xb.Chip, level: float) -> xb.Chip:
        """The chip with the property at this level."""
        return paths.replace(chip, self.path, self.value(level))

    @property
    def names(self) -> list[str]:
        """The levels as written on an axis."""
        return [f"{100 * level if self.percent else level:g}" for level in self.levels]


SWEEPS = (
    Sweep(
        "read",
        "Read noise",
        "noise of a cell's read [% of its window]",
        (0.0, 0.005, 0.01, 0.02, 0.05, 0.1),
        "device.read",
        GaussianRead,
        percent=True,
    ),
    Sweep(
        "stuck",
        "Stuck cells",
        "cells stuck, half on and half off [%]",
        (0.0, 0.005, 0.01, 0.02, 0.05, 0.1),
        "device.faults",
        lambda level: StuckAt(p_off=level / 2, p_on=level / 2),
        percent=True,
    ),
    Sweep(
        "adc",
        "ADC resolution",
        "bits of the output converters",
        (3, 4, 5, 6, 8, 10),
        "forward.adc.bits",
        int,
    ),
    Sweep(
        "dac",
        "DAC resolution",
        "bits of the input converters",
        (1, 2, 3, 4, 6, 8),
        "forward.dac.bits",
        int,
    ),
)


class Plan:
    """The runs of one set of options, by what they mean."""

    def __init__(
        self,
        data: DataSet,
        budget: Budget,
        seeds: int,
        networks: Sequence[str] | None = None,
        sweeps: Sequence[Sweep] = SWEEPS,
    ) -> None:
        self.sweeps = sweeps
        self.data, self.budget, self.seeds = data, budget, range(seeds)
        self.families: dict[str, Family] = {
            name: family for name, family in families().items() if name in budget.families
        }
        self.networks = [n for n in budget.tasks if networks is None or n in networks]
        self.pcm = pcm()

    def digital(self, network: str, seed: int) -> Train:
        """(a) Trained digitally."""
        task = self.budget.tasks[network]
        recipe = Recipe(epochs=task.epochs, lr=Best(self.budget.rates))
        return Train(self.data, task.network, recipe, seed=seed)

    def in_situ(self, network: str, family: str, seed: int) -> Train:
        """(b) Trained on the devices of a family."""
        chip = paths.replace(
            self.families[family].chip, "mapping.w_max", self.budget.tasks[network].w_max
        )
        return replace(self.digital(network, seed), chip=chip, mode=PULSES)

    def aware(self, network: str, seed: int) -> Train:
        """(d) Trained through the noisy forward pass of the phase-change chip."""
        return replace(self.digital(network, seed), chip=self.pcm, mode=xb.HardwareAware())

    def programmed(self, of: Train, copy: int) -> Evaluate:
        """(c), (d) A trained network written onto phase-change chip `copy`, read as time passes."""
        return Evaluate(of, self.pcm, TIMES, seed=100 * of.seed + copy)

    def windowed(self, network: str) -> xb.Chip:
        """The phase-change chip with the weight at full window of the in-situ networks.

        How much of the window weights use decides what a stuck cell or a noisy read costs, so it
        must be the same wherever ways of training are compared.
        """
        return paths.replace(self.pcm, "mapping.w_max", self.budget.tasks[network].w_max)

    def trained(self, network: str, seed: int) -> dict[str, Train]:
        """The networks that the sweeps change: name to training run."""
        chosen = {"in situ, ideal cells": "ideal", "in situ, soft bounds": "soft"}
        aware = replace(self.aware(network, seed), chip=self.windowed(network))
        return {
            **{name: self.in_situ(network, key, seed) for name, key in chosen.items()},
            "digital, programmed": self.digital(network, seed),
            "hardware-aware, programmed": aware,
        }

    def swept(self, network: str, sweep: Sweep, level: Any, of: Train) -> Evaluate:
        """A trained network on a chip with one property changed, a second after programming."""
        base, after = self._base(network, of)
        return Evaluate(of, sweep.apply(base, level), after, seed=of.seed)

    def _base(self, network: str, of: Train) -> tuple[xb.Chip, tuple[float]]:
        """The chip that the sweeps change, and when it is read."""
        if isinstance(of.mode, xb.InSitu) and of.chip is not None:
            return of.chip, (0.0,)
        return self.windowed(network), (SECOND,)

    def aged(self, network: str, of: Train) -> Evaluate:
        """A network as time passes; cells trained in situ then drift, nu 0.05 with 30 % spread."""
        base, _ = self._base(network, of)
        if isinstance(of.mode, xb.InSitu):
            base = paths.replace(base, "device.retention", PowerLawDrift(nu=0.05, sigma_d2d=0.3))
        return Evaluate(of, base, TIMES, seed=of.seed)

    def response(self, family: str) -> Response:
        """The pulse response of a family."""
        device = self.families[family].chip.device
        assert device.update is not None
        pulses = round((device.g_max - device.g_min) / device.update.step(device.window))
        return Response(device, min(pulses, 1000))

    def all(self) -> list[Run]:
        """Every run."""
        runs: list[Run] = [self.response(family) for family in self.families]
        for network in self.networks:
            for seed in self.seeds:
                runs += [self.in_situ(network, family, seed) for family in self.families]
                for of in (self.digital(network, seed), self.aware(network, seed)):
                    runs += [of, *(self.programmed(of, c) for c in range(self.budget.chips))]
                for of in self.trained(network, seed).values():
                    runs += [
                        self.swept(network, s, level, of) for s in self.sweeps for level in s.levels
                    ]
                    runs.append(self.aged(network, of))
        return runs
