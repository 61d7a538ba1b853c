"""Every preset under a layer: trained by pulses where it can be, programmed, read and aged."""

import inspect

import pytest
import torch

import crossbar as xb
from devices import (
    ApparentWriteNoise,
    Arrhenius,
    Device,
    Endurance,
    PCMDrift,
    SoftBounds,
    TelegraphRead,
    presets,
)

NAMES = [n for n, f in vars(presets).items() if inspect.isfunction(f)]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_of_it_trains_or_is_programmed_and_ages(name):
    device = getattr(presets, name)()
    x = torch.rand(16, 12, generator=torch.Generator().manual_seed(0))
    trains = device.update is not None
    if trains:
        scheme = xb.ExactBits(bl=7) if device.update.whole else xb.Aggregated(bl=7)
        layer = xb.AnalogLinear(12, 5, chip=xb.Chip(device), mode=xb.InSitu(scheme), seed=1)
        optimiser = xb.InSituSGD(layer, lr=0.05)
        before = layer.weight.detach().clone()
        for _ in range(3):
            optimiser.zero_grad()
            layer(x).square().sum().backward()
            optimiser.step()
        assert not torch.equal(layer.weight, before)
    else:
        layer = xb.AnalogLinear(12, 5, chip=xb.Chip(device), mode=xb.HardwareAware(), seed=1)
        xb.program(layer)
    xb.advance(layer, 3600.0)
    with torch.no_grad():
        assert bool(torch.isfinite(layer(x)).all())


def test_a_law_that_needs_whole_counts_refuses_expected_pulses():
    chip = xb.Chip(presets.pcm_onesided())
    for scheme in (xb.Expected(), xb.Aggregated(bl=7)):
        with pytest.raises((TypeError, ValueError), match="whole"):
            xb.AnalogLinear(4, 3, chip=chip, mode=xb.InSitu(scheme), seed=1)


def test_parts_around_other_parts_live_in_an_array(tmp_path):
    """Nested leaves are buffers too: saved, loaded, and told of every write."""
    device = Device(
        1e-6,
        51e-6,
        update=Endurance(SoftBounds(0.2e-6, sigma_c2c=0.3, sigma_bounds=0.1), pulses=50),
        read=ApparentWriteNoise(0.01, other=TelegraphRead(tau_high=1.0, tau_low=2.0)),
        retention=Arrhenius(PCMDrift(), e_a=0.3),
    )
    chip, mode = xb.Chip(device), xb.InSitu(xb.Aggregated(bl=7))
    layers = [xb.AnalogLinear(12, 5, chip=chip, mode=mode, seed=seed) for seed in (1, 2)]
    x = torch.rand(16, 12, generator=torch.Generator().manual_seed(0))
    optimiser = xb.InSituSGD(layers[0], lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        layers[0](x).square().sum().backward()
        optimiser.step()
    xb.advance(layers[0], 3600.0)
    torch.save(layers[0].state_dict(), tmp_path / "state.pt")
    layers[1].load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    first, second = (layer.state_dict() for layer in layers)
    wear = [name for name in first if name.endswith("update_used")]
    assert wear and float(first[wear[0]].max()) > 0
    assert all(
        torch.equal(first[k], second[k]) for k in first if isinstance(first[k], torch.Tensor)
    )
    with torch.no_grad():
        assert torch.equal(layers[0](x), layers[1](x))
