"""Power, tabulated and Querlioz steps against float64 loops of the published equations."""

import math
from dataclasses import replace

import pytest
import torch
from _laws import WINDOW, counts, one_by_one, same_moments, start

from devices import PiecewiseStep, PowStep, QuerliozStep, SoftBounds

LOW, HIGH = WINDOW
SPAN = HIGH - LOW


def power(law: PowStep, g: float, up: bool) -> float:
    """Wu et al. 2025: q± = (1 ∓ w/τ)^γ at w = −τ … τ."""
    w = 2 * (g - LOW) / SPAN - 1
    if up:
        return g + law.dg_min * (1 + law.up_down / 2) * (1 - w) ** law.gamma_up
    return g - law.dg_min * (1 - law.up_down / 2) * (1 + w) ** law.gamma_down


def querlioz(law: QuerliozStep, g: float, up: bool) -> float:
    """Querlioz et al. 2013: δ₊ = α₊ exp(−β₊ (w − w_min)/(w_max − w_min)), δ₋ likewise."""
    if up:
        alpha = law.dg_min * (1 + law.up_down / 2)
        return g + alpha * math.exp(-law.beta_up * (g - LOW) / SPAN)
    alpha = law.dg_min * (1 - law.up_down / 2)
    return g - alpha * math.exp(-law.beta_down * (HIGH - g) / SPAN)


def tabulated(law: PiecewiseStep, g: float, up: bool) -> float:
    """Linear interpolation, written from its definition with a search instead of an index."""
    table = law.up if up else law.down
    nodes = [LOW + SPAN * i / (len(table) - 1) for i in range(len(table))]
    for i in range(len(nodes) - 1):
        if g <= nodes[i + 1] or i == len(nodes) - 2:
            share = (g - nodes[i]) / (nodes[i + 1] - nodes[i])
            factor = table[i] * (1 - share) + table[i + 1] * share
            break
    return g + law.dg_min * factor if up else g - law.dg_min * factor


LAWS = [
    (PowStep(dg_min=0.2e-6, up_down=0.3, gamma_up=2.0, gamma_down=0.5), power),
    (PowStep(dg_min=0.4e-6, gamma_up=1.0, gamma_down=3.0), power),
    (QuerliozStep(dg_min=0.0075 * SPAN, up_down=2 / 3), querlioz),
    (PiecewiseStep(dg_min=0.2e-6, up=(2.0, 1.2, 1.0, 0.3), down=(0.2, 0.9, 1.8)), tabulated),
]


@pytest.mark.parametrize("law,reference", LAWS)
@pytest.mark.parametrize("at", [0.02, 0.4, 0.97])
def test_one_pulse_is_the_published_equation(law, reference, at):
    device, state, _ = start(law, at, 1)
    for up in (True, False):
        moved = device.pulse(state, counts(1, up, not up)).g.item()
        want = min(max(reference(law, state.g.item(), up), LOW), HIGH)
        assert abs(moved - want) < 1e-12 * SPAN


@pytest.mark.parametrize("law,reference", LAWS)
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("n", [5, 40, 300, 5000])
def test_many_pulses_within_a_tenth_of_a_step(law, reference, up, n):
    device, state, _ = start(law, 0.05 if up else 0.95, 1)
    g = state.g.item()
    for _ in range(n):
        g = min(max(reference(law, g, up), LOW), HIGH)
    moved = device.pulse(state, counts(1, n * up, n * (not up))).g.item()
    assert abs(moved - g) < 0.1 * law.step(device.window)


@pytest.mark.parametrize("law", [replace(law, sigma_c2c=0.4) for law, _ in LAWS])
@pytest.mark.parametrize("up,down", [(20, 0), (0, 20), (9, 14)])
def test_noise_of_many_pulses_is_that_of_single_ones(law, up, down):
    n = 6000
    device, state, generator = start(law, 0.5, n)
    given = counts(n, up, down)
    many = device.pulse(state, given, generator=generator).g
    single = one_by_one(device, state, given.up, given.down, generator)
    same_moments(many, single, state.g[0].item())


def test_the_first_power_is_soft_bounds():
    pulses = [(7, 3), (0.4, 0.1), (900, 20)]
    for up, down in pulses:
        device, state, _ = start(PowStep(dg_min=0.3e-6, up_down=0.2), 0.3, 1)
        other, same, _ = start(SoftBounds(dg_min=0.3e-6, up_down=0.2), 0.3, 1)
        a = device.pulse(state, counts(1, up, down)).g
        b = other.pulse(same, counts(1, up, down)).g
        assert (a - b).abs() < 1e-3 * 0.3e-6


def test_spread_of_the_exponent_shows_in_the_steps():
    n = 40000
    law = PowStep(dg_min=0.1e-6, gamma_up=2.0, sigma_gamma=0.1)
    device, state, _ = start(law, 0.25, n)
    step = (device.pulse(state, counts(n, 1, 0)).g - state.g) / 0.1e-6
    gamma = torch.log(step) / math.log(1.5)  # 2 (high − g)/span at a quarter of the window
    assert abs(gamma.mean() - 2.0) < 4 * 0.1 / n**0.5
    assert abs(gamma.std() / 0.1 - 1) < 4 / (2 * n) ** 0.5


def test_tables_are_checked():
    with pytest.raises(TypeError, match="up must be a tuple of at least 2"):
        PiecewiseStep(dg_min=1e-9, up=[1.0, 1.0])
    with pytest.raises(ValueError, match="down must be factors >= 0"):
        PiecewiseStep(dg_min=1e-9, down=(1.0, -0.5))
