"""Numbers of devices against the equations of their sources, written out here."""

import numpy as np
import pytest
import torch
from _laws import WINDOW, counts

from devices import (
    VTEAM,
    AbruptReset,
    ApparentWriteNoise,
    ConstantStep,
    Device,
    Endurance,
    GaussianRead,
    LookupStep,
    NeuroSim,
    PCMRead,
    Pulses,
    SinhIV,
    SoftBounds,
    VolatileStep,
    presets,
)
from devices.part import Window


def made(device, n, g=None, seed=1, dtype=torch.float64):
    state = device.fabricate((n,), generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return state if g is None else state._replace(g=torch.full((n,), g, dtype=dtype))


@pytest.mark.parametrize(
    "name,c2c,dw,log,top",
    [("om", 0.4158, 0.0949, 0.7829, 0.3499), ("hfo2", 0.2174, 0.4622, 0.7125, 0.4295)],
)
def test_noise_of_array_devices_lives_on_at_the_bound(name, c2c, dw, log, top):
    """v += step (1 − v/top + c ξ), then v <= top: the noise does not vanish with the step."""
    n, generator, rng = 1000, torch.Generator().manual_seed(1), np.random.default_rng(2)
    device = getattr(presets, f"reram_array_{name}")()
    state, ours, theirs, v = made(device, n), [], [], np.zeros(n)
    step, high = dw * np.exp(log * rng.standard_normal(n)), abs(1 + top * rng.standard_normal(n))
    for k in range(150):
        state = device.pulse(state, counts(n, 1, 0), generator=generator)
        v = np.minimum(v + step * (1 - v / high + c2c * rng.standard_normal(n)), high)
        if k >= 80:
            ours.append(state.g.numpy())
            theirs.append(v)
    ratio = np.std(ours, 0).mean() / ((device.g_max - device.g_min) / 2) / np.std(theirs, 0).mean()
    assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("law", [ConstantStep, SoftBounds])
def test_each_bound_has_its_own_spread(law):
    n, (low, high) = 20_000, WINDOW
    device = Device(low, high, update=law(0.5e-6, sigma_bounds=(0.0, 0.2)))
    ends = [device.pulse(made(device, n), counts(n, *c)).g for c in ((1e5, 0), (0, 1e5))]
    assert float(ends[0].std()) == pytest.approx(0.2 * (high - low) / 2, rel=0.03)
    assert float(ends[1].std()) < 1e-9 * high
    both = Device(low, high, update=law(0.5e-6, sigma_bounds=0.2))
    for bound in both.update.bounds(both.window, made(both, n, seed=2).update):
        assert float(bound.std()) > 0.18 * (high - low) / 2 or float(bound.min()) == 0


@pytest.mark.parametrize("wrong", [(0.1, 0.2, 0.3), (0.1,)])
def test_a_spread_of_bounds_is_one_number_or_two(wrong):
    with pytest.raises(ValueError, match="pair"):
        SoftBounds(1e-6, sigma_bounds=wrong)
    with pytest.raises(ValueError, match=r"sigma_bounds\[1\] must be >= 0"):
        SoftBounds(1e-6, sigma_bounds=(0.1, -0.1))


@pytest.mark.parametrize("alike,std,correlation", [(True, 0.175, -0.92), (False, 0.127, 0.0)])
def test_neurosim_spreads_labels_into_asymmetry(alike, std, correlation):
    n = 20_000
    law = NeuroSim(64, 64, 2.0, -2.0, sigma_d2d=0.5, alike=alike)
    device = Device(1e-6, 11e-6, update=law)
    state = made(device, n, 6e-6)
    up = device.pulse(state, counts(n, 1, 0)).g - state.g
    down = state.g - device.pulse(state, counts(n, 0, 1)).g
    assert float(((up - down) / (up + down).mean() * 2).std()) == pytest.approx(std, abs=0.01)
    assert float(torch.corrcoef(torch.stack([up, down]))[0, 1]) == pytest.approx(
        correlation, abs=0.04
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", [-9.0, -8.5, -7.0, -2.0, 0.0, 2.0, 7.0, 8.5, 9.0])
def test_every_label_sweeps_the_window_in_its_pulses(label, dtype):
    device = Device(*WINDOW, update=NeuroSim(97, 100, label, -label))
    state, one = made(device, 1, dtype=dtype), torch.ones(1, dtype=dtype)
    for at, pulses, end in ((0, (97, 0), 1), (1, (0, 100), 0)):
        there = device.program(state, WINDOW[at] * one)
        g = device.pulse(there, Pulses(pulses[0] * one, pulses[1] * one)).g
        assert float(g) == pytest.approx(WINDOW[end], abs=1e-2 * 50e-6)


@pytest.mark.parametrize("name", ["gokmen_vlasov", "reram_es", "reram_array_om", "ecram_li"])
def test_a_cell_is_not_programmed_where_its_pulses_never_take_it(name):
    device = getattr(presets, name)()
    state = made(device, 4000)
    low, high = device.update.bounds(device.window, state.update)
    for target in (device.g_min, device.g_max):
        g = device.program(state, torch.full((4000,), target, dtype=torch.float64)).g
        assert bool(((g >= low) & (g <= high)).all())
        assert bool(((g >= device.g_min) & (g <= device.g_max)).all())


def test_pcm_onesided_spreads_its_upper_bound_by_a_tenth_of_w_max():
    device, n = presets.pcm_onesided(), 20_000
    law = device.update.law
    low, high = law.bounds(device.window, made(device, n).update)
    span = device.g_max - device.g_min
    assert float(high.std()) == pytest.approx(0.1 * span, rel=0.03)
    assert float(low.std()) == pytest.approx(0.0, abs=1e-12) if low.dim() else True


@pytest.mark.parametrize("around", [Endurance, AbruptReset])
def test_wrappers_keep_every_verb(around):
    window = Window(1e-3, 2e-3)
    bare, law = VTEAM(), around(VTEAM())
    device, plain = (Device(*window, update=u) for u in (law, bare))
    state, alone = made(device, 3, 1.5e-3), made(plain, 3, 1.5e-3)
    v = torch.tensor([0.9, -0.9, 0.1], dtype=torch.float64)
    torch.testing.assert_close(device.drive(state, v, 1e-6).g, plain.drive(alone, v, 1e-6).g)
    share = torch.tensor([0.4, 0.7, 1.0], dtype=torch.float64)
    ours, theirs = law.partial(state.update, share), bare.partial(alone.update, share)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert law.step(window) == bare.step(window)


def test_apparent_noise_wraps_a_read_that_ages():
    assert ApparentWriteNoise(0.01, PCMRead()).ages
    assert not ApparentWriteNoise(0.01, GaussianRead(0.1)).ages


@pytest.mark.parametrize("moments", [True, False])
@pytest.mark.parametrize("mean", [0.03, 0.5])
def test_only_cells_that_get_a_pulse_forget_what_their_write_left(mean, moments):
    n = 40_000
    device = Device(*WINDOW, update=SoftBounds(0.1e-6), read=ApparentWriteNoise(0.05))
    state = made(device, n, 20e-6)
    given = counts(n, mean, 0, poisson=moments)
    after = device.pulse(state, given, generator=torch.Generator().manual_seed(3))
    share = (after.read.offset != state.read.offset).double().mean().item()
    want = 1 - np.exp(-mean) if moments else mean
    assert share == pytest.approx(want, abs=4 * (want / n) ** 0.5)


def test_a_nominal_step_is_one_number_and_draws_nothing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    law = VTEAM(sigma_d2d=0.1, sigma_v=0.1)
    steps = {law.step(Window(1e-6, 1e-4)) for _ in range(3)}
    assert steps == {VTEAM().step(Window(1e-6, 1e-4))}
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("up,down", [(1, 1), (1, 0), (0, 1), (7, 2)])
@pytest.mark.parametrize("moments", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_legal_extremes_give_numbers(up, down, moments, dtype):
    laws = [
        NeuroSim(states_down=1, nl_down=-9.0),
        NeuroSim(1, 1, 9.0, 9.0, sigma_c2c=0.1),
        NeuroSim(1, 1, -9.0, -9.0, sigma_d2d=3.0),
        VolatileStep(tau=1e-5),
        VolatileStep(tau=1e9, reach=1e-6),
        SoftBounds(25e-6, up_down=2.0, sigma_c2c=3.0),
        ConstantStep(50e-6, up_down=-2.0, sigma_d2d=2.0, sigma_bounds=3.0),
    ]
    for law in laws:
        device = Device(*WINDOW, update=law)
        one = torch.ones(64, dtype=dtype)
        state = made(device, 64, 25e-6, dtype=dtype)
        given = Pulses(up * one, down * one, *((up * one, down * one) if moments else ()))
        assert bool(device.pulse(state, given).g.isfinite().all()), law
    for read in (PCMRead(t0=1e-6, t_read=1.0), PCMRead(t0=1e9)):
        device = Device(*WINDOW, read=read)
        assert bool(device.std(made(device, 8, 25e-6, dtype=dtype)).isfinite().all())
    v = torch.tensor([-1e3, -25.0, 25.0, 1e3], dtype=dtype)
    current = SinhIV(0.25).current(torch.full((4,), 1e-5, dtype=dtype), v)
    assert bool(current.isfinite().all()) and bool((current.diff() > 0).all())


def test_the_repr_of_many_measured_cells_is_short():
    table = tuple(((1e-7,) * 21,) * 16 for _ in range(20))
    law = LookupStep(tuple(1e-6 * (1 + i) for i in range(16)), table, table)
    assert "20 cells x 16 nodes x 21 quantiles" in repr(law) and len(repr(law)) < 200
