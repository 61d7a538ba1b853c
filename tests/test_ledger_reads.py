"""Events of reads against dense sums over every cell, written apart."""

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _analog import cells_of, matrix_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from devices import CubicIV, Device, GaussianRead, SoftBounds, StuckAt, TelegraphRead


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


MODEST = settings(max_examples=12, deadline=None, derandomize=True)
CELL = Device(1e-6, 50e-6, update=SoftBounds(0.5e-6))


def layer(chip, inputs, outputs, mode=None, bias=False):
    net = nn.Linear(inputs, outputs, bias=bias).double()
    return xb.convert(net, chip, mode=mode or xb.InSitu(), seed=3)


def counted(model, x, backward=True):
    with xb.ledger(model) as ledger:
        y = model(x)
        if backward:
            y.square().sum().backward()
    return ledger.counts


def volts(dac, x):
    """What lines are driven with, by the definition of the converters."""
    top = x.abs().amax(-1, keepdim=True)
    n = 2 ** (dac.bits - 1) - 1
    code = torch.round(x / top * n)
    if isinstance(dac, xb.SerialDAC):
        base, digits, left = 2**dac.width, [], code.abs()
        for _ in range(math.ceil((dac.bits - 1) / dac.width)):
            digits.append(code.sign() * (left % base) / (base - 1))
            left = left // base
        parts = digits
    else:
        parts = [code / n]
    if dac.passes:
        parts = [v for p in parts for v in (p.clamp(min=0), (-p).clamp(min=0))]
    return [v * dac.v_max for v in parts]


@MODEST
@given(
    st.integers(1, 3),
    st.integers(1, 17),
    st.integers(1, 9),
    st.sampled_from([None, (5, 4), (3, 9), (8, 2)]),
    st.sampled_from(
        [
            (xb.DAC(bits=5), 1),
            (xb.DAC(bits=4, passes=True), 2),
            (xb.SerialDAC(bits=5, width=1), 4),
            (xb.SerialDAC(bits=6, width=2), 3),
        ]
    ),
    st.sampled_from(
        [
            (xb.Differential(), 1, 2),
            (xb.Differential(converters=2), 2, 2),
            (xb.OffsetColumn(), 1, 1),
            (xb.SingleCell(), 1, 1),
            (xb.Devices(count=2), 1, 4),
            (xb.Slices(widths=(2, 2, 2)), 3, 6),
        ]
    ),
)
def test_reads_count_what_the_array_is_made_of(batch, inputs, outputs, tile, converter, mapping):
    (dac, digits), (kind, columns, devices) = converter, mapping
    chip = xb.Chip(CELL, kind, xb.Periphery(dac, xb.ADC(bits=7)), tile=tile)
    trains = not kind.untrainable()
    model = layer(chip, inputs, outputs, xb.InSitu() if trains else xb.Programmed())
    x = torch.randn(batch, inputs, dtype=torch.float64, requires_grad=True)
    counts = counted(model, x, backward=trains)
    rows, cols = tile or (inputs, outputs)
    down, across = math.ceil(inputs / rows), math.ceil(outputs / cols)
    physical = outputs * columns
    of = {"phase": "forward", "of": 7}
    assert counts.total("adc", **of) == batch * down * physical * digits
    assert counts.total("integrate", phase="forward") == batch * down * physical * digits
    width = getattr(dac, "width", dac.bits)
    assert counts.total("dac", phase="forward", of=width) == batch * inputs * digits * across
    assert counts.total("partial_sum", phase="forward") == batch * (down - 1) * outputs
    added = batch * down * outputs * (columns * digits - 1)
    assert counts.total("shift_add", phase="forward") == added
    assert counts.total("mac", phase="forward") == batch * inputs * outputs
    assert counts.total("load", phase="forward") == batch * inputs * across
    assert counts.total("store", phase="forward", of=7) == batch * outputs
    driven = sum(int((v != 0).sum()) for v in volts(dac, x.detach()))
    assert counts.total("row_drive", phase="forward") == driven * across
    cells = cells_of(model)
    lines = outputs * devices + (across if cells.line is not None else 0)
    assert counts.total("line_charge", phase="forward") == driven * lines
    # every cell by itself, reference columns too
    every = cells.g.sum((0, -1)) + (0 if cells.line is None else cells.line.g.sum((0, -1)))
    joules = sum(float((v.square() @ every).sum()) for v in volts(dac, x.detach()))
    assert counts.total("array", phase="forward") == pytest.approx(joules, rel=1e-12)
    if not trains:
        return
    # converters are the same; columns are driven, whose reference ones rest
    drive = volts(dac, 2 * model(x).detach())
    fired = sum(int((v != 0).sum()) for v in drive)
    wanted = {
        "adc": batch * across * inputs * columns * digits,
        "integrate": batch * across * inputs * columns * digits,
        "dac": batch * outputs * digits * down,
        "row_drive": fired * down,
        "line_charge": fired * inputs * devices,
        "shift_add": batch * across * inputs * (columns * digits - 1),
        "partial_sum": batch * (across - 1) * inputs,
        "load": batch * outputs * down,
        "store": batch * inputs,
        "mac": batch * inputs * outputs,
    }
    assert {e: counts.total(e, phase="backward") for e in wanted} == wanted
    joules = sum(float((v.square() @ cells.g.sum((0, -2))).sum()) for v in drive)
    assert counts.total("array", phase="backward") == pytest.approx(joules, rel=1e-12)


