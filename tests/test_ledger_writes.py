"""Events of pulses, writes and digital work: slot by slot, cell by cell, written apart."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from _analog import cells_of, matrix_of, weight_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from crossbar.ledger import jit, sums
from crossbar.operations import Vectors
from crossbar.pulses import exact
from crossbar.quantise import balanced
from devices import VTEAM, Device, SoftBounds, WritePulse
from devices.verify import write_verify


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


MODEST = settings(max_examples=12, deadline=None, derandomize=True)
PULSE = WritePulse(1.5, 1.2, 2e-7, 3e-7, "made up")
CELL = Device(1e-6, 50e-6, update=SoftBounds(0.5e-6), write_pulse=PULSE)
SIEMENS = ("selected", "on_row", "on_col", "at_rest")


def layer(rows, cols, mapping=None, scheme=None, tile=None):
    torch.manual_seed(rows * 100 + cols)
    net = nn.Linear(rows, cols, bias=False).double()
    chip = xb.Chip(CELL, mapping or xb.Differential(), tile=tile)
    return xb.convert(net, chip, mode=xb.InSitu(scheme), seed=3)


def joules(counts, part, none=0.0, row=0.25, col=0.25, way=None):
    """By the identity, with parts of V² of cells of no, one or two lines."""
    total = 0.0
    for direction, unit in (("up", PULSE.up), ("down", PULSE.down)):
        s = {k: counts.total(k, of=direction, **part) for k in SIEMENS}
        rest = none * s["at_rest"] + (row - none) * s["on_row"] + (col - none) * s["on_col"]
        total += unit * (rest + (1 - row - col + none) * s["selected"])
    return total


def slot_by_slot(bits, g, unselected, swapped):
    """Joules of one device: every phase of every slot, every cell at its own voltage."""
    total, fired, half, slots = 0.0, np.zeros(2), 0, 0
    x, d = bits.x.numpy().astype(int), bits.d.numpy().astype(int)
    of = bits.slots.numpy()
    for s in range(len(x)):
        for a, b in itertools.product((1, -1), (1, -1)):
            # phases that this vector plays: some input and some error have these signs
            if not (PLAYED[of[s]][a, b]):
                continue
            rows, cols = x[s] == a, d[s] == b
            up = (a * b < 0) != swapped
            volt = PULSE.v_up if up else PULSE.v_down
            long = PULSE.t_up if up else PULSE.t_down
            row = np.where(rows, 0.5, -unselected / 2)
            col = np.where(cols, -0.5, unselected / 2)
            v = (row[:, None] - col[None, :]) * volt
            total += (v**2 * g).sum() * long
            fired += rows.sum(), cols.sum()
            half += (rows[:, None] ^ cols[None, :]).sum()
            slots += 1
    return total, fired, half, slots


PLAYED: dict = {}


@MODEST
@given(
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([0.0, 1 / 3]),
    st.sampled_from([None, (3, 2)]),
    st.sampled_from([xb.PushPull(), xb.Reference()]),
)
def test_pulses_cost_what_a_slot_by_slot_simulation_says(rows, cols, n, unselected, tile, route):
    model = layer(rows, cols, xb.Differential(route=route), xb.ExactBits(bl=9), tile)
    matrix, g = matrix_of(model), cells_of(model).g.clone().numpy()
    x = torch.randn(n, rows, dtype=torch.float64)
    d = torch.randn(n, cols, dtype=torch.float64)
    kept = []

    def drawn(drives, generator, own=exact.drawn):
        kept.extend(own(drives, generator))
        return kept[-1:]

    with pytest.MonkeyPatch.context() as patch, xb.ledger(matrix) as ledger:
        patch.setattr(exact, "drawn", drawn)
        matrix.update(x, d, 0.05, xb.ExactBits(bl=9))
    (bits,) = kept
    PLAYED.clear()
    for k in range(n):
        PLAYED[k] = {
            (a, b): bool((a * x[k] > 0).any() and (b * d[k] > 0).any())
            for a, b in itertools.product((1, -1), (1, -1))
        }
    wanted, fired, half, slots = 0.0, 0, 0, 0
    for k in range(2 if isinstance(route, xb.PushPull) else 1):
        # a tile is an array of its own, with its lines
        for a, b in balanced(rows, tile and 3):
            for c, e in balanced(cols, tile and 2):
                part = bits._replace(x=bits.x[:, a:b], d=bits.d[:, c:e])
                found = slot_by_slot(part, g[k, a:b, c:e], unselected, swapped=k == 1)
                wanted, fired = wanted + found[0], fired + found[1]
                half, slots = half + found[2], slots + (k == 0) * found[3]
    counts = ledger.counts
    third = unselected**2
    # an unselected cell sees ±u, one on a fired line alone (1 ± u)/2 + ... : V/3 puts 1/3 there
    one = ((1 - unselected) / 2) ** 2 if unselected else 0.25
    assert joules(counts, {}, third, one, one) == pytest.approx(wanted, rel=1e-12)
    assert counts.total("row_pulse") == fired[0]
    assert counts.total("col_pulse") == fired[1]
    assert counts.total("half_select") == half
    assert counts.total("slot") == slots


SCHEMES = [xb.ExactBits(5), xb.Aggregated(5), xb.Expected(), xb.Deterministic()]


@pytest.mark.parametrize("scheme", [*SCHEMES, xb.Sequential(xb.ExactBits(5))])
@pytest.mark.parametrize("tile", [None, (4, 3)])
def test_every_scheme_says_its_pulses(scheme, tile):
    """Against what the Tally is told, all cells of it, and the conductances of the moment."""
    model = layer(6, 5, scheme=scheme, tile=tile)
    twin = layer(6, 5, scheme=scheme, tile=tile)
    x, d = torch.rand(4, 6).double() - 0.2, torch.randn(4, 5).double()
    matrix, g = matrix_of(model), cells_of(model).g.clone()
    with xb.ledger(matrix) as ledger:
        matrix.update(x, d, 0.02, scheme)
    seen = []

    class Told(xb.Probe):
        def pulsed(self, matrix, given):
            seen.append(given)

    with xb.observe(matrix_of(twin), Told()):
        matrix_of(twin).update(x, d, 0.02, scheme)
    assert torch.equal(cells_of(model).g, cells_of(twin).g)
    for way in ("up", "down"):
        each = [sum(getattr(given[k], way) for given in seen) for k in (0, 1)]
        assert ledger.counts.total("pulse", of=way) == pytest.approx(float(sum(each).sum()))
        wanted = float(sum((n * g[k]).sum() for k, n in enumerate(each)))
        assert ledger.counts.total("selected", of=way) == pytest.approx(wanted, rel=1e-12)
    assert ledger.counts.total("pulse") > 0


def test_mean_lines_are_those_of_many_drawn_trains():
    """Aggregated and Expected trains: the mean of drawn ones, within 5 standard errors."""
    torch.manual_seed(0)
    x, d = torch.randn(6, 5).double(), torch.randn(6, 4).double()
    mean = xb.Aggregated(7).driven(Vectors(), x, d, 3.0, generator=None)[1]
    drawn = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        drawn.append(xb.ExactBits(7).driven(Vectors(), x, d, 3.0, generator=generator)[1])
    for part in range(2):
        for way in range(2):
            each = torch.stack([found[part][way] for found in drawn]).double()
            error = each.std(0) / 20 + 1e-9
            assert ((each.mean(0) - mean[part][way]).abs() <= 5 * error).all()
    for way in range(2):
        assert all(torch.equal(found.slots[way], mean.slots[way]) for found in drawn)


def test_counts_given_one_by_one_go_row_by_row():
    model = layer(3, 4)
    matrix, g = matrix_of(model), cells_of(model).g.clone()
    up = torch.tensor([[0, 2, 1, 0], [0, 0, 0, 0], [3, 0, 0, 1.0]], dtype=torch.float64)
    for counts in (up, up + 1):  # few weights are told one by one, many as a whole
        model = layer(3, 4)
        matrix = matrix_of(model)
        with xb.ledger(matrix) as ledger:
            matrix.pulse(xb.rules.rule.signed(counts))
        found = ledger.counts
        each = counts.numpy()
        assert found.total("pulse", of="up") == each.sum() == found.total("pulse", of="down")
        assert (
            found.total("row_pulse", of="up") == each.max(1).sum() == found.total("slot", of="up")
        )
        assert found.total("col_pulse", of="up") == each.sum()
        # slot s of row i: the columns whose count is above s
        half = joule = 0.0
        for i in range(3):
            for s in range(int(each[i].max())):
                rows, cols = np.arange(3) == i, each[i] > s
                half += (rows[:, None] ^ cols).sum()
                v = np.where(rows, 0.5, 0.0)[:, None] + np.where(cols, 0.5, 0.0)
                joule += PULSE.up * (v**2 * g[0].numpy()).sum()
                joule += PULSE.down * (v**2 * g[1].numpy()).sum()
        assert found.total("half_select", of="up") == half
        assert joules(found, {}) == pytest.approx(joule, rel=1e-12)
        held = each.max(1).sum() * 7 - each.max(1).sum() - each.sum()
        assert found.total("inhibit", of="up") == held
        along = each.max(1).sum() * 4, each.sum() * 3
        assert found.total("row_charge", of="up") == along[0]
        assert found.total("col_charge", of="up") == along[1]
        whole = each.max(1).sum() * 2 * 12  # all lines of 3 × 4 cells, slot by slot
        assert found.total("inhibit_charge", of="up") == whole - sum(along)


def test_compiled_and_plain_sums_agree(monkeypatch):
    g = torch.rand(2, 3, 7, 5)
    tiles = ([(0, 3), (3, 7)], [(0, 2), (2, 5)])
    up, down = torch.rand(3, 7, 5), torch.rand(3, 7, 5)
    at = torch.randperm(105)[:11]

    def all_of():
        lines = sums.along_lines(g, *tiles)
        dense = sums.doses(None, up, down, g[1], tiles)
        few = sums.doses(at, up.flatten()[:11], down.flatten()[:11], g[1], tiles)
        return [*lines, dense, few]

    fast = all_of()
    assert jit.lines is not None
    monkeypatch.setattr(jit, "lines", None)
    for a, b in zip(fast, all_of(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


def test_a_step_of_several_layers_counts_each():
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    model = xb.convert(net, xb.Chip(CELL), mode=xb.InSitu(xb.ExactBits(5)), seed=1)
    optimiser = xb.InSituSGD(model, lr=0.5)
    with xb.ledger(model) as ledger:
        for _ in range(3):
            optimiser.zero_grad()
            model(torch.randn(4, 6).double()).square().sum().backward()
            optimiser.step()
    for name in ("0.weight", "2.weight"):
        assert ledger.counts.total("pulse", weight=name, phase="update") > 0
        assert ledger.counts.total("row_pulse", weight=name) > 0
        # both phases of a train: no slot without a cell that both lines may strike
        assert ledger.counts.total("half_select", weight=name) > 0
    assert ledger.counts.total("activation", phase="forward") == 3 * 4 * 5
    assert ledger.counts.total("add", weight="0", phase="backward") == 3 * 4 * 5
    assert ledger.counts.total("optimiser_op", weight="0.bias") == 3 * 2 * 5
    assert ledger.counts.total("optimiser_op", weight="0.weight") == 3 * 4 * (6 + 5)


RULES = [
    *(xb.Pulsed(), xb.TikiTaka(), xb.ChoppedTikiTaka(), xb.AGAD(), xb.TrackedTikiTaka()),
    *(xb.TikiTakaV1(), xb.MixedPrecision(), xb.Momentum(), xb.ArrayMomentum(), xb.LowRank(every=1)),
    *(
        xb.Manhattan(),
        xb.PeriodicCarry(every=1),
        xb.Residual(arrays=2, gamma=0.5),
        xb.WeightDecay(0.1),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_every_rule_counts_and_changes_nothing(rule):
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(bits=7), xb.ADC(bits=6)), tile=(4, 8))
    net = nn.Linear(6, 5)
    seen = []
    x = torch.randn(3, 6)
    for on in (False, True):
        model = xb.convert(net, chip, mode=xb.InSitu(rule=rule), seed=2)
        optimiser = xb.InSituSGD(model, lr=0.3)

        def step(model=model, optimiser=optimiser):
            for _ in range(2):
                optimiser.zero_grad()
                model(x).square().sum().backward()
                optimiser.step()

        if on:
            with xb.ledger(model) as ledger:
                step()
        else:
            step()
        seen.append([t.clone() for t in model.state_dict().values() if isinstance(t, torch.Tensor)])
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    counts = ledger.counts
    assert counts.total("pulse", phase="update") > 0
    assert counts.total("optimiser_op", phase="update", weight="weight") > 0
    lines = rule.reads(6, 6) if rule.reads(6, 6) else 0
    read = counts.total("adc", phase="update", of=6)
    # one-hot reads convert all columns of both row tiles
    wanted = {"TikiTakaV1": 2, "WeightDecay": 12, "ArrayMomentum": 24, "PeriodicCarry": 36}
    vectors = 6 if lines and type(rule).__name__ not in wanted else 0
    assert read == 5 * 2 * wanted.get(type(rule).__name__, vectors)


def test_a_rule_that_does_not_say_its_work_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Mute(xb.Rule):
        def update(self, jobs, *, streams):
            pass

    model = xb.convert(nn.Linear(3, 2), xb.Chip(CELL), mode=xb.InSitu(rule=Mute()), seed=0)
    optimiser = xb.InSituSGD(model, lr=0.1)
    with xb.ledger(model):
        model(torch.ones(1, 3)).sum().backward()
        with pytest.raises(TypeError, match="Mute does not say"):
            optimiser.step()


def test_writes_and_verifying_reads_are_counted():
    model = layer(4, 3)
    matrix = matrix_of(model)
    with xb.ledger(model) as ledger:
        xb.program(model)
        xb.advance(model, 7.0)
    g = cells_of(model).g
    assert ledger.counts.total("write", phase="program") == 24
    assert ledger.counts.total("written") == pytest.approx(float(g.sum()), rel=1e-12)
    assert ledger.counts.total("second", phase="advance") == 7.0
    kept = []

    def writer(device, state, target, *, generator=None):
        kept.append(write_verify(device, state, target, tolerance=2e-6, generator=generator))
        return kept[-1]

    with xb.ledger(model) as ledger:
        matrix.program(torch.randn(4, 3).double() * 0.1, writer)
    (found,) = kept
    assert ledger.counts.total("verify_pulse") == float(found.pulses.sum()) > 0
    assert ledger.counts.total("verify_pulse", of="up") == float(found.up.sum())
    assert ledger.counts.total("verify_read") == float(found.reads.sum())
    assert not bool(found.failed.any())
    assert torch.equal(found.reads, found.pulses + 1)  # the last one accepts each cell
    assert ledger.counts.total("write") == 0
    with (
        xb.ledger(model),
        pytest.raises(TypeError, match="does not say how many pulses"),
    ):
        matrix.program(torch.zeros(4, 3).double(), lambda *a, **k: Plain(a[1]))


class Plain:
    """A writer's own result, without pulses."""

    def __init__(self, state):
        self.state = state


