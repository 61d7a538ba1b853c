"""STDP through devices against its closed forms, a sum over all pairs, and Brian2 (frozen)."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import crossbar as xb
from crossbar import spiking as sp
from devices import (
    VTEAM,
    ConstantStep,
    Device,
    QuerliozStep,
    SoftBounds,
    StuckAt,
)
from tests._currents import uniform

BRIAN = np.load(Path(__file__).parent / "data" / "spiking" / "brian.npz")
IDEAL = Device(0.0, 1.0, update=ConstantStep(1e-3))
WIDE = xb.Unipolar(w_max=1.0)


def array(rows: int, cols: int, w: float = 0.5, device: Device = IDEAL, seed: int = 0) -> xb.Matrix:
    start = torch.full((cols, rows), w, dtype=torch.float64)
    return xb.matrix(start, xb.Chip(device, WIDE), seed=seed)


def trains(steps: int, lines: int, rate: float, seed: int) -> torch.Tensor:
    return (uniform((steps, lines), seed) < rate).double()


def one_pair(rule: sp.SpikeRule, delays: torch.Tensor, dt: float) -> torch.Tensor:
    """ΔW of a row spike and a column spike so many steps after, one row a delay."""
    middle = int(delays.abs().max()) + 1
    pre = torch.zeros(2 * middle + 1, len(delays), dtype=torch.float64)
    pre[middle - delays, torch.arange(len(delays))] = 1
    post = torch.zeros(len(pre), 1, dtype=torch.float64)
    post[middle] = 1
    a = array(len(delays), 1)
    sp.Learner(a, rule, dt, xb.Expected()).run(pre, post)
    return a.weight[:, 0] - 0.5


@pytest.mark.parametrize("nearest", [False, True])
def test_the_window_is_the_analytic_one_and_its_own_mirror(nearest: bool) -> None:
    dt, delays = 1e-3, torch.arange(-100, 101)
    rule = sp.PairSTDP(0.01, 0.012, 17e-3, 34e-3, nearest)
    got = one_pair(rule, delays, dt)
    t = delays.double() * dt
    want = torch.where(t >= 0, 0.01 * torch.exp(-t / 17e-3), -0.012 * torch.exp(t / 34e-3))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert bool((got[101:].diff() < 0).all()) and bool((got[:100].diff() < 0).all())
    even = one_pair(sp.PairSTDP(0.01, 0.01, 20e-3, 20e-3, nearest), delays, dt)
    swapped = -even.flip(0)  # pre and post exchanged
    apart = delays != 0
    torch.testing.assert_close(even[apart], swapped[apart], rtol=0, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.floats(0.02, 0.4), st.booleans())
def test_trains_give_the_sum_over_their_pairs(seed: int, rate: float, nearest: bool) -> None:
    steps, dt = 60, 1e-3
    pre, post = trains(steps, 3, rate, 2 * seed + 1), trains(steps, 2, rate, 2 * seed + 2)
    rule = sp.PairSTDP(1e-4, 2e-4, 12e-3, 25e-3, nearest)
    a = array(3, 2)
    sp.Learner(a, rule, dt, xb.Expected()).run(pre, post)
    want = torch.zeros(3, 2, dtype=torch.float64)
    for i in range(3):
        for j in range(2):
            rows, cols = (p.nonzero().flatten().tolist() for p in (pre[:, i], post[:, j]))
            for c in cols:
                before = [r for r in rows if r <= c]
                for r in before[-1:] if nearest else before:
                    want[i, j] += 1e-4 * math.exp(-(c - r) * dt / 12e-3)
            for r in rows:
                before = [c for c in cols if c < r]
                for c in before[-1:] if nearest else before:
                    want[i, j] -= 2e-4 * math.exp(-(r - c) * dt / 25e-3)
    torch.testing.assert_close(a.weight - 0.5, want, rtol=0, atol=1e-12)


BRIAN_RULES = {
    "pair": sp.PairSTDP(0.12, 0.09, 20e-3, 34e-3),
    "nearest": sp.PairSTDP(0.03, 0.02, 20e-3, 34e-3, nearest=True),
    "triplet": sp.TripletSTDP(0.002, 0.0093, 0.014, 0.001, 16.8e-3, 33.7e-3, 101e-3, 125e-3),
}


def brian_trains() -> list[torch.Tensor]:
    found = []
    for name, lines in (("pre", 6), ("post", 4)):
        spikes = torch.zeros(4000, lines, dtype=torch.float64)
        spikes[BRIAN[name][0], BRIAN[name][1]] = 1
        found.append(spikes)
    return found


def written(w: np.ndarray) -> xb.Matrix:
    return xb.matrix(torch.from_numpy(w).T, xb.Chip(IDEAL, WIDE), seed=0)


@pytest.mark.parametrize("name", BRIAN_RULES)
def test_weights_are_those_of_brian2(name: str) -> None:
    pre, post = brian_trains()
    assert 50 < float((pre.unsqueeze(-1) * post.unsqueeze(-2)).sum()) < 400  # coincidences
    a, want = written(BRIAN["start"]), torch.from_numpy(BRIAN[name])
    sp.Learner(a, BRIAN_RULES[name], 1e-4, xb.Expected()).run(pre, post)
    assert float((a.weight - want).abs().max()) < 1e-12
    assert float((want - torch.from_numpy(BRIAN["start"])).abs().max()) > 0.1
    assert bool((want < 0.05).any()) or bool((want > 0.95).any())  # bounds at work


def test_rewarded_weights_are_those_of_brian2() -> None:
    pre, post = brian_trains()
    a, want = written(BRIAN["start"]), torch.from_numpy(BRIAN["reward"])
    rule = sp.PairSTDP(0.03, 0.02, 20e-3, 34e-3)
    learner = sp.RewardLearner(a, rule, 1e-4, 0.1, xb.Expected())
    for k, (before, after) in enumerate(zip(pre, post, strict=True)):
        learner.step(before, after)
        if k % 500 == 0:
            learner.reward(math.sin(0.9 * (k // 500)), 3.0)
    assert float((a.weight - want).abs().max()) < 1e-12
    assert float((want - torch.from_numpy(BRIAN["start"])).abs().max()) > 0.05


def test_without_reward_nothing_is_learned() -> None:
    pre, post = trains(50, 3, 0.2, 1), trains(50, 2, 0.2, 2)
    a = array(3, 2)
    learner = sp.RewardLearner(a, sp.PairSTDP(), 1e-3, 0.1, xb.Expected())
    learner.run(pre, post)
    assert bool((a.weight == 0.5).all()) and learner.eligible.abs().max() > 0
    learner.reward(-2.0)
    torch.testing.assert_close(a.weight - 0.5, -2 * learner.eligible, rtol=0, atol=1e-12)


def test_poisson_trains_drift_by_their_coincidences_alone() -> None:
    # 20 independent blocks of 4 x 4 of one array; A+ τ+ = A− τ−
    dt, tau, rate, steps, blocks, n = 1e-3, 20e-3, 60.0, 400, 20, 4
    rule = sp.PairSTDP(1e-5, 2e-5, tau, tau / 2)
    pre, post = (trains(steps, blocks * n, rate * dt, k) for k in (21, 22))
    a = array(blocks * n, blocks * n)
    sp.Learner(a, rule, dt, xb.Expected()).run(pre, post)
    move = a.weight - 0.5
    own = torch.stack([move[k : k + n, k : k + n].mean() for k in range(0, blocks * n, n)])
    # sums over whole steps: LTP r² Σ_{k>=0} e^(−k dt/τ), LTD the same from k = 1
    pairs = (rate * dt) ** 2 * steps
    up = 1e-5 / -math.expm1(-dt / tau)
    down = 2e-5 * (1 / -math.expm1(-2 * dt / tau) - 1)
    want = pairs * (up - down)
    error = float(own.std()) / math.sqrt(blocks)
    assert abs(float(own.mean()) - want) < 4.2 * error  # Student's t, 19 degrees, 99.95 %
    assert abs(want / (pairs * up)) < 1.1 * dt / (tau / 2)


def test_triplets_grow_with_the_rate_of_pairing_and_pairs_do_not() -> None:
    def paired(rule: sp.SpikeRule, rate: float) -> float:
        steps = 20 * round(1e3 / rate)
        pre, post = torch.zeros(steps, 1), torch.zeros(steps, 1)
        at = torch.arange(0, steps - 10, round(1e3 / rate))
        pre[at], post[at + 5] = 1, 1
        a = array(1, 1)
        sp.Learner(a, rule, 1e-3, xb.Expected()).run(pre.double(), post.double())
        return float(a.weight - 0.5)

    triplet = sp.TripletSTDP(5e-10, 6.2e-4, 7e-4, 2.3e-5)
    slow, middle, fast = (paired(triplet, rate) for rate in (5, 20, 50))
    assert slow < middle < fast and fast > 0.005
    pair = sp.PairSTDP(1e-4, 1.05e-4, 16.8e-3, 33.7e-3)
    assert paired(pair, 50) < paired(pair, 20)


# ---- devices act on learning --------------------------------------------------------------------


def test_soft_bounds_make_the_window_depend_on_the_weight() -> None:
    device = Device(0.0, 1.0, update=SoftBounds(1e-3))
    rule = sp.PairSTDP(0.01, 0.01)
    moves = []
    for w in (0.1, 0.5, 0.9):
        a = array(1, 1, w, device)
        learner = sp.Learner(a, rule, 1e-3, xb.Expected())
        learner.step(torch.ones(1), torch.zeros(1))
        learner.step(torch.zeros(1), torch.ones(1))
        moves.append(float(a.weight) - w)
    # the law: steps 2 dg_min (1 − g) up; ten pulses in flow
    want = [(1 - w) * -math.expm1(-2 * 0.01 * math.exp(-0.05)) for w in (0.1, 0.5, 0.9)]
    assert moves == pytest.approx(want, rel=1e-3)


def test_stuck_cells_stay_and_whole_pulses_are_right_on_average() -> None:
    rows, cols = 60, 60
    device = replace(IDEAL, faults=StuckAt(p_any=0.3))
    a = array(rows, cols, device=device, seed=4)
    before = a.weight
    # one spike of every row, then one of every column
    learner = sp.Learner(a, sp.PairSTDP(0.0105, 0.01, 20e-3), 1e-3, xb.ExactBits(bl=31))
    learner.step(torch.ones(rows), torch.zeros(cols))
    learner.step(torch.zeros(rows), torch.ones(cols))
    moved = (a.weight - before).flatten()
    still = moved == 0
    assert 0.2 < float(still.double().mean()) < 0.4
    counts = moved[~still] / 1e-3
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-6)
    want = 10.5 * math.exp(-0.05)
    # rows share their bits: the error of the mean is that of 60 rows, some 2.6 pulses each
    assert float(counts.mean()) == pytest.approx(want, abs=4 * 2.6 / math.sqrt(rows))


def test_it_learns_while_reads_go_on() -> None:
    a = array(4, 3)
    learner = sp.Learner(a, sp.PairSTDP(0.05, 0.05), 1e-3, xb.Expected())
    x, seen = torch.ones(4, dtype=torch.float64), []
    for k in range(10):
        pre = torch.zeros(4)
        pre[k % 4] = 1
        post = (a.mv(pre.double()) > 0.4).double()
        learner.step(pre, post)
        seen.append(a.mv(x))
        torch.testing.assert_close(seen[-1], a.weight.T @ x)
    assert bool((torch.stack(seen).diff(dim=0) > 0).any())


@pytest.mark.parametrize("window", [1, 3, 7])
def test_the_rectangular_rule_gives_one_pulse_up_or_down(window: int) -> None:
    a = array(10, 2)
    learner = sp.Learner(a, sp.Rectangular(window * 1e-3), 1e-3, xb.Expected())
    for k in range(10):  # row k spiked 9 − k steps before the column
        pre = torch.zeros(10)
        pre[k] = 1
        post = torch.zeros(2)
        post[0] = float(k == 9)
        learner.step(pre, post)
    recent = torch.arange(9, -1, -1) < window
    want = 2e-3 * recent.double() - 1e-3
    torch.testing.assert_close(a.weight[:, 0] - 0.5, want, rtol=0, atol=1e-12)
    assert bool((a.weight[:, 1] == 0.5).all())


def test_the_querlioz_cell_takes_its_own_steps() -> None:
    law = QuerliozStep(0.0075, up_down=2 / 3)
    for w in (0.1, 0.6):
        a = array(2, 1, w, Device(0.0, 1.0, update=law))
        learner = sp.Learner(a, sp.Rectangular(2e-3), 1e-3, xb.Expected())
        learner.step(torch.tensor([1.0, 0.0]), torch.tensor([1.0]))
        want = [w + 0.01 * math.exp(-3 * w), w - 0.005 * math.exp(-3 * (1 - w))]
        assert a.weight[:, 0].tolist() == pytest.approx(want, rel=1e-6)


# ---- overlapping voltages -----------------------------------------------------------------------

V_TH = 0.5


def cell(alpha: float) -> Device:
    law = VTEAM(k_on=5.0, k_off=5.0, v_on=V_TH, v_off=-V_TH, alpha_on=alpha, alpha_off=alpha)
    return Device(1e-3, 1.0, update=law)


def state(a: xb.Matrix) -> torch.Tensor:
    """VTEAM's x: the resistance, not the conductance, is linear in it."""
    return (1e3 - 1 / a.cells.g[0]) / (1e3 - 1)


