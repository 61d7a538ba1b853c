"""Spiking layers on arrays: time steps folded into one read, drift between, columns that fire."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, GaussianRead, PowerLawDrift, SoftBounds
from tests._currents import currents, uniform

SPIKES = xb.Periphery(xb.DAC(bits=1, v_max=0.2, range=xb.Fixed(1.0), signed=False))


def linear(rows: int, cols: int, seed: int = 3, bias: bool = False) -> nn.Linear:
    made = nn.Linear(rows, cols, bias=bias)
    with torch.no_grad():
        made.weight.copy_(0.6 * (uniform((cols, rows), seed) - 0.45))
    return made


def trains(steps: int, batch: int, lines: int, rate: float = 0.3, seed: int = 5) -> torch.Tensor:
    return (uniform((steps, batch, lines), seed) < rate).float()


MEMBRANES = [
    (sp.SnnTorch(0.9), sp.Subtract()),
    (sp.SnnTorch(0.9), sp.To()),
    (sp.SpikingJelly(2.0), sp.To()),
    (sp.Norse(0.3), sp.To()),
]


@pytest.mark.parametrize(("membrane", "reset"), MEMBRANES)
@pytest.mark.parametrize("device", [None, Device(2e-6, 30e-6)])
def test_ideal_arrays_spike_like_linear_until_a_near_tie(
    membrane: sp.Membrane, reset: sp.Reset, device: Device | None
) -> None:
    plain = linear(30, 200)
    chip = xb.Chip(forward=SPIKES) if device is None else xb.Chip(device, forward=SPIKES)
    layer = xb.convert(plain, chip, mode=xb.Programmed(), seed=1)
    x = trains(1000, 1, 30)
    neuron = sp.LIF(membrane, 0.4, reset=reset)
    with torch.no_grad():
        got = sp.Sequential(layer, neuron)(x)[0][:, 0]
        current = plain(x)
        want = neuron.run(current)[0][:, 0]
        # v as it met its threshold: the membrane before the reset of its step
        near = torch.zeros_like(want, dtype=torch.bool)
        state = None
        for t, now in enumerate(current):
            bare = sp.LIF(membrane, 0.4, reset=None)
            if isinstance(membrane, sp.SnnTorch):
                _, state = neuron(now, state)
                near[t] = (state.v[0] - 0.4).abs() < 1e-5
            else:
                before = membrane.rest(now) if state is None else state.v
                near[t] = (bare(now, sp.State(before))[1].v[0] - 0.4).abs() < 1e-5
                _, state = neuron(now, state)
    first = torch.where(near.any(0), near.float().argmax(0), len(x))
    same = torch.arange(len(x)).unsqueeze(-1) < first
    assert bool((got == want)[same].all())
    assert same.float().mean() > 0.9 and 0.02 < want.mean() < 0.9


def test_unsigned_drivers_carry_spikes_exactly_and_signed_ones_of_one_bit_do_not() -> None:
    plain, x = linear(40, 20), trains(10, 3, 40)
    want = plain(x)
    layer = xb.convert(plain, xb.Chip(forward=SPIKES), seed=0)
    torch.testing.assert_close(layer(x), want, rtol=0, atol=1e-6)
    signed = xb.Periphery(xb.DAC(bits=1, v_max=0.2, range=xb.Fixed(1.0)))
    other = xb.convert(plain, xb.Chip(forward=signed), seed=0)
    assert float(((other(x) - want).norm() / want.norm()).detach()) > 0.5
    dac = xb.DAC(bits=1, signed=False)
    codes = dac.digits(torch.tensor([-1.0, 0.0, 0.4, 0.5, 1.0, 3.0]))[0].v
    assert codes.tolist() == [0, 0, 0, 1, 1, 1]
    edge = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0))
    found = dac.digits(torch.stack((edge, torch.tensor(math.nan), torch.tensor(math.inf))))[0].v
    assert found[0] == 0 and bool(found[1].isnan()) and found[2] == 1
    three = xb.DAC(bits=3, signed=False).digits(torch.linspace(-1, 1, 1001))[0].v
    assert three.unique().tolist() == pytest.approx([k / 7 for k in range(8)])
    assert xb.DAC(bits=None, signed=False).digits(torch.tensor([-0.5, 0.5]))[0].v.tolist() == [
        0,
        0.5,
    ]


def test_errors_travel_back_through_signed_drivers() -> None:
    back = xb.Chip(forward=SPIKES).backwards.dac
    assert (back.bits, back.signed) == (8, True)
    x = trains(1, 8, 40)[0].requires_grad_()
    plain = linear(40, 20)
    layer = xb.convert(plain, xb.Chip(forward=SPIKES), mode=xb.Programmed(), seed=0)
    d = torch.from_numpy(np.linspace(-1, 1, 160, dtype=np.float32)).view(8, 20)
    layer(x).backward(d)
    want = d @ plain.weight
    assert float((x.grad - want).detach().abs().max() / want.detach().abs().max()) < 0.01


def test_every_step_of_a_folded_read_has_noise_of_its_own() -> None:
    sigma, steps, rows = 0.05, 4000, 25
    device = Device(0.0, 50e-6, read=GaussianRead(sigma))
    plain = linear(rows, 8)
    layer = xb.convert(plain, xb.Chip(device, forward=SPIKES), mode=xb.Programmed(), seed=2)
    x = torch.ones(steps, 2, rows)
    net = sp.Sequential(layer, sp.Integrator(sp.SnnTorch(0.0)))
    with torch.no_grad():
        noise = (net(x)[0] - plain(x)).flatten(1)
    # two cells a weight, each ΔG σ; ± window is w_max
    w_max = float(plain.weight.detach().abs().max())
    want = sigma * w_max * math.sqrt(2 * rows)
    n = noise.numel()
    assert float(noise.std()) == pytest.approx(want, rel=5 / math.sqrt(2 * n))
    lagged = float((noise[1:] * noise[:-1]).mean() / noise.var())
    assert abs(lagged) < 5 / math.sqrt(n)
    assert abs(float((noise[:, :8] * noise[:, 8:]).mean() / noise.var())) < 5 / math.sqrt(n / 2)
    # the mean over time falls as 1/√T
    for t in (4, 16, 64):
        means = noise[: steps // t * t].view(-1, t, 16).mean(1)
        assert float(means.std()) == pytest.approx(
            want / math.sqrt(t), rel=5 / math.sqrt(2 * n / t)
        )


NU, T0 = 0.1, 1.0


def drifting(block: int | None, nu: float = NU) -> sp.Sequential:
    device = Device(0.0, 50e-6, retention=PowerLawDrift(nu=nu, t0=T0))
    layer = xb.convert(linear(10, 4), xb.Chip(device, forward=SPIKES), mode=xb.Programmed(), seed=4)
    return sp.Sequential(layer, sp.Integrator(sp.SnnTorch(0.0)), dt=1e-2, block=block)


def test_cells_are_held_for_a_block_then_drift_by_its_time() -> None:
    x = torch.ones(60, 1, 10)
    with torch.no_grad():
        want = linear(10, 4)(x[0])
        t = torch.arange(60)
        for block in (1, 7, 20, None):
            got, _ = drifting(block)(x)
            held = t if block == 1 else t // (block or 60) * (block or 60)
            factor = (1 + held * 1e-2 / T0) ** -NU
            torch.testing.assert_close(got[:, 0], factor.view(-1, 1) * want, rtol=1e-5, atol=1e-7)
        exact = drifting(1)(x)[0]
        for block in (7, 20, 60):
            error = float((drifting(block)(x)[0] / exact - 1).abs().max())
            assert 0.2 * NU * block * 1e-2 / T0 < error <= NU * block * 1e-2 / T0
        # time goes on from call to call
        net = drifting(20)
        net(x)
        again = net(x)[0][0]
        torch.testing.assert_close(again, want * (1 + 0.6 / T0) ** -NU, rtol=1e-5, atol=1e-7)


def test_training_reads_back_the_cells_it_read_and_ages_them_after() -> None:
    device = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6), retention=PowerLawDrift(nu=NU, t0=T0))
    layer = xb.convert(linear(10, 4), xb.Chip(device, forward=SPIKES), mode=xb.InSitu(), seed=4)
    net = sp.Sequential(layer, sp.LIF(sp.SnnTorch(0.9), 0.5), dt=1e-2, block=5)
    optimizer = xb.InSituSGD(net, lr=0.1)
    before = layer.weight.detach().clone()
    out, _ = net(trains(30, 4, 10))
    (out.mean() - 0.4).square().backward()
    age = layer.weight.analog.matrix.cells.age
    assert float(age.max()) == 0 and net.owed == pytest.approx(0.3)
    optimizer.step()
    assert not torch.equal(layer.weight.detach(), before)
    with torch.no_grad():
        net(trains(10, 4, 10))
    assert float(age.min()) >= 0.1 - 1e-9


def test_a_sequence_in_parts_is_the_whole_and_detached_states_cut_the_graph() -> None:
    x = trains(40, 3, 10)
    net = sp.Sequential(linear(10, 12), sp.LIF(threshold=0.4), sp.Delay(3), linear(12, 5), sp.LIF())
    whole, _ = net(x)
    states, parts = None, []
    for part in x.split(15):
        out, states = net(part, states)
        parts.append(out)
    assert torch.equal(torch.cat(parts), whole)
    whole.sum().backward()
    full = net[0].weight.grad.clone()
    net.zero_grad()
    torch.cat(parts).sum().backward()
    torch.testing.assert_close(net[0].weight.grad, full)
    net.zero_grad()
    states = None
    for part in x.split(15):  # truncated: each part's own graph alone
        out, states = net(part, sp.detach(states))
        out.sum().backward()
    assert not torch.allclose(net[0].weight.grad, full)
    assert net[0].weight.grad.abs().max() > 0
    with sp.recorded(net) as kept:
        net(x)
    assert len(kept["1"]) == 40 and kept["1"][0].v.shape == (3, 12)
    assert net[1].trace is None  # only the last membrane is kept unless asked


def test_a_sequence_is_saved_in_its_midst_with_the_time_that_is_owed() -> None:
    """Cells and neurons go on from a file as if there had been none, drift of 10 s a step too."""
    device = Device(1e-6, 50e-6, update=SoftBounds(0.05e-6), retention=PowerLawDrift(nu=NU, t0=T0))
    chip, x = xb.Chip(device, forward=SPIKES), trains(20, 3, 10)

    def made() -> sp.Sequential:
        net = sp.Sequential(linear(10, 4), sp.LIF(threshold=0.2), dt=10.0, block=5)
        return xb.convert(net, chip, mode=xb.InSitu(), seed=4)

    net = made()
    _, states = net(x[:10])  # records a graph: its 100 s are still to pass
    file = io.BytesIO()
    torch.save((net.state_dict(), sp.detach(states)), file)
    wanted, _ = net(x[10:], sp.detach(states))
    file.seek(0)
    other, (kept, states) = made(), torch.load(file)
    other.load_state_dict(kept)
    assert other.owed == pytest.approx(100.0)
    assert torch.equal(other(x[10:], states)[0], wanted)
    fresh = made()
    other.load_state_dict(fresh.state_dict())  # owes nothing
    assert other.owed == 0
    with pytest.raises(ValueError, match="another batch begins without a state"):
        net(x[:, :1], states)
    with pytest.raises(ValueError, match=r"must be \(T, B, ...\)"):
        net(x[:, 0])


class Foreign(nn.Module):
    """As a neuron of another library: it remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = sp.LIF(threshold=0.4)
        self.state: sp.State | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s, self.state = self.inner(x, self.state)
        return s


