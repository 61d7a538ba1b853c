"""The study of energy: its runs on few epochs, and the report they make."""

import pytest
import torch

import crossbar as xb
from experiments.lab.command import parser
from experiments.lab.readout import data
from experiments.lab.report import Picture
from experiments.lab.store import Store
from experiments.lab.study import studies
from experiments.lab.tradeoffs import Offer, breakdown, front
from experiments.studies.energy import runs
from experiments.tasks.data import Digits
from experiments.tasks.energy import COSTS
from experiments.tasks.training import watched


@pytest.fixture(autouse=True)
def small(monkeypatch):
    whole = Digits().load()
    few = whole._replace(
        x_train=whole.x_train[:64], y_train=whole.y_train[:64],
        x_test=whole.x_test[:32], y_test=whole.y_test[:32],
    )  # fmt: skip
    monkeypatch.setattr(runs.Digits, "load", lambda self: few)


def test_joules_grow_with_the_epochs_and_evaluations_are_not_counted():
    found = runs.Trained("in situ, pulsed", epochs=3).execute({})
    first, second, third = found.curves["joules"]
    assert 0 < first < second < third == pytest.approx(found.metrics["training"], rel=1e-12)
    # 64 images a time through 64-64-10, forward, backward and outer product
    assert found.metrics["training macs"] == pytest.approx(
        2 * 3 * 64 * (64 * 64 + 2 * 64 * 10), rel=1e-12
    )
    assert found.metrics["inference low"] < found.metrics["inference"]
    assert found.metrics["event adc"] < found.metrics["inference"]


def test_an_image_is_the_mean_of_all():
    model = xb.convert(runs.network((1, 8, 8)), runs.chip(), mode=xb.Programmed(), seed=0)
    data = Digits().load()
    bill, macs = runs.inference(model, data)
    assert macs == 64 * 64 + 64 * 10
    with torch.no_grad(), xb.ledger(model) as ledger:
        model(data.x_test)
    whole = ledger.price(runs.COSTS).total.joules
    assert bill.total.joules == pytest.approx(whole / 32, rel=1e-12)


def test_averages_err_by_the_covariance():
    found = runs.Averages(epochs=1).execute({})
    assert set(found.curves) == {"mean x² × mean G", "(mean x)² × mean G", "one average a cell"}
    assert all(len(v) == 4 for v in found.curves.values())
    least = [abs(e) for e in found.curves["mean x² × mean G"]]
    squared = [abs(e) for e in found.curves["(mean x)² × mean G"]]
    assert max(least) < min(squared)
    assert all(e < 0 for e in found.curves["(mean x)² × mean G"])  # Jensen


def test_the_ratio_of_pulses_is_its_two_parts():
    found = runs.Cancelled(16).execute({}).metrics
    assert found["ratio"] == pytest.approx(found["cancellation"] * found["rounding"], rel=1e-12)
    assert 0 < found["rounding"] < 1 < found["cancellation"]
    # cells of one conductance would have the ratio of pulses; half-selected ones come on top
    assert found["joules ratio, pulsed cells"] == pytest.approx(found["ratio"], rel=0.1)
    assert found["joules ratio"] > found["joules ratio, pulsed cells"]


@pytest.mark.slow
def test_the_report_is_made_of_stored_runs():
    study = studies()["energy"]
    options = parser(studies()).parse_args(["energy", "--epochs", "1", "--seeds", "1"])
    options.command = "python -m experiments energy"

    rows = {}
    for run in study.runs(options):
        made = run.execute({})
        rows[run] = type("Row", (), {
            "metrics": made.metrics, "curves": made.curves,
            "seconds": 0.0, "finished": "", "versions": {},
        })()  # fmt: skip
    report = study.report(options, rows)
    assert len(report.table.rows) == len(runs.WAYS)
    assert all(row[1].endswith("%") for row in report.table.rows)  # never joules alone