def windows(alpha: float, height: float, delays: torch.Tensor) -> tuple[torch.Tensor, int]:
    dt = 1e-4
    middle = int(delays.abs().max()) + 1
    pre = torch.zeros(2 * middle + 20, len(delays))
    pre[middle - delays, torch.arange(len(delays))] = 1
    post = torch.zeros(len(pre), 1)
    post[middle] = 1
    g = 1 / (1e3 - 0.5 * (1e3 - 1))
    start = torch.full((1, len(delays)), g, dtype=torch.float64) - 1e-3
    a = xb.matrix(start / (1 - 1e-3), xb.Chip(cell(alpha), WIDE), seed=0)
    before = state(a)
    shape = sp.Waveform(height, 0.6 * V_TH, 1e-3, 20e-3)
    learner = sp.WaveformLearner(a, shape, dt=dt, threshold=V_TH)
    learner.run(pre, post)
    return (state(a) - before)[:, 0], learner.driven


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_overlapping_waveforms_give_an_exponential_window(alpha: float) -> None:
    later = torch.arange(11, 401, 26)
    delays = torch.cat((-later.flip(0), later))
    move, driven = windows(alpha, V_TH, delays)
    t = delays.double() * 1e-4
    size = 5.0 * 0.6**alpha * (20e-3 / alpha) * math.expm1(1e-3 * alpha / 20e-3)
    want = size * torch.exp(-alpha * (t.abs()) / 20e-3) * t.sign()
    assert float((move / want - 1).abs().max()) < 1e-3
    torch.testing.assert_close(move, -move.flip(0), rtol=1e-9, atol=1e-15)
    assert driven < 700  # of 840 steps, those in which a pulse meets a tail


