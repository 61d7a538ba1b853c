"""Orderings that the field reports of rules and cells, on digits without any download."""

from __future__ import annotations

from statistics import fmean

import pytest

import crossbar as xb
from devices import ConstantStep, Device
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
