"""Only the device state matters: saving, loading, copying, resuming, moving between chips."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import (
    Device,
    Draw,
    GaussianRead,
    PCMDrift,
    PCMWrite,
    PowerLawDrift,
    SoftBounds,
    StuckAt,
    presets,
)
from tests._analog import cells_of, matrix_of, per_siemens, weight_of

CELL = Device(
    1e-6,
    50e-6,
    update=SoftBounds(0.1e-6, sigma_c2c=0.3, sigma_d2d=0.3),
    read=GaussianRead(0.01),
    retention=PowerLawDrift(0.03, sigma_d2d=0.3),
)
CHIP = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(), xb.ADC()), tile=(16, 16))


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))


def train(model, steps, optimiser=None):
    optimiser = optimiser or xb.InSituSGD(model, lr=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 20, generator=generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), (x[:, :4]).argmax(1)).backward()
        optimiser.step()
    return model


X = torch.randn(8, 20, generator=torch.Generator().manual_seed(9))

SCRIPT = """
import sys, torch
from tests.test_state import CHIP, X, network
import crossbar as xb
model = xb.convert(network(), CHIP, mode=xb.InSitu(), seed=123)
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
torch.save(model(X).detach(), sys.argv[2])
"""


def test_saved_state_predicts_the_same_bits_in_a_new_process(tmp_path):
    model = train(xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0), 5)
    xb.advance(model, 3600.0)
    state = model.state_dict()
    assert not any(key.endswith("weight") for key in state)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    torch.save(state, tmp_path / "state.pt")
    paths = [str(tmp_path / "state.pt"), str(tmp_path / "y.pt")]
    subprocess.run([sys.executable, "-c", SCRIPT, *paths], check=True)
    assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), model(X).detach())


def test_resumed_training_equals_uninterrupted():
    straight = train(xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0), 6)
    first = xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(16, 20, generator=generator) for _ in range(6)]

    def run(model, xs):
        optimiser = xb.InSituSGD(model, lr=0.1)
        for x in xs:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), (x[:, :4]).argmax(1)).backward()
            optimiser.step()

    run(first, batches[:3])
    second = xb.convert(network(), CHIP, mode=xb.InSitu(), seed=77)
    second.load_state_dict(first.state_dict())
    run(second, batches[3:])
    for a, b in zip(straight.state_dict().items(), second.state_dict().items(), strict=True):
        assert a[0] == b[0] and torch.equal(a[1], b[1]), a[0]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("mode", [xb.InSitu(), xb.HardwareAware(), xb.Programmed()])
def test_copies_go_on_with_the_same_bits(clone, mode):
    model = xb.convert(network(), CHIP, mode=mode, seed=0)
    model(X)
    other = clone(model)
    assert torch.equal(model(X), other(X))
    if isinstance(mode, xb.InSitu):
        train(model, 3)
        train(other, 3)
        assert torch.equal(model(X), other(X))


def test_same_seed_same_chip_other_seed_other_chip():
    a, b, c = (xb.convert(network(), CHIP, mode=xb.InSitu(), seed=s) for s in (3, 3, 4))
    assert torch.equal(cells_of(a[0]).update_k, cells_of(b[0]).update_k)
    assert not torch.equal(cells_of(a[0]).update_k, cells_of(c[0]).update_k)
    assert torch.equal(train(a, 3)(X), train(b, 3)(X))
    torch.manual_seed(0)
    d = xb.convert(network(), CHIP, mode=xb.InSitu())
    torch.manual_seed(5)  # what network() sets
    network()
    e = xb.convert(network(), CHIP, mode=xb.InSitu())
    assert torch.equal(cells_of(d[0]).update_k, cells_of(e[0]).update_k)
    xb.reseed(b, 4)
    assert torch.equal(cells_of(b[0]).update_k, cells_of(c[0]).update_k)


class Readings(torch.utils.data.Dataset):
    """Items that an array transforms, in the workers of a loader."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 4

    def __getitem__(self, item):
        with torch.no_grad():
            return self.layer(torch.ones(5))


def test_workers_of_a_loader_read_one_chip_with_noise_of_their_own():
    """Of each worker and each epoch; the same again for the same seed, as torch's own numbers."""
    cell = Device(1e-6, 50e-6, update=SoftBounds(1e-8, sigma_d2d=0.3), read=GaussianRead(0.01))
    layer = xb.AnalogLinear(5, 3, chip=xb.Chip(cell), mode=xb.Programmed(), seed=0)
    told = []
    for _ in range(2):
        torch.manual_seed(0)
        loader = torch.utils.data.DataLoader(Readings(layer), batch_size=1, num_workers=2)
        told.append(torch.cat([torch.cat(list(loader)) for _ in range(2)]))
    assert torch.equal(*told) and len(told[0].unique(dim=0)) == 8
    exact = nn.functional.linear(torch.ones(5), layer.weight, layer.bias)
    assert torch.allclose(told[0], exact.detach().expand(8, 3), atol=0.1)


