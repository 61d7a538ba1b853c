"""Prices of events: sets, ranges, refusals; sums by hand."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from crossbar.costs import GATED, HALF_SELECT, THIRD_SELECT, Cost, Costs, regression, scaling
from crossbar.costs.cost import nothing
from crossbar.ledger import Counts, Key, price
from crossbar.ledger.bill import INFORMATION, si
from crossbar.ledger.events import KINDS
from devices import Device, SoftBounds, WritePulse, presets

MODEST = settings(max_examples=20, deadline=None, derandomize=True)
PULSE = WritePulse(1.5, 1.2, 2e-7, 3e-7, "made up")
CELL = Device(1e-6, 50e-6, update=SoftBounds(0.5e-6), write_pulse=PULSE)
SETS = {
    name: getattr(xb.costs, name)
    for name in ("isaac_32nm", "neurram_130nm", "jia_65nm", "hermes_14nm", "neurosim_32nm")
} | {"zigzag_28nm": xb.costs.zigzag_28nm, "survey_14nm": xb.costs.survey(14)}


def trained(device=CELL, dac=None):
    periphery = xb.Periphery(dac or xb.DAC(bits=8), xb.ADC(bits=8))
    chip = xb.Chip(device, forward=periphery, tile=(4, 3))
    model = xb.convert(nn.Linear(6, 5), chip, mode=xb.InSitu(xb.ExactBits(5)), seed=1)
    optimiser = xb.InSituSGD(model, lr=0.3)
    with xb.ledger(model) as ledger:
        model(torch.randn(3, 6)).square().sum().backward()
        optimiser.step()
        xb.program(model)
        xb.advance(model, 2.0)
    return ledger


@pytest.mark.parametrize("name", SETS)
def test_every_set_prices_a_whole_step_with_what_it_leaves_open_given(name):
    costs = SETS[name]
    digit = 1 if name == "isaac_32nm" else 8
    ledger = trained(dac=xb.SerialDAC(bits=8, width=1) if digit == 1 else None)
    with pytest.raises(ValueError, match="does not say how lines are biased"):
        ledger.price(costs)
    lines = {"pulse_charge": nothing("not modelled"), "inhibit_charge": nothing("not modelled")}
    whole = costs.having(bias=HALF_SELECT, energy=lines)
    bill = ledger.price(whole)
    total = bill.total
    assert 0 < total.extremes[0] <= total.quadrature[0] <= total.joules
    assert total.joules <= total.quadrature[1] <= total.extremes[1] < math.inf
    assert bill.costs.boundary in bill.table().splitlines()[0]
    assert bill.dominant in bill.table().splitlines()[-1]
    priced = {line.event for line in bill.lines}
    counted = {k.event for k in ledger.counts if ledger.counts[k].sum()}
    assert priced == counted - INFORMATION
    assert all(line.cost.source for line in bill.lines)
    assert sum(part.joules for part in bill.by("phase").values()) == pytest.approx(
        total.joules, rel=1e-12
    )


def test_every_event_is_priced_or_is_information_that_another_prices():
    everything = {
        *(name.partition("[")[0] for name in xb.costs.neurosim_32nm.energy),
        *("array", "verify_array", "selected", "on_row", "on_col", "at_rest", "written"),
        *("verified", "row_charge", "col_charge", "inhibit_charge", "drive", "second"),
        *("pulse_charge",),
    }
    assert set(KINDS) - INFORMATION <= everything
    assert not INFORMATION & everything


def test_joules_by_hand():
    ledger = trained()
    costs = SETS["neurosim_32nm"].having(bias=HALF_SELECT)
    bill, counts = ledger.price(costs), ledger.counts
    conversion = (1.13 * 8 + 8.9) * 1e-6 * 9e-9
    assert bill.by("event")["adc"].joules == pytest.approx(
        counts.total("adc") * conversion, rel=1e-12
    )
    assert bill.by("event")["array"].joules == pytest.approx(
        counts.total("array") * 5e-9, rel=1e-12
    )
    for way, unit in (("up", 1.5**2 * 2e-7), ("down", 1.2**2 * 3e-7)):
        half = bill.select(lambda line, way=way: line.of == way).by("event")
        assert half["on_row"].joules == pytest.approx(
            counts.total("on_row", of=way) * unit / 4, rel=1e-12
        )
        wanted = counts.total("selected", of=way) * unit / 2
        assert half["selected"].joules == pytest.approx(wanted, rel=1e-12)
        wires = counts.total("row_charge", of=way) * 177e-18 / 4
        volt2 = 1.5**2 if way == "up" else 1.2**2
        assert half["row_charge"].joules == pytest.approx(wires * volt2, rel=1e-12)
    # two seconds of all four tiles of (2, 2)
    assert bill.by("event")["second"].joules == pytest.approx(2.0 * 4 * 105.65e-6 / 2, rel=1e-12)
    loads = counts.total("load") * 8 * costs.energy["load"].value
    assert bill.by("event")["load"].joules == pytest.approx(loads, rel=1e-12)
    written = counts.total("written") * 1.5**2 * 2e-7
    assert bill.by("event")["written"].joules == pytest.approx(written, rel=1e-12)
    third = ledger.price(costs.having(bias=THIRD_SELECT))
    wanted = counts.total("at_rest", of="up") * 1.5**2 * 2e-7 / 9
    rest = third.select(lambda line: line.of == "up").by("event")["at_rest"].joules
    assert rest == pytest.approx(wanted, rel=1e-12)
    gated = ledger.price(costs.having(bias=GATED)).by("event")
    assert gated["on_row"].joules == 0 < gated["inhibit_charge"].joules


@MODEST
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e-9), st.floats(1, 9)), min_size=1,
             max_size=6),
    st.floats(1e-3, 1e3),
)  # fmt: skip
def test_ranges_and_scaling(parts, k):
    events = ["adc", "dac", "integrate", "shift_add", "partial_sum", "add"]
    counts = Counts({Key("w", "forward", 0, e): n for e, (n, _, _) in zip(events, parts)})  # noqa: B905
    energy = {
        e: Cost(v, v / s, v * s, None, "made up")
        for e, (_, v, s) in zip(events, parts)  # noqa: B905
    }
    costs = Costs("own", "macro", energy)
    total = price(counts, costs, {}).total
    each = [(n * v, n * v / s, n * v * s) for n, v, s in parts]
    nominal = sum(e[0] for e in each)
    assert total.joules == pytest.approx(nominal, rel=1e-12)
    assert total.extremes == pytest.approx((sum(e[1] for e in each), sum(e[2] for e in each)))
    up = math.sqrt(sum((e[2] - e[0]) ** 2 for e in each))
    assert total.quadrature[1] == pytest.approx(nominal + up, rel=1e-9)
    more = price(counts, costs.scaled(k), {}).total
    assert more.joules == pytest.approx(k * total.joules, rel=1e-12)
    assert more.quadrature == pytest.approx([k * x for x in total.quadrature], rel=1e-9)
    dearest = max(zip(events, each), key=lambda p: p[1][2] - p[1][1])  # noqa: B905
    if dearest[1][2] - dearest[1][1] > 0:
        bill = price(counts, costs, {})
        own = {e: high - low for e, (_, low, high) in bill.kinds().items()}
        assert own[bill.dominant] == pytest.approx(dearest[1][2] - dearest[1][1], rel=1e-9)


def test_what_a_set_lacks_is_refused_by_name():
    counts = Counts({Key("w", "forward", 0, "adc", 13): 5.0})
    with pytest.raises(KeyError, match=r"isaac_32nm has no energy for 'adc\[13\]'"):
        price(counts, xb.costs.isaac_32nm, {})
    stated = xb.costs.isaac_32nm.having(energy={"adc[13]": nothing("left out on purpose")})
    assert price(counts, stated, {}).total.joules == 0
    counts = Counts({Key("w", "forward", 0, "load", None): 5.0})
    with pytest.raises(ValueError, match="unlimited resolution"):
        price(counts, xb.costs.isaac_32nm, {})
    counts = Counts({Key("w", "advance", 0, "second"): 5.0})
    with pytest.raises(KeyError, match="what power flows"):
        price(counts, dataclasses.replace(xb.costs.isaac_32nm, static=None), {})
    counts = Counts({Key("w", "forward", 0, "array"): 5.0})
    with pytest.raises(KeyError, match="how long a read is"):
        price(counts, dataclasses.replace(xb.costs.isaac_32nm, read=None), {})


def test_pulses_are_those_of_the_device_or_of_nobody():
    silent = trained(dataclasses.replace(CELL, write_pulse=None))
    costs = SETS["neurosim_32nm"].having(bias=HALF_SELECT)
    with pytest.raises(ValueError, match="does not say what a write pulse is"):
        silent.price(costs)
    # the joules a pulse at g_max that users of the table quote
    for name, joules in {
        **{"taox_hfox": 1.3e-12, "fefet": 1.8e-12, "ag_si": 118e-12, "pcmo": 174e-12},
        **{"gst_pcm": 0.62e-9, "epiram": 1.5e-9, "alox_hfo2": 4.8e-9},
    }.items():
        device = getattr(presets, name)()
        assert device.write_pulse.source
        assert device.write_pulse.up * device.g_max == pytest.approx(joules, rel=0.04)
    rpu = presets.gokmen_vlasov()
    assert rpu.write_pulse.up / 24e6 == pytest.approx(0.04e-15, rel=0.05)
    for bad in ({"v_up": 0.0}, {"t_down": -1.0}, {"source": ""}):
        with pytest.raises(ValueError):
            dataclasses.replace(PULSE, **bad)
    with pytest.raises(TypeError, match="write_pulse"):
        dataclasses.replace(CELL, write_pulse=1.0)


def test_boundaries_are_not_compared_unasked():
    counts = Counts({Key("w", "forward", 0, "adc", 8): 5.0})
    bills = [price(counts, c, {}) for c in (xb.costs.isaac_32nm, xb.costs.neurosim_32nm)]
    assert {b.boundary for b in bills} == {"tile", "macro"}
    with pytest.raises(ValueError, match="not of the same thing"):
        xb.compare(bills)
    assert "tile" in xb.compare(bills, across=True)
    assert xb.compare(bills[:1]).startswith("isaac_32nm")


def test_a_set_of_ones_own(tmp_path):
    own = Costs.of("mine", "chip", {"adc": (2e-12, 1e-12, 3e-12), "read": 1e-8}, "my chip, 2026")
    counts = Counts({Key("w", "f", 0, "adc", 4): 3.0, Key("w", "f", 0, "array"): 2.0})
    assert price(counts, own, {}).total.joules == pytest.approx(6e-12 + 2e-8, rel=1e-12)
    path = tmp_path / "costs.csv"
    path.write_text(
        "part,entry,value,low,high,node,source\n"
        "energy,adc,2e-12,1e-12,3e-12,28,my chip\nread,,1e-8,1e-8,1e-8,,my chip\n"
    )
    read = Costs.read_csv(path, "mine", "chip")
    assert read.energy["adc"] == Cost(2e-12, 1e-12, 3e-12, 28.0, "my chip")
    assert read.read == own.read.__class__(1e-8, 1e-8, 1e-8, None, "my chip")
    path.write_text("part,entry,value,low,high,node,source\npower,adc,1,1,1,,x\n")
    with pytest.raises(ValueError, match="line 2"):
        Costs.read_csv(path, "mine", "chip")
    path.write_text("part,entry,value\nenergy,adc,1\n")
    with pytest.raises(ValueError, match="columns must be"):
        Costs.read_csv(path, "mine", "chip")
    with pytest.raises(ValueError, match="boundary"):
        Costs.of("mine", "board", {}, "x")


@pytest.mark.parametrize("bad", [(1, 2, 3), (2, 1, 1), (-1, -1, 0), (1, 1, math.inf)])
def test_a_cost_lies_within_its_range(bad):
    with pytest.raises(ValueError):
        Cost(*bad, None, "x")
    with pytest.raises(ValueError, match="source"):
        Cost(1, 1, 1, None, " ")


@pytest.mark.parametrize(
    "node,factor", [(130, 6.2), (65, 1.31), (32, 0.53), (16, 0.12), (14, 0.095), (7, 0.047)]
)
def test_logic_scales_as_published_and_converters_do_not(node, factor):
    assert scaling.ratio(node, scaling.NOMINAL[node], 45, 1.0) == pytest.approx(factor, rel=0.02)
    mixed = xb.costs.digital_45nm.having(energy={"adc[8]": Cost(1e-12, 0, 2e-12, 45, "x")})
    moved = scaling.logic(mixed, node)
    assert moved.energy["adc[8]"] == mixed.energy["adc[8]"]
    assert moved.energy["digital_mac"].value == pytest.approx(4.6e-12 * factor, rel=0.02)
    assert moved.energy["digital_mac"].node == node
    with pytest.raises(ValueError, match="node must be"):
        scaling.logic(mixed, 28, 0.9)


@pytest.mark.parametrize(
    "node,bits,rate,pj,um2",
    [
        (32, 8, 1e9, 1.714, 5972),
        (32, 8, 1.28e9, 1.929, 6469),
        (65, 10, 1e8, 12.54, 14443),
        (14, 6, 1e7, 0.2251, 623),
        (130, 12, 1e8, 405.3, 81314),
    ],
)
def test_the_regression_of_the_survey(node, bits, rate, pj, um2):
    assert regression.energy(node, bits, rate).value == pytest.approx(pj * 1e-12, rel=1e-3)
    assert regression.area(node, bits, rate).value == pytest.approx(um2 * 1e-12, rel=1e-3)


def test_other_machines():
    # at the peak and the whole power: 1.42 pJ a MAC, 209 pJ a byte where memory is the limit
    h100 = xb.costs.H100.at(1.0)
    assert h100.joules(1e12) / 1e12 == pytest.approx(1.42e-12, rel=5e-3)
    assert h100.joules(0, 1e9) / 1e9 == pytest.approx(209e-12, rel=1e-3)
    assert h100.joules(1e12, 1e9) == max(h100.joules(1e12), h100.joules(0, 1e9))
    assert xb.costs.H100.joules(1e12) == pytest.approx(h100.joules(1e12) / 0.4)
    both = xb.costs.brain.joules(1e6)
    assert both["vesicle"].value == pytest.approx(13.6e-9)
    assert (both["event"].low, both["event"].high) == pytest.approx((20e-9, 200e-9))


def test_digits_with_prefixes():
    assert [si(x, "J") for x in (0, 1.5e-12, 999e-9, 2.5e3)] == [
        "0 J",
        "1.5 pJ",
        "999 nJ",
        "2.5 kJ",
    ]