def test_the_report_is_made_of_real_runs_of_one_epoch(tmp_path):
    """Every way, spikes and drift among them; figures of trade-offs and of parts."""
    study = studies()["energy"]
    options = parser({study.name: study}).parse_args([study.name, "--epochs", "1", "--seeds", "1"])
    with Store(tmp_path) as store:
        for run in study.runs(options):
            store.put("energy", run, run.execute(store), 1.0)
        report = study.report(options, store)
        week = store[runs.Trained(runs.REFRESHED, 1)].metrics
        spikes = store[runs.Trained(runs.SPIKING, 1)].metrics
    assert [row[0] for row in report.table.rows] == list(runs.WAYS)
    names = {item.name for section in report.sections for item in section.items
             if isinstance(item, Picture)}  # fmt: skip
    assert {"pareto-inference", "pareto-training", "parts-inference", "parts-training"} <= names
    assert "averages" in names
    # a week of the two arrays' standing power; seven writes of every cell
    assert week["standing by"] == pytest.approx(2 * 105.65e-6 / 2 * 7 * 86400.0, rel=1e-9)
    # every tile's rows driven and its columns read, 8 times, at first and on each of seven days
    assert 0 < week["compensation"] and week["compensated accuracy"] > 0
    assert 0 < week["refresh"] < 1e-9 and spikes["event digital_mac"] > 0
    assert spikes["macs"] > 8 * (64 * 64 + 64 * 10)


def test_the_front_is_what_nothing_betters():
    points = {"a": (3, 90), "b": (1, 50), "c": (2, 49), "d": (2, 80), "e": (4, 90), "f": (3, 85)}
    offers = [Offer(name, *point) for name, point in points.items()]
    assert [offer.name for offer in front(offers)] == ["b", "d", "a"]
    drawn = data(breakdown({"p": {"x": 3.0, "y": 1.0}, "q": {"y": 2.0}}, "share"))
    assert drawn.splitlines()[1:] == ["panel 1,x,75,0", "panel 1,x,0,1",
                                      "panel 1,y,25,0", "panel 1,y,100,1"]  # fmt: skip


def test_runs_have_the_joules_and_seconds_of_an_image():
    """ADC of 8 bits: 64 → 10, one tile, priced apart from the ledger's own sums."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False))
    chip = xb.Chip(forward=xb.Periphery(xb.DAC(8), xb.ADC(8)))
    model = xb.convert(net, chip, mode=xb.Programmed(), seed=0)
    images = Digits().load()
    *_, found = watched(model, images.x_test, images.y_test)
    costs = COSTS.energy
    lit = float((images.x_test != 0).sum()) / 32  # rows that are driven, of an image
    wanted = 64 * costs["dac[8]"].value + 10 * costs["adc[8]"].value
    wanted += 8 * (64 * costs["load"].value + 10 * costs["store"].value)
    wanted += lit * costs["row_drive"].value + lit * 20 * costs["line_charge"].value
    wanted += 10 * costs["integrate"].value
    assert wanted == pytest.approx(found["energy"], rel=0.02)  # the cells' own, small
    assert wanted < found["energy"] < found["energy high"] and found["energy low"] < wanted
    # 32 images one after another, read and convert: in step with the slower one, and one to fill
    assert found["latency"] == pytest.approx(33 / 32 * COSTS.time["adc"].value, rel=1e-9)
    assert found["clipped 1.weight"] >= 0


def test_runs_whose_joules_cannot_be_told_are_runs_all_the_same():
    """Charge-domain columns are not counted, converters without bits have no price."""
    images = Digits().load()
    for adc in (xb.ADC(8, capacitor=1e-15), None):
        chip = xb.Chip(forward=xb.Periphery(xb.DAC(8), adc))
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        model = xb.convert(net, chip, mode=xb.Programmed(), seed=0)
        accuracy, _, found = watched(model, images.x_test, images.y_test)
        assert 0 <= accuracy <= 100 and "energy" not in found
