"""Liquid state machine, circuit activations, perceptrons, metrics and NIR."""

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, GaussianRead, SoftBounds, StuckAt

# ---- liquid state machine ------------------------------------------------------------------------


def xor_of_templates(samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two templates of 20 ms each in turn, jittered by 1 ms; the class is their XOR."""
    draw = torch.Generator().manual_seed(seed)
    lines, half = 40, 20
    template = torch.rand(2, 2, half, lines, generator=draw) < 0.05
    which = torch.randint(0, 2, (samples, 2), generator=draw)
    x = torch.zeros(2 * half, samples, lines)
    for part in range(2):
        for value in range(2):
            t, line = template[part, value].nonzero().unbind(1)
            own = (which[:, part] == value).nonzero().flatten()
            jitter = torch.randn(len(own), len(t), generator=draw).round().long()
            when = (part * half + t + jitter).clamp(0, 2 * half - 1)
            x[when, own.unsqueeze(-1), line] = 1
    return x, which[:, 0] ^ which[:, 1]


def told_apart(features: torch.Tensor, y: torch.Tensor, train: int) -> float:
    target = 2.0 * y - 1
    fit = sp.Readout(features[:train], target[:train], ridge=1e-2)
    return float(((fit(features[train:]) > 0) == (y[train:] == 1)).double().mean())


def test_a_liquid_tells_what_filtered_inputs_cannot() -> None:
    x, y = xor_of_templates(1500)
    alone = sp.Integrator(sp.SnnTorch(math.exp(-1 / 30))).run(x)[0][-1]
    assert 0.4 < told_apart(alone, y, 1200) < 0.6
    scores = {}
    for name, chip in (("ideal", xb.Chip()), ("cut", xb.Chip())):
        found = []
        for seed in range(2):
            net = sp.liquid(40, seed=seed)
            if name == "cut":  # the ablation: no recurrence; the membranes alone do it
                nn.init.zeros_(net[1].layer.weight)
            net = xb.convert(net, chip, mode=xb.Programmed(), seed=seed)
            with torch.no_grad():
                found.append(told_apart(net(x)[0][-1], y, 1200))
        scores[name] = np.mean(found)
    assert scores["ideal"] >= 0.90
    print(f"recurrent {scores['ideal']:.3f}, recurrence cut {scores['cut']:.3f}")
    assert scores["cut"] >= 0.90  # so nothing is claimed for the recurrence


def test_every_neuron_of_a_liquid_has_one_sign() -> None:
    w = sp.liquid(10, 200, seed=1)[1].layer.weight
    assert bool(((w >= 0).all(0) | (w <= 0).all(0)).all())
    share = float((w < 0).any(0).double().mean())
    assert abs(share - 0.2) < 4 * math.sqrt(0.16 / 200)
    assert abs(float((w != 0).double().mean()) - 0.1) < 0.01


# ---- circuits ------------------------------------------------------------------------------------


def test_a_diode_rectifies_by_its_own_equation() -> None:
    x = torch.linspace(-3, 3, 301, dtype=torch.float64, requires_grad=True)
    part = sp.DiodeRectifier(unit=1.0, saturation=1e-12, load=1e6)
    y = part(x)
    vt = 300 * 1.380649e-23 / 1.602176634e-19
    a = 1e-6 / vt
    given = x.detach().numpy()
    small = given < 1.5  # SciPy's argument overflows beyond
    want = vt * lambertw(a * np.exp(a + given[small] / vt)).real - 1e-6
    np.testing.assert_allclose(y.detach().numpy()[small], want, rtol=1e-9, atol=1e-15)
    v = y.detach()
    on = v > 0
    torch.testing.assert_close((v + vt * torch.log1p(v / 1e-6))[on], x.detach()[on])
    y.sum().backward()
    slope = torch.gradient(v, spacing=0.02)[0]
    torch.testing.assert_close(x.grad[2:-2], slope[2:-2], rtol=0, atol=6e-3)
    assert float(v[0]) > -1e-6 - 1e-12 and float(v[-1]) == pytest.approx(2.65, abs=0.1)


def test_a_differential_pair_is_a_tanh_and_one_side_a_sigmoid() -> None:
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    vt = 300 * 1.380649e-23 / 1.602176634e-19
    torch.testing.assert_close(sp.DifferentialPair(unit=2 * vt)(x), torch.tanh(x))
    one = sp.DifferentialPair(unit=2 * vt, one_sided=True)(x)
    torch.testing.assert_close(one, torch.sigmoid(2 * x))
    warm = sp.DifferentialPair(unit=2 * vt, temperature=360, slope=1.3)(x)
    torch.testing.assert_close(warm, torch.tanh(x / 1.56))


def test_a_comparator_fires_at_its_own_threshold() -> None:
    x = torch.linspace(-1, 1, 21).unsqueeze(-1).expand(21, 500).contiguous().requires_grad_()
    y = sp.Comparator(0.1, unit=2.0)(x)
    assert torch.equal(y.detach(), (x > 0.05).float())
    y.sum().backward()
    assert bool((x.grad > 0).all())
    spread = sp.Comparator(0.0, unit=2.0, sigma_offset=0.3, seed=1)(x.detach())
    flips = 21 - spread.sum(0)  # where each comparator switches
    assert 0.1 < float(flips.std()) * 0.1 < 0.2  # σ/unit = 0.15 V in steps of 0.1


ACTIVATIONS = {
    "torch": nn.Tanh,
    "pair": lambda: sp.DifferentialPair(unit=0.0517),
    "diode": lambda: sp.DiodeRectifier(unit=1.0, saturation=1e-6),
}
CORNERS = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])


def gate(net: nn.Module, y: torch.Tensor, lr: float) -> bool:
    """Trained in situ by pulses on cells of soft bounds."""
    device = Device(1e-6, 50e-6, update=SoftBounds(0.2e-6, sigma_c2c=0.1))
    chip = xb.Chip(device, xb.Differential(w_max=6.0))
    net = xb.convert(net, chip, mode=xb.InSitu(), seed=0)
    optimizer = xb.InSituSGD(net, lr=lr)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(CORNERS)[:, 0], y).backward()
        optimizer.step()
    return bool(((net(CORNERS)[:, 0] > 0).float() == y).all())


def test_a_perceptron_learns_and_and_or_by_pulses_and_never_xor() -> None:
    torch.manual_seed(0)
    for y, learns in (([0, 0, 0, 1], True), ([0, 1, 1, 1], True), ([0, 1, 1, 0], False)):
        assert gate(nn.Linear(2, 1), torch.tensor(y).float(), 0.5) == learns


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_hidden_layer_learns_xor_through_circuits(name: str) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 16), ACTIVATIONS[name](), nn.Linear(16, 1))
    assert gate(net, torch.tensor([0.0, 1, 1, 0]), 2.0)


# ---- metrics -------------------------------------------------------------------------------------


def test_metrics_count_products_one_by_one() -> None:
    torch.manual_seed(0)
    net = sp.Sequential(nn.Linear(6, 5), sp.LIF(threshold=0.3), nn.Linear(5, 3), sp.LIF())
    with torch.no_grad():
        net[2].weight[0, :2] = 0
    x = torch.rand(7, 2, 6)
    found = sp.metrics(net, x)
    with torch.no_grad():
        hidden, _ = sp.Sequential(*list(net)[:2])(x)
        last, _ = net(x)
    acs = sum(
        1
        for t in range(7)
        for b in range(2)
        for j in range(3)
        for i in range(5)
        if hidden[t, b, i] and net[2].weight[j, i]
    )
    assert found.effective_macs == 7 * 6 * 5 and found.effective_acs == acs / 2
    assert found.dense == 7 * (6 * 5 + 5 * 3) and found.origin == "modelled"
    silent = int((hidden == 0).sum() + (last == 0).sum())
    assert found.activation_sparsity == silent / (7 * 2 * 8)
    assert found.footprint == 4 * (6 * 5 + 5 + 5 * 3 + 3)
    analog = xb.convert(net, xb.Chip(), mode=xb.Programmed(), seed=0)
    assert sp.metrics(analog, x)[2:5] == pytest.approx(found[2:5])


# ---- NIR -----------------------------------------------------------------------------------------


def chain(*neurons: nn.Module) -> sp.Sequential:
    torch.manual_seed(3)
    return sp.Sequential(nn.Linear(10, 12), neurons[0], nn.Linear(12, 4, bias=False), neurons[1])


def test_nir_graphs_come_back_as_they_went() -> None:
    pytest.importorskip("nir")
    from crossbar.spiking.interchange import from_nir, to_nir

    x = (torch.rand(60, 3, 10, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    for membrane in (
        sp.SnnTorch(0.9),
        sp.SpikingJelly(4.0),
        sp.SpikingJelly(4.0, False),
        sp.SpikingJelly(math.inf, False),
        sp.Exact(8e-3, 1e-3),
    ):
        net = chain(sp.LIF(membrane, 0.1, reset=sp.To()), sp.LIF(membrane, 0.1, reset=sp.To()))
        device = Device(1e-6, 50e-6, read=GaussianRead(0.0), faults=StuckAt(p_any=0.1))
        chip = xb.convert(net, xb.Chip(device), mode=xb.Programmed(), seed=0)
        for one in (net, chip):
            with torch.no_grad():
                again = from_nir(to_nir(one, x, 1e-3), 1e-3)
                want, got = one(x)[0], again(x)[0]
            assert float((want != got).float().mean()) < 1e-3 and 0.002 < want.mean() < 0.95
        torch.testing.assert_close(
            again[0].weight.detach(), xb.to_digital(chip)[0].weight.detach()
        )  # faults included
        assert not torch.allclose(again[0].weight, net[0].weight)


def test_nir_refuses_what_it_does_not_have() -> None:
    pytest.importorskip("nir")
    from crossbar.spiking.interchange import to_nir

    x, hard = torch.zeros(2, 1, 10), sp.LIF(reset=sp.To())
    for neuron, error, words in (
        (sp.LIF(), ValueError, "reset to a value"),
        (sp.LIF(reset=None), ValueError, "reset to a value"),
        (sp.LIF(reset=sp.To(), refractory=2), TypeError, "refractory"),
        (sp.LIF(sp.Conductance(), reset=sp.To()), TypeError, "not supported"),
        (sp.Delay(2), TypeError, "no Delay"),
    ):
        with pytest.raises(error, match=words):
            to_nir(chain(neuron, hard), x, 1e-3)


@pytest.mark.slow
def test_nir_graphs_replay_in_snntorch_and_spikingjelly(tmp_path) -> None:
    nir, snntorch = pytest.importorskip("nir"), pytest.importorskip("snntorch")
    from snntorch.import_nir import import_from_nir

    from crossbar.spiking.interchange import to_nir

    assert snntorch
    jelly = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    x = (torch.rand(200, 3, 10, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    dt = 1e-4  # snnTorch reads every graph at this step
    neuron = sp.LIF(sp.SnnTorch(0.9), 0.2, reset=sp.To())
    net = chain(neuron, sp.LIF(sp.SnnTorch(0.9), 0.3, reset=sp.To()))
    device = Device(1e-6, 50e-6, faults=StuckAt(p_any=0.1))
    chip = xb.convert(net, xb.Chip(device), mode=xb.Programmed(), seed=0)
    path = tmp_path / "net.nir"
    nir.write(path, to_nir(chip, x, dt))
    with torch.no_grad():
        want = chip(x)[0]
        other, state, spikes = import_from_nir(nir.read(path)), None, []
        for now in x:
            s, state = other(now, state)
            spikes.append(s)
        assert float((torch.stack(spikes) != want).float().mean()) < 2e-3
        third = jelly.import_from_nir(nir.read(path), dt=dt)
        functional.set_step_mode(third, "m")
        out = third(x)
        out = out[0] if isinstance(out, tuple) else out
        assert float((out != want).float().mean()) < 2e-3
    assert 0.002 < want.mean() < 0.95
