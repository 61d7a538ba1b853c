"""Orderings that the field reports of rules and cells, on digits without any download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

import pytest

import crossbar as xb
from devices import ConstantStep, Device, Leak, presets
from experiments.lab.statistics import paired
from experiments.studies.peer.protocol import trained
from experiments.tasks.programming import chip, rules

SEEDS = range(3)
pytestmark = pytest.mark.slow


def accuracies(rule: xb.Rule, hardware: xb.Chip, hidden: int, epochs: int, seed: int):
    """Test accuracy after every epoch [%]."""
    return trained(hardware, xb.InSitu(rule=rule, gradient=False), seed, epochs, hidden)


def test_twenty_states_need_more_than_pulses():
    """Soft bounds of 20 states, steps and bounds spread by .3: the issue's bars on 64-54-10.

    A prototype had SGD 76, TTv2 95.3 and mixed precision 97.6 % (12 epochs, best of three gains);
    the gain here is 200 throughout.
    """
    found = {
        name: fmean(
            fmean(accuracies(rules(20, 0.0)[name], chip(20, False), 54, 12, seed)[-5:])
            for seed in SEEDS
        )
        for name in ("SGD", "TTv2", "mixed precision")
    }
    assert found["TTv2"] >= found["SGD"] + 10, found
    assert found["mixed precision"] >= found["TTv2"] - 1, found


def test_accuracy_rises_with_the_cells_of_a_weight():
    """Coarse, noisy steps dealt to N pairs in turn (Boybat et al., Nat. Commun. 9:2514, 2018)."""
    cell = Device(1e-6, 50e-6, update=ConstantStep(2e-6, sigma_c2c=1.0, sigma_d2d=0.5))
    one, four = (
        fmean(
            fmean(
                accuracies(
                    xb.Pulsed(xb.ExactBits()),
                    xb.Chip(cell, xb.Arbitrated(count=count, w_max=1.0)),
                    32,
                    2,
                    seed,
                )
            )
            for seed in SEEDS
        )
        for count in (1, 4)
    )
    assert four > one + 5, (one, four)


ONE_SIDED = xb.Chip(presets.pcm_onesided(), xb.Differential(xb.OneSided(), w_max=1.0))


def late(rule: xb.Rule | None, hardware: xb.Chip | None, epochs: int, seeds: range) -> list[float]:
    """Mean accuracy of the last three epochs of 64-32-10, for each seed [%]."""
    mode = None if rule is None else xb.InSitu(rule=rule, gradient=False)
    return [fmean(trained(hardware, mode, seed, epochs, 32)[-3:]) for seed in seeds]


def test_pairs_that_only_rise_need_their_refresh():
    """Burr et al. (IEEE TED 62, 3498, 2015): phase-change pairs saturate; at least 10 points."""
    never = replace(ONE_SIDED, mapping=xb.Differential(xb.OneSided(None), w_max=1.0))
    rule = xb.Pulsed(xb.ExactBits())
    gain = paired(late(rule, never, 12, SEEDS), late(rule, ONE_SIDED, 12, SEEDS))
    assert gain.low > 10, gain  # 95 %


@dataclass(frozen=True)
class Volatile(xb.PeriodicCarry):
    """A fifth of what the capacitors hold leaks between two carries."""

    def update(self, jobs, *, streams):
        super().update(jobs, streams=streams)
        for fine in {job.matrices[0] for job in jobs}:
            fine.advance(0.2 / self.every)


def test_significance_transfer_with_polarity_inversion_is_software():
    """Ambrogio et al. (Nature 558, 60, 2018): phase-change pairs < with capacitors < inverted.

    The capacitors' steps up and down differ by .3 from cell to cell, and they leak. Five seeds,
    95 % intervals of the differences; inverted, the mean is within a point of digital training.
    """
    seeds, kind = range(5), presets.capacitor()
    assert kind.update is not None
    cell = replace(
        kind,
        update=replace(kind.update, sigma_up_down=0.3),  # type: ignore[type-var]
        retention=Leak(1.0, rest=0.5, sigma_d2d=0.3),
    )
    fast = xb.Chip(cell, xb.Differential(xb.Reference(), w_max=1.0))
    alone = late(xb.Pulsed(xb.ExactBits()), ONE_SIDED, 8, seeds)
    plain, inverted = (
        late(Volatile(4.0, 100, invert, fast=fast), ONE_SIDED, 8, seeds) for invert in (False, True)
    )
    digital = late(None, None, 8, seeds)
    assert paired(alone, digital).low > 10
    assert paired(alone, plain).low > 0
    assert paired(plain, inverted).low > 0
    assert paired(inverted, digital).mean < 1