def test_verifying_reads_drive_a_line_and_convert():
    """Each by itself: V² G of the cell as it is at the end, a line and a conversion."""
    chip = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(6, v_max=0.3), xb.ADC(7)))
    model = xb.convert(nn.Linear(4, 3, bias=False).double(), chip, mode=xb.InSitu(), seed=3)
    kept = []

    def writer(device, state, target, *, generator=None):
        kept.append(write_verify(device, state, target, tolerance=2e-6, generator=generator))
        return kept[-1]

    with xb.ledger(model) as ledger:
        matrix_of(model).program(torch.randn(4, 3).double() * 0.1, writer)
    (found,) = kept
    reads, total = float(found.reads.sum()), ledger.counts.total
    assert total("verify_read") == total("row_drive") == total("adc", of=7) == reads > 24
    joules = 0.3**2 * float((found.reads * found.state.g).sum())
    assert total("verify_array", phase="program") == pytest.approx(joules, rel=1e-12)
    assert total("verified") == pytest.approx(float(found.dose.up.sum() + found.dose.down.sum()))


def test_pulses_to_symmetry_go_row_by_row():
    """A pair: every row once with all columns, up and then down; devices the other way round."""
    model, twin = layer(4, 3), layer(4, 3)
    before = cells_of(model).g.clone()
    with xb.ledger(model) as ledger:
        matrix_of(model).zero(1)
    matrix_of(twin).pulse(xb.rules.rule.signed(torch.ones(4, 3).double()))
    after, total = cells_of(twin).g, ledger.counts.total
    # of either direction: the first device in one round, the second in the other
    wanted = {"row_pulse": 8, "col_pulse": 24, "pulse": 24, "slot": 8, "half_select": 8 * 9}
    wanted |= {"inhibit": 8 * 7 - 8 - 24, "row_charge": 8 * 3, "col_charge": 24 * 4}
    wanted["inhibit_charge"] = 2 * 8 * 12 - wanted["row_charge"] - wanted["col_charge"]
    for way, first, second in (("up", 0, 1), ("down", 1, 0)):
        where = {"phase": "program", "of": way}
        assert {e: total(e, **where) for e in wanted} == wanted
        held = float(before[first].sum() + after[second].sum())
        for event, times in (("selected", 1), ("on_row", 1), ("on_col", 4), ("at_rest", 4)):
            assert total(event, **where) == pytest.approx(times * held, rel=1e-12), event


