"""Counts of a mean and a variance against counts drawn by NumPy and applied one by one."""

import math

import numpy as np
import pytest
import torch

from devices import (
    ConstantStep,
    Device,
    LinearStep,
    NeuroSim,
    PowStep,
    Pulses,
    SoftBounds,
    StochasticSwitch,
    VolatileStep,
)
from devices.draw import Draw
from devices.update.rounds import rounds
from tests._laws import one_by_one, start

LOW, HIGH, N = 10e-6, 90e-6, 20_000
SPAN = HIGH - LOW
STEPS = [0.001, 0.03, 0.1, 0.3, 0.8, 0.999]  # parts of the way to the bound


def full(value):
    return torch.full((N,), float(value), dtype=torch.float64)


def cells(law, at=0.5):
    device = Device(LOW, HIGH, update=law)
    state = device.fabricate((N,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return device, state._replace(g=full(LOW + at * SPAN))


def answer(law, pulses, at=0.5):
    device, state = cells(law, at)
    g = device.pulse(state, pulses, generator=torch.Generator().manual_seed(2)).g
    return (g.numpy() - LOW) / SPAN


def drawn(kind, mean, rng):
    """N counts of this mean, and their variance."""
    if kind == "poisson":
        return rng.poisson(mean, N), mean
    if kind == "binomial":
        trials = max(1, round(4 * mean))
        return rng.binomial(trials, mean / trials, N), mean * (1 - mean / trials)
    return rng.negative_binomial(2 * mean, 2 / 3, N), 1.5 * mean


def singly(k, up, down, rng, c=0.0, at=0.5):
    """Soft bounds of the window 0 … 1, every pulse by itself in random order."""
    g, up, down = np.full(N, at), up.copy(), down.copy()
    while (left := up + down).max() > 0:
        rising = rng.random(N) * left < up
        step = np.where(rising, k * (1 - g), -k * g) * (1 + c * rng.standard_normal(N))
        g = np.where(left > 0, np.clip(g + step, 0, 1), g)
        up, down = up - (rising & (left > 0)), down - (~rising & (left > 0))
    return g


def error_of_std(x):
    return math.sqrt(max(((x - x.mean()) ** 4).mean() - x.var() ** 2, 0) / N) / (
        2 * x.std() + 1e-30
    )


def agree(ours, theirs, start=0.5):
    """The mean move within 1 % and the standard deviation within 2 %, beyond 3.5 errors."""
    error = 3.5 * math.sqrt((ours.var() + theirs.var()) / N)
    assert abs(ours.mean() - theirs.mean()) <= 0.01 * abs(theirs.mean() - start) + error
    error = 3.5 * math.hypot(error_of_std(ours), error_of_std(theirs))
    assert abs(ours.std() - theirs.std()) <= 0.02 * theirs.std() + error + 1e-12


def as_soft(name, k, c=0.0):
    """The same soft bounds in three laws."""
    dg = k * SPAN / 2
    if name == "linear":
        return LinearStep(dg, gamma_up=1.0, gamma_down=1.0, sigma_c2c=c)
    return {"soft": SoftBounds, "power": PowStep}[name](dg, sigma_c2c=c)


@pytest.mark.parametrize("kind", ["poisson", "binomial", "negative"])
@pytest.mark.parametrize("k", STEPS)
@pytest.mark.parametrize("mean", [0.01, 1.0, 30.0])
def test_random_counts_of_one_direction(kind, k, mean):
    rng = np.random.default_rng(int(1000 * k + 10 * mean))
    c = 0.3 if kind == "poisson" else 0.0
    counts, variance = drawn(kind, mean, rng)
    theirs = singly(k, counts, 0 * counts, rng, c)
    for name in ("soft", "power") if mean > 0.5 else ("soft",):
        given = Pulses(full(mean), full(0), full(variance), full(0))
        agree(answer(as_soft(name, k, c), given), theirs)
        down = Pulses(full(0), full(mean), full(0), full(variance))
        agree(1 - answer(as_soft(name, k, c), down), theirs)


@pytest.mark.parametrize("kind", ["poisson", "binomial", "negative"])
@pytest.mark.parametrize("k", [0.02, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("mean", [(0.3, 0.1), (5.0, 5.0), (20.0, 14.0)])
@pytest.mark.parametrize("name", ["soft", "linear", "power"])
def test_random_counts_of_both_directions_in_random_order(kind, k, mean, name):
    rng = np.random.default_rng(int(1000 * k + 10 * mean[0]))
    (up, up_var), (down, down_var) = (drawn(kind, m, rng) for m in mean)
    theirs = singly(k, up, down, rng, 0.3)
    given = Pulses(full(mean[0]), full(mean[1]), full(up_var), full(down_var))
    agree(answer(as_soft(name, k, 0.3), given), theirs)


@pytest.mark.parametrize("name", ["soft", "linear", "power"])
@pytest.mark.parametrize(
    "k,counts", [(0.5, (1, 1)), (0.3, (4, 3)), (0.9, (20, 11)), (0.998, (1, 1))]
)
def test_whole_counts_of_coarse_cells_are_given_one_by_one(name, k, counts):
    rng = np.random.default_rng(7)
    up, down = (np.full(N, c) for c in counts)
    theirs = singly(k, up, down, rng, 0.1)
    agree(answer(as_soft(name, k, 0.1), Pulses(full(counts[0]), full(counts[1]))), theirs)


@pytest.mark.parametrize("name", ["soft", "power"])
@pytest.mark.parametrize("k", [0.02, 0.4, 0.8, 0.9, 0.998])
@pytest.mark.parametrize("part", [0.03, 0.5])
def test_a_part_of_a_pulse_makes_that_part_of_its_move_and_variance(name, k, part):
    ours = answer(as_soft(name, k, 0.3), Pulses(full(part), full(0)))
    assert ours.mean() - 0.5 == pytest.approx(part * k / 2, rel=0.05)
    assert ours.std() == pytest.approx(math.sqrt(part) * 0.3 * k / 2, rel=0.03)


def test_more_of_a_pulse_never_moves_less():
    for k in (0.5, 0.9, 0.99):
        moves = [
            answer(SoftBounds(k * SPAN / 2), Pulses(full(n / 4), full(0))).mean() for n in range(20)
        ]
        assert all(b > a for a, b in zip(moves, moves[1:], strict=False))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.865, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["poisson", "binomial", "negative"])
def test_a_switch_switches_whatever_its_probability(p, kind):
    rng = np.random.default_rng(3)
    counts, variance = drawn(kind, 2.0, rng)
    given = Pulses(full(2.0), full(0), full(variance), full(0))
    theirs = (singly(p, counts, 0 * counts, rng, at=0.0)).mean()
    on = (answer(StochasticSwitch(p, p), given, at=0.0) > 0.5).mean()
    assert on == pytest.approx(theirs, abs=4 * math.sqrt(2 * 0.25 / N))
    both = Pulses(full(2), full(1))
    want = singly(p, np.full(N, 2), np.full(N, 1), rng, at=0.0).mean()
    on = (answer(StochasticSwitch(p, p), both, at=0.0) > 0.5).mean()
    assert on == pytest.approx(want, abs=4 * math.sqrt(2 * 0.25 / N))


@pytest.mark.parametrize("k", [0.1, 0.7])
def test_devices_that_share_a_normal_share_their_counts(k):
    device, state = cells(SoftBounds(k * SPAN / 2))
    z = torch.randn(N, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    given = Pulses(full(1), full(0.5), full(0.8), full(0.4), z)
    one, two = (
        device.pulse(state, p, generator=torch.Generator().manual_seed(s)).g - state.g
        for p, s in ((given, 5), (given.swapped(), 6))
    )
    if k < 0.15:  # the order of coarse pulses is each cell's own
        torch.testing.assert_close(one, -two, rtol=1e-9, atol=0)
    assert float(torch.corrcoef(torch.stack([one, two]))[0, 1]) < -0.6
    ours = (one.numpy() + 0.5 * SPAN) / SPAN
    free = device.pulse(state, given._replace(z=None), generator=torch.Generator().manual_seed(8)).g
    agree(ours, (free.numpy() - LOW) / SPAN)


def test_counts_drawn_from_a_shared_normal_are_the_counts_of_their_moments():
    n = 200_000
    z = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    u, d = torch.full((n,), 3.0).double(), torch.full((n,), 0.2).double()
    for up_var, down_var in ((u * 0.9, d * 0.8), (u, d), (u * 1.5, d * 2)):
        got = []
        for given in (Pulses(u, d, up_var, down_var, z), Pulses(d, u, down_var, up_var, -z)):
            draw = Draw.like(u, torch.Generator().manual_seed(0))
            out = rounds(
                lambda g, rising: g + torch.where(rising, 1.0, 1e-3),
                lambda g, rest: g + rest.up + 1e-3 * rest.down,
                torch.zeros_like(u),
                given,
                draw,
            )
            got.append((out.floor(), (out - out.floor()) * 1e3))
        (up, down), (down_across, up_across) = got
        torch.testing.assert_close(up, up_across, rtol=0, atol=1e-6)
        torch.testing.assert_close(down, down_across, rtol=0, atol=1e-6)
        for counts, mean, variance in ((up, 3.0, up_var), (down, 0.2, down_var)):
            assert float(counts.mean()) == pytest.approx(mean, abs=4 * float(counts.std()) / n**0.5)
            assert float(counts.var()) == pytest.approx(float(variance[0]), rel=0.03)
        assert abs(float(torch.corrcoef(torch.stack([up, down]))[0, 1])) < 0.02


@pytest.mark.parametrize(
    "law",
    [
        SoftBounds(0.3 * SPAN, sigma_c2c=0.3),
        SoftBounds(1e-3 * SPAN, sigma_add=0.3),
        PowStep(0.3 * SPAN, sigma_c2c=0.3),
        PowStep(1e-3 * SPAN, sigma_c2c=0.3),
        NeuroSim(8, 8, 5.0, 5.0, sigma_c2c=0.1),
        VolatileStep(tau=1e-5),
        StochasticSwitch(1.0, 1.0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_without_bound_leave_cells_in_their_window(law, dtype):
    device = Device(LOW, HIGH, update=law)
    state = device.fabricate((8,), generator=torch.Generator().manual_seed(1), dtype=dtype)
    state = state._replace(g=torch.linspace(LOW, HIGH, 8, dtype=dtype))
    for count in (1e9, 1e20, 1e38):
        one, none = torch.full((8,), count, dtype=dtype), torch.zeros(8, dtype=dtype)
        for up, down in ((one, none), (none, one), (one, one)):
            for given in (Pulses(up, down), Pulses(up, down, up, down)):
                g = device.pulse(state, given, generator=torch.Generator().manual_seed(2)).g
                assert bool(((g >= LOW * (1 - 1e-6)) & (g <= HIGH * (1 + 1e-6))).all())


HARD = [
    ConstantStep(10e-6),
    ConstantStep(5e-6, up_down=0.8),
    LinearStep(15e-6, gamma_up=0.5, gamma_down=0.2),
    NeuroSim(states_up=6, states_down=5, nl_up=0.5, nl_down=-0.5),
]


@pytest.mark.parametrize("law", HARD, ids=repr)
@pytest.mark.parametrize("at", [0.03, 0.5, 0.97])
def test_random_counts_of_coarse_cells_stop_at_hard_bounds(law, at):
    """Pulses of one direction never take a cell the other way; the mean is that of counts drawn."""
    for up in (True, False):
        device, state, generator = start(law, at, 2048)
        mean, none = torch.full_like(state.g, 0.3), torch.zeros_like(state.g)
        given = Pulses(mean, none, mean, none) if up else Pulses(none, mean, none, mean)
        ours = device.pulse(state, given, generator=generator).g - state.g
        assert ((ours if up else -ours) >= 0).all()
        drawn = torch.poisson(mean, generator=generator)
        pair = (drawn, none) if up else (none, drawn)
        theirs = one_by_one(device, state, *pair, generator) - state.g
        error = 4 * ((ours.var() + theirs.var()) / len(ours)).sqrt()
        assert (ours.mean() - theirs.mean()).abs() <= error + 1e-12
