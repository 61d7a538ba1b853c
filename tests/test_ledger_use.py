"""The ledger in a user's hands: within others, around copies, around all of torch's modules."""

import copy

import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, SoftBounds

CHIP = xb.Chip(
    Device(1e-6, 5e-5, update=SoftBounds(5e-8)),
    forward=xb.Periphery(xb.DAC(8), xb.ADC(8)),
    tile=(16, 16),
)


def _net() -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    return xb.convert(net, CHIP, mode=xb.InSitu(), seed=0)


def _of(counts, *events, **where) -> list[float]:
    return [counts.total(event, **where) for event in events]


def test_ledgers_and_probes_within_one_another_see_all_of_their_own_time():
    """Three forwards and a backward: DAC 8 + 4 of a vector, 2 of a gradient; ADC 4 + 2, and 4."""
    net, x = _net(), torch.randn(3, 8)
    with xb.ledger(net) as outer:
        with xb.ledger(net) as inner, xb.observe(net, xb.Tally(net)) as tally:
            net(x).sum().backward()
        xb.reseed(net, 3)  # other matrices, which the outer one goes on to see
        net(x)
        with xb.ledger(net[0]) as first:
            net(x)
    net(x)
    assert _of(outer.counts, "dac", "adc", "activation") == [3 * 36 + 6, 3 * 18 + 12, 3 * 12 + 12]
    assert _of(inner.counts, "dac", "adc", "activation") == [36 + 6, 18 + 12, 12 + 12]
    assert _of(first.counts, "dac", "adc", "activation") == [24, 12, 0]
    assert [n.conversions for n in tally.values()] == [12, 6]  # of forward reads


def test_a_copy_is_not_watched():
    net, x = _net(), torch.randn(3, 8)
    with xb.ledger(net) as ledger:
        other = copy.deepcopy(net)
        other(x)
        assert not ledger.counts
        net(x)
    other(x)
    assert _of(ledger.counts, "adc", "activation") == [18, 12]
    with xb.ledger(other) as its:
        other(x)
    assert _of(its.counts, "adc", "activation") == [18, 12]


@pytest.mark.parametrize("used", ["outputs", "hidden", "both"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_backward_pass_counts_once_whatever_was_used(used, packed):
    """Of N steps of 16 states: 4 gates and a tanh, 3 products, each backward twice."""
    lstm = xb.convert(nn.LSTM(8, 16), CHIP, mode=xb.InSitu(), seed=0)
    x, n = torch.randn(5, 3, 8), 15
    if packed:
        x, n = nn.utils.rnn.pack_padded_sequence(x, [5, 3, 2]), 10
    with xb.ledger(lstm) as ledger:
        out, (_, c) = lstm(x)
        out = out.data if packed else out
        {"outputs": out.sum(), "hidden": c.sum(), "both": out.sum() + c.sum()}[used].backward()
    assert _of(ledger.counts, "activation", "digital_mac", phase="forward") == [80 * n, 48 * n]
    assert _of(ledger.counts, "activation", "digital_mac", phase="backward") == [80 * n, 96 * n]


def test_attention_and_layers_of_transformers_by_hand():
    """Cross-attention of 5 on 7 tokens, named or not; a layer's own activation and residuals."""
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    attention = xb.convert(attention, CHIP, mode=xb.InSitu(), seed=0)
    q, k = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    with xb.ledger(attention) as plain:
        attention(q, k, k)
    with xb.ledger(attention) as named:
        attention(query=q, key=k, value=k)
    for ledger in (plain, named):
        found = _of(ledger.counts, "digital_mac", "activation", "add")
        assert found == [2 * 2 * 5 * 7 * 16, 2 * 4 * 5 * 7, 2 * (5 + 7) * 2 * 16]
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    layer = xb.convert(layer, CHIP, mode=xb.InSitu(), seed=0)
    with xb.ledger(layer) as ledger:
        layer(q)
    shares, tokens = 2 * 4 * 5 * 5, 10
    assert ledger.counts.total("activation") == shares + tokens * 32
    biases = tokens * (4 * 16 + 32 + 16)
    assert ledger.counts.total("add") == biases + 2 * tokens * 16


def test_spikes_drive_their_rows_alone_and_neurons_say_their_events():
    """Hidden layer of 32 on two tiles, both devices of a pair; 4 steps of 3 images."""
    lines = xb.Periphery(xb.DAC(1, range=xb.Fixed(1.0), signed=False), xb.ADC(8))
    chip = xb.Chip(CHIP.device, forward=lines, tile=(16, 16))
    neuron = sp.LIF(sp.SnnTorch(0.9), adaptation=sp.Adaptation(), refractory=2)
    recurrent = sp.Recurrent(sp.LIF(sp.Current(sp.Exact())), nn.Linear(10, 10, bias=False))
    modules = nn.Linear(20, 32), neuron, nn.Linear(32, 10), recurrent, sp.Integrator()
    net = xb.convert(sp.Sequential(*modules), chip, mode=xb.InSitu(), seed=0)
    x = (torch.rand(4, 3, 20) < 0.3).float()
    with xb.ledger(net) as ledger, sp.recorded(net):
        net(x)
    counts, n = ledger.counts, 4 * 3
    first = counts.select(lambda key: key.weight == "0.weight")
    assert first.total("row_drive") == 2 * float(x.sum())
    assert first.total("line_charge") == 32 * 2 * float(x.sum())
    assert counts.total("adc", weight="0.weight") == n * 32 * 2
    assert _of(counts, "digital_mac", "activation", "add", weight="1") == [64 * n, 32 * n, 128 * n]
    # a synapse's decay, the leak and gain of the exact membrane; its comparison; its reset
    own = _of(counts, "digital_mac", "activation", "add", weight="3.neuron")
    assert own == [30 * n, 10 * n, 10 * n]
    assert counts.total("add", weight="3") == 10 * n
    assert _of(counts, "digital_mac", "activation", weight="4") == [10 * n, 0]


def test_traces_of_plasticity_are_digital_work():
    """Of 4 rows and 3 columns, 7 traces, in the two steps of three in which somebody spikes."""
    array = xb.matrix(torch.full((3, 4), 0.5), xb.Chip(CHIP.device, xb.Unipolar(w_max=1.0)), seed=0)
    learner = sp.Learner(array, sp.PairSTDP(a_plus=0.02, a_minus=0.02), dt=1e-3)
    spikes = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]])
    with xb.ledger(array) as ledger:
        learner.run(spikes, spikes[:, :3])
    assert ledger.counts.total("optimiser_op") == 2 * 7 * 2
    assert ledger.counts.total("pulse") > 0
