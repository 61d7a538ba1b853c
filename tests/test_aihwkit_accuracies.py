"""Accuracies of in-situ training on aihwkit's devices, as aihwkit itself attains them.

scikit-learn's digits, 75 % to train on, split stratified by seed; 64-128-10, tanh, batches of 10,
rate 0.1, 20 epochs; weights alone are analog. The bars are aihwkit 1.2's, a SingleRPUConfig of each
device with everything else as it comes. Run again with splits drawn as these are they were 96.3,
96.5, 93.5 and 96.7 (with perfect reads 96.4, 96.4, 94.6, 96.4) and, of ReRAM, 80.2 (82.3).
"""

from statistics import fmean

import pytest

import crossbar as xb
from experiments.studies.peer.protocol import CASES, accuracies

SCHEMES = {"exact bits": xb.InSitu(xb.ExactBits()), "default": xb.InSitu()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,want",
    [("constant step", 96.4), ("linear step", 96.3), ("soft bounds", 93.4), ("ECRAM", 96.2)],
)
def test_last_epochs_are_those_of_aihwkit(name, want):
    got = fmean(accuracies(*CASES[name], SCHEMES["exact bits"], seed)[-1] for seed in range(3))
    assert got == pytest.approx(want, abs=2)


@pytest.mark.slow
def test_reram_is_as_bad_as_in_aihwkit():
    """Single epochs scatter by ten points: the mean of the last five, of five runs.

    aihwkit gave 76.5 once and 80.2 with splits drawn as these are.
    """
    runs = (accuracies(*CASES["ReRAM-SB"], SCHEMES["exact bits"], seed) for seed in range(5))
    assert fmean(fmean(run[-5:]) for run in runs) == pytest.approx(80.2, abs=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_default_scheme_trains_alike(name):
    """It draws the trains of so few pulses as exact bits: the first epoch has the most of them."""
    one, two = (accuracies(*CASES[name], mode, 0, epochs=2) for mode in SCHEMES.values())
    assert one == two