def test_a_transposed_read_burns_in_the_columns_it_drives():
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(bits=6, v_max=0.3), xb.ADC()), tile=(4, 3))
    model = layer(chip, 10, 5)
    d = torch.randn(6, 5, dtype=torch.float64)
    with xb.ledger(matrix_of(model)) as ledger:
        matrix_of(model).mv_t(d)
    (v,) = volts(chip.forward.dac, d)
    g = cells_of(model).g
    joules = float((v.square() @ g.sum((0, -2))).sum())
    assert ledger.counts.total("array") == pytest.approx(joules, rel=1e-12)
    assert ledger.counts.total("adc") == 6 * 2 * 10  # two column tiles
    (key,) = [k for k in ledger.counts if k.event == "array"]
    each = ledger.counts[key]
    assert each.shape == (3, 2)  # tiles down and across, as of forward reads
    for (a, b), row in zip(((0, 3), (3, 6), (6, 10)), each, strict=True):
        for (c, e), joules in zip(((0, 2), (2, 5)), row, strict=True):
            one = float((v[:, c:e].square() @ g[:, a:b, c:e].sum((0, 1))).sum())
            assert joules == pytest.approx(one, rel=1e-12)


def test_lines_read_one_by_one_in_training_are_updates():
    """Two rows on two column tiles; all columns of all three row tiles convert."""
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(bits=6, v_max=0.3), xb.ADC(5)), tile=(4, 3))
    matrix = matrix_of(layer(chip, 10, 5))
    with xb.ledger(matrix) as ledger:
        matrix.one_hot(torch.tensor([1, 4]))
    wanted = {
        **{"row_drive": 2 * 2, "dac": 2 * 2, "line_charge": 2 * 5 * 2},
        **{"adc": 2 * 3 * 5, "integrate": 2 * 3 * 5, "partial_sum": 2 * 2 * 5, "store": 2 * 5},
    }
    assert {e: ledger.counts.total(e, phase="update") for e in wanted} == wanted
    joules = 0.3**2 * float(matrix.cells.g[:, [1, 4]].sum())
    assert ledger.counts.total("array", phase="update") == pytest.approx(joules, rel=1e-12)
    assert not ledger.counts.total("mac")


def test_pulse_widths_burn_by_their_length():
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.PulseWidth(bits=6, v_max=0.3), xb.ADC()))
    model = layer(chip, 6, 4)
    x = torch.randn(3, 6, dtype=torch.float64)
    with torch.no_grad():
        counts = counted(model, x, backward=False)
    n = 31
    share = (x / x.abs().amax(-1, keepdim=True) * n).round().abs() / n
    joules = 0.3**2 * float((share @ cells_of(model).g.sum((0, -1))).sum())
    assert counts.total("array") == pytest.approx(joules, rel=1e-12)


def test_offsets_of_drivers_burn_in_lines_that_rest():
    dac = xb.DAC(bits=6, v_max=0.3, sigma_offset=0.1)
    model = layer(xb.Chip(CELL, forward=xb.Periphery(dac, xb.ADC())), 6, 4)
    x = 0.5 + torch.rand(3, 6, dtype=torch.float64)
    x[:, 2] = 0
    counts = counted(model, x, backward=False)
    offset = matrix_of(model).forward_port.dac_offset.double()
    (v,) = volts(dac, x)
    v = v + 0.3 * offset
    joules = float((v.square() @ cells_of(model).g.sum((0, -1))).sum())
    assert counts.total("array") == pytest.approx(joules, rel=1e-12)
    assert counts.total("row_drive") == 15


