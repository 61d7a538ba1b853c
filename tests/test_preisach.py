"""The ferroelectric cell against a simulation that walks every branch and keeps a list of turns."""

import math

import numpy as np
import pytest
import torch
from _laws import WINDOW, counts, start

from devices import Device, PreisachFeFET, Pulses

LOW, HIGH = WINDOW
SPAN = HIGH - LOW


class Walk:
    """One cell; the turning points are a list, zero volts among them."""

    def __init__(self, v_c: float, remanence: float):
        self.v_c, self.r = v_c, remanence
        self.delta = v_c / math.log((1 + remanence) / (1 - remanence))
        self.turns = [(math.inf, 1.0), (-math.inf, -1.0)]
        self.v, self.p, self.rising = -math.inf, -1.0, True
        self.to(0.0)

    def saturated(self, v: float, rising: bool) -> float:
        return math.tanh((v - (self.v_c if rising else -self.v_c)) / (2 * self.delta))

    def to(self, v: float) -> None:
        if v == self.v:
            return
        rising = v > self.v
        if rising != self.rising:
            self.turns.append((self.v, self.p))
            self.rising = rising
        sign = 1 if rising else -1
        while len(self.turns) > 2 and sign * (v - self.turns[-2][0]) >= 0:
            del self.turns[-2:]
        (v1, p1), (v0, p0) = self.turns[-1], self.turns[-2]
        s, s1, s0 = (self.saturated(t, rising) for t in (v, v1, v0))
        self.v, self.p = v, p1 + (p0 - p1) * (s - s1) / (s0 - s1)

    def pulse(self, v: float) -> float:
        """To v and back; the conductance that is left."""
        self.to(v)
        self.to(0.0)
        return LOW + SPAN * (self.p / self.r + 1) / 2


def drive(device: Device, state, v: float):
    return device.drive(state, torch.full_like(state.g, v), 1e-6)


SEQUENCES = {
    "growing": [0.5, 0.8, -0.6, 1.0, -0.9, 1.3, -1.4, 2.0, -3.0],
    "falling": [2.0, -1.5, 1.4, -1.3, 1.2, -1.1],
    "minor loops": [1.1, -0.8, 0.9, -0.8, 0.9, -0.5, 0.7, 0.9, 1.1, -0.8, 1.3],
}
SEQUENCES |= {
    f"random {seed}": list(np.random.default_rng(seed).uniform(-1.6, 1.6, 6)) for seed in range(6)
}


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_pulses_leave_what_the_walk_along_the_branches_leaves(sequence):
    law = PreisachFeFET(v_c=0.9, remanence=0.7)
    device, walk = Device(*WINDOW, update=law), Walk(0.9, 0.7)
    state = device.fabricate((2,), dtype=torch.float64)
    for v in sequence:
        state = drive(device, state, v)
        assert state.g[0].item() == pytest.approx(walk.pulse(v), abs=1e-12 * SPAN / 1e-6)
    assert state.g[0] != LOW


def test_minor_loops_return_to_their_turning_point():
    device, state, _ = start(PreisachFeFET(), 0.0, 1)
    state = drive(device, drive(device, state, 1.2), -0.9)
    kept = state.g.clone()
    for small in (0.6, -0.4, 0.5, -0.7):  # inside 1.2 … −0.9
        state = drive(device, state, small)
        assert state.g != kept
    again = drive(device, state, -0.9)  # back at the turning point: the loop is wiped out
    assert torch.allclose(again.g, kept, rtol=0, atol=1e-9 * SPAN)
    direct = drive(device, drive(device, state, 2.0), -1.0)
    fresh = drive(device, drive(device, start(PreisachFeFET(), 0.0, 1)[1], 2.0), -1.0)
    assert torch.allclose(direct.g, fresh.g, rtol=0, atol=1e-9 * SPAN)


def test_saturation_leaves_the_remanent_ends_of_the_window():
    device, state, _ = start(PreisachFeFET(), 0.4, 1)
    assert drive(device, state, 30.0).g.item() == pytest.approx(HIGH)
    assert drive(device, drive(device, state, 30.0), -30.0).g.item() == pytest.approx(LOW)
    assert drive(device, state, 0.0).g == state.g


def test_amplitudes_write_and_counts_do_not():
    law = PreisachFeFET(v_set=1.1)
    device, state, _ = start(law, 0.0, 1)
    once = device.pulse(state, counts(1, 1, 0))
    assert once.g > LOW + 0.1 * SPAN
    assert torch.equal(device.pulse(once, counts(1, 50, 0)).g, once.g)
    levels = [drive(device, state, v).g.item() for v in np.linspace(0.3, 2.0, 12)]
    assert bool((np.diff(levels) > 0).all()) and levels[-1] - levels[0] > 0.8 * SPAN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_programmed_cell_starts_from_where_it_is(dtype):
    device = Device(*WINDOW, update=PreisachFeFET())
    state = drive(device, device.fabricate((5,), dtype=dtype), 1.4)
    wanted = torch.linspace(LOW + 0.1 * SPAN, LOW + 0.9 * SPAN, 5, dtype=dtype)
    state = device.program(state, wanted)
    small = drive(device, state, 0.05)
    assert torch.allclose(small.g, wanted, rtol=0, atol=0.02 * SPAN)
    lower = drive(device, state, -0.8).g
    assert bool((lower < wanted).all()) and bool((lower.diff() > 0).all())


def test_either_order_of_both_pulses_and_spread_coercive_voltages():
    n = 4000
    device, state, generator = start(PreisachFeFET(), 0.5, n)
    both = device.pulse(state, counts(n, 3, 5), generator=generator).g
    ends = torch.unique((both / SPAN).round(decimals=9))
    assert len(ends) == 2
    share = (both > both.mean()).double().mean().item()
    assert share == pytest.approx(0.5, abs=5 * 0.5 / n**0.5)
    device, state, _ = start(PreisachFeFET(sigma_d2d=0.05), 0.0, n)
    assert state.update.coercive.std().item() == pytest.approx(0.05, rel=0.06)
    assert drive(device, state, 1.0).g.std() > 0.02 * SPAN


def test_bad_settings_and_fractions_are_refused_by_name():
    for words, make in [
        ("v_c must be > 0 V", lambda: PreisachFeFET(v_c=0.0)),
        (r"remanence must be in \[0.01, 0.999\]", lambda: PreisachFeFET(remanence=1.0)),
        ("-v_reset must be > 0 V", lambda: PreisachFeFET(v_reset=1.0)),
    ]:
        with pytest.raises(ValueError, match=words):
            make()
    device, state, _ = start(PreisachFeFET(), 0.5, 1)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match="needs whole pulse counts"):
        device.pulse(state, Pulses(half, half))
