"""NeuroSim's curves: the label mapping, and pulses against the protocol's own update in float64."""

import math

import pytest
import torch

from devices import Device, NeuroSim, Pulses
from devices.update.neurosim import curve_constant, nonlinearity

# spot checks of NeuroSim's mapping from a label to A/N; its labels are cut to two decimals
PUBLISHED = {0.04: 31.567, 0.5: 2.5199, 1.0: 1.25165, 1.94: 0.62925, 2.4: 0.49918, 6.0: 0.13562}


@pytest.mark.parametrize("label,a", PUBLISHED.items())
def test_labels_map_to_the_published_constants(label, a):
    """Within the half unit of the label's last decimal, which is 12 % at label 0.04."""
    ours = float(curve_constant(torch.tensor(label)))
    low, high = (float(curve_constant(torch.tensor(label + side))) for side in (0.006, -0.006))
    assert low <= a <= high
    if label >= 0.5:
        assert abs(ours / a - 1) < 5e-3


def test_label_is_the_largest_deviation_from_a_line():
    """NL = 10.1015 max[f(x) − x], searched on a grid."""
    x = torch.linspace(0, 1, 200001, dtype=torch.float64)
    for a in (0.13, 0.4, 1.3, 12.0):
        curve = torch.expm1(-x / a) / math.expm1(-1 / a)
        label = nonlinearity(torch.tensor(a, dtype=torch.float64))
        assert abs(float(label) - 10.1015 * float((curve - x).max())) < 1e-8


@pytest.mark.parametrize("label", [1e-4, 0.03, 0.7, 5.0, 9.0])
def test_mapping_is_inverted(label):
    a = curve_constant(torch.tensor(label, dtype=torch.float64))
    assert abs(float(nonlinearity(a)) / label - 1) < 2e-6


def one_pulse(g: float, label: float, states: int, rising: bool) -> float:
    """The protocol's step for one pulse of a place g in the window: g' = B − (B − g) e^{∓1/A}."""
    if label == 0:
        return g + (1 if rising else -1) / states
    big_a = math.copysign(
        float(curve_constant(torch.tensor(abs(label), dtype=torch.float64))), label
    )
    big_a *= states
    b = 1 / (1 - math.exp(-states / big_a))
    return b - (b - g) * math.exp((-1 if rising else 1) / big_a)


@pytest.mark.parametrize(
    "labels", [(0.0, 0.0), (2.4, -4.88), (-1.0, 0.5), (1.75, 1.46), (-3.0, -3.0)]
)
@pytest.mark.parametrize("rising", [True, False])
def test_many_pulses_are_single_ones_by_the_protocol(labels, rising):
    states = (97, 64)
    law = NeuroSim(*states, *labels)
    device = Device(2e-6, 52e-6, update=law)
    for start in (0.0, 0.3, 0.8, 1.0):
        fresh = device.fabricate((1,), dtype=torch.float64)
        state = fresh._replace(g=torch.tensor([2e-6 + start * 50e-6], dtype=torch.float64))
        want = start
        for count in range(1, 41):
            want = one_pulse(want, labels[not rising], states[not rising], rising)
            want = min(max(want, 0.0), 1.0)
            given = torch.tensor([float(count)], dtype=torch.float64)
            pulses = Pulses(given * rising, given * (not rising))
            got = (float(device.pulse(state, pulses).g) - 2e-6) / 50e-6
            assert abs(got - want) < 1e-9


@pytest.mark.parametrize("label", [0.0, 3.0, -3.0])
def test_cycle_noise_is_neurosims_damped_by_the_pulses_that_follow(label):
    """One pulse: σ of the range. Straight curves, n pulses: σ√n; bent ones: the geometric sum."""
    sigma, cells = 0.01, 40000
    law = NeuroSim(100, 100, label, label, sigma_c2c=sigma)
    device = Device(0.0, 50e-6, update=law)
    generator = torch.Generator().manual_seed(3)
    state = device.fabricate((cells,), dtype=torch.float64)._replace(
        g=torch.full((cells,), 25e-6, dtype=torch.float64)
    )
    rate = abs(one_pulse(0.5, label, 100, True) - one_pulse(0.4, label, 100, True)) / 0.1
    for count in (1, 9):
        given = torch.full((cells,), float(count), dtype=torch.float64)
        g = device.pulse(state, Pulses(given, 0 * given), generator=generator).g
        want = sigma * math.sqrt(sum(rate ** (2 * k) for k in range(count)))
        # 4 standard errors of a standard deviation, 1 % for noise taken in the middle of the flow
        assert abs(float(g.std()) / 50e-6 / want - 1) < 4 / math.sqrt(2 * cells) + 0.01
