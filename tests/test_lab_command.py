"""The command line: studies and laws of one's own, what is kept, wrong input in a sentence."""

import csv
import re
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from rich.console import Console

from devices import Device
from experiments.lab import kept, paths
from experiments.lab.command import main
from experiments.lab.plots import Line, Panel, panels
from experiments.lab.report import Fact, Picture, Report, Section, Table, show, write
from experiments.lab.run import Outcome, key
from experiments.lab.statistics import bands, decided, estimate, spreads
from experiments.lab.store import Store
from experiments.lab.study import listed
from experiments.tasks.runs import Response

EXAMPLE = Path(__file__).parents[1] / "experiments" / "examples" / "my_study.py"

LAW = """
from dataclasses import dataclass
from devices import ConstantStep

@dataclass(frozen=True)
class Bell:
    height: float = 1.0

def helper(): return 1
"""


def test_a_study_of_ones_own_lies_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(EXAMPLE, tmp_path / "own_reads.py")
    command = ["own_reads.py", "--seeds", "2", "--out", "out", "--workers", "1"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "6 runs to do, 0 already stored" in said and "(a guess: up to" in said
    assert re.search(r" workers, [1-9]\d* kB of disk", said), said
    assert not Path("out").exists()
    assert main(command) == 0
    page = Path("out/my-study/report.html").read_text()
    assert "Mean over 2 seeds" in page and "python -m experiments own_reads.py" in page
    with Store("out", write=False) as store:
        assert len(store) == 6
        errors = {row.label: row.metrics["error"] for row in store.rows()}
    assert errors["sigma 0.1, seed 0"] > 5 * errors["sigma 0.01, seed 0"] > 0
    # the time that is said is that of the runs that are there
    database = sqlite3.connect("out/results.sqlite")
    database.execute("UPDATE runs SET seconds = 1800.0")
    database.commit()
    database.close()
    capsys.readouterr()
    assert main([*command[:2], "3", *command[3:], "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search("3 runs to do, 6 already stored; about 1 h 3[01] min on", said), said
    # nothing is computed anew, and what is missing is said
    assert main(["report", "own_reads.py", "--seeds", "3", "--out", "out"]) == 0
    assert "6 of 9 runs are stored" in Path("out/my-study/report.html").read_text()


def test_laws_of_ones_own_have_dotted_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_bell.py").write_text(LAW)
    monkeypatch.syspath_prepend(tmp_path)
    made = paths.parse("own_bell.Bell(height=2.0)")
    assert type(made).__module__ == "own_bell" and made.height == 2.0
    with pytest.raises(ValueError, match=r"own_bell\.Bel in .*did you mean 'Bell'"):
        paths.parse("own_bell.Bel()")
    with pytest.raises(ValueError, match="not a public constructor"):
        paths.parse("own_bell.helper()")
    with pytest.raises(ValueError, match="no module that can be imported"):
        paths.parse("own_belll.Bell()")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 runs of 20 epochs."""
    out = tmp_path_factory.mktemp("filled")
    device = Device(1e-6, 5e-5)
    with Store(out) as store:
        run = Response(device, 1, seed=0)
        curves = {name: [0.1 * n for n in range(20)] for name in ("loss", "accuracy")}
        store.put("test", run, Outcome({"accuracy": 90.0, "loss": 0.5}, curves), 1.0)
    database = sqlite3.connect(out / "results.sqlite")
    database.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) "
        "INSERT INTO runs SELECT printf('%024x', i), CASE i % 2 WHEN 0 THEN 'even' ELSE study END, "
        "kind, label, replace(settings, 'seed=0', 'seed=' || i), status, metrics, curves, error, "
        "seconds, finished, environment FROM n, runs"
    )
    database.commit()
    database.close()
    return out


@pytest.mark.slow
def test_ten_thousand_runs_are_quickly_looked_at(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(*arguments: str) -> float:
        begin = time.process_time()
        assert main([*arguments, "--out", str(filled)]) == 0
        return time.process_time() - begin

    assert seconds("list") < 5
    assert capsys.readouterr().out.count("accuracy 90") == 10_000
    assert seconds("show", "000000000000000000000001") < 5
    assert "seed" in capsys.readouterr().out
    assert seconds("compare", "000000000000000000000001", "000000000000000000000002") < 5
    told = capsys.readouterr().out
    assert "seed" in told and "g_min" not in told  # what differs alone
    assert seconds("export", "--csv", str(tmp_path / "all.csv")) < 5
    with (tmp_path / "all.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 10_000 and {r["settings.device.g_min"] for r in records} == {"1e-06"}
    assert len({r["settings.seed"] for r in records}) == 10_000
    assert seconds("export", "--epochs", str(tmp_path / "e.csv"), "--study", "even") < 5
    assert (tmp_path / "e.csv").read_text().count("\n") == 1 + 4999 * 40
    assert seconds("prune", "--study", "even") < 5
    assert "4999 runs would be forgotten" in capsys.readouterr().out
    begin = time.perf_counter()  # of the wall: what could cost is to wait for the disk
    assert main(["prune", "--study", "even", "--yes", "--out", str(filled)]) == 0
    assert time.perf_counter() - begin < 5
    with Store(filled, write=False) as store:
        assert len(store) == 5001


def test_pruned_runs_are_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = Device(1e-6, 5e-5)
    with Store(tmp_path) as store:
        for seed in range(3):
            run = Response(device, 1, seed=seed)
            store.put("a" if seed else "b", run, Outcome({}, {}, {}), 0.0)
    assert main(["prune", "--study", "a", "--yes", "--out", str(tmp_path)]) == 0
    with Store(tmp_path) as store:
        assert [row.study for row in store.rows()] == ["b"]
        assert len(list(store.networks.iterdir())) == 1


def test_settings_are_flat_without_evaluation() -> None:
    text = "Train(data=Digits(), chip=Chip(device=Device(g_min=1e-06), tile=(4, 4)), seed=3)"
    assert kept.flat(text) == {
        "data": "Digits",
        "chip": "Chip",
        "chip.device": "Device",
        "chip.device.g_min": "1e-06",
        "chip.tile": "(4, 4)",
        "seed": "3",
    }


def test_few_repeats_decide_nothing() -> None:
    assert decided(estimate([1.0]), 0.0) is None
    assert decided(estimate([1.0, 1.1, 0.9]), 0.0) is True
    assert decided(estimate([1.0, 1.1, 0.9]), high=0.0) is False
    assert decided(estimate([1.0, -2.0, 4.0]), 0.0) is None  # −6.5 … 8.5
    assert "no band" in bands(1) and "bands span" in bands(3)
    assert "interval can be given" in spreads(1) and "95 %" in spreads(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablate", "devise.g_min", "1"], "did you mean 'device'"),
        (["ablate", "device.update.sigma_c2c", "oops"], "unknown name 'oops'"),
        (["ablate", "device.update.sigma_c2c", "("], "is no Python value"),
        (["ablate", "forward.adc.bits", "4", "--after", "nan"], "--after must be a time >= 0 s"),
        (["ablate", "forward.adc.bits", "4", "--after", "-1"], "--after must be a time >= 0 s"),
        (["ablate", "forward.adc.bits", "4", "--chip", "sofd"], "unknown preset 'sofd'"),
        (["ablate", "forward.adc.bits", "4", "--mode", "3"], "--mode must be InSitu"),
        (["ablate", "forward.adc.bits", "4", "--chip", "nowhere.Law()"], "no module that can be"),
        (["robustness", "--seeds", "0"], "--seeds must be >= 1"),
        (["robustness", "--samples", "3"], "--samples must be >= 100"),
        (["robustness", "--data", "mnist"], "--data mnist needs --data-dir"),
        (["robustness", "--workers", "0"], "--workers must be >= 1"),
        (["nonlinearity", "--epochs", "2"], "--epochs must be >= 3"),
        (["neurosim", "--seeds", "0"], "--seeds must be >= 1"),
        (["device", "nowhere.csv"], "nowhere.csv is no file"),
        (["device", "."], ". is no file"),
        (["nowhere.py"], "there is no file nowhere.py"),
        (["list", "--out", "nowhere"], "there are no results in nowhere"),
        (["prune", "--out", "nowhere"], "prune wants at least one of"),
        (["robustness", "--quick", "--epochs-to", "no/such/place.csv"], "No such file"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", "SyntaxError"),
        ("import nothing_of_that_name", "No module named"),
        ("x = 1", "must define one subclass of Study, found 0"),
    ],
)
def test_a_study_that_cannot_be_read_is_one_sentence(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    path = tmp_path / f"own_{len(text)}.py"
    path.write_text(text)
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_what_a_run_found_are_numbers_or_a_sentence() -> None:
    found = Outcome({"a": torch.tensor(1.5), "b": np.float32(2), "c": True}, {"d": torch.ones(2)})
    assert found.metrics == {"a": 1.5, "b": 2.0, "c": 1.0} and found.curves == {"d": [1.0, 1.0]}
    assert {type(v) for v in found.metrics.values()} == {float}
    for metrics, curves in (({"a": "1"}, {}), ({"a": torch.ones(2)}, {}), ({}, {"a": 3.0})):
        with pytest.raises(TypeError, match="'a' must be"):
            Outcome(metrics, curves)


def test_words_of_ones_own_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label, a metric, an error with square brackets; a failed run is shown with its error."""
    run, broken = (Response(Device(1e-6, 5e-5), 1, seed=seed) for seed in range(2))
    with Store(tmp_path) as store:
        store.put("test", run, Outcome({"x [/dim] y": 1.0}, {"z[/b]": [2.0]}), 1.0)
        store.put_failure("test", broken, "Traceback\nValueError: no [/red] paint", 1.0)
        keys = [key(run), key(broken)]
        report = listed("t [/i]", [run, broken], store)
    show(replace(report, facts=[Fact("82.7 %", "in place", "on [a] device")]), Console())
    assert "82.7 %  in place, on [a] device" in capsys.readouterr().out
    assert main(["show", keys[0], "--out", str(tmp_path)]) == 0
    assert "x [/dim] y" in capsys.readouterr().out
    assert main(["show", keys[1], "--out", str(tmp_path)]) == 0
    assert "no [/red] paint" in capsys.readouterr().out
    assert main(["compare", *keys, "--out", str(tmp_path)]) == 2
    assert "no run that was done begins" in capsys.readouterr().err


def test_a_page_has_its_figures_whole_in_fewer_bytes(tmp_path: Path) -> None:
    """Text of a figure is untouched, coordinates lose less than a tenth of a point."""
    x = [0.001 * n for n in range(200)]
    line = Line("it's <0.12345> & 'so'", x, [v**2 for v in x])
    figure = panels([Panel('a "title"', "x", "y", [line, Line("b", x, x)])])
    table = Table(["a"], [["1"]])
    report = Report("t", "", [], table, sections=[Section("s", [], [Picture("p", figure, "c")])])
    page = write(report, tmp_path).read_text()
    whole = (tmp_path / "figures" / "p.svg").read_text()
    uri = re.search(r'<img src="data:image/svg\+xml;charset=utf-8,([^"]*)"', page)
    assert uri is not None and len(uri.group(1)) < len(whole)  # of base64 4/3
    thin, full = ElementTree.fromstring(unquote(uri.group(1))), ElementTree.fromstring(whole)
    texts = [  # looks are said once, in a style of the page's own
        [e.text.strip() for e in tree.iter() if (e.text or "").strip() and "style" not in e.tag]
        for tree in (thin, full)
    ]
    assert "it's <0.12345> & 'so'" in texts[0] and set(texts[0]) <= set(texts[1])
    paths = [
        [e.get("d", "") for e in tree.iter() if e.tag.endswith("path")] for tree in (thin, full)
    ]
    for few, many in zip(*paths, strict=True):
        numbers = [[float(n) for n in re.findall(r"-?[\d.]+", d)] for d in (few, many)]
        np.testing.assert_allclose(*numbers, atol=0.1)
    data = re.search(r'href="data:text/csv;charset=utf-8,([^"]*)"', page)
    assert data is not None
    assert unquote(data.group(1)) == (tmp_path / "figures" / "p.csv").read_text()
