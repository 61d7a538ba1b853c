"""Voltage dynamics against SciPy's integrator, and pulses against the voltage they stand for."""

import numpy as np
import pytest
import torch
from _laws import WINDOW, counts, one_by_one, same_moments, start
from scipy.integrate import solve_ivp

from devices import VTEAM, Device, Leak, VolatileStep

LOW, HIGH = WINDOW
SPAN = HIGH - LOW


def vteam(law: VTEAM, g0: float, waveform: list[tuple[float, float]]) -> float:
    """Kvatinsky et al. 2015 in the source's own w and sign of v, integrated by SciPy.

    w is 0 at the on end and 1 at the off end, a positive source voltage drives to off.
    """
    on, off = 1 / HIGH, 1 / LOW
    w = (1 / g0 - on) / (off - on)
    for volt, time in waveform:
        v = -volt

        def slope(_, w, v=v):
            x = np.clip(1 - w[0], 0.0, 1.0)
            if v > -law.v_off:
                k, ratio, alpha = law.k_off, v / -law.v_off, law.alpha_off
                window = 1 if law.p is None else 1 - (1 - x) ** (2 * law.p)
                return [k * (ratio - 1) ** alpha * window]
            if v < -law.v_on:
                k, ratio, alpha = -law.k_on, v / -law.v_on, law.alpha_on
                window = 1 if law.p is None else 1 - x ** (2 * law.p)
                return [k * (ratio - 1) ** alpha * window]
            return [0.0]

        done = solve_ivp(slope, (0, time), [w], rtol=1e-10, atol=1e-13, max_step=time / 20)
        w = float(np.clip(done.y[0, -1], 0, 1))
    return 1 / (on + (off - on) * w)


WAVEFORM = [(0.7, 2e-7), (0.3, 1e-3), (-0.8, 3e-7), (1.0, 5e-8), (-0.49, 1.0), (0.9, 1e-7)]


@pytest.mark.parametrize("p", [None, 1, 3])
def test_vteam_follows_its_equation_through_a_waveform(p):
    law = VTEAM(k_on=5e5, k_off=8e5, alpha_on=2.0, p=p)
    device, state, _ = start(law, 0.1, 1)
    for volt, time in WAVEFORM:
        state = device.drive(state, torch.full((1,), volt, dtype=torch.float64), time)
    want = vteam(law, LOW + 0.1 * SPAN, WAVEFORM)
    assert abs(state.g.item() - want) < 1e-6 * SPAN


def test_nothing_moves_below_the_thresholds():
    device, state, _ = start(VTEAM(), 0.37, 4)
    v = torch.tensor([0.0, 0.49, -0.49, 0.2], dtype=torch.float64)
    assert torch.equal(device.drive(state, v, 1e6).g, state.g)


def test_a_vteam_pulse_is_its_write_voltage():
    law = VTEAM(p=2, k_on=3e5)
    device, state, _ = start(law, 0.05, 1)
    for way, volt in ((1, law.v_set), (0, law.v_reset)):
        driven = device.drive(state, torch.full((1,), volt, dtype=torch.float64), law.width)
        pulsed = device.pulse(state, counts(1, way, 1 - way))
        assert torch.allclose(pulsed.g, driven.g, rtol=1e-12)
        assert abs(driven.g - state.g) > 1e-4 * SPAN


@pytest.mark.parametrize("p", [None, 1])
def test_many_vteam_pulses_are_many_single_ones(p):
    n = 2000
    law = VTEAM(p=p, sigma_c2c=0.3, k_on=2e4, k_off=2e4)
    device, state, generator = start(law, 0.02, n)
    given = counts(n, 25, 10)
    many = device.pulse(state, given, generator=generator).g
    single = one_by_one(device, state, given.up, given.down, generator)
    same_moments(many, single, state.g[0].item())


def test_overlapping_spikes_give_a_timing_window():
    """Two spikes that reach no threshold alone: the overlap writes, and its sign follows Δt."""
    law = VTEAM(v_on=0.9, v_off=-0.9, k_on=5e3, k_off=5e3)
    device, state, _ = start(law, 0.3, 1)
    time = torch.arange(0, 5e-3, 1e-5, dtype=torch.float64)

    def spike(at: float) -> torch.Tensor:  # 0.8 V for 0.2 ms, then a tail from −0.6 V
        since = time - at
        tail = -0.6 * torch.exp(-(since - 2e-4).clamp(min=0) / 5e-4) * (since >= 2e-4)
        return 0.8 * ((since >= 0) & (since < 2e-4)) + tail

    def change(lag: float) -> float:  # the cell sees the later neuron against the earlier one
        after = state
        for v in spike(1e-3 + lag) - spike(1e-3):
            after = device.drive(after, v.reshape(1), 1e-5)
        return (after.g - state.g).item() / SPAN

    assert change(4e-4) > change(6e-4) > 1e-3
    assert change(-4e-4) < change(-6e-4) < -1e-3
    assert change(3e-3) == 0.0


def test_vteam_wants_a_finite_off_resistance():
    with pytest.raises(ValueError, match="g_min > 0"):
        Device(0.0, 1e-5, update=VTEAM()).fabricate((2,))
    with pytest.raises(ValueError, match="v_set must be above v_on"):
        VTEAM(v_set=0.4)


def test_volatile_cell_follows_its_equation():
    law = VolatileStep(reach=0.8)
    device, state, _ = start(law, 0.0, 1)
    rate = law.reach / (law.tau * np.sinh(law.eta * law.v_write))
    x = 0.0
    for volt, time in [(1.5, 0.01), (0.0, 0.03), (1.2, 0.1), (0.5, 0.02)]:
        done = solve_ivp(
            lambda _, x, v=volt: rate * np.sinh(law.eta * v) - x / law.tau,
            (0, time),
            [x],
            rtol=1e-10,
            atol=1e-12,
        )
        x = done.y[0, -1]
        state = device.drive(state, torch.full((1,), volt, dtype=torch.float64), time)
        assert abs((state.g.item() - LOW) / SPAN - x) < 1e-7


def test_driving_at_zero_volt_is_the_leak_between_drives():
    device = Device(LOW, HIGH, update=VolatileStep(), retention=Leak(tau=0.05, rest=0.0))
    state = device.fabricate((3,), dtype=torch.float64)
    state = state._replace(g=torch.full((3,), 4e-5, dtype=torch.float64))
    still = device.drive(state, torch.zeros(3, dtype=torch.float64), 0.02)
    idle = device.advance(state, 0.02)
    assert torch.allclose(still.g, idle.g, rtol=1e-12)


def test_paired_pulses_facilitate_less_the_later_the_second_comes():
    device = Device(LOW, HIGH, update=VolatileStep(), retention=Leak(tau=0.05, rest=0.0))
    heights = []
    for gap in (0.005, 0.02, 0.2):
        state = device.fabricate((1,), dtype=torch.float64)
        state = device.advance(device.pulse(state, counts(1, 1, 0)), gap)
        heights.append(device.pulse(state, counts(1, 1, 0)).g.item())
    first = device.pulse(device.fabricate((1,), dtype=torch.float64), counts(1, 1, 0)).g.item()
    assert heights[0] > heights[1] > heights[2] > first
    assert (heights[2] - LOW) / (first - LOW) == pytest.approx(1, abs=0.03)
