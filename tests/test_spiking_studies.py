"""The studies of spikes: what they declare and refuse, and their reports on tiny settings."""

from argparse import Namespace
from pathlib import Path

import pytest

from experiments.lab.command import main, parser
from experiments.lab.study import studies

NAMES = {
    "stdp": ["--seeds", "1", "--images", "4"],
    "reservoir": ["--seeds", "1"],
    "synfire": ["--trials", "1"],
    "snn": ["--seeds", "1", "--epochs", "1"],
}


def options(name: str, *given: str) -> Namespace:
    return parser(studies()).parse_args([name, *given])


@pytest.mark.parametrize("name", NAMES)
def test_every_run_says_what_it_computes(name: str) -> None:
    runs = studies()[name].runs(options(name))
    assert len(runs) == len(set(runs)) >= 15
    assert all(run.label() for run in runs)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("stdp", "--images"), ("reservoir", "--seeds"), ("synfire", "--trials"), ("snn", "--epochs")],
)
def test_settings_without_sense_are_refused(name: str, flag: str) -> None:
    with pytest.raises(ValueError, match=flag):
        studies()[name].runs(options(name, flag, "0"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_reports_are_written(name: str, tmp_path: Path) -> None:
    assert main([name, *NAMES[name], "--out", str(tmp_path), "--workers", "1"]) in (0, 3)
    page = (tmp_path / name / "report.html").read_text()
    assert "<img" in page or "<svg" in page
