"""Published studies and another emulator beside ours: verdicts, messages."""

import csv
import json
import os
import random
import stat
import struct
import sys
from argparse import ArgumentParser
from pathlib import Path
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import pytest

from experiments.lab.command import main
from experiments.lab.run import Outcome, Run, Stored
from experiments.studies.peer.runs import Ours, Theirs, version_in
from experiments.studies.peer.study import Peer
from experiments.studies.verify.anchors import ANCHORS
from experiments.studies.verify.anchors.curve import Labels
from experiments.studies.verify.anchors.pcm import Constants
from experiments.studies.verify.anchors.tables import Tables
from experiments.studies.verify.anchors.wires import Array, Lines
from experiments.studies.verify.claims import Anchor, Claim
from experiments.studies.verify.study import Verify
from experiments.tasks.data import Mnist
from experiments.tasks.neurosim import pictures


class Computed(Stored):
    """What runs give, computed when it is first asked for; `spoilt` is laid over some."""

    known: ClassVar[dict[Run, Outcome]] = {}

    def __init__(self, **spoilt: list[float]) -> None:
        self.spoilt = spoilt

    def __getitem__(self, run: Run) -> Outcome:  # type: ignore[override]
        if run not in self.known:
            self.known[run] = run.execute(self)
        found = self.known[run]
        return Outcome(found.metrics, found.curves | self.spoilt)

    def network(self, run: Run) -> dict:  # type: ignore[type-arg]
        raise KeyError


class Invented(Computed):
    """The same for every run, but for its spread."""

    def __getitem__(self, run: Run) -> Outcome:  # type: ignore[override]
        made = repeats(50.0, 0.1 + 0.01 * (len(repr(run)) % 5), 10)
        return Outcome({"accuracy": 50.0}, dict.fromkeys(("accuracy", "errors", "mean"), made))


def repeats(mean: float, sd: float, n: int) -> list[float]:
    """So many numbers with that mean and spread."""
    z = [NormalDist().inv_cdf((k + 0.5) / n) for k in range(n)]
    scale = sd / (sum(v * v for v in z) / (n - 1)) ** 0.5
    return [mean + scale * v for v in z]


def test_a_verdict_is_that_of_the_whole_interval() -> None:
    def holds(ours: list[float], **bounds: float) -> bool | None:
        return Claim("s", "t", "points", "p", ours, **bounds).holds

    assert holds(repeats(12, 1, 5), low=10) is True
    assert holds(repeats(12, 3, 5), low=10) is None  # 12 ± 3.7
    assert holds(repeats(6, 1, 5), low=10) is False
    assert holds([12.0], low=10) is None  # one seed
    assert Claim("s", "t", "", "p", [12.0], low=10, exact=True).holds is True
    assert Claim("s", "t", "", "p", [float("nan")], low=10, exact=True).holds is False


@pytest.mark.parametrize(
    ("anchor", "name"),
    [(Constants, "write"), pytest.param(Labels, "mean", marks=pytest.mark.slow), (Lines, "")],
)
def test_what_no_seed_moves_is_met_and_a_spoilt_number_is_red(
    anchor: type[Anchor], name: str
) -> None:
    claims = anchor(True).claims(Computed())
    assert len(claims) >= 7 and all(claim.holds for claim in claims)
    if name:
        old = Computed()[anchor(True).runs()[0]].curves[name]
        spoilt = {name: [1.02 * v if k % 3 == 1 else v for k, v in enumerate(old)]}
        assert not all(claim.holds for claim in anchor(True).claims(Computed(**spoilt)))


def test_hardly_any_wire_takes_hardly_any_current() -> None:
    alone = Array(50e-6, 0.0001, size=3).execute(Computed()).metrics
    assert 0 < alone["lost"] < 1e-3 and alone["error"] < 1e-10


