"""Retentions against closed forms, published numbers and statistics."""

import math

import pytest
import torch

from devices import (
    Arrhenius,
    Device,
    Diffusion,
    Leak,
    LogRelaxation,
    PowerLawDrift,
    Pulses,
    SoftBounds,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What is given no generator draws from torch's own, here always the same."""
    torch.manual_seed(0)


UM = 1e-6
LOW, HIGH = 1 * UM, 51 * UM
SPAN = HIGH - LOW
YEAR = 365.25 * 86400


def written(device: Device, g: float, n: int = 1, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    state = device.fabricate((n,), generator=generator, dtype=torch.float64)
    target = torch.full((n,), g, dtype=torch.float64)
    return device.program(state, target, generator=generator), generator


@pytest.mark.parametrize("time", [1.0, 3600.0, 86400.0, 10 * YEAR])
def test_cmo_relaxation_has_the_published_mean_and_spread(time):
    """−0.089 ln t and 0.042 ln t + 0.412 µS after t ≫ 1 s, whatever the state (Falcone 2025)."""
    n = 40000
    device = Device(9 * UM, 88.2 * UM, retention=LogRelaxation())
    state, generator = written(device, 60 * UM, n)
    shift = (device.advance(state, time, generator=generator).g - 60 * UM) / UM
    late = time > 1.0
    std = 0.042 * math.log(time) + 0.412 if late else 0.412 * (1 - math.exp(-1)) + 0.042 * 0.693
    mean = -0.089 * math.log(time) if late else -0.089 * 0.693
    assert abs(shift.mean() - mean) < 4 * std / n**0.5 + 1e-3
    assert abs(shift.std() / std - 1) < 4 / (2 * n) ** 0.5 + 2e-3


def test_relaxation_starts_again_only_where_it_was_written():
    device = Device(LOW, HIGH, update=SoftBounds(dg_min=0.1 * UM), retention=LogRelaxation())
    state, generator = written(device, 30 * UM, 2000)
    state = device.advance(state, 1e4)
    half = (torch.arange(2000) % 2).double()
    after = device.pulse(state, Pulses(half, 0 * half), generator=generator)
    assert torch.equal(after.retention.z[::2], state.retention.z[::2])
    assert bool((after.retention.z[1::2] != state.retention.z[1::2]).all())
    later = device.advance(after, 1e4).g - after.g
    assert later[::2].std() < 0.2 * later[1::2].std()


def test_leak_is_exponential_with_its_stationary_noise():
    n = 40000
    device = Device(LOW, HIGH, retention=Leak(tau=10.0, rest=0.2, sigma=0.03))
    state, generator = written(device, 40 * UM, n)
    for time in (1.0, 10.0, 1000.0):
        g = device.advance(state, time, generator=generator).g
        rest = LOW + 0.2 * SPAN
        mean = rest + (40 * UM - rest) * math.exp(-time / 10)
        std = 0.03 * SPAN * math.sqrt(1 - math.exp(-2 * time / 10))
        assert abs(g.mean() - mean) < 4 * std / n**0.5
        assert abs(g.std() / std - 1) < 4 / (2 * n) ** 0.5


def test_leak_times_are_spread():
    n = 40000
    leaf = Device(LOW, HIGH, retention=Leak(tau=2.0, sigma_d2d=0.3)).fabricate((n,)).retention
    assert abs(leaf.tau.mean() / 2 - 1) < 4 * 0.3 / n**0.5 + 1e-3
    assert abs(leaf.tau.std() / 0.6 - 1) < 4 / (2 * n) ** 0.5 + 0.01


def test_diffusion_grows_with_the_root_of_time_and_fills_the_window():
    n = 40000
    device = Device(LOW, HIGH, retention=Diffusion(sigma=1e-3))
    state, generator = written(device, 26 * UM, n)
    for time in (1.0, 100.0):
        g = device.advance(state, time, generator=generator).g
        assert abs(g.std() / (1e-3 * SPAN * math.sqrt(time)) - 1) < 4 / (2 * n) ** 0.5
    even = (device.advance(state, 1e8, generator=generator).g - LOW) / SPAN
    assert bool(((even >= 0) & (even <= 1)).all())
    assert abs(even.mean() - 0.5) < 4 * 12**-0.5 / n**0.5
    assert abs(even.std() - 12**-0.5) < 0.004


def test_heat_is_more_time():
    drift = PowerLawDrift(nu=0.05)
    hot = Device(LOW, HIGH, retention=Arrhenius(drift, e_a=1.1, t_ref=300.0))
    cold = Device(LOW, HIGH, retention=drift)
    factor = math.exp(1.1 / 8.617333262e-5 * (1 / 300 - 1 / 398.15))
    assert factor == pytest.approx(36000, rel=0.05)  # 1.1 eV: an hour at 125 °C is four years
    a, _ = written(hot, 30 * UM)
    b, _ = written(cold, 30 * UM)
    baked = hot.advance(a, 3600.0, temperature=398.15)
    aged = cold.advance(b, 3600.0 * factor)
    assert torch.allclose(baked.g, aged.g, rtol=1e-12)
    after = hot.advance(baked, 1e6).g
    assert torch.allclose(after, cold.advance(aged, 1e6).g, rtol=1e-12)
    fresh = hot.advance(hot.program(baked, a.g), 1e6).g
    assert torch.allclose(fresh, cold.advance(b, 1e6).g, rtol=1e-12)


def test_heat_around_a_memoryless_leak():
    device = Device(LOW, HIGH, retention=Arrhenius(Leak(tau=1e3, rest=0.0), e_a=0.6))
    state, _ = written(device, 40 * UM)
    factor = math.exp(0.6 / 8.617333262e-5 * (1 / 300 - 1 / 350))
    g = device.advance(state, 50.0, temperature=350.0).g.item()
    assert g == pytest.approx(LOW + 39 * UM * math.exp(-50 * factor / 1e3), rel=1e-9)
