"""Networks of spikes on arrays: winners, chains, memories, reservoirs."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import crossbar as xb
from crossbar import spiking as sp
from devices import ConstantStep, Device, GaussianRead, GaussianWrite, StuckAt, VolatileStep
from tests import _unsupervised as digits
from tests._currents import uniform

# ---- winner-take-all -----------------------------------------------------------------------------


def by_hand(g, x, theta, tau, window, refractory, step, gamma):
    """The same rule step by step, one array, in NumPy."""
    v, rest, counts = np.zeros(g.shape[1]), 0, np.zeros(g.shape[1])
    for t in range(len(x)):
        if rest:
            rest -= 1
            v[:] = 0
            continue
        v = v * math.exp(-1 / tau) + x[t] @ g
        k = int((v - theta).argmax())
        if v[k] >= theta[k]:
            recent = x[max(0, t - window + 1) : t + 1].max(0) > 0
            g[:, k] = np.clip(g[:, k] + np.where(recent, step, -step), 0, 1)
            counts[k] += 1
            v[:], rest = 0, refractory
    theta += gamma * 6.0 * (counts - counts.mean())
    np.maximum(theta, 0.2 * 6.0, out=theta)
    return counts


@pytest.mark.parametrize("refractory", [0, 3])
def test_winners_learn_as_by_hand(refractory: int) -> None:
    arrays, rows, cols, steps = 3, 12, 6, 40
    start = uniform((arrays, cols, rows), 3)
    device = Device(0.0, 1.0, update=ConstantStep(0.01))
    a = sp.stack(start, xb.Chip(device, xb.Unipolar(w_max=1.0)), seed=0)
    net = sp.WinnerTakesAll(
        a, tau=8.0, threshold=6.0, window=2, homeostasis=0.02, refractory=refractory
    )
    g = [w.T.numpy().copy() for w in start]
    theta = [np.full(cols, 6.0) for _ in g]
    for pattern in range(4):
        x = (uniform((steps, arrays, rows), 50 + pattern) < 0.3).double()
        got = net.present(x)
        for k in range(arrays):
            want = by_hand(g[k], x[:, k].numpy(), theta[k], 8.0, 2, refractory, 0.01, 0.02)
            assert got[k].tolist() == want.tolist() and want.sum() > 3
            np.testing.assert_allclose(a.weight[k].numpy(), g[k], atol=1e-12)
            np.testing.assert_allclose(net.theta[k].numpy(), theta[k], atol=1e-12)
    # frozen: many patterns at once, each array its own or all the same
    x = (uniform((steps, 5, rows), 70) < 0.3).double()
    answers = net.respond(x)
    for k in range(arrays):
        for b in range(5):
            frozen = by_hand(g[k].copy(), x[:, b].numpy(), theta[k].copy(), 8, 2, refractory, 0, 0)
            assert answers[k, b].tolist() == frozen.tolist()


def test_labels_and_votes() -> None:
    counts = torch.tensor([[3.0, 0, 1], [2, 0, 0], [0, 4, 1], [0, 5, 3]])
    label = sp.labels(counts, torch.tensor([0, 0, 1, 1]), 2)
    assert label.tolist() == [0, 1, 1]
    assert sp.votes(counts, label, 2).tolist() == [0, 0, 1, 1]


def test_digits_are_told_apart_without_labels() -> None:
    # a tenth of an epoch; the whole one is a slow test
    assert np.mean(digits.accuracies(images=130)) >= 0.65


@pytest.mark.slow
def test_one_epoch_of_digits() -> None:
    assert np.mean(digits.accuracies()) >= 0.80


@cache
def ideal() -> list[float]:
    """Three epochs on ideal cells."""
    return digits.accuracies(epochs=3)


@pytest.mark.slow
def test_three_epochs_of_digits() -> None:
    found = ideal()
    print(f"mean {np.mean(found):.3f}, worst {min(found):.3f}")
    assert np.mean(found) >= 0.85 and min(found) >= 0.80


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "loss"),
    [
        (digits.spread(0.25), 0.05),
        (digits.spread(0.5), 0.12),
        (digits.stuck(0.1), 0.06),
        (digits.stuck(0.2), 0.10),
        (digits.noisy(1.0), 0.03),
    ],
    ids=["spread 25", "spread 50", "stuck 10", "stuck 20", "cycle noise"],
)
def test_digits_bear_what_devices_do(device: Device, loss: float) -> None:
    lost = np.mean(ideal()) - np.mean(digits.accuracies(device, epochs=3))
    print(f"lost {100 * lost:.1f} points")
    assert lost <= loss


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "gain"), [(0.1, 0.10), (0.25, 0.40)])
def test_homeostasis_bears_neurons_that_differ(sigma: float, gain: float) -> None:
    device = digits.spread(sigma)
    kept = np.mean(digits.accuracies(device, sigma_threshold=sigma))
    alone = np.mean(digits.accuracies(device, sigma_threshold=sigma, **digits.WITHOUT))
    print(f"with {kept:.3f}, without {alone:.3f}")
    assert kept - alone >= gain


# ---- synfire -------------------------------------------------------------------------------------


def alive(spikes: int, trials: int = 10, **options) -> float:
    counts = sp.Synfire().run(spikes, 1.0, trials=trials, **options)
    assert counts.shape == (trials, 10)
    return float((counts[:, -1] > 50).float().mean())


def test_packets_live_or_die_by_their_size() -> None:
    assert alive(85, 3) == 1.0 and alive(40, 4) == 0.0
    assert alive(60, 4) >= 0.75


def test_gain_gives_back_what_dead_cells_took() -> None:
    dead = xb.Chip(Device(0.0, 1e-5, faults=StuckAt(p_off=0.5)), xb.Unipolar())
    assert alive(85, 2, chip=dead) == 0.0
    assert alive(85, 2, chip=dead, gain=2.0) == 1.0


@pytest.mark.slow
def test_the_separatrix_lies_between_40_and_60_spikes() -> None:
    shares = alive(60, 100), alive(40, 100)
    print(f"60 spikes {shares[0]:.2f}, 40 spikes {shares[1]:.2f}")
    assert shares[0] >= 0.95 and shares[1] == 0.0
    for p in (0.2, 0.3, 0.5):
        dead = xb.Chip(Device(0.0, 1e-5, faults=StuckAt(p_off=p)), xb.Unipolar())
        share = alive(60, 20, chip=dead, gain=1 / (1 - p))
        print(f"{p:.0%} stuck off, gain {1 / (1 - p):.2f}: {share:.2f}")
        assert share >= 0.9


# ---- associative memory --------------------------------------------------------------------------


def patterns(count: int, n: int = 500, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randint(0, 2, (count, n), generator=draw) - 1


def recalled(load: float, chip: xb.Chip | None = None, seed: int = 0) -> float:
    x = patterns(round(load * 500), seed=seed)
    draw = torch.Generator().manual_seed(seed + 1000)
    flips = torch.rand(x.shape, generator=draw).argsort(1) < 50
    net = sp.Hopfield(x, chip, seed=seed)
    return float((sp.overlap(net.recall(torch.where(flips, -x, x)), x) > 0.95).float().mean())


def test_an_ideal_array_takes_the_same_steps_as_the_float_network() -> None:
    x = patterns(50)
    net = sp.Hopfield(x, seed=0)
    s = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.1, -x, x)
    for _ in range(5):
        h, exact = net.field(s), s.double() @ net.weight.T
        clear = exact.abs() > 1e-4
        assert (
            torch.equal(h.sign()[clear].double(), exact.sign()[clear])
            and clear.float().mean() > 0.9
        )
        s = torch.where(h == 0, s, h.sign())


# about the middle of the window, as pairs that pulses train are
PAIR, STEP = xb.Differential(route=xb.PushPull()), ConstantStep(1e-7)


def noisy(sigma: float) -> xb.Chip:
    return xb.Chip(Device(0.0, 1e-4, update=STEP, read=GaussianRead(sigma)), PAIR)


def dead(share: float) -> xb.Chip:
    return xb.Chip(Device(0.0, 1e-4, update=STEP, faults=StuckAt(p_off=share)), PAIR)


def test_memories_fade_with_noise_and_dead_cells() -> None:
    assert recalled(0.1) > 0.95 and recalled(0.2) < 0.2
    assert recalled(0.1, noisy(0.05)) > 0.9 > 0.5 > recalled(0.1, noisy(0.2))
    assert recalled(0.1, dead(0.2)) < 0.5 < recalled(0.05, dead(0.1))


def half_point(chip: xb.Chip | None, draws: int = 10) -> float:
    loads = np.arange(0.05, 0.2001, 0.0125)
    share = [np.mean([recalled(q, chip, seed) for seed in range(draws)]) for q in loads]
    below = int(np.argmax(np.array(share) < 0.5))
    a, b = share[below - 1], share[below]
    return float(loads[below - 1] + (a - 0.5) / (a - b) * 0.0125)


@pytest.mark.slow
def test_half_points_of_the_memory() -> None:
    points = [half_point(None), *(half_point(noisy(s)) for s in (0.05, 0.1, 0.2))]
    stuck = [half_point(dead(p)) for p in (0.05, 0.1, 0.2)]
    print(f"read noise {np.round(points, 3)}, stuck {np.round(stuck, 3)}")
    assert points == pytest.approx([0.158, 0.143, 0.123, 0.078], abs=0.012)
    assert stuck == pytest.approx([0.115, 0.090, 0.060], abs=0.012)


# ---- reservoirs ----------------------------------------------------------------------------------


def test_narma_is_that_of_reservoirpy() -> None:
    frozen = np.load(Path(__file__).parent / "data" / "spiking" / "narma.npz")
    y = sp.tasks.narma(torch.from_numpy(frozen["u"]))
    np.testing.assert_allclose(y[: len(frozen["y"])].numpy(), frozen["y"], rtol=1e-12)


def test_mackey_glass_follows_its_equation() -> None:
    # while the delayed value is the history, the equation is linear
    x = sp.tasks.mackey_glass(18)
    c = 0.2 * 1.2 / (1 + 1.2**10) / 0.1
    t = torch.arange(18, dtype=torch.float64)
    torch.testing.assert_close(x, c + (1.2 - c) * torch.exp(-0.1 * t), rtol=1e-8, atol=0)
    coarse, fine = sp.tasks.mackey_glass(60), sp.tasks.mackey_glass(60, fine=40)
    torch.testing.assert_close(coarse, fine, rtol=2e-4, atol=0)
    assert sp.tasks.nrmse(x, x) == 0 and sp.tasks.nrmse(x.mean().expand(18), x) == pytest.approx(1)


def narma_data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    u = 0.5 * torch.rand(4210, generator=draw, dtype=torch.float64)
    return u[10:-1], sp.tasks.narma(u)[1:]


def errors(states, y, error: float = 0.0, chip: xb.Chip | None = None) -> float:
    """RMSE/std on the later half, ridge chosen on the last quarter of the first."""
    fits = {}
    for ridge in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2):
        fit = sp.Readout(states[:1500], y[:1500], ridge=ridge, error=error)
        fits[sp.tasks.nrmse(fit(states[1500:2000]), y[1500:2000])] = ridge
    fit = sp.Readout(states[:2000], y[:2000], ridge=fits[min(fits)], error=error)
    if chip is not None:
        fit = fit.write(chip, seed=3)
    return sp.tasks.nrmse(fit(states[2000:]), y[2000:])


def test_an_echo_state_on_an_array_beats_every_tapped_delay() -> None:
    u, y = narma_data(0)
    taps = sp.tap_error(u[200:], y[200:], 2000)
    assert taps == pytest.approx(0.377, abs=0.03)
    states = sp.EchoState(200, seed=0).run(u)[200:]
    assert errors(states, y[200:]) < 0.25 < taps
    # a readout that is written with an error of 1 % of its largest weight
    written = xb.Chip(Device(0.0, 1e-4, write=GaussianWrite(0.01)))
    assert errors(states, y[200:], 0.01, written) <= 0.5
    assert errors(states, y[200:], 0.0, written) > 1  # fitted as if there were none


@pytest.mark.slow
def test_an_echo_state_bears_a_little_read_noise() -> None:
    u, y = narma_data(0)
    chip = xb.Chip(Device(0.0, 1e-4, read=GaussianRead(0.001)))
    states = sp.EchoState(200, signs=True, scale=0.8, chip=chip, seed=0).run(u)[200:]
    found, taps = errors(states, y[200:]), sp.tap_error(u[200:], y[200:], 2000)
    print(f"±1 weights, read noise 0.1 %: {found:.3f}, taps {taps:.3f}")
    assert found < taps


def chaos(horizon: int, chip: xb.Chip | None = None, **options) -> tuple[float, float]:
    """Errors of an echo state of 200 and of the best taps, so many steps ahead."""
    x = sp.tasks.mackey_glass(4700 + horizon)[500:]
    u, y = x[:-horizon], x[horizon:]
    states = sp.EchoState(200, chip=chip, seed=0, **options).run(u)[200:]
    return errors(states, y[200:]), sp.tap_error(u[200:], y[200:], 2000)


@pytest.mark.slow
def test_chaos_is_foreseen_further_than_taps_see() -> None:
    for noise, horizons in ((0.0, (1, 6, 17, 84)), (0.001, (6, 17, 84)), (0.01, (17, 84))):
        chip = xb.Chip(Device(0.0, 1e-4, read=GaussianRead(noise)))
        how = {"signs": True, "scale": 0.8} if noise else {}
        for horizon in horizons:
            found, taps = chaos(horizon, chip, **how)
            print(f"read noise {noise:.1%}, {horizon} ahead: {found:.4f}, taps {taps:.4f}")
            assert found < taps


def test_a_programmed_reservoir_is_brought_back_to_its_radius() -> None:
    chip = xb.Chip(Device(0.0, 1e-4, write=GaussianWrite(0.2)))
    net = sp.EchoState(100, chip=chip, seed=0)
    assert net.radius > 1.0
    net.rescale()
    assert net.radius == pytest.approx(0.9, rel=1e-9)


def volatile(seed: int = 0) -> Device:
    law = VolatileStep(tau=3.0, eta=2.0, reach=2.0, v_write=1.5, sigma_tau=0.5)
    return Device(0.0, 1e-6, update=law)


def test_volatile_cells_remember_what_static_ones_do_not() -> None:
    draw = torch.Generator().manual_seed(4)
    u = 0.5 * torch.rand(3001, generator=draw, dtype=torch.float64)
    y = sp.tasks.second_order(u)[200:]
    states = sp.VolatileReservoir(volatile(), 100, seed=0).run(u)[200:]
    assert errors(states, y) <= 0.1
    assert sp.tap_error(u[200:], y, 2000) > 0.3


def delayed_onto_volatile(noise: float, error: float, seed: int) -> float:
    u, y = narma_data(seed)
    net = sp.VolatileReservoir(volatile(), 200, taps=12, v_swing=0.5, read_noise=noise, seed=seed)
    states = net.run(u)[200:]
    chip = xb.Chip(Device(0.0, 1e-4, write=GaussianWrite(error)))
    return errors(states, y[200:], error, chip)


@pytest.mark.slow
def test_delayed_inputs_on_volatile_cells_beat_taps_with_noise_and_write_error() -> None:
    found = [delayed_onto_volatile(0.01, 0.01, seed) for seed in range(3)]
    print(f"noise and write error of 1 %: {np.round(found, 3)}")
    assert np.mean(found) <= 0.26
