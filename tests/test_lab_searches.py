"""Sobol's indices and the search for the cheapest setting, against functions that are known."""

import math
from argparse import ArgumentParser
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from experiments.lab.command import main
from experiments.lab.kept import frame
from experiments.lab.run import Outcome, Run
from experiments.lab.store import Store
from experiments.lab.study import studies
from experiments.studies.cheapest.search import search
from experiments.studies.sensitivity.sobol import indices, sampled
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Evaluate, Train
from experiments.tasks.training import Recipe

SWEEP = """
mode = "digital"
chip = "pcm"
epochs = 1
seeds = 2

[[axes]]
field = "forward.adc.bits"
linear = {from = 8, to = 3, count = 6}

[[axes]]
field = "device.write"
values = ["GaussianWrite(0.01)", "GaussianWrite(0.03)", "GaussianWrite(0.1)"]
"""
NUMBERS = """
mode = "digital"
chip = "Device(1e-6, 50e-6, write=GaussianWrite(0.01), read=GaussianRead(0.01))"
epochs = 1
seeds = 1

[[axes]]
field = "forward.adc.bits"
linear = {from = 3, to = 8, count = 6}

[[axes]]
field = "device.write.sigma"
log = {from = 0.001, to = 0.1, count = 2}

[[axes]]
field = "device.read.sigma"
linear = {from = 0.0, to = 0.1, count = 2}
"""


def test_first_order_indices_of_ishigami() -> None:
    """sin x₁ + 7 sin² x₂ + .1 x₃⁴ sin x₁: .3139, .4424 and 0; total .5576, .4424, .2437."""
    pytest.importorskip("SALib")
    x = 2 * math.pi * sampled(3, 4096) - math.pi
    y = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    found = indices(3, y.tolist())
    assert [s.first for s in found] == pytest.approx([0.3139, 0.4424, 0.0], abs=0.02)
    assert [s.total for s in found] == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.02)
    assert all(0 < s.first_half < 0.1 for s in found[:2])
    assert indices(3, [1.0] * len(x))[0].total == 0.0  # a constant
    with pytest.raises(ValueError, match="power of two >= 2, got 100"):
        sampled(3, 100)


def test_the_cheapest_of_a_landscape_is_found_and_a_stopped_search_goes_on() -> None:
    """512 settings, 40 trials: within .1 of the true optimum, which is what all of them give."""
    pytest.importorskip("optuna")
    sizes = (8, 8, 8)

    def price(place: tuple[int, ...]) -> float:
        return sum(1 - k / 7 for k in place) / 3

    def accuracy(place: tuple[int, ...]) -> float:
        return 98 - 0.3 * place[0] ** 1.5 - 0.02 * place[1] ** 3 - 0.1 * place[2]

    every = [p for p in product(*map(range, sizes)) if accuracy(p) >= 95]
    known: dict[tuple[int, ...], float] = {}
    rounds = 0
    while True:  # as the command does: what is missing is computed, then it is asked anew
        tried, missing = search(sizes, price, known.get, 95.0, 40)
        if not missing:
            break
        rounds += 1
        known |= {place: accuracy(place) for place in missing}
    assert rounds > 5 and len(known) == 40
    best = min(t.price for t in tried if t.accuracy >= 95)
    assert best <= min(map(price, every)) + 0.1
    assert search(sizes, price, accuracy, 95.0, 40)[0] == tried  # as uninterrupted


def invented(run: Run) -> Outcome:
    """Accuracy falls with every bit of the ADC and with errors of writing and reading."""
    if isinstance(run, Train):
        return Outcome({"accuracy": 97.0}, {})
    assert isinstance(run, Evaluate)
    adc, device = run.chip.forward.adc, run.chip.device
    noise = getattr(device.read, "sigma", 0.0) or 0.0
    lost = 8 * (8 - adc.bits) / 5 + 50 * device.write.sigma + noise
    return Outcome({"accuracy": 97.0 - lost + 0.01 * run.seed, "energy": 1e-12 * adc.bits}, {})


def parsed(name: str, *arguments: str):
    parser = ArgumentParser()
    studies()[name].arguments(parser)
    return parser.parse_args(arguments)


def test_a_sweep_is_searched_through_the_store(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "own.toml").write_text(SWEEP)
    study = studies()["cheapest"]
    for way, best in (("demand", ("7", "0.1")), ("energy", ("4", "0.01"))):
        options = parsed(
            "cheapest", str(tmp_path / "own.toml"), "--target", "90", "--trials", "40",
            "--price", way,
        )  # fmt: skip
        known: dict[Run, Outcome] = {}  # in place of the store
        runs = study.runs(options)
        while runs:
            known |= {run: invented(run) for run in runs}
            runs = study.more(options, known)  # type: ignore[arg-type]
        assert len(known) == 2 * 18  # all that there are, none twice
        report = study.report(options, known)  # type: ignore[arg-type]
        first = report.table.rows[0]
        assert first[-1] == "met" and first[0] == best[0] and best[1] in first[1], first
        assert report.checks[0].holds


def test_fields_of_a_file_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("SALib")
    (tmp_path / "own.toml").write_text(NUMBERS)
    study, options = studies()["sensitivity"], parsed(
        "sensitivity", str(tmp_path / "own.toml"), "--samples", "16"
    )  # fmt: skip
    runs = study.runs(options)
    written = [run.chip.device.write.sigma for run in runs]  # type: ignore[attr-defined]
    assert 0.001 <= min(written) < 0.002 and sorted(written)[len(written) // 2] < 0.02  # log
    bits = {run.chip.forward.adc.bits for run in runs}  # type: ignore[attr-defined]
    assert bits == {3, 4, 5, 6, 7, 8}
    report = study.report(options, {run: invented(run) for run in runs})  # type: ignore[arg-type]
    assert [row[0] for row in report.table.rows][0] == "forward.adc.bits"
    assert report.checks[0].holds
    (tmp_path / "words.toml").write_text(SWEEP)
    assert main(["sensitivity", str(tmp_path / "words.toml"), "--out", str(tmp_path)]) == 2
    assert "device.write: sensitivity varies numbers of one field" in capsys.readouterr().err


def test_results_are_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    run = Train(Digits(), MLP((8,)), Recipe(3, 100, 0.2), seed=4)
    with Store(tmp_path) as store:
        store.put("one", run, Outcome({"accuracy": 91.0}, {}), 1.0)
        store.put("two", replace(run, seed=5), Outcome({"accuracy": 92.0, "loss": 0.5}, {}), 1.0)
        table = frame(store)
        assert isinstance(table, pandas.DataFrame) and list(table["accuracy"]) == [91.0, 92.0]
        assert list(table["settings.seed"]) == ["4", "5"] and table["loss"].isna().sum() == 1
        assert list(frame(store, "two")["settings.recipe.epochs"]) == ["3"]