def test_dead_cells_and_slow_noise_burn_as_they_are():
    device = Device(1e-6, 50e-6, faults=StuckAt(0.3, 0.2), read=TelegraphRead(0.2))
    model = layer(xb.Chip(device), 8, 5, xb.Programmed())
    xb.advance(model, 3.0)
    x = torch.randn(4, 8, dtype=torch.float64)
    matrix = matrix_of(model)
    counts = counted(model, x, backward=False)
    seen = device.seen(matrix.cells.state)
    assert not torch.equal(seen, matrix.cells.g)
    joules = float((x.square() @ seen.sum((0, -1))).sum())
    assert counts.total("array") == pytest.approx(joules, rel=1e-12)
    with torch.no_grad(), xb.ledger(model) as ledger:  # sums follow the cells while it lasts
        model(x)
        xb.advance(model, 3.0)
        model(x)
        second = ledger.counts.total("array") - joules
        matrix.program(torch.zeros(8, 5, dtype=torch.float64))
        model(x)
    third = ledger.counts.total("array") - second - joules
    after = float((x.square() @ device.seen(matrix.cells.state).sum((0, -1))).sum())
    assert third == pytest.approx(after, rel=1e-11)
    assert len({joules, second, third}) == 3


@pytest.mark.parametrize("groups,transposed", [(1, False), (2, False), (2, True)])
def test_convolutions_drive_each_field(groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    net = kind(4, 6, 3, stride=2, padding=1, groups=groups, bias=False).double()
    dac = xb.DAC(bits=6, v_max=0.4)
    chip = xb.Chip(CELL, forward=xb.Periphery(dac, xb.ADC(bits=6)), tile=(7, 2))
    model = xb.convert(net, chip, mode=xb.InSitu(), seed=1)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64, requires_grad=True)
    counts = counted(model, x)
    n = 2 ** (dac.bits - 1) - 1
    top = x.detach().abs().flatten(1).amax(1).view(-1, 1, 1, 1)
    v = (x.detach() / top * n).round() / n * dac.v_max
    if transposed:
        vectors = v.flatten(2).unflatten(1, (groups, -1)).movedim(-1, 1).flatten(0, 1)
    else:
        found = F.unfold(v, 3, stride=2, padding=1)
        vectors = found.unflatten(1, (groups, -1)).movedim(-1, 1).flatten(0, 1)
    g = cells_of(model).g.sum((0, -1))  # (groups, rows)
    joules = float((vectors.square() * g).sum())
    assert counts.total("array", phase="forward") == pytest.approx(joules, rel=1e-12)
    rows, cols = matrix_of(model).lines[-2:]
    down, across = math.ceil(rows / 7), math.ceil(cols / 2)
    positions = len(vectors) * groups
    assert counts.total("adc", phase="forward") == positions * down * cols
    assert counts.total("row_drive", phase="forward") == int((vectors != 0).sum()) * across
    assert counts.total("mac", phase="forward") == positions * rows * cols