def test_layers_are_independent_chips_named_by_their_place():
    small = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    large = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    a, b = (xb.convert(m, CHIP, mode=xb.InSitu(), seed=0) for m in (small, large))
    for i in range(2):
        assert torch.equal(cells_of(a[i]).update_k, cells_of(b[i]).update_k)
    assert not torch.equal(cells_of(a[0]).update_k, cells_of(a[1]).update_k)


def test_plain_torch_checkpoint_programs_the_array():
    trained = network()
    with torch.no_grad():
        trained[0].weight.mul_(3)
    for mode in (xb.InSitu(), xb.Programmed(), xb.HardwareAware()):
        model = xb.convert(network(), xb.Chip(), mode=mode, seed=0)
        model.load_state_dict(trained.state_dict(), strict=True)
        torch.testing.assert_close(model(X), trained(X), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model[0].weight, trained[0].weight, rtol=1e-5, atol=1e-6)
    bad = {k: v for k, v in trained.state_dict().items() if k != "0.weight"}
    with pytest.raises(RuntimeError, match="Missing key"):
        xb.convert(network(), xb.Chip(), mode=xb.InSitu(), seed=0).load_state_dict(bad)


def test_to_digital_holds_what_the_cells_hold():
    model = train(xb.convert(network(), xb.Chip(), mode=xb.InSitu(), seed=0), 5)
    digital = xb.to_digital(model)
    assert type(digital[0]) is nn.Linear
    torch.testing.assert_close(digital(X), model(X), rtol=1e-5, atol=1e-6)
    g = cells_of(model[0]).g.double()
    scale = per_siemens(model[0])
    torch.testing.assert_close(
        digital[0].weight.detach().double(), ((g[0] - g[1]) * scale).mT, rtol=1e-4, atol=1e-7
    )


def test_precision_follows_torch_but_conductances_stay_wide():
    model = xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0)
    g = cells_of(model[0]).g.clone()
    model.half()
    assert cells_of(model[0]).g.dtype == torch.float32 and torch.equal(cells_of(model[0]).g, g)
    assert model(X.half()).dtype == torch.float16
    model.double()
    assert cells_of(model[0]).g.dtype == torch.float64
    assert cells_of(model[0]).age.dtype == torch.float64
    model.float()
    assert cells_of(model[0]).age.dtype == torch.float64
    assert torch.equal(cells_of(model[0]).g, g)


# ---- another chip ---------------------------------------------------------------------------


def test_rechip_keeps_state_and_lays_faults_on_top():
    model = train(xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0), 5)
    faulty = xb.Chip(
        Device(1e-6, 50e-6, CELL.update, None, None, CELL.retention, faults=StuckAt(0.1, 0.1)),
        forward=CHIP.forward,
    )
    moved = xb.convert(model, faulty)
    old, new = cells_of(model[0]), cells_of(moved[0])
    stuck = ~new.faults_at.isnan()
    assert 0.1 < float(stuck.float().mean()) < 0.3
    assert torch.equal(new.g[~stuck], old.g[~stuck])
    assert torch.equal(new.g[stuck], new.faults_at[stuck])
    assert torch.equal(new.update_k, old.update_k)
    assert torch.equal(new.retention_nu, old.retention_nu)
    train(moved, 3)
    assert torch.equal(new.g[stuck], new.faults_at[stuck])
    more = xb.convert(model, xb.Chip(Device(1e-6, 50e-6, CELL.update, faults=StuckAt(0.2, 0.2))))
    more_stuck = ~cells_of(more[0]).faults_at.isnan()
    assert bool((more_stuck | ~stuck).all())  # the same chip, only more faults
    assert isinstance(weight_of(moved[0]).mode, xb.InSitu)


def test_rechip_to_another_window_writes_the_same_weights():
    model = train(xb.convert(network(), CHIP, mode=xb.InSitu(), seed=0), 5)
    moved = xb.convert(model, xb.Chip(Device(2e-6, 20e-6, update=SoftBounds(1e-8))))
    torch.testing.assert_close(moved[0].weight, model[0].weight, rtol=1e-4, atol=1e-5)
    inference = xb.convert(model, xb.Chip(Device(0.0, 25e-6, write=PCMWrite())))
    assert isinstance(weight_of(inference[0]).mode, xb.Programmed)


def test_program_turns_hardware_aware_into_cells():
    model = xb.convert(network(), CHIP, seed=0)
    assert matrix_of(model[0]).cells is None and isinstance(
        weight_of(model[0]).mode, xb.HardwareAware
    )
    parameter = model[0].weight
    wanted = parameter.detach().clone()
    assert xb.program(model) is model
    assert isinstance(weight_of(model[0]).mode, xb.InSitu) and model[0].weight is parameter
    torch.testing.assert_close(model[0].weight.detach(), wanted, rtol=1e-4, atol=1e-6)
    train(model, 2)  # hybrid training is these two lines
    pcm = xb.Chip(Device(0.0, 25e-6, write=PCMWrite(), retention=PCMDrift()))
    model = xb.program(xb.convert(network(), pcm, seed=0))
    assert isinstance(weight_of(model[0]).mode, xb.Programmed)
    assert not torch.equal(model[0].weight.detach(), wanted)


