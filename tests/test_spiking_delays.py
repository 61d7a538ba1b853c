"""Delays of lines and of single synapses, against a queue of events in NumPy."""

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from devices import ConstantStep, Device, GaussianRead, PowerLawDrift, SoftBounds
from tests._currents import uniform

BRIAN = Path(__file__).parent / "data" / "spiking" / "delays.npz"
IN, OUT, STEPS = 12, 8, 60
DELAYS = (9 * uniform((OUT, IN), 11)).long()


def linear(bias: bool = True, seed: int = 3) -> nn.Linear:
    made = nn.Linear(IN, OUT, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(0.8 * (uniform((OUT, IN), seed) - 0.4))
        if bias:
            made.bias.copy_(0.1 * (uniform((OUT,), seed + 1) - 0.5))
    return made


def trains(steps: int = STEPS, batch: int = 2, lines: int = IN, seed: int = 5) -> torch.Tensor:
    return (uniform((steps, batch, lines), seed) < 0.3).double()


def queued(weight, bias, delays, x, *, recurrent=False, beta=0.9, theta=0.4):
    """Currents and spikes of one sample: every spike waits in a queue for each of its synapses.

    Recurrent: x drives the neurons, whose own spikes come back one step and their delay later.
    """
    outputs, steps = len(weight), len(x)
    due = [[] for _ in range(steps + int(delays.max()) + 2)]  # (target, weight) by time
    v, spikes, currents = np.zeros(outputs), np.zeros((steps, outputs)), np.zeros((steps, outputs))
    for t in range(steps):
        if not recurrent:
            for i in np.flatnonzero(x[t]):
                for j in range(outputs):
                    due[t + delays[j, i]].append((j, weight[j, i]))
        currents[t] = bias + (x[t] if recurrent else 0)
        for j, w in due[t]:
            currents[t, j] += w
        for j in range(outputs):
            v[j] = beta * v[j] + currents[t, j] - theta * (v[j] > theta)
            if v[j] > theta:
                spikes[t, j] = 1
                if recurrent:
                    for k in range(outputs):
                        due[t + 1 + delays[k, j]].append((k, weight[k, j]))
    return currents, spikes


def test_every_synapse_delivers_after_its_own_time() -> None:
    layer, x = linear(), trains()
    synapses = sp.Synapses(layer, DELAYS)
    net = sp.Sequential(synapses, sp.LIF(sp.SnnTorch(0.9), 0.4))
    cells = Device(2e-6, 30e-6)
    chip = xb.convert(net, xb.Chip(cells), mode=xb.Programmed(), seed=1)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    with torch.no_grad():
        currents, spikes = synapses.run(x)[0], net(x)[0]
        on_cells = chip[0].run(x)[0]
        for k in range(x.shape[1]):
            want, fired = queued(w, b, DELAYS.numpy(), x[:, k].numpy())
            np.testing.assert_allclose(currents[:, k].numpy(), want, rtol=0, atol=1e-12)
            np.testing.assert_allclose(on_cells[:, k].numpy(), want, rtol=0, atol=1e-9)
            assert np.array_equal(spikes[:, k].numpy(), fired) and 0.02 < fired.mean() < 0.9
        assert torch.equal(chip(x)[0], spikes)
        # a sequence in parts, and step by step, is the whole
        states, parts = None, []
        for part in x.split(7):
            y, states = net(part, states)
            parts.append(y)
        assert torch.equal(torch.cat(parts), spikes)
        state = None
        for t, now in enumerate(x):
            y, state = synapses(now, state)
            torch.testing.assert_close(y, currents[t], rtol=0, atol=1e-12)
    # a row for each delay of each line, and no other
    assert synapses.layer.in_features == sum(len(set(d.tolist())) for d in DELAYS.T)
    assert int((synapses.layer.weight != 0).sum()) == IN * OUT
    same = sp.Synapses(linear(), torch.zeros_like(DELAYS))
    torch.testing.assert_close(same.run(x)[0], linear()(x))


def test_delays_of_synapses_are_those_of_brian2() -> None:
    """Input and recurrent synapses, each with a delay of its own (frozen, Brian2 2.10.1)."""
    frozen = {k: torch.from_numpy(v) for k, v in np.load(BRIAN).items()}
    layers = {}
    for name in ("in", "back"):
        w = frozen[f"weight_{name}"]
        plain = nn.Linear(w.shape[1], len(w), bias=False, dtype=torch.float64)
        with torch.no_grad():
            plain.weight.copy_(w)
        layers[name] = sp.Synapses(plain, frozen[f"delay_{name}"])
    net = sp.Sequential(layers["in"], sp.Recurrent(sp.LIF(sp.SnnTorch(0.9), 0.4), layers["back"]))
    net = xb.convert(net, xb.Chip(Device(0.0, 50e-6)), mode=xb.Programmed(), seed=0)
    x = torch.zeros(frozen["v"].shape[1], 1, 12, dtype=torch.float64)
    x[frozen["spikes"][0], 0, frozen["spikes"][1]] = 1
    with torch.no_grad(), sp.recorded(net) as states:
        spikes, _ = net(x)
    v = torch.stack([s.v[0] for s in states["1.neuron"]])
    assert float((v - frozen["v"].T).abs().max()) < 1e-9
    assert torch.equal(spikes[:, 0] > 0, frozen["v"].T > 0.4) and spikes.mean() > 0.1


def test_recurrent_synapses_deliver_after_their_own_time() -> None:
    delays = (5 * uniform((OUT, OUT), 21)).long()
    layer = nn.Linear(OUT, OUT, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(0.8 * (uniform((OUT, OUT), 22) - 0.5))
    x = 0.3 * uniform((200, 1, OUT), 23)
    net = sp.Recurrent(sp.LIF(sp.SnnTorch(0.9), 0.4), sp.Synapses(layer, delays))
    with torch.no_grad():
        got, _ = net.run(x)
        first, state = net.run(x[:80])
        rest, _ = net.run(x[80:], state)
    weight = layer.weight.detach().numpy()
    _, want = queued(weight, 0.0, delays.numpy(), x[:, 0].numpy(), recurrent=True)
    assert np.array_equal(got[:, 0].numpy(), want) and 0.02 < want.mean() < 0.9
    assert torch.equal(torch.cat((first, rest)), got)
    _, other = queued(weight, 0.0, 0 * delays.numpy(), x[:, 0].numpy(), recurrent=True)
    assert not np.array_equal(other, want)


def matches(net: sp.Sequential, x: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    return (net(x)[0].mean(0) - want).square().mean()


@pytest.mark.parametrize("mode", [None, xb.HardwareAware(), xb.InSitu(), xb.InSitu(compact=True)])
def test_training_leaves_every_connection_one_synapse(mode: xb.modes.Mode | None) -> None:
    """Float, rehearsed and in situ: cells of a row that belong to no synapse stay as written."""
    x, want = trains().float(), uniform((2, OUT), 31).float()
    net = sp.Sequential(sp.Synapses(linear().float(), DELAYS), sp.Integrator(sp.SnnTorch(0.5)))
    if mode is not None:
        cells = Device(
            1e-6, 50e-6, update=SoftBounds(0.05e-6, sigma_c2c=0.3), read=GaussianRead(0.01)
        )
        net = xb.convert(net, xb.Chip(cells), mode=mode, seed=0)
    net = copy.deepcopy(net)  # hooks of Parameters are not copied
    before = (
        xb.to_digital(net)[0].layer.weight.detach()
        if mode
        else net[0].layer.weight.detach().clone()
    )
    in_situ = isinstance(mode, xb.InSitu)
    optimizer = (
        xb.InSituSGD(net, lr=0.2) if in_situ else torch.optim.AdamW(net.parameters(), lr=0.02)
    )
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = matches(net, x, want)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    after = xb.to_digital(net)[0].layer.weight.detach() if mode else net[0].layer.weight.detach()
    there = net[0].there
    assert torch.equal(after[~there], before[~there])
    assert float((after != before)[there].float().mean()) > 0.9


def test_cells_age_while_spikes_wait() -> None:
    cells = Device(0.0, 50e-6, retention=PowerLawDrift(nu=0.1, t0=1.0))
    net = sp.Sequential(
        sp.Synapses(linear(bias=False), DELAYS), sp.Integrator(sp.SnnTorch(0.0)), dt=1e-2, block=5
    )
    aged = xb.convert(net, xb.Chip(cells), mode=xb.Programmed(), seed=0)
    x = trains()
    with torch.no_grad():
        factor = (1 + torch.arange(STEPS) // 5 * 5 * 1e-2) ** -0.1
        want = factor.view(-1, 1, 1) * net(x)[0]
        torch.testing.assert_close(aged(x)[0], want, rtol=1e-6, atol=1e-8)


def test_lines_that_wait_are_no_neurons_and_are_saved() -> None:
    net = sp.Sequential(sp.Synapses(linear(), DELAYS), sp.LIF(threshold=0.4))
    x = trains()
    with torch.no_grad():
        spikes, states = net(x)
    found = sp.metrics(net, x)
    assert found.activation_sparsity == float((spikes == 0).double().mean())
    file = io.BytesIO()
    torch.save((net.state_dict(), states), file)
    file.seek(0)
    kept, states_kept = torch.load(file)
    other = sp.Sequential(sp.Synapses(linear(seed=8), DELAYS), sp.LIF(threshold=0.4))
    other.load_state_dict(kept)
    with torch.no_grad():
        assert torch.equal(other(x, states_kept)[0], net(x, states)[0])


def test_plasticity_meets_spikes_where_they_arrive() -> None:
    """A pair of spikes learns by the time between arrival and the column's spike."""
    a = xb.matrix(
        torch.full((1, 3), 0.5, dtype=torch.float64),
        xb.Chip(Device(0.0, 1.0, update=ConstantStep(1e-3)), xb.Unipolar(w_max=1.0)),
        seed=0,
    )
    learner = sp.Learner(a, sp.PairSTDP(0.01, 0.012, 20e-3, 30e-3), 1e-3, xb.Expected())
    pre, post = torch.zeros(40, 3), torch.zeros(40, 1)
    pre[10], post[20] = 1, 1
    delay = sp.Delay(torch.tensor([0, 7, 15]))
    learner.run(delay.run(pre)[0], post)
    want = [0.01 * np.exp(-10 / 20), 0.01 * np.exp(-3 / 20), -0.012 * np.exp(-5 / 30)]
    np.testing.assert_allclose((a.weight[:, 0] - 0.5).numpy(), want, rtol=0, atol=1e-12)


def trained_without_gradients() -> None:
    net = sp.Sequential(sp.Synapses(linear(), DELAYS))
    chip = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(0.05e-6)))
    xb.convert(net, chip, mode=xb.InSitu(gradient=False), seed=0)(trains())


ANALOG = xb.convert(nn.Linear(IN, OUT), xb.Chip(), seed=0)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: sp.Synapses(nn.Conv2d(1, 1, 3), DELAYS), TypeError, "layer must be a Linear"),
        (lambda: sp.Synapses(ANALOG, DELAYS), TypeError, "on arrays already"),
        (lambda: sp.Synapses(linear(), 3), TypeError, "steps must be a Tensor"),
        (lambda: sp.Synapses(linear(), DELAYS.double()), TypeError, "steps must be int64"),
        (lambda: sp.Synapses(linear(), DELAYS.T), ValueError, r"\(8, 12\).*got \(12, 8\)"),
        (lambda: sp.Synapses(linear(), DELAYS[0]), ValueError, "steps must have 2 dimensions"),
        (lambda: sp.Synapses(linear(), DELAYS - 1), ValueError, "steps must be >= 0, got -1"),
        (lambda: sp.Delay(torch.tensor([1, -1])), ValueError, "steps must be >= 0, got -1"),
        (lambda: sp.Delay(torch.tensor([1.0])), TypeError, "steps must be int64"),
        (lambda: sp.Delay(-1), ValueError, "steps must be >= 0"),
        (lambda: sp.Delay(1.5), TypeError, "steps must be an int"),
        (lambda: sp.Delay(2, torch.tensor([0])), ValueError, "lines needs a delay"),
        (lambda: sp.Delay(torch.tensor([1, 2]), torch.tensor([0])), ValueError, "lines needs"),
        (lambda: sp.Delay(torch.tensor([1, 2])).run(trains()), ValueError, "x has 12 lines"),
        (lambda: sp.Delay(torch.tensor([3])).run(trains()), ValueError, "x has 12 lines, and st"),
        (
            lambda: sp.Delay(torch.tensor([1]), torch.tensor([12])).run(trains()),
            ValueError,
            "lines go up to 12, and x has 12",
        ),
        (lambda: sp.Delay(2)(trains()[0], torch.zeros(3, 1, IN)), ValueError, "the state is of"),
        (trained_without_gradients, TypeError, "need the gradient"),
        (lambda: sp.Recurrent(sp.LIF(), torch.eye(3)), TypeError, "layer must be a Module"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(make, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        make()