class Explicit(Foreign):
    """As one that takes and gives its state."""

    def forward(
        self, x: torch.Tensor, state: sp.State | None = None
    ) -> tuple[torch.Tensor, sp.State]:
        return self.inner(x, state)


Foreign.__module__ = Explicit.__module__ = "snntorch._neurons.leaky"


class Multi(nn.Module):
    """As one that takes whole sequences."""

    step_mode = "m"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sp.LIF(threshold=0.4).run(x)[0]


Multi.__module__ = "spikingjelly.activation_based.neuron.lif"


def test_neurons_of_other_libraries_are_stepped_or_refused() -> None:
    layer, x = linear(10, 4), trains(20, 3, 10)
    want = sp.Sequential(layer, sp.LIF(threshold=0.4))(x)[0]
    for neuron in (sp.Stepped(Foreign()), sp.Carried(Explicit()), Multi()):
        assert torch.equal(sp.Sequential(layer, neuron)(x)[0], want)
    for wrong in (Foreign(), nn.Sequential(nn.Identity(), Foreign())):
        with pytest.raises(TypeError, match="remembers what it saw"):
            sp.Sequential(layer, wrong)
    with pytest.raises(TypeError, match="one by one"):
        sp.Sequential(layer, nn.Sequential(sp.LIF()))
    with pytest.raises(ValueError, match="time step"):
        sp.Sequential(layer)(x[:0])
    with pytest.raises(ValueError, match="states"):
        sp.Sequential(layer)(x, [None, None])


