"""Published energies beside ours: against an evaluation of every target made apart."""

import math

import pytest

from experiments.tasks.published import Kind, rows, summary
from experiments.tasks.published.tables import NEURRAM, choices, solved


@pytest.fixture(scope="module")
def found():
    return rows()


def errors(found, source, kind=Kind.PREDICTED):
    return [
        abs(100 * r.error)
        for r in found
        if r.source == source and r.kind is kind
        if r.error is not None and "cannot" not in r.reason
    ]


def one(found, source, setting):
    (row,) = [r for r in found if r.source.startswith(source) and r.setting.startswith(setting)]
    return row


def test_predictions_hold_and_what_cannot_be_met_stays_red(found):
    said = summary(found)
    assert said.holds and said.rows >= 70
    assert said.median == pytest.approx(0.04, abs=0.01)
    assert said.largest == pytest.approx(0.20, abs=0.005)
    red = {(r.source.split(",")[0], r.setting.split(",")[0]) for r in found if r.verdict == "red"}
    assert red == {
        ("NeuroSim MLP V3.0", "write"),
        ("Marinella et al.", "joules of a product from parts"),
        ("RPU", "system"),
        ("Sinangil", "data 2: 0.8 V over 1.0 V"),
        ("Colonnade", "0.6 V"),
    }
    assert all(r.reason for r in found if r.verdict == "red")
    assert said.unmet == 2


@pytest.mark.parametrize(
    "source,median,largest",
    [
        ("NeuRRAM, time", 1.4, 1.8),
        ("NeuRRAM, efficiency", 3.9, 20.0),
        ("Sinangil, JSSC 2021", 4.0, 5.6),
        ("Sinangil, JSSC 2021, sweep", 2.3, 7.0),
        ("Colonnade, JSSC 2021", 5.0, 9.5),
    ],
)
def test_tables_err_as_another_evaluation_found(found, source, median, largest):
    each = sorted(errors(found, source))
    middle = (each[(len(each) - 1) // 2] + each[len(each) // 2]) / 2
    assert middle == pytest.approx(median, abs=0.35)
    assert each[-1] == pytest.approx(largest, abs=0.06)


@pytest.mark.parametrize(
    "source,setting,percent",
    [
        ("NeuroSim", "read, a training image", -0.01),
        ("ISAAC", "tile from conversions at 1.667", 3.9),
        ("ISAAC", "tile from conversions at 1.5625", 0.0),
        ("ISAAC", "MACs a second", 0.0),
        ("PUMA", "latency", 0.0),
        ("PUMA", "energy", -14.6),
        ("ZigZag", "clock", 0.0),
        ("ZigZag", "area", 0.0),
        ("ZigZag", "joules", 0.0),
        ("HERMES", "chip, four phases", -5.5),
        ("Jia, JSSC 2020", "column, 1.2 V", -5.2),
        ("Jia, JSSC 2020", "datapath, 1.2 V", 12.5),
        ("NeuRRAM, fJ", "word lines 3/1", -17.6),
        ("NeuRRAM, fJ", "inputs 3/1", 11.1),
        ("NeuRRAM, recipe", "6/4", 6.0),
        ("Sinangil, JSSC 2021, sweep", "1.0 V", -7.0),
        ("Sinangil, Table I", "data 2", 42.9),
        ("Colonnade, JSSC 2021, supply", "0.7 V", 20.5),
        ("Colonnade, JSSC 2021, supply", "0.6 V", 121.9),
    ],
)
def test_rows_err_as_another_evaluation_found(found, source, setting, percent):
    row = [r for r in found if r.source.startswith(source) and r.setting.startswith(setting)][0]
    assert 100 * row.error == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize("what,median,largest", [("rate", 0.7, 2.5), ("latency", 0.7, 8.0)])
def test_one_adders_time_gives_those_of_a_macro(found, what, median, largest):
    each = errors(found, f"Colonnade, JSSC 2021, {what}", Kind.COUNTED)
    assert len(each) == 15 and max(each) == pytest.approx(largest, abs=0.06)
    assert sorted(each)[7] == pytest.approx(median, abs=0.3)


def test_counts_are_the_ledgers(found):
    """Lines charged once, 110 conversions: what the ledger counts costs 175.6 pJ."""
    assert one(found, "NeuroSim", "the same").ours == pytest.approx(175.6, abs=0.1)


def test_choices_of_fitted_cells():
    features = [[p.steps[0], p.steps[1] + p.steps[2]] for p in NEURRAM]
    times = [p.time for p in NEURRAM]
    assert str(choices(features, times)) == "44/45"
    a, b = solved([[1, 0], [0, 1]], [0.0, 0.0], (0, 1)), solved(features, times, (1, 7))
    assert a == [0, 0] and b[1] == pytest.approx(times[1], rel=1e-12)
    assert math.isclose(solved([[1.0], [2.0]], [3.0, 9.0], (0,))[1], 6.0)
