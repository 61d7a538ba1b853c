"""The study of energy: its runs on few epochs, and the report they make."""

import pytest
import torch

import crossbar as xb
from experiments.lab.command import parser
from experiments.lab.study import studies
from experiments.studies.energy import runs
from experiments.tasks.data import Digits


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