@pytest.mark.parametrize("quick", [True, False])
def test_every_published_study_has_runs_claims_and_both_verdicts(quick: bool) -> None:
    """Invented results, equal everywhere: no claim of a gap holds, and the table says so."""
    options = parsed(Verify(), ["--quick"] * quick)
    options.only = [a.key for a in ANCHORS if not a.exact]
    assert len(options.only) == 8 and len(Verify().runs(options)) > 50
    report = Verify().report(options, Invented())  # type: ignore[arg-type]
    table = [dict(zip(report.table.headers, row, strict=True)) for row in report.table.rows]
    assert {row["study"] for row in table} == set(options.only)
    verdicts = {row["verdict"] for row in table}
    assert verdicts == {"open"} if quick else {"red", "green"} <= verdicts
    gap = [row for row in table if row["criterion"].startswith("≥ ") and row["unit"] == "points"]
    assert all(row["verdict"] != "green" for row in gap if float(row["criterion"][2:]) > 1)


def test_the_table_is_for_machines_and_red_rows_give_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of energies alone; the page says that no data for others were named."""
    monkeypatch.setattr("experiments.studies.verify.study.ANCHORS", ())
    status = main(["verify", "--out", str(tmp_path)])
    assert "A12 is not computed" in (tmp_path / "verify" / "report.html").read_text()
    with (tmp_path / "verify" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = {"study", "source", "setting", "published", "criterion", "ours", "verdict"}
    assert told <= rows[0].keys()
    verdicts = [row["verdict"] for row in rows]
    assert status == (3 if "red" in verdicts else 0) and verdicts.count("green") > 5


# ---- tables on data that a user brings ---------------------------------------------------------


def mnist(folder: Path, train: int, test: int) -> Path:
    """A folder of the four files, with a bright square whose place is the digit."""
    for stem, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, digit in zip(images, labels, strict=True):
            row, column = 6 + 8 * (digit // 5), 4 + 4 * (digit % 5)
            image[row : row + 5, column : column + 4] = 255
        for name, axes, data in (("images-idx3", 3, images), ("labels-idx1", 1, labels)):
            head = struct.pack(f">HBB{axes}I", 0, 8, axes, *data.shape)
            (folder / f"{stem}-{name}-ubyte").write_bytes(head + data.tobytes())
    return folder


def test_tables_without_their_data_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = tmp_path / "none"
    assert main(["verify", "--only", "A12", "--out", str(none)]) == 2
    said = capsys.readouterr().err
    assert "--only A12 needs --data-dir" in said and said.count("\n") == 1
    assert main(["verify", "--data-dir", str(tmp_path), "--out", str(none)]) == 2
    said = capsys.readouterr().err
    assert "MNIST needs these four IDX files" in said and said.count("\n") == 1
    assert not none.exists()
    assert {run for run in Verify().runs(parsed(Verify(), []))}.isdisjoint(
        Tables(False, Mnist(str(tmp_path))).runs()
    )


class Met(Stored):
    """Every run as published, but for so many points."""

    def __init__(self, tables: Tables, off: float) -> None:
        self.found = {
            run: cell.published + off for cell in tables.cells for run in tables.repeats(cell)
        }
        self.draw = random.Random(0)

    def __getitem__(self, run: Run) -> Outcome:  # type: ignore[override]
        epochs = [self.found[run] + self.draw.gauss(0, 0.01)] * 100
        return Outcome({}, {"accuracy": epochs})

    def network(self, run: Run) -> dict:  # type: ignore[type-arg]
        raise KeyError


def test_a_table_is_met_within_a_point_and_by_runs_of_its_own(tmp_path: Path) -> None:
    tables = Tables(False, Mnist(str(tmp_path)))
    assert len(set(tables.runs())) == len(tables.runs())
    cells, first = tables.cells, [tables.repeats(cell)[0] for cell in tables.cells]
    assert len(cells) == 33 and len({repr(run) for run in first}) == 33
    for off, verdict in ((0.5, True), (-0.5, True), (1.5, False), (-1.5, False), (1.0, None)):
        verdicts = [claim.holds for claim in tables.claims(Met(tables, off))]
        assert all(v is verdict for v in verdicts) or (verdict is None and None in verdicts)


def test_neurosim_sees_the_middle_of_what_a_user_brings(tmp_path: Path) -> None:
    data = Mnist(str(mnist(tmp_path, 20, 10)))
    train, _ = pictures(data)
    assert train.x.shape == (20, 400) and train.x.sum(1).eq(20).all()
    corner = train.x.view(20, 20, 20)[7].nonzero()[0]
    assert corner.tolist() == [10, 8]  # of row 14, column 12


@pytest.mark.slow
def test_tables_are_computed_where_their_data_are(tmp_path: Path) -> None:
    folder = mnist(tmp_path, 100, 50)
    command = ["verify", "--only", "A12", "--quick", "--data-dir", str(folder)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "verify" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 33 and {row["verdict"] for row in rows} == {"open"}
    found = {row["setting"]: float(row["ours"].split()[0]) for row in rows}
    assert all(0 <= accuracy <= 100 for accuracy in found.values())
    assert found["400-100-10, Ag:a-Si"] > 40  # learns within the hundred images of --quick


# ---- another emulator ----------------------------------------------------------------------------


def parsed(study: object, arguments: list[str]):
    parser = ArgumentParser()
    study.arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(arguments)


def test_a_python_without_the_other_emulator_is_one_sentence(tmp_path: Path) -> None:
    options = parsed(Peer(), ["aihwkit", "--python", fake(tmp_path, "", known=MISSING)])
    with pytest.raises(ValueError, match="it needs aihwkit and scikit-learn") as error:
        Peer().runs(options)
    assert "\n" not in str(error.value) and "No module named 'aihwkit'" in str(error.value)
    with pytest.raises(ValueError, match="none: No such file or directory"):
        version_in(str(tmp_path / "none"))


MISSING = "echo oh; echo ModuleNotFoundError: No module named \\'aihwkit\\' >&2; exit 1"


def fake(folder: Path, body: str, known: str = "echo 9.9; exit") -> str:
    """A Python of another environment: says what it knows when it is asked, else `body`."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then {known}; fi\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_rows_of_the_other_emulator_stand_beside_ours(tmp_path: Path) -> None:
    """A Python whose epochs end at 40 + seed after 1; ours are 22 + seed."""
    python = fake(tmp_path, 'echo a warning; echo "[1.0, 4$3.0]"')
    study = Peer()
    options = parsed(study, ["aihwkit", "--python", python, "--seeds", "2", "--epochs", "1"])
    options.device = ["constant step"]
    runs = study.runs(options)
    store = Computed()
    store.known.update(
        {run: Outcome({"accuracy": 22.0 + run.seed}, {}) for run in runs if isinstance(run, Ours)}
    )
    report = study.report(options, store)  # type: ignore[arg-type]
    (row,) = report.table.rows
    assert row[0] == "constant step" and row[2].startswith("22.5") and row[3].startswith("20.8")
    assert row[4].startswith("+1.8") and "aihwkit 9.9 [%]" in report.table.headers
    broken = fake(tmp_path, "echo no such device >&2; exit 3")
    run = next(r for r in runs if isinstance(r, Theirs))
    assert run.python == broken
    with pytest.raises(RuntimeError, match="status 3: no such device"):
        run.execute(None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_other_emulator_itself() -> None:
    """aihwkit in this environment, or in that of AIHWKIT_PYTHON; skipped where there is none."""
    python = os.environ.get("AIHWKIT_PYTHON", sys.executable)
    try:
        version = version_in(python)
    except ValueError as error:
        pytest.skip(str(error))
    found = Theirs("constant step", 0, 2, python, version).execute(None)  # type: ignore[arg-type]
    assert found.curves["accuracy"][-1] > 85 and json.dumps(found.metrics)