def test_parts_stacks_and_lookups_count_their_own_lines():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 8, dtype=torch.float64))

        def forward(self, x):
            return F.linear(x[:, 2:7], self.w[1:4, 2:7])

    net = Odd()
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(), xb.ADC()), tile=(4, 3))
    x = torch.randn(3, 8, dtype=torch.float64)
    model = xb.convert(net, chip, mode=xb.InSitu(), seed=1, example=x)
    counts = counted(model, x, backward=False)
    g = model.analog["w"].matrix.cells.g
    (v,) = volts(chip.forward.dac, x[:, 2:7])
    # both row tiles and both column tiles are used, in part; lines conduct along all of a tile
    joules = float((v.square() @ g[:, 2:7, :].sum((0, -1))).sum())
    assert counts.total("array") == pytest.approx(joules, rel=1e-12)
    assert counts.total("adc") == 3 * 2 * 3
    assert counts.total("mac") == 3 * 5 * 3
    matrix = model.analog["w"].matrix
    with xb.ledger(matrix) as ledger:
        matrix.read_row(torch.tensor([1, 5]))
    dac = chip.forward.dac
    joules = dac.v_max**2 * float(g[:, [1, 5], :].sum())
    assert ledger.counts.total("array") == pytest.approx(joules, rel=1e-12)
    assert ledger.counts.total("row_drive") == 2 * 2


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_with_wires_energy_is_that_of_all_elements(interleaved, transposed):
    wires = xb.Wires(20.0, 30.0, r_driver=5.0, r_sense=7.0, interleaved=interleaved)
    dac = xb.DAC(bits=6, v_max=0.3)
    chip = xb.Chip(CELL, forward=xb.Periphery(dac, xb.ADC()), wires=wires, tile=(4, 3))
    model = layer(chip, 7, 5)
    matrix, g = matrix_of(model), cells_of(model).g
    lines = 5 if transposed else 7
    x = torch.randn(3, lines, dtype=torch.float64)
    with xb.ledger(matrix) as ledger:
        (matrix.mv_t if transposed else matrix.mv)(x)
    (v,) = volts(dac, x)
    total = 0.0
    for a, b in ((0, 3), (3, 7)):
        for c, d in ((0, 2), (2, 5)):
            pair = g[:, a:b, c:d]
            if interleaved:
                pair = pair.movedim(0, -1).flatten(-2)[None]
            for k, one in enumerate(pair):
                drive = v[:, c:d] if transposed else v[:, a:b]
                if interleaved and transposed:
                    drive = torch.stack([drive, -drive], -1).flatten(-2)
                total += elements(one, wires, drive, transposed)
                assert k < 2
    assert ledger.counts.total("array") == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_lines_among_spare_ones_burn_as_the_whole_tile_does(transposed):
    """Every line that is there, unused ones at 0 V; the wires of spare lines are longer."""
    wires, dac = xb.Wires(20.0, 30.0, r_driver=5.0, r_sense=7.0), xb.DAC(bits=6, v_max=0.3)
    cell = replace(CELL, faults=StuckAt(p_off=0.1, p_on=0.1))
    spares, forward = xb.Spares(rows=0.4, columns=0.5), xb.Periphery(dac, xb.ADC())
    model = layer(xb.Chip(cell, forward=forward, wires=wires, spares=spares), 7, 5)
    matrix, cells = matrix_of(model), cells_of(model)
    x = torch.randn(3, 5 if transposed else 7, dtype=torch.float64)
    with xb.ledger(matrix) as ledger:
        (matrix.mv_t if transposed else matrix.mv)(x)
    (v,) = volts(dac, x)
    at, g = cells.at, cells.idle.clone()
    assert g.shape == (2, 10, 8) and float((g > 1.5 * CELL.g_min).sum()) > 0
    g.view(2, -1)[:, at.flatten()] = cells.g.flatten(1)
    drive = v.new_zeros(3, 8 if transposed else 10)
    drive[:, at[0] % 8 if transposed else at[:, 0] // 8] = v
    total = sum(elements(one, wires, drive, transposed) for one in g)
    assert ledger.counts.total("array") == pytest.approx(total, rel=1e-12)


def elements(g, wires, v, transposed):
    """Joules a second of cells, segments and terminals, each by its own current, of one array."""
    net = xb.prepare(g, xb.Wires(*wires.ohms))
    if transposed:
        turned = xb.Wires(wires.ohms[1], wires.ohms[0], wires.ohms[2], wires.ohms[3])
        net, v = xb.prepare(g.flip(-1, -2).mT.contiguous(), turned), v.flip(-1)
    f = net.fields(v)
    w_ohm, b_ohm, r_driver, r_sense = net.wires.ohms
    cells = (f.cell_current * f.cell_voltage).sum()
    # the driver's own segment carries what enters the first node, so it is among these
    words = w_ohm * f.wordline_current.square().sum()
    bits = b_ohm * f.bitline_current.square().sum()
    ends = r_driver * f.driver.square().sum() + r_sense * f.output.square().sum()
    return float(cells + words + bits + ends)


@pytest.mark.parametrize("wires", [None, xb.Wires(20.0, 30.0)])
def test_a_current_voltage_law_burns_v_times_i(wires):
    iv = CubicIV(a=0.2, b=0.5)
    chip = xb.Chip(
        Device(1e-6, 50e-6, update=SoftBounds(0.5e-6), iv=iv),
        forward=xb.Periphery(xb.DAC(bits=6, v_max=0.5), xb.ADC()),
        wires=wires,
        tile=(4, 3),
    )
    model = layer(chip, 7, 5)
    x = torch.randn(3, 7, dtype=torch.float64)
    counts = counted(model, x, backward=False)
    (v,) = volts(chip.forward.dac, x)
    g = cells_of(model).g
    if wires is None:
        volt = v[None, :, :, None].expand(2, 3, 7, 5)
        joules = float((volt * iv.current(g[:, None].expand(2, 3, 7, 5), volt)).sum())
    else:
        joules = 0.0
        for a, b in ((0, 3), (3, 7)):
            for c, d in ((0, 2), (2, 5)):
                f = xb.prepare(g[:, a:b, c:d], wires, iv).fields(v[:, a:b])
                joules += float((f.driver * v[:, a:b]).sum())
    assert counts.total("array") == pytest.approx(joules, rel=1e-9)


@MODEST
@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.1, 3.0))
def test_events_add_over_batches_and_layers_and_fall_as_v_squared(first, second, volt):
    def model(v_max):
        chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(bits=6, v_max=v_max), xb.ADC(bits=6)))
        net = nn.Sequential(nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3)).double()
        torch.manual_seed(0)
        for p in net.parameters():
            nn.init.uniform_(p, -1, 1)
        return xb.convert(net, chip, mode=xb.Programmed(), seed=2)

    x = torch.randn(first + second, 9, dtype=torch.float64)
    one = model(volt)
    whole = counted(one, x, backward=False)
    parts = counted(one, x[:first], backward=False) + counted(one, x[first:], backward=False)
    assert set(parts) == set(whole)
    for key in whole:
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-12)
    layers = {key.weight for key in whole}
    assert sum(whole.total("array", weight=w) for w in layers) == pytest.approx(
        whole.total("array"), rel=1e-14
    )
    alone = counted(model(1.0), x[:, :], backward=False).total("array", weight="0.weight")
    seen = whole.total("array", weight="0.weight")
    assert seen == pytest.approx(volt**2 * alone, rel=1e-12)


