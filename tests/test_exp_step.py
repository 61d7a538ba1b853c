import math
from dataclasses import replace

import pytest
import torch
from _laws import WINDOW, counts, one_by_one, same_moments, start
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import ExpStep

GONG = ExpStep(
    dg_min=0.05e-6, A_up=-1.18445, A_down=-0.081404, gamma_up=5, gamma_down=5, a=-0.5, b=-0.5
)
DEFAULT = ExpStep(dg_min=0.1e-6)


def reference(law: ExpStep, g: float, up: bool) -> float:
    """One pulse as published, in the weight units w = -1 ... 1 of the source."""
    low, high = WINDOW
    w = 2 * (g - low) / (high - low) - 1
    dw = 2 * law.dg_min / (high - low)
    z = 2 * w / (1 - (-1)) * law.a + law.b
    if up:
        w += dw * (1 + law.up_down / 2) * max(0.0, 1 - law.A_up * math.exp(law.gamma_up * z))
    else:
        w -= dw * (1 - law.up_down / 2) * max(0.0, 1 - law.A_down * math.exp(-law.gamma_down * z))
    return low + (min(max(w, -1.0), 1.0) + 1) / 2 * (high - low)


@pytest.mark.parametrize("law", [GONG, replace(DEFAULT, up_down=0.4)])
@pytest.mark.parametrize("at", [0.0, 0.2, 0.6, 1.0])
def test_one_pulse_is_the_published_equation(law, at):
    device, state, _ = start(law, at, 1)
    for up in (True, False):
        moved = device.pulse(state, counts(1, up, not up)).g
        assert abs(moved.item() - reference(law, state.g.item(), up)) < 1e-12 * WINDOW[1]


@pytest.mark.parametrize("law", [GONG, DEFAULT])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("n", [3, 5, 17, 100, 1000])
def test_many_pulses_within_a_tenth_of_a_step(law, up, n):
    device, state, _ = start(law, 0.1 if up else 0.9, 1)
    g = state.g.item()
    for _ in range(n):
        g = reference(law, g, up)
    moved = device.pulse(state, counts(1, n * up, n * (not up))).g.item()
    assert abs(moved - g) < 0.1 * law.step(device.window)


def test_mixed_pulses_settle_where_both_steps_balance():
    device, state, _ = start(DEFAULT, 0.2, 1)
    settled = device.pulse(state, counts(1, 3e6, 2e6)).g.item()
    up = reference(DEFAULT, settled, True) - settled
    down = settled - reference(DEFAULT, settled, False)
    assert abs(3 * up - 2 * down) < 0.05 * DEFAULT.dg_min


@pytest.mark.parametrize("law", [replace(GONG, sigma_c2c=0.3), replace(DEFAULT, sigma_c2c=0.5)])
@pytest.mark.parametrize("up,down", [(30, 0), (0, 30), (12, 20)])
def test_noise_of_many_pulses_is_that_of_single_ones(law, up, down):
    n = 8000
    device, state, generator = start(law, 0.5, n)
    many = device.pulse(state, counts(n, up, down), generator=generator).g
    given = counts(n, up, down)
    single = one_by_one(device, state, given.up, given.down, generator)
    same_moments(many, single, state.g[0].item())


@pytest.mark.parametrize("up,down", [(0.3, 0.05), (5, 4), (25, 10)])
def test_random_counts_travel_as_moments(up, down):
    n = 20000
    law = replace(GONG, sigma_c2c=0.3)
    device, state, generator = start(law, 0.5, n)
    many = device.pulse(state, counts(n, up, down, poisson=True), generator=generator).g
    mean = counts(n, up, down)
    drawn = [torch.poisson(c, generator=generator) for c in (mean.up, mean.down)]
    single = one_by_one(device, state, *drawn, generator)
    same_moments(many, single, state.g[0].item())


def test_shared_normal_moves_cells_together_and_cycle_noise_does_not():
    n = 4000
    device, state, generator = start(GONG, 0.5, n)
    z = torch.randn(n, generator=generator, dtype=torch.float64)
    given = counts(n, 6, 2, poisson=True)._replace(z=z)
    moved = device.pulse(state, given, generator=generator).g
    assert torch.corrcoef(torch.stack([moved, z]))[0, 1] > 1 - 1e-9
    noisy = start(replace(GONG, sigma_c2c=1.0), 0.5, n)[0].pulse(state, given, generator=generator)
    alone = (noisy.g - moved) / GONG.dg_min
    assert abs(torch.corrcoef(torch.stack([alone, z]))[0, 1]) < 4 / n**0.5
    assert alone.std() > 1


def test_noise_terms_add_as_stated():
    law = replace(GONG, sigma_c2c=0.5, sigma_add=2.0, sigma_state=0.01)
    n = 40000
    device, state, generator = start(law, 0.5, n)
    moved = device.pulse(state, counts(n, 1, 0), generator=generator).g
    step = reference(law, state.g[0].item(), True) - state.g[0].item()
    span = WINDOW[1] - WINDOW[0]
    want = 0.5 * step + 2.0 * law.dg_min + 0.01 * span / 2
    assert abs(moved.std().item() / want - 1) < 4 / (2 * n) ** 0.5


def test_spread_of_the_prefactor():
    n = 40000
    device, state, _ = start(replace(DEFAULT, sigma_d2d=0.2), 0.5, n)
    moved = device.pulse(state, counts(n, 1, 0)).g - state.g
    assert abs((moved.std() / moved.mean()).item() / 0.2 - 1) < 4 / (2 * n) ** 0.5


@settings(max_examples=30, deadline=None)
@given(
    at=st.floats(0, 1),
    up=st.one_of(st.integers(0, 3_000_000), st.floats(0, 100)),
    down=st.one_of(st.integers(0, 3_000_000), st.floats(0, 100)),
    law=st.sampled_from([GONG, DEFAULT, replace(GONG, sigma_c2c=2.0, sigma_bounds=0.3)]),
)
def test_bounds_hold_for_any_counts(at, up, down, law):
    device, state, generator = start(law, at, 8)
    low, high = law.bounds(device.window, state.update)
    moved = device.pulse(state, counts(8, up, down), generator=generator).g
    assert torch.isfinite(moved).all()
    assert (moved >= torch.minimum(state.g, torch.as_tensor(low, dtype=torch.float64))).all()
    assert (moved <= torch.maximum(state.g, torch.as_tensor(high, dtype=torch.float64))).all()


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"dg_min": 0.0}, "dg_min must be > 0"),
        ({"dg_min": 1e-9, "gamma_up": -1.0}, "gamma_up must be >= 0"),
        ({"dg_min": 1e-9, "A_up": 2.0, "A_down": 99.0}, "no step at mid-window"),
    ],
)
def test_bad_fields_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        ExpStep(**fields)