def test_gradients_gathered_digitally_are_products():
    rule = xb.MixedPrecision()
    model = xb.convert(nn.Linear(6, 5), xb.Chip(CELL), mode=xb.InSitu(rule=rule), seed=2)
    optimiser = xb.InSituSGD(model, lr=0.3)
    with xb.ledger(model) as ledger:
        model(torch.randn(3, 6)).square().sum().backward()
        optimiser.step()
    total = ledger.counts.total
    assert total("digital_mac", phase="update") == 3 * 6 * 5
    # the accumulator of every weight is read, added to, compared with a step, written
    assert total("optimiser_byte", weight="weight") == 8 * 30


def test_doses_of_a_write_and_verify_are_those_of_its_pulses():
    """One cell, a constant step: the conductance before every pulse is known."""
    device = dataclasses.replace(CELL, update=SoftBounds(0.5e-6))
    state = device.fabricate((1,), dtype=torch.float64)
    found = write_verify(device, state, torch.tensor([6e-6]), tolerance=0.3e-6)
    before, total = state, 0.0
    for _ in range(int(found.pulses)):
        total += float(before.g)
        one = torch.ones(1, dtype=torch.float64)
        before = device.pulse(before, xb.rules.rule.signed(one))
    assert float(before.g) == float(found.state.g)
    assert float(found.dose.up) == pytest.approx(total, rel=1e-14)
    assert float(found.dose.down) == 0 and float(found.reads) == float(found.pulses) + 1