def test_what_is_silent_drives_nothing():
    model = layer(xb.Chip(CELL), 6, 4)
    spikes = torch.zeros(3, 6, dtype=torch.float64)
    spikes[0, 2] = 1
    counts = counted(model, spikes, backward=False)
    assert counts.total("row_drive") == 1
    assert counts.total("array") == pytest.approx(float(cells_of(model).g[:, 2].sum()), rel=1e-12)


def test_repeated_conversions_are_counted():
    adc = xb.ADC(bits=6, range=xb.Managed(start=1e-6))
    model = layer(xb.Chip(CELL, forward=xb.Periphery(xb.DAC(), adc)), 64, 3)
    tally, x = xb.Tally(model), 10 * torch.ones(2, 64, dtype=torch.float64)
    with xb.observe(model, tally):
        model(x)
    counts = counted(model, x, backward=False)
    assert counts.total("adc", of=6) == tally["weight"].conversions > 6
    assert counts.total("integrate") == 6


def test_what_cannot_be_counted_is_refused_by_name():
    for adc, why in (
        (xb.ADC(bits=6, capacitor=1e-15), "capacitor"),
        (xb.ADC(bits=6, range=xb.Managed(inputs=True)), "half their voltages"),
    ):
        with pytest.raises(TypeError, match=why):
            counted(layer(xb.Chip(CELL, forward=xb.Periphery(xb.DAC(), adc)), 4, 3), ONE)
    wires = xb.Wires(1.0, 1.0)
    width = xb.Chip(CELL, forward=xb.Periphery(xb.PulseWidth(), xb.ADC()), wires=wires)
    with pytest.raises(TypeError, match="PulseWidth"):
        counted(layer(width, 4, 3), ONE)
    model = layer(xb.Chip(CELL), 4, 3)
    with pytest.raises(TypeError, match="torch.func.vmap"), xb.ledger(model):
        torch.func.vmap(model)(torch.ones(2, 1, 4).double())


ONE = torch.ones(1, 4, dtype=torch.float64)
CHIPS = {
    "bare": xb.Chip(CELL),
    "converters": xb.Chip(
        Device(1e-6, 50e-6, update=SoftBounds(0.5e-6, sigma_c2c=0.3), read=GaussianRead(0.02)),
        forward=xb.Periphery(xb.DAC(noise=0.01), xb.ADC(noise=0.01)),
        tile=(5, 4),
    ),
    "devices": xb.Chip(CELL, xb.Devices(count=3)),
}


@pytest.mark.parametrize("mode", [xb.InSitu(), xb.HardwareAware()])
@pytest.mark.parametrize("chip", CHIPS)
def test_nothing_changes_by_being_counted(chip, mode):
    net = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.ConvTranspose2d(3, 2, 2, stride=2)),
        *(nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(4)),
    )
    x = torch.randn(3, 1, 6, 6)
    net(x)
    seen = []
    for on in (False, True):
        model = xb.convert(net, CHIPS[chip], mode=mode, seed=5)
        optimiser = xb.InSituSGD(model, lr=0.1)
        with xb.ledger(model) if on else contextlib.nullcontext() as ledger:
            for _ in range(2):
                optimiser.zero_grad()
                y = model(x)
                y.square().mean().backward()
                optimiser.step()
        if ledger is not None:
            assert ledger.counts.total("mac" if mode.written else "digital_mac") > 0
        state = [t.clone() for t in model.state_dict().values() if isinstance(t, torch.Tensor)]
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        seen.append([y.detach().clone(), *state, *grads])
    assert len(seen[0]) == len(seen[1]) > 5
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
