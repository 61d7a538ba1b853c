"""Many pulses in one call against the same pulses singly, up to where the cells have settled."""

import pytest
import torch
from _laws import counts, same_moments, start

from devices import (
    ExpStep,
    LinearStep,
    NeuroSim,
    PiecewiseStep,
    PowStep,
    Pulses,
    QuerliozStep,
    SoftBounds,
)

STEP = 0.5e-6  # [S], a hundredth of the window
LAWS = [
    SoftBounds(STEP, sigma_c2c=0.3),
    SoftBounds(STEP, up_down=0.4, sigma_add=0.5),
    LinearStep(STEP, sigma_c2c=0.3, gamma_up=0.6, gamma_down=0.3),
    NeuroSim(97, 100, 2.4, -4.88, sigma_c2c=0.005),
    ExpStep(STEP, sigma_c2c=0.3),
    PowStep(STEP, sigma_c2c=0.3, gamma_up=2.0, gamma_down=2.0),
    QuerliozStep(STEP, sigma_c2c=0.3),
    PiecewiseStep(STEP, sigma_c2c=0.3, up=(1.8, 1.0, 0.2), down=(0.2, 1.0, 1.8)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("at", [0.35, 0.6])
def test_mixed_pulses_until_the_cells_have_settled(law, at):
    n, pairs = 6000, (1, 10, 60, 200)
    device, state, generator = start(law, at, n)
    one, done = state, 0
    for count in pairs:
        for k in range(done, count):
            for up in (k % 2, 1 - k % 2):  # down up up down
                one = device.pulse(one, counts(n, up, 1 - up), generator=generator)
        done = count
        many = device.pulse(state, counts(n, count, count), generator=generator)
        same_moments(many.g, one.g, state.g[0].item(), step=law.step(device.window))


@pytest.mark.parametrize("law", [LAWS[0], LAWS[3], LAWS[4]], ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("up,down", [(0.4, 0.3), (8, 5), (90, 70)])
def test_random_counts_in_random_order_until_the_cells_have_settled(law, up, down):
    """The pulses of many samples: counts fluctuate, and each is forgotten as the others follow."""
    n = 6000
    device, state, generator = start(law, 0.5, n)
    many = device.pulse(state, counts(n, up, down, poisson=True), generator=generator).g
    mean = counts(n, up, down)
    total = torch.poisson(mean.up + mean.down, generator=generator)
    one, share = state, up / (up + down)
    for k in range(int(total.max())):
        rising = torch.rand(n, generator=generator, dtype=torch.float64) < share
        turn = [(way & (k < total)).double() for way in (rising, ~rising)]
        one = device.pulse(one, Pulses(*turn), generator=generator)
    same_moments(many, one.g, state.g[0].item(), step=law.step(device.window))