def test_refreshes_and_corrections_are_writes():
    worn = layer(3, 2, xb.Differential(route=xb.OneSided(high=0.1, low=0.0)))
    matrix = matrix_of(worn)
    ones = torch.ones(1, 3).double(), torch.ones(1, 2).double()
    cells_of(worn).g.fill_(20e-6)
    with xb.ledger(worn) as ledger:
        matrix.update(*ones, 0.01, xb.Expected())
    assert ledger.counts.total("write") == 12
    corrected = layer(3, 2, xb.Differential(corrections=1))
    with xb.ledger(corrected) as ledger:
        xb.program(corrected)
    assert ledger.counts.total("write") == 12 + 2 * 6
    assert ledger.counts.total("verify_read") == 2 * 12


def test_waveforms_burn_v_squared_g_t():
    cell = Device(1e-6, 50e-6, update=VTEAM())
    matrix = xb.matrix(torch.rand(3, 4).double(), xb.Chip(cell))
    g = matrix.cells.g.clone()
    v = torch.rand(2, 4, 3).double()
    with xb.ledger(matrix) as ledger:
        matrix.drive(v, 1e-7)
    assert ledger.counts.total("drive") == pytest.approx(float((v**2 * g).sum() * 1e-7), rel=1e-12)


def test_digital_layers_and_optimisers():
    class Own(nn.Module):
        def forward(self, x):
            return x * 2

    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4), nn.Linear(4, 3)
    )
    model = xb.convert(net, xb.Chip(CELL), exclude=["0", "3"], seed=0)
    optimiser = torch.optim.Adam(model.parameters())
    x = torch.randn(2, 1, 6, 6)
    with xb.ledger(model) as ledger:
        model(x).sum().backward()
        optimiser.step()
    counts = ledger.counts
    conv, dense, analog = 2 * 2 * 16 * 9, 2 * 32 * 4, 2 * 4 * 3
    assert counts.total("digital_mac", phase="forward") == conv + dense + analog
    # the input of the net asks for no gradient; a float weight is multiplied by three times
    assert counts.total("digital_mac", phase="backward") == conv + 2 * dense + 2 * analog
    weights = sum(p.numel() for p in model.parameters())
    assert counts.total("optimiser_op") == 12 * weights
    assert counts.total("optimiser_byte") == 24 * weights
    odd = xb.convert(nn.Sequential(nn.Linear(3, 2), Own()), xb.Chip(CELL), seed=0)
    with xb.ledger(odd) as ledger:
        odd(torch.ones(1, 3))
    assert ledger.counts.total("digital_mac", weight="1") == 2
    count = {Own: lambda module, inputs, output: {"activation": output.numel()}}
    with xb.ledger(odd, count=count) as ledger:
        odd(torch.ones(1, 3))
    assert ledger.counts.total("activation") == 2
    with xb.ledger(odd, left_out=["1"]) as ledger:
        odd(torch.ones(1, 3))
    assert not ledger.counts.total(weight="1")
    with pytest.raises(TypeError, match="RMSprop"), xb.ledger(model):
        model(x).sum().backward()
        torch.optim.RMSprop(model.parameters()).step()
    assert weight_of(odd[0]).matrix.probe is None


def test_matrices_made_while_it_lasts_are_counted_and_let_go():
    net = nn.Linear(4, 3)
    model = xb.convert(net, xb.Chip(CELL), seed=0)
    with xb.ledger(model) as ledger:
        xb.program(model)
        model(torch.ones(1, 4))
        xb.reseed(model, 5)
        model(torch.ones(1, 4))
    assert ledger.counts.total("mac") == 24
    assert ledger.counts.total("write") == 48
    assert matrix_of(model).probe is None
    with pytest.raises(KeyError, match="no event"):
        ledger.counts.total("nonsense")
    with pytest.raises(KeyError, match="a key has"):
        ledger.counts.total("adc", layer="weight")
