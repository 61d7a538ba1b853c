"""Latency, area and their quotients, against numbers reckoned by hand."""

import dataclasses
import math

import pytest
import torch
from _analog import matrix_of
from torch import nn

import crossbar as xb
from crossbar.costs import HALF_SELECT, Costs, cost
from crossbar.ledger.performance import Latency, Stages, performance
from devices import Device, SoftBounds, WritePulse
from devices.verify import write_verify

NS, UM2 = 1e-9, 1e-12
PULSE = WritePulse(1.5, 1.2, 200 * NS, 300 * NS, "made up")
CELL = Device(1e-6, 50e-6, update=SoftBounds(0.5e-6), write_pulse=PULSE)
TIMES = {"read": 100.0, "adc": 3.0, "dac": 5.0}
AREAS = {"cell": 2.0, "adc": 70.0, "dac": 11.0}
COSTS = Costs(
    "own",
    "macro",
    {},
    time={k: cost.exact(v * NS, None, "own") for k, v in TIMES.items()},
    area={k: cost.exact(v * UM2, None, "own") for k, v in AREAS.items()},
)


def counted(net, chip, x, step=True):
    model = xb.convert(net, chip, mode=xb.InSitu(xb.ExactBits(5)), seed=1)
    optimiser = xb.InSituSGD(model, lr=0.3)
    with xb.ledger(model) as ledger:
        y = model(x)
        if step:
            y.square().sum().backward()
            optimiser.step()
    return ledger


def of(latency, phase):
    (found,) = [s for s in latency if s.phase == phase]
    return found


CHIP = xb.Chip(
    CELL,
    xb.Differential(converters=2),
    xb.Periphery(xb.SerialDAC(bits=5, width=1), xb.ADC(bits=6)),
    tile=(4, 3),
)


@pytest.mark.parametrize("share,turns", [(1, 1), (4, 3), (6, 6)])
def test_stages_of_reads(share, turns):
    """5 columns on tiles of 3 at most, two converters a column: 6 in the widest."""
    x = torch.randn(7, 6, requires_grad=True)
    ledger = counted(nn.Linear(6, 5, bias=False), CHIP, x)
    schedule = xb.Schedule(share=share)
    stages = of(ledger.latency(COSTS, schedule), "forward")
    assert stages.steps == 7 * 4  # vectors, digits
    assert stages.times == pytest.approx({"dac": 5 * NS, "read": 100 * NS, "adc": turns * 3 * NS})
    assert stages.sequential == pytest.approx(28 * (105 + 3 * turns) * NS)
    assert stages.pipelined == pytest.approx((28 + 2) * 100 * NS)
    back = of(ledger.latency(COSTS), "backward")
    assert back.steps == 7 * 4
    lonely = of(ledger.latency(COSTS, xb.Schedule(parallel=False)), "forward")
    assert lonely.steps == 28 * 4  # four tiles
    twice = of(ledger.latency(COSTS, xb.Schedule(replicate=2)), "forward")
    assert twice.steps == 14
    gathered = xb.Periphery(xb.SerialDAC(bits=5, width=1, analog=True), xb.ADC(bits=6))
    chip = dataclasses.replace(CHIP, forward=gathered)
    once = counted(nn.Linear(6, 5, bias=False), chip, x).latency(COSTS, schedule)
    for phase in ("forward", "backward"):  # as many reads, a conversion of all four digits
        assert of(once, phase).sequential == pytest.approx(28 * (105 + 3 * turns / 4) * NS)


def test_slots_last_as_long_as_the_device_says():
    x = torch.rand(2, 6)
    ledger = counted(nn.Linear(6, 5, bias=False), CHIP, x)
    stages = of(ledger.latency(COSTS), "update")
    key = {"phase": "update"}
    tiles = 4
    up, down = (ledger.counts.total("slot", of=way, **key) / tiles for way in ("up", "down"))
    assert stages.steps == up + down > 0
    assert stages.sequential == pytest.approx(up * 200 * NS + down * 300 * NS)
    silent = dataclasses.replace(CHIP, device=dataclasses.replace(CELL, write_pulse=None))
    with pytest.raises(ValueError, match="how long a write pulse is"):
        counted(nn.Linear(6, 5), silent, x).latency(COSTS)


