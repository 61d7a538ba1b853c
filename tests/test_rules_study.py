"""The study of rules: what it declares, and what its own runs find."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

import crossbar as xb
from devices import presets
from experiments.studies.rules.runs import Cost
from experiments.studies.rules.study import DEVICES, RULES, Rules
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.programming import Programming
from experiments.tasks.runs import Train


def declared(*arguments: str):
    study, parser = Rules(), ArgumentParser()
    study.arguments(parser)
    return study.runs(parser.parse_args(arguments))


def test_six_rules_on_five_devices_from_three_seeds():
    trained = [run for run in declared() if isinstance(run, Train) and run.chip is not None]
    assert (len(RULES), len(DEVICES), len(trained)) == (6, 5, 90)
    assert len(set(trained)) == 90
    with pytest.raises(ValueError, match="--seeds"):
        declared("--seeds", "0")
    assert len({run for run in declared("--full") if isinstance(run, Cost)}) == 60


def test_rates_are_chosen_on_held_out_images_alone():
    for run in declared("--quick"):
        if isinstance(run, Train):
            assert len(run.trials()) == 2 and all(trial.held_out for trial in run.trials())


def test_costs_are_counted():
    chip = xb.Chip(presets.gokmen_vlasov(), xb.OffsetColumn(w_max=1.0))
    rule = xb.TikiTaka(auto_granularity=20.0)
    found = Cost(Digits(), MLP((8,)), chip, rule, 10, 0.1, steps=3).execute(None)
    m = found.metrics
    assert (m["arrays"], m["reads"]) == (1, 2)  # a line a vector, of each of two layers
    assert m["bytes"] == pytest.approx(4, abs=0.6) and m["ms"] > 0
    assert m["other pulses"] > m["pulses"] >= 0
    alone = Cost(Digits(), MLP((8,)), chip, xb.Pulsed(), 10, 0.1, steps=3).execute(None).metrics
    assert alone["pulses"] > 0 and alone["other pulses"] == alone["arrays"] == alone["bytes"] == 0


def test_a_few_steps_of_programming_learn():
    runs = [Programming("SGD", 20, 0.0, 3, steps) for steps in (4, 80)]
    start, end = (run.execute(None).metrics["mean"] for run in runs)
    assert start == pytest.approx(0.3, abs=0.05)  # of a target of N(0, .3) from zero
    few = Programming("mixed precision", 500, 0.0, 3, 250).execute(None).metrics["mean"]
    assert few < 0.25 < end
