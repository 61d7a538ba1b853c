"""Online learning on digits: batched arrays against the drop-in layers, and the curves' shapes."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import crossbar as xb
from devices import Device, NeuroSim
from experiments.lab.engine import execute
from experiments.lab.statistics import estimate
from experiments.lab.store import Store
from experiments.tasks.bending import MAPPING, NEAREST, STOCHASTIC, Plan
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.online import Networks, Online


@pytest.mark.parametrize(
    "route", [pytest.param(xb.Reference(), marks=pytest.mark.slow), xb.PushPull()]
)
def test_batched_networks_do_what_layers_and_optimiser_do(route):
    """Nearest rounding draws nothing, so every cell agrees after 80 images, to rounding."""
    cell = Device(1e-7, 5e-6, update=NeuroSim(100, 100, 1.0, -1.0))
    chip = xb.Chip(device=cell, mapping=xb.Differential(route=route, w_max=1.0))
    run = Online(Digits(), chip, NEAREST, lr=0.3, hidden=20, seeds=3)
    images = run.data.load()
    networks = Networks(run, images)
    orders = [torch.randperm(1347, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    before = [array.weight for array in networks.arrays]
    for place in torch.stack(orders, dim=1)[:80]:
        networks.step(networks.x[place][:, None], networks.answers[place][:, None])
    for seed, order in enumerate(orders):
        net = MLP(hidden=(20,)).build(images.shape, 10, seed)
        model = xb.convert(net, chip, mode=xb.InSitu(xb.Sequential(NEAREST)), seed=seed)
        optimiser = xb.InSituSGD(model, lr=0.3)
        for i in order[:80].tolist():
            optimiser.zero_grad()
            F.cross_entropy(model(images.x_train[i : i + 1]), images.y_train[i : i + 1]).backward()
            optimiser.step()
        layers = [layer for layer in model if isinstance(layer, xb.AnalogLinear)]
        for array, bias, old, layer in zip(
            networks.arrays, networks.biases, before, layers, strict=True
        ):
            ours = array.weight[seed]
            assert (ours - layer.weight.detach().mT).abs().max() < 1e-5
            assert (bias[seed, 0] - layer.bias).abs().max() < 1e-5
            assert (ours - old[seed]).abs().max() > 0.05  # something was learnt


def test_stochastic_rounding_has_the_right_mean():
    """One image on fine straight levels: the mean step over 400 networks is −lr x δ."""
    cell = Device(1e-7, 5e-6, update=NeuroSim(100, 100))
    run = Online(Digits(), xb.Chip(device=cell, mapping=MAPPING), STOCHASTIC, 0.02, seeds=1)
    networks = Networks(replace(run, seeds=400, hidden=2), run.data.load())
    first = networks.arrays[1].weight
    x, answer = networks.x[:1].expand(400, 1, -1), networks.answers[:1].expand(400, 1, -1)
    weights = networks._weights()
    hidden = (x @ weights[0] + networks.biases[0]).relu()
    error = (hidden @ weights[1] + networks.biases[1]).softmax(2) - answer
    want = -0.02 * hidden.mT @ error
    networks.step(x, answer)
    moved = networks.arrays[1].weight - first
    step = 0.02  # of W by one pulse
    assert ((moved / step) - (moved / step).round()).abs().max() < 1e-3
    # a Bernoulli fraction has a variance of at most 1/4
    assert (moved - want).mean(0).abs().max() < 4.5 * step * (0.25 / 400) ** 0.5


def test_chips_with_converters_are_refused():
    chip = xb.Chip(forward=xb.Periphery(adc=xb.ADC(bits=8)))
    run = Online(Digits(), chip, NEAREST, lr=0.1, seeds=1)
    with pytest.raises(ValueError, match="chip must have no converters and one tile"):
        Networks(run, run.data.load())


@pytest.mark.slow
def test_orderings_and_gaps_of_the_curves(tmp_path):
    """Labels, levels and cycle noise, 3 seeds, 16 epochs: about 4 minutes."""
    plan = Plan(epochs=16, seeds=3)
    runs = {
        **{f"levels {n}": plan.levels[n] for n in (8, 16, 32, 512)},
        **{f"bent {a:g}": plan.bent[a] for a in (1.0, 3.0, 5.0)},
        "retraced 5": plan.retraced[5.0],
        **{f"noise {s:g}": plan.noise[s] for s in (0.01, 0.02, 0.05)},
        "nearest 32": plan.nearest[32],
    }
    with Store(tmp_path) as store:
        execute("nonlinearity", runs.values(), store)
        found = {k: estimate(store[run].curves["accuracy"]).mean for k, run in runs.items()}
    assert found["bent 1"] > found["bent 3"] > found["bent 5"]
    assert found["retraced 5"] - found["bent 5"] > 15
    # the knee at 16 to 32 levels
    assert found["levels 512"] - found["levels 8"] > 5
    assert found["levels 512"] - found["levels 16"] > 1
    assert found["levels 512"] - found["levels 32"] < 2.5
    # the cliff between 2 and 5 % of the range
    assert found["levels 512"] - found["noise 0.01"] < 2.5
    assert found["noise 0.02"] - found["noise 0.05"] > 25
    assert found["levels 32"] - found["nearest 32"] > 10
