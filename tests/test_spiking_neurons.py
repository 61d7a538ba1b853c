"""Neurons against snnTorch, SpikingJelly and Norse (frozen spike trains) and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import crossbar as xb
from crossbar import spiking as sp
from tests._currents import currents, grid

PEERS = np.load(Path(__file__).parent / "data" / "spiking" / "peers.npz")


def frozen(name: str, shape: tuple[int, ...] = (1000, 200)) -> torch.Tensor:
    bits = np.unpackbits(PEERS[f"{name}.spikes"])[: math.prod(shape)]
    return torch.from_numpy(bits.astype(np.float32)).view(shape)


X = currents()
JELLY = sp.SpikingJelly(10.0, decay_input=False)
SAME = {
    "snntorch-subtract": (sp.LIF(sp.SnnTorch(0.9)), X),
    "snntorch-zero": (sp.LIF(sp.SnnTorch(0.9), reset=sp.To()), X),
    "snntorch-none": (sp.LIF(sp.SnnTorch(0.9), reset=None), X),
    "snntorch-subtract-now": (sp.LIF(sp.SnnTorch(0.9, reset_delay=False)), X),
    "snntorch-zero-now": (sp.LIF(sp.SnnTorch(0.9, reset_delay=False), reset=sp.To()), X),
    "snntorch-large-now": (sp.LIF(sp.SnnTorch(0.9, reset_delay=False)), 4 * X),
    "snntorch-grid": (sp.LIF(sp.SnnTorch(1.0)), grid()),
    "snntorch-synaptic": (sp.LIF(sp.Current(sp.SnnTorch(0.9), 0.8)), 0.3 * X),
    "spikingjelly-hard": (sp.LIF(sp.SpikingJelly(10.0), reset=sp.To()), 8 * X),
    "spikingjelly-soft": (sp.LIF(JELLY), X),
    "spikingjelly-large": (sp.LIF(JELLY), 4 * X),
    "spikingjelly-below": (
        sp.LIF(sp.SpikingJelly(10.0, rest_at=-0.5), reset=sp.To(-0.5)),
        8 * X,
    ),
    "spikingjelly-if": (sp.LIF(sp.SpikingJelly(math.inf, False)), X - 0.15),
    "spikingjelly-grid": (sp.LIF(sp.SpikingJelly(math.inf, False)), grid()),
    "norse-zero": (sp.LIF(sp.Norse(0.1), 0.3, reset=sp.To()), X),
    "norse-subtract": (sp.LIF(sp.Norse(0.1), 0.3), X),
}


@pytest.mark.parametrize("name", SAME)
def test_spikes_are_those_of_the_peer(name: str) -> None:
    neuron, x = SAME[name]
    with torch.no_grad():
        spikes, state = neuron.run(x)
    assert torch.equal(spikes, frozen(name))
    assert 0.01 < spikes.mean() < 0.9
    torch.testing.assert_close(state.v, torch.from_numpy(PEERS[f"{name}.v"]), rtol=0, atol=1e-6)


def test_conventions_differ_where_they_are_said_to() -> None:
    def differ(a: str, b: str) -> float:
        return float((frozen(a) != frozen(b)).float().mean())

    # the naive forms reset, in the next step, what has leaked already
    naive, v = [], torch.zeros(200)
    for now in X:
        r = (v > 1).float()
        v = (1 - r) * (0.9 * v + now)
        naive.append((v > 1).float())
    apart = float((torch.stack(naive) != frozen("snntorch-zero")).float().mean())
    assert 0.10 < apart < 0.15
    # equal while v <= 2 θ, not beyond; > against >= on a grid of quarters
    neuron = sp.LIF(sp.SnnTorch(0.9, reset_delay=False))
    with sp.recorded(neuron) as states, torch.no_grad():
        neuron.run(X)
    calm = torch.stack([s.v for s in states[""]]).amax(0) <= 1  # after the reset
    same = (frozen("snntorch-subtract-now") == frozen("spikingjelly-soft")).all(0)
    assert calm.sum() > 20 and bool(same[calm].all())
    assert differ("snntorch-large-now", "spikingjelly-large") > 0.01
    with torch.no_grad():
        strict = sp.LIF(sp.SnnTorch(1.0, reset_delay=False)).run(grid())[0]
    assert float((strict != frozen("spikingjelly-grid")).float().mean()) > 0.01


@pytest.mark.parametrize(
    ("name", "neuron"),
    [
        ("atan", sp.LIF(sp.SnnTorch(0.9))),
        ("fast", sp.LIF(sp.SnnTorch(0.9), surrogate=sp.FastSigmoid(25))),
        ("atan-zero", sp.LIF(sp.SnnTorch(0.9), reset=sp.To())),
        ("atan-now", sp.LIF(sp.SnnTorch(0.9, reset_delay=False))),
        ("jelly", sp.LIF(JELLY, surrogate=sp.Sigmoid(4))),
        ("jelly-hard", sp.LIF(JELLY, reset=sp.To(), surrogate=sp.Sigmoid(4))),
        (
            "jelly-detached",
            sp.LIF(JELLY, reset=sp.To(), surrogate=sp.Sigmoid(4), detach_reset=True),
        ),
    ],
)
def test_gradients_through_time_are_those_of_the_peer(name: str, neuron: sp.LIF) -> None:
    x = X[:50, :20].clone().requires_grad_()
    spikes, _ = neuron.run(x)
    scale = (1 + torch.arange(50) / 50).unsqueeze(-1) * torch.linspace(-1, 1, 20)
    (spikes * scale).sum().backward()
    want = torch.from_numpy(PEERS[f"gradient-{name}"])
    assert float((x.grad - want).abs().max() / want.abs().max()) < 1e-6


def test_losses_are_those_of_snntorch() -> None:
    spikes = (X[:30, :40] > 0.5).float().view(30, 4, 10)
    target = torch.tensor([3, 1, 4, 1])
    kinds = (sp.losses.rate_cross_entropy, sp.losses.count_cross_entropy, sp.losses.count_mse)
    got = [float(loss(spikes, target)) for loss in kinds]
    np.testing.assert_allclose(got, PEERS["losses"], rtol=1e-6)
    # van Rossum: a single spike against none is Σ e^(−2t/τ)/τ
    one = torch.zeros(200, 1, dtype=torch.float64)
    one[0] = 1
    want = 1 / 20 / (1 - math.exp(-2 / 20))
    assert float(sp.losses.van_rossum(one, 0 * one, 20.0)) == pytest.approx(want, rel=1e-6)
    silent = torch.zeros(10, 4)
    assert float(sp.losses.rate_bounds(silent, 0.1, 0.5)) == pytest.approx(0.01)


def test_a_recurrent_crossbar_spikes_like_rleaky() -> None:
    n = range(20)
    matrix = torch.tensor([[0.1 * math.sin(1.7 * i + 0.3 * j * j) for j in n] for i in n])
    linear = torch.nn.Linear(20, 20, bias=False)
    with torch.no_grad():
        linear.weight.copy_(matrix)
    layer = xb.convert(linear, xb.Chip(), seed=0)
    net = sp.Recurrent(sp.LIF(sp.SnnTorch(0.9)), layer)
    with torch.no_grad():
        spikes, _ = net.run(X[:200, :20].unsqueeze(1))
    assert torch.equal(spikes[:, 0], frozen("snntorch-recurrent", (200, 20)))


# ---- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize("refractory", [0, 20])
def test_rate_against_current_follows_the_analytic_curve(refractory: int) -> None:
    tau, dt, theta = 20e-3, 1e-4, 1.0
    current = torch.linspace(1.1, 3, 30, dtype=torch.float64)
    neuron = sp.LIF(sp.Exact(tau, dt), theta, reset=sp.To(), refractory=refractory)
    with torch.no_grad():
        spikes, _ = neuron.run(current.expand(2000, -1))
    period = tau * torch.log(current / (current - theta)) + refractory * dt
    for train, want in zip(spikes.T, period.tolist(), strict=True):
        intervals = train.nonzero().flatten().diff().double() * dt
        assert float(1 / intervals.mean()) == pytest.approx(1 / want, rel=0.02)
    below = sp.LIF(sp.Exact(tau, dt)).run(torch.full((2000, 1), 0.99))[0]
    assert not below.any()


def test_conductances_are_exact_while_they_are_held() -> None:
    # no decay of the synapses within the test: tau_syn far longer
    part = sp.Conductance(tau=20e-3, dt=1e-3, tau_syn=1e9)
    neuron = sp.LIF(part, 100.0)
    x = torch.zeros(50, 2, dtype=torch.float64)
    x[0, 0], x[0, 1] = 0.5, -0.7
    with sp.recorded(neuron) as states, torch.no_grad():
        neuron.run(x)
    v = torch.stack([s.v for s in states[""]])
    t = 1e-3 * torch.arange(1, 51, dtype=torch.float64)
    excited = 0.5 * 5 / 1.5 * (1 - torch.exp(-1.5 * t / 20e-3))
    inhibited = -0.7 / 1.7 * (1 - torch.exp(-1.7 * t / 20e-3))
    torch.testing.assert_close(v, torch.stack((excited, inhibited), 1), rtol=1e-8, atol=1e-8)
    # a reversal potential is never passed, however strong the input
    with torch.no_grad():
        strong = sp.Integrator(part).run(1e3 * X[:, :20].double())[0]
    assert bool((strong <= 5).all()) and bool((strong >= -1).all())


def test_synaptic_conductances_decay_with_their_own_constant() -> None:
    part = sp.Conductance(tau_syn=5e-3, dt=1e-3)
    _, state = sp.LIF(part, 1e6).run(torch.tensor([1.0] + 9 * [0.0]).view(10, 1))
    assert float(state.i[0]) == pytest.approx(math.exp(-9e-3 / 5e-3), rel=1e-5)


def test_a_refractory_neuron_waits_and_keeps_its_membrane() -> None:
    neuron = sp.LIF(sp.SpikingJelly(math.inf, False), 1.0, refractory=3)
    spikes, _ = neuron.run(torch.full((20, 1), 1.0))
    assert spikes[:, 0].nonzero().flatten().tolist() == [0, 4, 8, 12, 16]


def test_an_adaptive_threshold_rises_by_its_jump_and_decays() -> None:
    neuron = sp.LIF(sp.SnnTorch(0.5), adaptation=sp.Adaptation(0.9, 0.3))
    plain = sp.LIF(sp.SnnTorch(0.5))
    x = torch.full((300, 1), 1.0)
    assert float(neuron.run(x)[0].sum()) < 0.8 * float(plain.run(x)[0].sum())
    s, state = neuron(torch.tensor([5.0]))
    assert float(s) == 1 and float(state.a) == pytest.approx(0.3)
    _, state = neuron(torch.tensor([-5.0]), state)
    assert float(state.a) == pytest.approx(0.27)


def test_time_constants_and_thresholds_are_learned_within_their_range() -> None:
    neuron = sp.LIF(sp.SnnTorch(0.9), learn_decay=True, learn_threshold=True)
    assert {name for name, _ in neuron.named_parameters()} == {"decay", "threshold"}
    opt = torch.optim.SGD(neuron.parameters(), lr=0.02)
    before = float(neuron.run(X)[0].mean().detach())
    for _ in range(10):
        opt.zero_grad()
        (neuron.run(X[:60])[0].mean() - 0.02).square().backward()
        assert all(p.grad.abs() > 0 for p in neuron.parameters())
        opt.step()
    assert abs(float(neuron.run(X)[0].mean().detach()) - 0.02) < abs(before - 0.02)
    with torch.no_grad():
        neuron.decay.fill_(7.0)  # an optimiser's step too far: held at 1
    v = neuron.run(torch.full((2, 1), 0.2))[1].v.detach()
    assert float(v) == pytest.approx(0.4)
    jelly = sp.LIF(sp.SpikingJelly(4.0), learn_decay=True)
    with torch.no_grad():
        jelly.decay.fill_(0.1)
    assert float(jelly(torch.ones(1))[1].v.detach()) == pytest.approx(
        0.0
    )  # τ = 1, spiked and reset


def test_delays_hold_every_line_for_its_own_time() -> None:
    x = X[:30, :5]
    steps = torch.tensor([0, 1, 3, 7, 2])
    y, state = sp.Delay(steps).run(x.unsqueeze(1))
    for line, d in enumerate(steps.tolist()):
        assert torch.equal(y[d:, 0, line], x[: 30 - d, line]) and not y[:d, 0, line].any()
    more, _ = sp.Delay(steps).run(X[30:40, :5].unsqueeze(1), state)
    assert torch.equal(more[:, 0, 3], X[23:33, 3])
    assert torch.equal(sp.Delay(4).run(x)[0][4:], x[:-4])


# ---- encoders ----------------------------------------------------------------------------------


def test_encoders_carry_their_values() -> None:
    x = torch.linspace(0, 1, 11)
    draw = torch.Generator().manual_seed(0)
    spikes = sp.encode.poisson(x, 20_000, rate=0.5, generator=draw)
    # 5 σ of a binomial mean over 20,000 steps
    assert float((spikes.mean(0) - 0.5 * x).abs().max()) < 5 * math.sqrt(0.25 / 20_000)
    spikes = sp.encode.regular(x, 100, rate=0.45, generator=draw)
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert bool(((spikes.sum(0) - 45 * x).abs() < 1).all())
    assert torch.equal(sp.encode.constant(x, 7)[3], x)
    late = sp.encode.latency(x, 40, tau=5, threshold=0.05)
    assert not late[:, 0].any() and bool((late[:, 1:].sum(0) == 1).all())
    first = late.argmax(0)[1:]
    want = (5 * torch.log(x[1:] / (x[1:] - 0.05))).floor().long()
    assert torch.equal(first, want) and bool((first.diff() <= 0).all())
    signal = torch.tensor([0.0, 0.3, 0.35, 0.1, 0.5])
    assert sp.encode.delta(signal, 0.2).tolist() == [0, 1, 0, 0, 1]
    assert sp.encode.delta(signal, 0.2, off=True).tolist() == [0, 1, 0, -1, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 1), st.integers(1, 40))
def test_soft_reset_conserves_charge(seed: int, rate: float, steps: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = rate * torch.rand(steps, 8, generator=draw, dtype=torch.float64)
    spikes, state = sp.LIF(sp.SpikingJelly(math.inf, False), 0.7).run(x)
    torch.testing.assert_close(x.sum(0), 0.7 * spikes.sum(0) + state.v)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sp.LIF(threshold=0.0), "threshold"),
        (lambda: sp.LIF(threshold=torch.tensor([1.0, -1.0])), "threshold"),
        (lambda: sp.SnnTorch(1.2), "decay"),
        (lambda: sp.SpikingJelly(0.5), "decay"),
        (lambda: sp.SpikingJelly(math.inf), "decay_input"),
        (lambda: sp.LIF(refractory=-1), "refractory"),
        (lambda: sp.LIF(sp.SnnTorch(0.9), reset=sp.To(0.3))(torch.ones(1)), "snnTorch"),
        (lambda: sp.encode.poisson(torch.tensor([1.5]), 3), "x must be"),
        (lambda: sp.Current(sp.Conductance()), "synapses"),
        (lambda: xb.DAC(bits=1, signed=False, passes=True), "passes"),
        (lambda: xb.SerialDAC(bits=4, signed=False), "signed"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(make: object, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        make()