def test_shared_layers_stay_shared_and_exclude_is_honoured():
    layer = nn.Linear(6, 6)
    net = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(6, 2))
    model = xb.convert(net, CHIP, mode=xb.InSitu(), seed=0, exclude=["3"])
    assert model[0] is model[2] and isinstance(model[0], xb.AnalogLinear)
    assert type(model[3]) is nn.Linear and type(net[0]) is nn.Linear
    digital = xb.to_digital(model)
    assert digital[0] is digital[2]
    single = xb.convert(layer, CHIP, seed=0)
    assert isinstance(single, xb.AnalogLinear)


# ---- time -----------------------------------------------------------------------------------


def test_power_law_drift_is_its_equation_and_composes():
    device = Device(1e-6, 50e-6, retention=PowerLawDrift(0.05, t0=20.0))
    state = device.fabricate((4,), dtype=torch.float64)
    state = device.program(state, torch.tensor([10e-6, 20e-6, 30e-6, 50e-6]).double())
    once = device.advance(state, 1e6)
    want = state.g * ((1e6 + 20) / 20) ** -0.05
    torch.testing.assert_close(once.g, want, rtol=1e-12, atol=0)
    twice = device.advance(device.advance(state, 3e3), 1e6 - 3e3)
    torch.testing.assert_close(twice.g, want, rtol=1e-12, atol=0)
    rewritten = device.advance(device.program(twice, state.g), 1e6)
    torch.testing.assert_close(rewritten.g, want, rtol=1e-12, atol=0)  # the clock restarted


def test_pcm_drift_and_write_match_the_published_table():
    """Golden values of Nandakumar 2019 / Joshi 2020 at g = .05 … 1 of 25 µS."""
    x = torch.tensor([0.05, 0.1, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    sigma = torch.tensor([0.3588, 0.4482, 0.6814, 0.9527, 1.0774, 1.0554]).double() * 1e-6
    mu = torch.tensor([0.0708, 0.0601, 0.049, 0.049, 0.049, 0.049]).double()
    sd = torch.tensor([0.0315, 0.0229, 0.0114, 0.008, 0.008, 0.008]).double()
    n = 40_000
    target = (x * 25e-6).unsqueeze(1).expand(6, n)
    window = Device(0.0, 25e-6).window
    generator = torch.Generator().manual_seed(0)
    error = PCMWrite().program(window, target, Draw.like(target, generator)) - target
    ratio = error.std(1) / sigma
    assert float((ratio - 1).abs().max()) < 5 / (2 * n) ** 0.5 + 1e-3
    device = Device(0.0, 25e-6, retention=PCMDrift())
    state = device.fabricate((6, n), dtype=torch.float64, generator=generator)
    state = device.program(state, target, generator=generator)
    nu = state.retention.nu
    folded = torch.distributions.Normal(mu, sd).sample((200_000,)).abs()
    assert float((nu.mean(1) - folded.mean(0)).abs().max()) < 6 * 0.0315 / n**0.5 + 5e-4
    assert float((nu.std(1) / folded.std(0) - 1).abs().max()) < 0.03
    year = device.advance(state, 3.15e7).g.median(1).values / target[:, 0]
    assert float(year[0]) == pytest.approx(0.3639, abs=0.02)
    assert float(year[-1]) == pytest.approx(0.4969, abs=0.005)


def test_long_times_are_not_lost_in_small_steps():
    device = Device(1e-6, 50e-6, retention=PowerLawDrift(0.05))
    state = device.fabricate((1,), dtype=torch.float32)
    state = state._replace(age=torch.full((1,), 2.0**26, dtype=torch.float64))
    assert float(device.advance(state, 1.0).age) == 2.0**26 + 1


def test_hardware_aware_forward_rehearses_what_programming_gives():
    """Its spread is that of freshly programmed chips: write error and read noise of the state."""
    torch.manual_seed(0)
    digital = nn.Linear(40, 30, bias=False)
    chip, x, n = xb.Chip(presets.pcm()), torch.rand(40), 300
    aware = xb.convert(digital, chip, seed=0)
    rehearsed = torch.stack([aware(x) for _ in range(n)]).detach()
    chips = [xb.convert(digital, chip, mode=xb.Programmed(), seed=s) for s in range(n)]
    programmed = torch.stack([layer(x) for layer in chips]).detach()
    ratio = float(rehearsed.var(0).mean() / programmed.var(0).mean())
    assert ratio == pytest.approx(1.0, abs=0.1)