def test_convolutions_take_a_step_a_position():
    net = nn.Conv2d(4, 6, 3, groups=2, bias=False)
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(bits=5), xb.ADC(bits=6)))
    ledger = counted(net, chip, torch.randn(2, 4, 5, 5), step=False)
    assert of(ledger.latency(COSTS), "forward").steps == 2 * 9


def test_writes_go_row_by_row():
    model = xb.convert(nn.Linear(6, 5), CHIP, mode=xb.InSitu(), seed=1)
    with xb.ledger(model) as ledger:
        xb.program(model)
    stages = of(ledger.latency(COSTS), "program")
    assert stages.steps == 3  # rows of a tile: tiles at once
    assert stages.sequential == pytest.approx(3 * 200 * NS)
    kept = []

    def writer(device, state, target, *, generator=None):
        kept.append(write_verify(device, state, target, tolerance=2e-6, generator=generator))
        return kept[-1]

    matrix = matrix_of(model)
    with xb.ledger(model) as ledger:
        matrix.program(0.1 * torch.randn(6, 5), writer)
    (found,) = kept
    stages = of(ledger.latency(COSTS), "program")
    wanted = found.pulses.mean() * 200 * NS + found.reads.mean() * 103 * NS
    assert stages.sequential == pytest.approx(3 * float(wanted), rel=1e-6)


def test_the_pipeline_of_puma():
    """16 digits of 16-bit inputs through 128 × 128, stages of 128 ns: (16 + 2) · 128 ns."""
    times = dict.fromkeys(("read", "adc", "shift_add"), 128 * NS)
    puma = Latency([Stages("w", "forward", 0, 16, times)])
    assert puma.pipelined == pytest.approx(2304 * NS)
    assert puma.sequential == pytest.approx(16 * 384 * NS)


def test_area_of_whole_tiles():
    ledger = counted(nn.Linear(6, 5, bias=False), CHIP, torch.rand(1, 6), step=False)
    found = ledger.area(COSTS, xb.Schedule(share=4), wiring=0.1)
    tiles, cells = 4, 4 * 4 * 3 * 2
    converters = tiles * math.ceil(3 * 2 / 4)
    parts = {"cell": cells * 2 * UM2, "dac": tiles * 4 * 11 * UM2, "adc": converters * 70 * UM2}
    assert found.parts == pytest.approx(parts)
    assert found.total == pytest.approx(1.1 * sum(parts.values()))
    assert found.utilisation == pytest.approx(30 * 2 / cells)
    assert "macro" in repr(found)
    with pytest.raises(KeyError, match="no area for 'cell'"):
        ledger.area(Costs("empty", "macro", {}))
    copies = ledger.area(COSTS, xb.Schedule(replicate=3), wiring=0)
    assert copies.total == pytest.approx(3 * ledger.area(COSTS, wiring=0).total)


def test_tops_say_their_bits_and_boundary():
    x = torch.rand(3, 6)
    ledger = counted(nn.Linear(6, 5, bias=False), CHIP, x, step=False)
    costs = xb.costs.neurosim_32nm.having(bias=HALF_SELECT)
    found = ledger.performance(costs)
    ops = 2 * 3 * 6 * 5
    assert found.tops_per_watt == pytest.approx(ops / ledger.price(costs).total.joules / 1e12)
    assert found.tops == pytest.approx(ops / ledger.latency(costs).pipelined / 1e12)
    text = repr(found)
    assert "2 operations a MAC" in text and "inputs 5 bits, outputs 6 bits" in text
    assert "macro" in text
    bill, time = ledger.price(costs), ledger.latency(costs)
    space = ledger.area(COSTS)
    dense = performance(ledger.counts, bill, time, space)
    assert dense.tops_per_mm2 == pytest.approx(found.tops / (space.total * 1e6))
    other = dataclasses.replace(COSTS, boundary="chip")
    with pytest.raises(ValueError, match="area of the chip"):
        performance(ledger.counts, bill, time, ledger.area(other))
