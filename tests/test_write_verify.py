"""Iterative programming with the cell's own pulses and noisy reads."""

import pytest
import torch

from devices import Device, GaussianRead, PCMRead, SoftBounds, StuckAt, write_verify

UM = 1e-6


def cells(device: Device, n: int = 2000):
    generator = torch.Generator().manual_seed(3)
    state = device.fabricate((n,), generator=generator, dtype=torch.float64)
    target = (5 + 40 * torch.rand(n, generator=generator, dtype=torch.float64)) * UM
    return state, target, generator


FINE = SoftBounds(dg_min=0.1 * UM, sigma_c2c=0.3, sigma_d2d=0.1)


def test_a_fine_device_reaches_every_target():
    device = Device(UM, 51 * UM, update=FINE)
    state, target, generator = cells(device)
    done = write_verify(device, state, target, tolerance=0.3 * UM, generator=generator)
    assert not bool(done.failed.any())
    assert bool(((done.state.g - target).abs() <= 0.3 * UM).all())
    # soft bounds from g_min: n pulses for the way to the target, give or take the cell's own spread
    way = torch.log((51 * UM - target) / (50 * UM)) / torch.log1p(torch.tensor(-0.2 / 50))
    assert 0.9 < (done.pulses.mean() / way.mean()) < 1.15


def test_a_finished_cell_is_left_alone():
    device = Device(UM, 51 * UM, update=FINE)
    state, target, generator = cells(device)
    near = state._replace(g=target + 0.1 * UM)
    done = write_verify(device, near, target, tolerance=0.2 * UM, generator=generator)
    assert torch.equal(done.state.g, near.g)
    assert done.pulses.sum() == 0


def test_steps_beyond_the_tolerance_fail_and_are_named():
    """Steps of 5 µS hit a window of ±0.2 µS by luck alone; those that did not are reported."""
    device = Device(UM, 51 * UM, update=SoftBounds(dg_min=5 * UM))
    state, target, generator = cells(device)
    done = write_verify(device, state, target, tolerance=0.2 * UM, max_pulses=200)
    missed = (done.state.g - target).abs() > 0.2 * UM
    assert torch.equal(done.failed, missed)
    assert done.failed.double().mean() > 0.3
    assert bool((done.pulses[done.failed] == 200).all())


def test_stuck_cells_are_the_ones_that_fail():
    device = Device(UM, 51 * UM, update=FINE, faults=StuckAt(p_off=0.05, p_on=0.05))
    state, target, generator = cells(device)
    done = write_verify(
        device, state, target, tolerance=0.3 * UM, max_pulses=900, generator=generator
    )
    assert torch.equal(done.failed, ~state.faults.at.isnan())


def test_noisy_reads_limit_the_result_and_averaging_helps():
    device = Device(UM, 51 * UM, update=FINE, read=GaussianRead(0.02))
    errors = []
    for settings in ({}, {"reads": 16}, {"reads": 16, "patience": 3}):
        state, target, generator = cells(device)
        done = write_verify(
            device, state, target, tolerance=0.3 * UM, generator=generator, **settings
        )
        errors.append((done.state.g - target).std().item())
    assert errors[0] > 2 * errors[1] > 2 * errors[2] * 0.9
    assert errors[0] < 2 * 0.02 * 50 * UM


def test_programs_cells_whose_noise_depends_on_their_age():
    device = Device(UM, 51 * UM, update=FINE, read=PCMRead())
    state, target, generator = cells(device, 200)
    done = write_verify(device, state, target, tolerance=2 * UM, reads=4, generator=generator)
    assert done.failed.double().mean() < 0.05


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"tolerance": 0.0}, ValueError, "tolerance must be > 0"),
        ({"max_pulses": 0}, ValueError, "max_pulses must be >= 1"),
        ({"target": torch.zeros(3)}, ValueError, "target must broadcast to the cells"),
        ({"device": Device(UM, 51 * UM)}, TypeError, "needs a device with an update law"),
    ],
)
def test_bad_calls_are_explained(change, error, words):
    device = Device(UM, 51 * UM, update=FINE)
    state, target, _ = cells(device, 7)
    call = {"device": device, "state": state, "target": target, "tolerance": UM, **change}
    with pytest.raises(error, match=words):
        write_verify(call.pop("device"), call.pop("state"), call.pop("target"), **call)
