"""The ledger in a user's hands: within others, around copies, around all of torch's modules."""

import copy
import re

import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar import spiking as sp
from crossbar.costs import HALF_SELECT
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


def test_norms_pools_tables_and_losses_by_hand():
    """Of 3 × 4 images: values normalised, pooled, looked up, judged."""
    body = nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.MaxPool1d(2), nn.Flatten(), nn.GroupNorm(2, 8)
    net = nn.Sequential(*body, nn.LogSoftmax(-1))
    net = xb.convert(net, CHIP, mode=xb.InSitu(), seed=0)
    with xb.ledger(net) as ledger:
        net(torch.randn(3, 2, 6)).sum().backward()
    for phase in ("forward", "backward"):
        found = _of(ledger.counts, "norm", "pool", "activation", "add", phase=phase)
        assert found == [48 + 24, 48, 24, 48]
    words = nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(10, 2))
    words = xb.convert(words, CHIP, exclude=["0"], mode=xb.InSitu(), seed=0)
    with xb.ledger(words) as ledger:
        words(torch.tensor([[1, 2], [3, 0]]))
    assert ledger.counts.total("table", weight="0") == 2 * 2 * 5


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


COSTS = xb.costs.neurosim_32nm.over(xb.costs.zigzag_28nm).having(bias=HALF_SELECT)


@pytest.mark.slow
def test_vgg8_is_the_file_that_neurosim_ships():
    rows, depth, side = [], 3, 32
    layers: list[nn.Module] = []
    for wide in (128, 256, 512):
        for pool in (0, 1):
            layers += [nn.Conv2d(depth, wide, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
            rows.append(f"{side},{side},{depth},3,3,{wide},{pool},1")
            depth = wide
        side //= 2
    layers += [nn.Flatten(), nn.Linear(8192, 1024), nn.ReLU(), nn.Linear(1024, 10)]
    rows += ["1,1,8192,1,1,1024,0,1", "1,1,1024,1,1,10,0,1"]
    vgg = xb.convert(nn.Sequential(*layers), CHIP, seed=0)
    assert xb.to_neurosim(vgg, torch.rand(1, 3, 32, 32)).split() == rows


def test_a_network_in_neurosims_words():
    """Positions and matrices by the rule of its code; a pool where one follows."""
    body = nn.Conv2d(1, 4, 3, stride=1, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    net = nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 10))
    net = xb.convert(net, CHIP, mode=xb.Programmed(), seed=0)
    assert xb.to_neurosim(net, torch.rand(3, 1, 8, 8)) == "8,8,1,3,3,4,1,1\n1,1,64,1,1,10,0,1\n"
    plain = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.Flatten(2), nn.Linear(16, 5))
    plain = xb.convert(plain, CHIP, mode=xb.Programmed(), seed=0)
    x = torch.rand(1, 2, 9, 9)
    with xb.ledger(plain) as ledger:
        plain(x)
    macs = []
    for row in xb.to_neurosim(plain, x).split():
        length, width, deep, high, wide, out, pool, stride = map(int, row.split(","))
        vectors = (length - high + 1) // stride * ((width - wide + 1) // stride)
        macs.append(vectors * deep * high * wide * out)
    # its positions are (9 − 3 + 1)/2 = 3 a side where a convolution has 4
    assert macs == [9 * 18 * 3, 3 * 16 * 5]
    assert ledger.counts.total("mac", weight="0.weight") == 16 * 18 * 3
    assert ledger.counts.total("mac", weight="2.weight") == macs[1]
    grouped = xb.convert(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)), CHIP, seed=0)
    with pytest.raises(TypeError, match="no groups of"):
        xb.to_neurosim(grouped, torch.rand(1, 2, 8, 8))
    with pytest.raises(TypeError, match="no AnalogLSTM|no LSTM"):
        xb.to_neurosim(xb.convert(nn.LSTM(4, 4), CHIP, seed=0), torch.rand(2, 1, 4))


@pytest.mark.parametrize("dac", [xb.DAC(8), xb.SerialDAC(5, width=2)], ids=["8 bits", "digits"])
def test_what_accelforge_makes_of_the_file_are_the_joules_of_the_ledger(dac):
    """Frozen in form: AccelForge 1.0.467 read such files; its actions and joules were these.

    Its best mapping brings every input to each tile across, sums the outputs of tiles where sums
    are, and multiplies energies by actions.
    """
    chip = xb.Chip(CHIP.device, forward=xb.Periphery(dac, xb.ADC(6)), tile=(32, 16))
    sizes = ((64, 32), (32, 16))
    net = nn.Sequential(nn.Linear(*sizes[0]), nn.ReLU(), nn.Linear(*sizes[1]))
    net = xb.convert(net, chip, mode=xb.Programmed(), seed=0)
    with torch.no_grad(), xb.ledger(net) as ledger:
        net(torch.randn(8, 64))
    text = xb.to_accelforge(ledger, COSTS)
    assert "rank_sizes: {M0: 8, K0: 64, N0: 32, M1: 8, K1: 32, N1: 16}" in text
    assert f"counted_adc: {ledger.counts.total('adc'):.12g}\n" in text
    assert "{name: rows, fanout: 32" in text and "{name: columns, fanout: 16" in text
    joules = {}
    for node in text.split("  - !")[1:]:
        for name, energy in re.findall(
            r"name: (\w+), bits_per_action: 8, energy: ([\d.e-]+)", node
        ):
            joules[re.search(r"name: (\w+)", node)[1], name] = float(energy)
    brought = sum(8 * k * (n // 16) for k, n in sizes)
    made = sum(8 * n * (k // 32) for k, n in sizes)
    actions = {
        ("Buffer", "read"): brought,
        ("Buffer", "write"): sum(8 * n for _, n in sizes),
        ("Sums", "read"): made,
        ("Sums", "write"): made,
        ("ADC", "read"): made,
        ("DAC", "read"): brought,
        ("Cells", "read"): sum(8 * k * n for k, n in sizes),
        ("Cells", "write"): 0,
    }
    assert set(actions) == set(joules)
    bill = ledger.price(COSTS).select(lambda line: line.event not in ("add", "activation"))
    wanted = bill.total.joules
    assert sum(n * joules[key] for key, n in actions.items()) == pytest.approx(wanted, rel=3e-6)
    grouped = xb.convert(nn.Sequential(nn.Conv2d(4, 4, 2, groups=2)), CHIP, seed=0)
    xb.program(grouped)
    with torch.no_grad(), xb.ledger(grouped) as ledger:
        grouped(torch.rand(1, 4, 3, 3))
    assert "{M0: 8, K0: 8, N0: 2}" in xb.to_accelforge(ledger, COSTS)  # four places, two groups
