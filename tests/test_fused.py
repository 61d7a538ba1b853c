"""The closed form in one compiled pass equals that of torch."""

from __future__ import annotations

import pytest
import torch

from devices import (
    ConstantStep,
    Device,
    LinearStep,
    NeuroSim,
    Pulses,
    SoftBounds,
    SoftBoundsReference,
    VolatileStep,
)
from devices.update import fused, jit

pytest.importorskip("numba")

G_MIN, G_MAX = 1e-6, 51e-6
STEP = 0.05e-6
NOISE = {"sigma_c2c": 0.3, "sigma_d2d": 0.3}
LAWS = {
    "constant": ConstantStep(STEP, 0.2, **NOISE, sigma_add=0.5),
    "soft": SoftBounds(STEP, **NOISE),
    "soft, spread": SoftBounds(STEP, 0.3, **NOISE, sigma_up_down=0.1, sigma_bounds=0.2),
    "reference": SoftBoundsReference(STEP, sigma_d2d=0.3, sigma_reference=0.1),
    "linear": LinearStep(STEP, gamma_up=0.6, gamma_down=0.3, sigma_gamma=0.1, **NOISE),
    "NeuroSim": NeuroSim(200, 300, 2.4, -4.88, sigma_c2c=0.01, sigma_d2d=0.1, alike=False),
    "volatile": VolatileStep(**NOISE, sigma_tau=0.1),
}
SHAPE = (96, 128)


def counts(kind):
    generator = torch.Generator().manual_seed(1)
    up, down = (2 * torch.rand(SHAPE, generator=generator) for _ in range(2))
    up[:, ::3] = 0
    match kind:
        case "whole":
            return Pulses(up.round(), down.round())
        case "parts":
            return Pulses(up, down)
        case "random":
            return Pulses(up, down, 0.8 * up, down)
    z = torch.randn(SHAPE, generator=generator)
    return Pulses(up, down, 0.9 * up, 0.7 * down, z)


def after(law, pulses, monkeypatch, *, compiled):
    with monkeypatch.context() as patch:
        if not compiled:
            patch.setattr(jit, "near", None)
        device = Device(G_MIN, G_MAX, update=law)
        state = device.fabricate(SHAPE, generator=torch.Generator().manual_seed(2))
        places = torch.linspace(0.02, 0.98, 128).expand(SHAPE)
        state = state._replace(g=G_MIN + (G_MAX - G_MIN) * places)
        return state.g, device.pulse(state, pulses, generator=torch.Generator().manual_seed(3)).g


CASES = [*((name, "parts") for name in LAWS), ("soft", "whole"), ("soft", "random")]
CASES += [("constant", "shared"), ("soft, spread", "random")]


@pytest.mark.parametrize(("name", "kind"), CASES)  # each is compiled anew
def test_equals_the_passes_of_torch(name, kind, monkeypatch):
    """The same draws give the same cells: moves to float32, noise to first order in the step."""
    called = []
    near = fused.near
    monkeypatch.setattr(fused, "near", lambda *a: called.append(1) or near(*a))
    law, pulses = LAWS[name], counts(kind)
    before, want = after(law, pulses, monkeypatch, compiled=False)
    assert not called
    _, got = after(law, pulses, monkeypatch, compiled=True)
    assert called
    noise = (want - before).std()
    assert float((got - want).abs().max()) < 0.02 * float(noise)
    still = (pulses.up == 0) & (pulses.down == 0)
    assert torch.equal(got[still], before[still])


def test_coarse_or_many_pulses_go_the_other_way(monkeypatch):
    monkeypatch.setattr(fused, "near", None)  # would be called
    many = Pulses(torch.full(SHAPE, 300.0), torch.zeros(SHAPE))
    after(LAWS["soft"], many, monkeypatch, compiled=True)
    after(SoftBounds(5e-6), counts("whole"), monkeypatch, compiled=True)
