"""Laws that are no smooth steps: resets, binary switching, lookup tables, wear."""

import math
import time

import pytest
import torch
from _laws import WINDOW, counts, one_by_one, same_moments, start

from devices import (
    AbruptReset,
    Device,
    Endurance,
    LookupStep,
    NeuroSim,
    Pulses,
    SoftBounds,
    StochasticSwitch,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What is given no generator draws from torch's own, here always the same."""
    torch.manual_seed(0)


LOW, HIGH = WINDOW
SPAN = HIGH - LOW


def test_a_reset_erases_whatever_was_there():
    law = AbruptReset(SoftBounds(dg_min=1e-6))
    device, state, _ = start(law, 0.8, 5)
    given = Pulses(torch.tensor([0.0, 5, 0, 0, 3]), torch.tensor([1.0, 0, 0, 4, 0]))
    g = device.pulse(state, given).g
    smooth, same, _ = start(SoftBounds(dg_min=1e-6), 0.8, 5)
    up_only = smooth.pulse(same, given._replace(down=torch.zeros(5))).g
    assert torch.equal(g[[0, 3]], torch.full((2,), LOW, dtype=torch.float64))
    assert torch.equal(g[[1, 2, 4]], up_only[[1, 2, 4]])


@pytest.mark.parametrize("up,down", [(6, 2), (7, 3), (1, 1)])
def test_sets_after_the_last_reset(up, down):
    """U set pulses are cut by D resets into stretches; U/2D follow the last one on average."""
    n = 20000
    device, state, generator = start(AbruptReset(SoftBounds(dg_min=0.1e-6)), 0.8, n)
    g = device.pulse(state, counts(n, up, down), generator=generator).g
    first = 0.1e-6 * 2  # the first step from g_min of soft bounds is twice the one at mid-window
    after = torch.log1p(-(g - LOW) / SPAN) / math.log1p(-first / SPAN)
    expected = up / (2 * down)
    assert abs(after.mean() - expected) < 4 * 0.5 / n**0.5
    assert set(after.round().long().tolist()) <= {math.floor(expected), math.ceil(expected)}


def test_laws_with_memory_of_single_pulses_want_whole_counts():
    device, state, _ = start(AbruptReset(SoftBounds(dg_min=1e-6)), 0.5, 3)
    for given in (counts(3, 0.5, 0), counts(3, 1, 1, poisson=True)):
        with pytest.raises(ValueError, match="AbruptReset needs whole pulse counts"):
            device.pulse(state, given)


@pytest.mark.parametrize("pulses", [1, 3, 10, 1000])
def test_off_cells_stay_off_with_the_power_of_the_chance(pulses):
    n = 40000
    device, state, generator = start(StochasticSwitch(p_up=0.07, p_down=0.3), 0.0, n)
    g = device.pulse(state, counts(n, pulses, 0), generator=generator).g
    want = 1 - (1 - 0.07) ** pulses
    on = (g == HIGH).double()
    assert bool(((g == HIGH) | (g == LOW)).all())
    assert abs(on.mean() - want) < 4 * math.sqrt(want * (1 - want) / n) + 1e-12


def test_binary_cells_settle_at_the_balance_of_both_chances():
    n = 40000
    device, state, generator = start(StochasticSwitch(p_up=0.1, p_down=0.02), 0.0, n)
    on = (device.pulse(state, counts(n, 400, 900), generator=generator).g == HIGH).double()
    up, down = -400 * math.log1p(-0.1), -900 * math.log1p(-0.02)
    want = up / (up + down)
    assert abs(on.mean() - want) < 4 * math.sqrt(want * (1 - want) / n)


def test_binary_chances_of_random_counts_are_their_mean():
    n = 40000
    device, state, generator = start(StochasticSwitch(p_up=0.1), 0.0, n)
    g = device.pulse(state, counts(n, 3, 0, poisson=True), generator=generator).g
    want = 1 - math.exp(-3 * 0.1)  # E[(1 − p)^N] of a Poisson N
    assert abs((g == HIGH).double().mean() - want) < 4 * math.sqrt(want * (1 - want) / n)


def worn(limit: float, **fields):
    law = Endurance(SoftBounds(dg_min=0.5e-6), pulses=limit, **fields)
    return start(law, 0.3, 1)


def test_a_cell_stops_after_its_last_pulse():
    device, state, _ = worn(10)
    healthy, same, _ = start(SoftBounds(dg_min=0.5e-6), 0.3, 1)
    for _ in range(5):
        state, same = device.pulse(state, counts(1, 2, 0)), healthy.pulse(same, counts(1, 2, 0))
    assert torch.equal(state.g, same.g)
    assert torch.equal(device.pulse(state, counts(1, 0, 40)).g, state.g)
    device, state, _ = worn(10)
    at_once = device.pulse(state, counts(1, 1000, 0)).g
    assert torch.allclose(at_once, same.g, rtol=1e-12)


def test_cycles_to_failure_are_lognormal():
    n = 20000
    law = Endurance(SoftBounds(dg_min=0.5e-6), pulses=1e6, sigma_log10=0.5)
    limit = Device(*WINDOW, update=law).fabricate((n,)).update.limit.log10()
    assert abs(limit.mean() - 6) < 4 * 0.5 / n**0.5
    assert abs(limit.std() / 0.5 - 1) < 4 / (2 * n) ** 0.5


def table(mean: float, noise: float, points: int = 41) -> tuple[float, ...]:
    """Quantiles of a normal step, cut at the outermost of `points` probabilities."""
    p = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    z = math.sqrt(2) * torch.erfinv(2 * p - 1)
    return tuple((mean + noise * z).tolist())


NODES = tuple(LOW + SPAN * i / 4 for i in range(5))
UP = tuple(table(0.6e-6 * (1 - 0.15 * i), 0.25e-6 * (1 - 0.1 * i)) for i in range(5))
DOWN = tuple(table(-0.2e-6 * (1 + 0.3 * i), 0.15e-6 * (1 + 0.2 * i)) for i in range(5))


def test_one_lookup_pulse_is_the_table():
    n = 40000
    device, state, generator = start(LookupStep(NODES, (UP,), (DOWN,)), 0.625, n)
    step = device.pulse(state, counts(n, 1, 0), generator=generator).g - state.g
    want = torch.tensor([UP[2], UP[3]], dtype=torch.float64).mean(0)  # half-way between nodes
    at = torch.linspace(0, 1, len(UP[0]), dtype=torch.float64)[4:-4:4]
    measured = torch.quantile(step, at)
    error = 4 * (at * (1 - at) / n).sqrt() * (want[-1] - want[0]) / 2
    assert bool(((measured - want[4:-4:4]).abs() < error).all())


@pytest.mark.parametrize("up,down", [(20, 0), (0, 30), (12, 12), (31, 7), (5, 18)])
def test_kernel_powers_are_many_single_lookups(up, down):
    n = 6000
    device, state, generator = start(LookupStep(NODES, (UP,), (DOWN,)), 0.5, n)
    given = counts(n, up, down)
    many = device.pulse(state, given, generator=generator).g
    single = one_by_one(device, state, given.up, given.down, generator)
    same_moments(many, single, state.g[0].item())


def test_every_cell_copies_one_measured_cell():
    weak = tuple(table(0.1e-6, 0.0) for _ in range(5))
    device, state, generator = start(LookupStep(NODES, (UP, weak), (DOWN, DOWN)), 0.5, 4000)
    step = device.pulse(state, counts(4000, 1, 0), generator=generator).g - state.g
    copies = state.update.table
    assert abs(copies.double().mean() - 0.5) < 4 * 0.5 / 4000**0.5
    assert torch.allclose(step[copies == 1], torch.tensor(0.1e-6, dtype=torch.float64))
    assert step[copies == 0].std() > 0.15e-6


def test_steps_finer_than_the_grid_keep_their_mean():
    n = 4000
    weak = tuple(table(0.1e-6, 0.0) for _ in range(5))
    device, state, generator = start(LookupStep(NODES, (weak,), (DOWN,)), 0.5, n)
    moved = device.pulse(state, counts(n, 50, 0), generator=generator).g - state.g
    # and, quiet as they are, add no noise
    assert abs(moved.mean() - 50 * 0.1e-6) < 1e-12 and moved.std() < 1e-12


def test_tables_from_raw_pulses_reproduce_their_device():
    law = SoftBounds(dg_min=0.8e-6, sigma_c2c=0.4)
    device, state, generator = start(law, 0.5, 1)
    state = state._replace(g=LOW + SPAN * torch.rand(30000, generator=generator).double())
    cells = []
    for up in (1, 0):
        after = device.pulse(state, counts(30000, up, 1 - up), generator=generator).g
        cells.append((state.g, after, torch.full((30000,), up)))
    both = tuple(torch.cat(pair) for pair in zip(*cells, strict=True))
    lookup = LookupStep.from_pulses([both], nodes=24, quantiles=31)
    given = counts(4000, 18, 9)
    origin, here, generator = start(law, 0.4, 4000)
    copy, there, _ = start(lookup, 0.4, 4000)
    same_moments(
        copy.pulse(there, given, generator=generator).g,
        one_by_one(origin, here, given.up, given.down, generator),
        here.g[0].item(),
    )


@pytest.mark.parametrize(
    "fields,error,words",
    [
        ({"nodes": (2e-6, 1e-6)}, ValueError, "increasing conductances"),
        ({"up": (((1e-6,) * 3,) * 4,)}, ValueError, "cells x 5 nodes"),
        ({"up": (((2e-6, 1e-6),) * 5,)}, ValueError, "increasing along the quantiles"),
        ({"down": (DOWN, DOWN)}, ValueError, "of the same cells"),
        ({"up": "table"}, TypeError, "cells x nodes x quantiles"),
    ],
)
def test_tables_are_checked(fields, error, words):
    with pytest.raises(error, match=words):
        LookupStep(**{"nodes": NODES, "up": (UP,), "down": (DOWN,), **fields})


def quiet(step: float, relative: float) -> LookupStep:
    """Soft bounds of fine steps, each with a noise that is a part of it."""
    nodes = torch.linspace(LOW, LOW + SPAN, 16, dtype=torch.float64)
    z = torch.tensor(table(0.0, relative * step * SPAN), dtype=torch.float64)
    up = 2 * SPAN * step * (1 - (nodes - LOW) / SPAN)[:, None] + z
    rows = tuple(tuple(row) for row in up.tolist())
    down = tuple(tuple(-v for v in row[::-1]) for row in rows[::-1])
    return LookupStep(tuple(nodes.tolist()), (rows,), (down,))


@pytest.mark.parametrize("up,down", [(3, 0), (40, 0), (200, 0), (60, 90), (300, 20)])
@pytest.mark.parametrize("step,relative", [(0.001, 0.1), (0.002, 0.02), (0.0005, 1.0)])
def test_fine_quiet_steps_keep_their_noise(up, down, step, relative):
    n = 3000
    device, state, generator = start(quiet(step, relative), 0.3, n)
    many = device.pulse(state, counts(n, up, down), generator=generator).g
    total = up + down
    for k in range(total):  # evenly interleaved: a random order would scatter cells by itself
        rising = int((k + 1) * up // total > k * up // total)
        state = device.pulse(state, counts(n, rising, 1 - rising), generator=generator)
    single = state.g
    assert many.std() / single.std() == pytest.approx(1, abs=6 / (2 * n) ** 0.5 + 0.03)
    # where the two trains begin is open: less than one step
    assert abs(many.mean() - single.mean()) < 6 * single.std() / n**0.5 + 2 * step * SPAN


def test_a_lookup_update_costs_what_a_law_costs():
    given = torch.Generator().manual_seed(0)
    pulses = Pulses(*(torch.randint(0, 12, (128, 64), generator=given).float() for _ in range(2)))
    cost = []
    for law in (LookupStep(NODES, (UP,), (DOWN,)), NeuroSim(100, 100, 2.0, -2.0, sigma_c2c=0.02)):
        device = Device(*WINDOW, update=law)
        state = device.program(device.fabricate((128, 64)), torch.full((128, 64), LOW + SPAN / 2))
        device.pulse(state, pulses)  # tables are made once
        best = math.inf
        for _ in range(20):
            begin = time.process_time()
            device.pulse(state, pulses)
            best = min(best, time.process_time() - begin)
        cost.append(best)
    assert cost[0] < 5 * cost[1]
