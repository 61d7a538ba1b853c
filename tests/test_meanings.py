"""Parameters mean what they are called: slips of other simulators, each as a number."""

import dataclasses
import inspect

import pytest
import torch
from _laws import counts, start

import crossbar as xb
import devices
from devices import Device, Draw, ExpStep, GaussianRead, NeuroSim, PCMWrite, SoftBounds
from devices.part import Window
from devices.update.nominal import NominalStep

UM = 1e-6
LAWS = [
    law for law in vars(devices).values() if inspect.isclass(law) and issubclass(law, NominalStep)
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("u", [0.26, -0.4, 2.0])
def test_up_down_lengthens_one_step_by_as_much_as_it_shortens_the_other(law, u):
    """aihwkit documents dw(1 ± u) and shrinks one side by u."""
    balanced, tilted = law(dg_min=0.5 * UM), law(dg_min=0.5 * UM, up_down=u)
    if hasattr(law, "subtract"):  # mid-window is the symmetry point there, which moves with u
        tilted = dataclasses.replace(tilted, subtract=False)
    for way, sign in ((1, 1), (0, -1)):
        steps = []
        for one in (balanced, tilted):
            device, state, _ = start(one, 0.5, 1)
            steps.append((device.pulse(state, counts(1, way, 1 - way)).g - state.g).item())
        assert steps[1] / steps[0] == pytest.approx(1 + sign * u / 2, abs=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_nominal_step_is_the_mean_of_both_directions(law):
    """aihwkit's ExpStep counts the down step twice and the up step not at all."""
    one = law(dg_min=0.5 * UM, up_down=0.3)
    if hasattr(law, "subtract"):
        one = dataclasses.replace(one, subtract=False)
    device, state, _ = start(one, 0.5, 1)
    up = device.pulse(state, counts(1, 1, 0)).g - state.g
    down = state.g - device.pulse(state, counts(1, 0, 1)).g
    assert one.step(device.window) == pytest.approx((up + down).item() / 2, rel=1e-9)


@pytest.mark.parametrize("labels", [(0.0, 0.0), (2.4, -4.88), (4.0, 4.0), (-3.0, 1.0)])
@pytest.mark.parametrize("states", [16, 97, 1000])
def test_the_stated_number_of_pulses_lands_on_the_bound(labels, states):
    """aihwkit's SoftBoundsPmax overshoots its bound by a third after p_max pulses."""
    law = NeuroSim(states, states, *labels)
    for at, up in ((0.0, True), (1.0, False)):
        device, state, _ = start(law, at, 1)
        almost = device.pulse(state, counts(1, (states - 1) * up, (states - 1) * (not up))).g
        there = device.pulse(state, counts(1, states * up, states * (not up))).g.item()
        bound = device.g_max if up else device.g_min
        span = device.g_max - device.g_min
        assert there == pytest.approx(bound, abs=1e-6 * span)
        assert abs(almost.item() - bound) > 1e-6 * span


@pytest.mark.parametrize("states", [20, 1000])
def test_the_number_of_states_is_the_window_over_the_step(states):
    law = SoftBounds.with_states(states, 1 * UM, 51 * UM)
    device, state, _ = start(law, 0.5, 1)
    assert (device.pulse(state, counts(1, 1, 0)).g - state.g).item() == pytest.approx(
        50 * UM / states
    )


def test_spreads_and_noise_are_relative_to_the_step():
    n = 40000
    law = ExpStep(dg_min=0.3 * UM, sigma_c2c=0.2)
    device, state, generator = start(law, 0.5, n)
    step = device.pulse(state, counts(n, 1, 0), generator=generator).g - state.g
    assert (step.std() / step.mean()).item() == pytest.approx(0.2, rel=4 / (2 * n) ** 0.5)


def test_the_pcm_fit_scales_with_the_full_conductance():
    """aihwkit's Wan model keeps a 40 µS fit on a 25 µS device."""
    stds = []
    for full in (25 * UM, 50 * UM):
        target = torch.full((40000,), full / 2, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        wrote = PCMWrite().program(Window(0.0, full), target, Draw.like(target, generator))
        stds.append((wrote - target).std().item())
    assert stds[1] / stds[0] == pytest.approx(2, rel=1e-9)


def test_read_noise_is_drawn_at_every_read_and_programming_noise_once():
    """aihwkit draws its inference read noise once per drift call."""
    W, x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.ones(5)
    noisy = xb.matrix(W, xb.Chip(Device(1 * UM, 50 * UM, read=GaussianRead(0.05))), seed=1)
    assert not torch.equal(noisy @ x, noisy @ x)
    chip = xb.Chip(Device(0.0, 25 * UM, write=PCMWrite()))
    programmed = xb.matrix(W, chip, seed=1)
    assert torch.equal(programmed @ x, programmed @ x)
