"""Accuracies of in-situ training on aihwkit's devices, as aihwkit itself attains them.

scikit-learn's digits, 75 % to train on, split stratified by seed; 64-128-10, tanh, batches of 10,
rate 0.1, 20 epochs; weights alone are analog. The bars are aihwkit 1.2's, a SingleRPUConfig of each
device with everything else as it comes. Run again with splits drawn as these are they were 96.3,
96.5, 93.5 and 96.7 (with perfect reads 96.4, 96.4, 94.6, 96.4) and, of ReRAM, 80.2 (82.3).
"""

from statistics import fmean

import pytest
from _digits import accuracies

import crossbar as xb
from devices import ConstantStep, Device, LinearStep, SoftBounds, presets

SPAN = 98e-6  # [S] no number of this file depends on it
LOW, HIGH = 1e-6, 99e-6

# aihwkit's PulsedDevice: dw_min 0.001, bounds ±0.6, spreads of step, bounds and cycles 0.3 each
# and of the imbalance 0.01. Its weight is one cell, half whose window counts the larger bound.
PULSED = dict(
    dg_min=0.001 / 1.2 * SPAN,
    sigma_c2c=0.3,
    sigma_d2d=0.3,
    sigma_up_down=0.01,
    sigma_bounds=0.3,
)
# Its EcRamPresetDevice (Tang et al., IEDM 2018): steps are equal at w = 0 of −0.8276 … 1.1724.
# The window is made symmetric about w = 0, which leaves 0.345 more below than there.
TOP = 1.1724
ECRAM = LinearStep(
    dg_min=0.002 / (2 * TOP) * SPAN,
    sigma_c2c=0.3,
    sigma_d2d=0.1,
    sigma_up_down=0.01,
    sigma_bounds=0.05,
    sigma_gamma=0.05,
    gamma_up=0.1153,
    gamma_down=0.5085 * TOP / 0.8276,
)
CASES = {  # device, weight of half its window
    "constant step": (Device(LOW, HIGH, update=ConstantStep(**PULSED)), 0.6),
    # LinearStepDevice: γ 0 with a spread of 0.05 from cell to cell
    "linear step": (Device(LOW, HIGH, update=LinearStep(sigma_gamma=0.05, **PULSED)), 0.6),
    "soft bounds": (Device(LOW, HIGH, update=SoftBounds(**PULSED)), 0.6),
    "ECRAM": (Device(LOW, HIGH, update=ECRAM), TOP),
    "ReRAM-SB": (presets.reram_sb(), 1.0),
}
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
