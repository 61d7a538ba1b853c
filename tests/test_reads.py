"""Read noises against their published numbers and by statistics."""

import math

import pytest
import torch

from devices import (
    ApparentWriteNoise,
    CMORead,
    Device,
    GaussianRead,
    PCMRead,
    Pulses,
    SoftBounds,
    SONOSRead,
    TelegraphRead,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What is given no generator draws from torch's own, here always the same."""
    torch.manual_seed(0)


UM = 1e-6
YEAR = 365.25 * 86400


def written(device: Device, g: float, n: int = 1):
    state = device.fabricate((n,), dtype=torch.float64)
    return device.program(state, torch.full((n,), g, dtype=torch.float64))


@pytest.mark.parametrize(
    "share,ratios",  # published σ/g one second, one day and one year after programming
    [
        (0.05, (0.2584, 0.3138, 0.3477)),
        (0.1, (0.1647, 0.2000, 0.2216)),
        (0.25, (0.0908, 0.1102, 0.1221)),
        (0.5, (0.0579, 0.0702, 0.0778)),
        (0.75, (0.0444, 0.0540, 0.0598)),
        (1.0, (0.0369, 0.0448, 0.0496)),
    ],
)
def test_pcm_read_noise_has_its_published_size(share, ratios):
    device = Device(0.0, 25 * UM, read=PCMRead())
    for time, ratio in zip((1.0, 86400.0, YEAR), ratios, strict=True):
        state = device.advance(written(device, share * 25 * UM), time)
        assert device.std(state).item() / (share * 25 * UM) == pytest.approx(ratio, abs=6e-5)


def test_pcm_noise_keeps_the_programmed_state_until_the_next_write():
    device = Device(0.0, 25 * UM, read=PCMRead())
    state = written(device, 5 * UM)
    drifted = state._replace(g=state.g * 0.5)
    assert device.std(drifted).item() == pytest.approx(device.std(state).item() / 2)
    again = device.program(drifted, drifted.g)
    assert device.std(again).item() > device.std(drifted).item()


def test_telegraph_dwell_times_and_levels():
    read = TelegraphRead(amplitude=0.2, tau_high=3.0, tau_low=1.0)
    device = Device(1 * UM, 50 * UM, read=read)
    generator = torch.Generator().manual_seed(0)
    n = 20000
    state = device.fabricate((n,), generator=generator, dtype=torch.float64)
    state = state._replace(g=torch.full((n,), 20 * UM, dtype=torch.float64))
    seen = device.seen(state)
    levels = seen.unique()
    assert torch.allclose(levels[1] - levels[0], torch.tensor(0.2 * 20 * UM, dtype=seen.dtype))
    assert abs(state.read.high.double().mean() - 0.75) < 4 * (0.75 * 0.25 / n) ** 0.5
    assert abs(seen.mean() / (20 * UM) - 1) < 4 * 0.2 * (0.75 * 0.25 / n) ** 0.5
    for dt in (0.1, 1.0, 30.0):  # autocovariance p(1 − p) e^{−dt/τ}, 1/τ = 1/τ_high + 1/τ_low
        later = device.advance(state, dt, generator=generator)
        a, b = state.read.high.double() - 0.75, later.read.high.double() - 0.75
        want = 0.75 * 0.25 * math.exp(-dt * (1 / 3.0 + 1))
        assert abs((a * b).mean() - want) < 4 * (a * b).std() / n**0.5


def test_telegraph_share_and_spread():
    n = 20000
    read = TelegraphRead(amplitude=0.1, share=0.3, sigma_amplitude=0.5)
    leaf = Device(UM, 50 * UM, read=read).fabricate((n,), dtype=torch.float64).read
    active = leaf.amplitude[leaf.amplitude > 0]
    assert abs(len(active) / n - 0.3) < 4 * (0.3 * 0.7 / n) ** 0.5
    logs = (active / 0.1).log()
    assert abs(logs.mean()) < 4 * 0.5 / len(active) ** 0.5
    assert abs(logs.std() / 0.5 - 1) < 4 / (2 * len(active)) ** 0.5


def test_write_noise_is_seen_but_not_built_upon():
    n = 20000
    law = SoftBounds(dg_min=0.1 * UM)
    quiet = Device(UM, 51 * UM, update=law)
    noisy = Device(UM, 51 * UM, update=law, read=ApparentWriteNoise(0.05))
    generator = torch.Generator().manual_seed(0)
    a, b = written(quiet, 20 * UM, n), written(noisy, 20 * UM, n)
    up = Pulses(torch.ones(n), torch.zeros(n))
    for _ in range(20):
        a, b = quiet.pulse(a, up), noisy.pulse(b, up, generator=generator)
    assert torch.equal(a.g, b.g)
    offset = noisy.seen(b) - b.g
    assert abs(offset.std() / (0.05 * 50 * UM) - 1) < 4 / (2 * n) ** 0.5
    assert torch.equal(noisy.seen(noisy.advance(b, 1e3)) - b.g, offset)
    half = Pulses((torch.arange(n) % 2).double(), torch.zeros(n))
    again = noisy.seen(noisy.pulse(b, half, generator=generator)) - noisy.pulse(b, half).g
    assert torch.equal(again[::2], offset[::2])
    assert abs(torch.corrcoef(torch.stack([again[1::2], offset[1::2]]))[0, 1]) < 4 / (n / 2) ** 0.5


def test_write_noise_on_top_of_read_noise():
    device = Device(UM, 51 * UM, read=ApparentWriteNoise(0.01, other=GaussianRead(0.02)))
    assert device.std(written(device, 20 * UM)).item() == pytest.approx(0.02 * 50 * UM)
    aged, alone = (
        Device(UM, 51 * UM, read=read) for read in (ApparentWriteNoise(0.01, PCMRead()), PCMRead())
    )
    late = [d.std(d.advance(written(d, 20 * UM, 3), 1e4)) for d in (aged, alone)]
    assert torch.equal(*late) and bool((late[0] > aged.std(written(aged, 20 * UM, 3))).all())


@pytest.mark.parametrize("current,sigma", [(0.0, 0.0), (215.4, 12.58 * (1 - 1 / math.e))])
def test_sonos_read_noise(current, sigma):
    device = Device(0.0, 16 * UM, read=SONOSRead())
    state = written(device, current * 1e-9 / 0.1)
    assert device.std(state).item() * 0.1 * 1e9 == pytest.approx(sigma, rel=1e-9, abs=1e-12)


def test_cmo_read_noise_grows_with_time_and_conductance():
    device = Device(9 * UM, 88.2 * UM, read=CMORead())
    state = device.advance(written(device, 50 * UM), 1.0)
    want = 0.0277316 * math.log10(50) * math.sqrt(math.log((1 + 1e-6) / 2e-6))
    assert device.std(state).item() * 1e6 == pytest.approx(want, rel=1e-9)
    assert device.std(device.advance(state, 1e6)) > device.std(state)
    assert device.std(written(device, 80 * UM)).item() >= 0
