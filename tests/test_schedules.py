"""Noise that changes over a training, and ranges that move into output scales."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import crossbar as xb
from devices import Device, SoftBounds

IDEAL = xb.Chip()
NOISY = xb.HardwareAware(modifiers=[xb.AdditiveNoise(0.04)])


def converted(mode, n=64):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(n, n, bias=False))
    with torch.no_grad():
        net[0].weight.clamp_(-0.1, 0.1)[0, 0] = 0.1  # the largest
    return net, xb.convert(net, IDEAL, mode=mode, seed=0).train()


def seen(net, model, reads=40):
    """What is added to each weight, of each read."""
    eye = torch.eye(net[0].weight.shape[1])
    with torch.no_grad():
        return torch.stack([model(eye).T - net[0].weight for _ in range(reads)])


@pytest.mark.parametrize(
    ("modifier", "size"),
    [
        (xb.AdditiveNoise(0.04), lambda w, change: change.std() / 0.1 / 0.04),
        (xb.MultiplicativeNoise(0.04), lambda w, change: (change / w)[:, w > 0.02].std() / 0.04),
        (xb.PolynomialNoise((0.04,)), lambda w, change: change.std() / 0.1 / 0.04),
        (xb.DropConnect(0.04), lambda w, change: (change == -w).float().mean() / 0.04),
    ],
    ids=lambda one: type(one).__name__,
)
def test_strength_scales_every_modifier(modifier, size):
    for strength in (0.0, 0.5, 3.0):
        mode = xb.HardwareAware(modifiers=[modifier], strength=strength)
        net, model = converted(mode)
        found = float(size(net[0].weight.detach(), seen(net, model)))
        assert found == pytest.approx(strength, rel=0.03, abs=1e-5)


def test_noise_follows_the_steps_of_an_optimiser():
    net, model = converted(NOISY)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    schedule = xb.NoiseSchedule(model, [0.0, 1.0, 0.25, 0.25, 0.25].__getitem__)
    handle = schedule.after(optimizer)

    def sizes(steps):
        for _ in range(steps):
            model(torch.ones(1, 64)).sum().backward()
            yield float(seen(net, model).std()) / 0.1
            optimizer.step()

    assert list(sizes(3)) == pytest.approx([0, 0.04, 0.01], rel=0.03, abs=1e-6)
    state = schedule.state_dict()
    assert schedule.steps == 3 and schedule.strength == 0.25
    handle.remove()
    optimizer.step()
    assert schedule.steps == 3
    # another run goes on where this one stopped, and whole models carry the strength they have
    net, again = converted(NOISY)
    xb.NoiseSchedule(again, [1, 1, 1, 0.25].__getitem__).load_state_dict(state)
    for one in (again, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert float(seen(net, one).std()) == pytest.approx(0.001, rel=0.03)
    # a new schedule starts from what the modifiers are, not from what another one left
    xb.NoiseSchedule(model, lambda k: 1.0)
    assert float(seen(net, model).std()) == pytest.approx(0.004, rel=0.03)


def test_a_ramp_compiles_a_few_times_not_at_every_step():
    net, model = converted(
        xb.HardwareAware(modifiers=[xb.AdditiveNoise(0.04), xb.DropConnect(0.1)]), 8
    )
    count = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, backend=count, fullgraph=True)
    schedule = xb.NoiseSchedule(model, lambda k: k / 20)
    x = torch.randn(3, 8)
    for _ in range(12):
        compiled(x).square().sum().backward()
        schedule.step()
    assert count.frame_count <= 3  # without noise, the first strength, any strength
    change = torch.stack([compiled(torch.eye(8)).detach().T for _ in range(2000)])
    dropped = (change == 0).float().mean()
    assert float(dropped) == pytest.approx(0.1 * 12 / 20, abs=0.003)


def test_weights_on_cells_are_passed_over():
    chip = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(2e-8)))
    model = xb.convert(nn.Linear(4, 3), chip, mode=NOISY, seed=0)
    schedule = xb.NoiseSchedule(model, lambda k: 1.0 + k)
    xb.program(model)
    schedule.step()
    assert isinstance(model.analog["weight"].mode, xb.InSitu)


def test_what_is_no_schedule_is_refused():
    _, model = converted(NOISY)
    with pytest.raises(TypeError, match="factor must be a function"):
        xb.NoiseSchedule(model, 0.5)
    with pytest.raises(ValueError, match=r"factor\(0\) must be >= 0, got -1"):
        xb.NoiseSchedule(model, lambda k: -1)
    with pytest.raises(TypeError, match=r"factor\(0\) must be a real number"):
        xb.NoiseSchedule(model, lambda k: None)
    with pytest.raises(ValueError, match="no modifiers to schedule"):
        xb.NoiseSchedule(converted(None)[1], lambda k: 1.0)
    with pytest.raises(ValueError, match="strength must be >= 0"):
        xb.HardwareAware(strength=-0.1)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.2"):
        xb.HardwareAware(modifiers=[xb.DropConnect(0.4)], strength=3.0)
    with pytest.raises(ValueError, match="steps must be >= 0"):
        xb.NoiseSchedule(model, lambda k: 1.0).load_state_dict({"steps": -1})

    class Own(xb.Modifier):
        def changed(self, w, w_max, normal):
            return w

    xb.HardwareAware(modifiers=[Own()])
    with pytest.raises(TypeError, match="Own does not say"):
        xb.HardwareAware(modifiers=[Own()], strength=0.5)


NETS = {
    "linear": (lambda: nn.Linear(16, 5), (7, 16)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("w_max", [None, 2.0])
@pytest.mark.parametrize("kind", NETS)
def test_remapping_fills_the_window_and_keeps_the_product(kind, w_max):
    make, shape = NETS[kind]
    torch.manual_seed(0)
    net = xb.output_scales(nn.Sequential(make()))
    chip = xb.Chip(mapping=xb.Differential(w_max=w_max))
    model, x = xb.convert(net.double(), chip, seed=0), torch.randn(*shape, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.mul_(torch.rand(len(net[0].weight), *(1,) * (net[0].weight.dim() - 1)))
        model[0].weight[2] = 0  # an output without weights keeps its scale
    before, largest = model(x).detach(), float(model[0].weight.detach().abs().max())
    kept = float(model[0].output_scale.detach()[2])
    xb.Remap()(model)
    top = model[0].weight.detach().abs().flatten(1).amax(1)
    wanted = torch.full_like(top, w_max or largest)
    wanted[2] = 0
    assert torch.allclose(top, wanted, rtol=1e-12)
    assert float(model[0].output_scale.detach()[2]) == kept
    assert torch.allclose(model(x), before, rtol=1e-9, atol=1e-12)


def test_remapping_pays_on_a_chip_whose_noise_is_that_of_its_window():
    """Outputs whose weights shrank a hundredfold, under programming noise relative to w_max."""
    torch.manual_seed(0)
    net = xb.output_scales(nn.Linear(32, 8, bias=False))
    model = xb.convert(net, IDEAL, mode=NOISY, seed=0).train()
    with torch.no_grad():
        model.weight[4:] *= 0.01
    x = torch.randn(4000, 32)
    with torch.no_grad():
        exact = torch.nn.functional.linear(x, model.weight.as_subclass(torch.Tensor).detach())
        exact = exact * model.output_scale

        def error():
            return (model(x) - exact)[:, 4:].std() / exact[:, 4:].std()

        before = error()
        xb.Remap()(model)
        assert float(before / error()) == pytest.approx(100, rel=0.5)


def test_remapping_goes_by_the_steps_of_an_optimiser_and_passes_by_what_is_not_its_own():
    torch.manual_seed(0)
    net = xb.output_scales(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), ["1"])
    model = xb.convert(net, IDEAL, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    xb.Remap(every=2).after(optimizer, model)
    even = []
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(9, 6)).square().sum().backward()
        optimizer.step()
        even.append(float(model[1].weight.detach().abs().amax(1).std()) < 1e-6)
    assert even == [False, True, False, True]
    assert float(model[0].weight.detach().abs().amax(1).std()) > 1e-3
    cells = xb.convert(net, IDEAL, mode=xb.Programmed(), seed=0)
    held = cells[1].weight.detach().clone()
    with torch.no_grad():
        cells[1].output_scale.mul_(2)
    xb.Remap()(cells)
    assert torch.equal(cells[1].weight, held)


def test_tied_weights_are_remapped_with_the_scales_of_all_owners():
    torch.manual_seed(0)
    net = xb.output_scales(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)))
    net[1].weight = net[0].weight
    model, x = xb.convert(net, IDEAL, seed=0), torch.randn(3, 5)
    with torch.no_grad():
        model[0].weight[1] *= 0.1
    before = model(x).detach()
    xb.Remap()(model)
    assert float(model[0].weight.detach().abs().amax(1).std()) < 1e-6
    assert torch.allclose(model(x), before, atol=1e-5)


def test_what_cannot_be_remapped_is_refused():
    with pytest.raises(ValueError, match="every must be >= 1"):
        xb.Remap(every=0)
    with pytest.raises(ValueError, match="no output scales"):
        xb.Remap()(xb.convert(nn.Linear(3, 2), IDEAL, seed=0))
    model = xb.convert(xb.output_scales(nn.Linear(3, 2)), IDEAL, seed=0)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight must be finite"):
        xb.Remap()(model)