def test_convolutions_fold_too() -> None:
    conv = nn.Conv2d(2, 3, 3)
    layer = xb.convert(conv, xb.Chip(forward=SPIKES), seed=0)
    x = trains(6, 2, 2 * 25).view(6, 2, 2, 5, 5)
    with torch.no_grad():
        got, _ = sp.Sequential(layer, sp.LIF(threshold=0.1))(x)
        want, _ = sp.LIF(threshold=0.1).run(torch.stack([conv(now) for now in x]))
    assert torch.equal(got, want) and got.shape == (6, 2, 3, 3, 3) and 0 < got.mean() < 1


def test_a_column_charges_its_capacitor_and_fires_without_a_converter() -> None:
    # by hand in float64: C dV/dt = I − V/R, I = Σ V_read (g⁺ − g⁻)
    g_max, c, v_th, dt, r = 40e-6, 2e-12, 0.4, 1e-8, 10e3 * 100
    device = Device(0.0, g_max)
    layer = xb.convert(
        linear(12, 30), xb.Chip(device, forward=SPIKES), mode=xb.Programmed(), seed=0
    )
    neuron = sp.column_neuron(layer, capacitance=c, v_threshold=v_th, dt=dt, leak=r)
    x = trains(300, 1, 12, rate=0.4)
    with torch.no_grad():
        got = sp.Sequential(layer, neuron)(x)[0][:, 0]
        g = layer.weight.analog.matrix.cells.g.double()
    v, want, near = torch.zeros(30, dtype=torch.float64), [], torch.zeros(30, dtype=torch.bool)
    for now in x[:, 0].double():
        current = 0.2 * now @ (g[0] - g[1])
        v = v + dt / c * (current - v / r)
        s = v >= v_th
        near |= (v - v_th).abs() < 1e-5
        want.append(s.float())
        v = v - v_th * s
    want = torch.stack(want)
    assert torch.equal(got[:, ~near], want[:, ~near]) and (~near).float().mean() > 0.9
    assert 0.01 < want.mean() < 0.9
    spread = sp.column_neuron(
        layer, capacitance=c, v_threshold=v_th, dt=dt, sigma_offset=0.02, seed=1
    )
    relative = (
        spread.threshold / sp.column_neuron(layer, capacitance=c, v_threshold=v_th, dt=dt).threshold
        - 1
    ) * v_th
    assert 0.012 < float(relative.std()) < 0.03  # 30 draws of σ = 0.02: 4 σ
    behind = xb.Chip(device, forward=xb.Periphery(adc=xb.ADC(bits=8)))
    with pytest.raises(TypeError, match="column_neuron takes currents"):
        sp.column_neuron(
            xb.convert(linear(4, 4), behind, mode=xb.Programmed(), seed=0),
            capacitance=c,
            v_threshold=v_th,
            dt=dt,
        )


def test_the_same_seed_is_the_same_spikes() -> None:
    device = Device(1e-6, 50e-6, read=GaussianRead(0.05))

    def spikes() -> torch.Tensor:
        chip = xb.Chip(device, forward=SPIKES)
        layer = xb.convert(linear(20, 40), chip, mode=xb.Programmed(), seed=9)
        with torch.no_grad():
            return sp.Sequential(layer, sp.LIF(threshold=0.4))(trains(50, 2, 20))[0]

    assert torch.equal(spikes(), spikes())
    assert currents().shape == (1000, 200)