def test_lone_spikes_move_nothing_and_too_high_ones_do() -> None:
    pre = torch.zeros(300, 3)
    pre[5, 0] = pre[50, 1] = 1
    post = torch.zeros(300, 2)
    for height, moves in ((V_TH, False), (1.2 * V_TH, True)):
        a = xb.matrix(torch.full((2, 3), 0.01, dtype=torch.float64), xb.Chip(cell(1), WIDE), seed=0)
        before = a.weight
        shape = sp.Waveform(height, 0.6 * V_TH)
        sp.WaveformLearner(a, shape, dt=1e-4).run(pre, post)
        changed = a.weight != before
        assert bool(changed[:2].all()) == moves and not changed[2].any()


def test_it_refuses_what_cannot_be_right() -> None:
    with pytest.raises(ValueError, match="Unipolar holds weights of 0 and more"):
        xb.matrix(-torch.ones(2, 2), xb.Chip(IDEAL, WIDE))
    pair = xb.matrix(torch.ones(2, 2), xb.Chip(cell(1)), seed=0)
    with pytest.raises(TypeError, match="one cell a weight"):
        sp.WaveformLearner(pair, sp.Waveform(0.5, 0.3), dt=1e-4)
    a = array(2, 2)
    with pytest.raises(ValueError, match="width of a pulse"):
        sp.WaveformLearner(a, sp.Waveform(0.5, 0.3), dt=1e-2)
    with pytest.raises(TypeError, match="update"):
        fixed = xb.matrix(torch.ones(2, 2), xb.Chip(Device(0.0, 1.0), WIDE), seed=0)
        sp.Learner(fixed, sp.PairSTDP(), 1e-3)
    with pytest.raises(TypeError, match="rule"):
        sp.Learner(a, sp.PairSTDP, 1e-3)
    with pytest.raises(ValueError, match="tau_plus"):
        sp.PairSTDP(tau_plus=0.0)


def test_unipolar_arrays_multiply_and_program() -> None:
    w = uniform((5, 7), 3)
    device = Device(2e-6, 40e-6)
    a = xb.matrix(w, xb.Chip(device, xb.Unipolar()), seed=0)
    x = uniform((7,), 4) - 0.5
    torch.testing.assert_close(a @ x, w @ x)
    torch.testing.assert_close(a.T @ (w @ x), w.T @ (w @ x))
    a.program(w.T - 0.5)  # later ones are written as zero
    torch.testing.assert_close(a.weight, (w.T - 0.5).clamp(min=0))
