"""The study of one's own pulse data, and the example file it ships with."""

from __future__ import annotations

from argparse import Namespace
from importlib import resources

import pytest

import devices
from devices import Device, LookupStep, PulseData, SoftBounds
from experiments.cli import main
from experiments.device_fit import both
from experiments.pulse_example import CELL, example
from experiments.studies.device import _fit

EXAMPLE = resources.files("experiments").joinpath("examples/pulses.csv")


def test_example_file_is_what_its_script_makes(tmp_path) -> None:
    example().write_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == EXAMPLE.read_text(encoding="utf-8")


def test_fitted_device_follows_the_measured_curve(tmp_path) -> None:
    path = tmp_path / "pulses.csv"
    path.write_text(EXAMPLE.read_text(encoding="utf-8"))
    found = devices.fit(path, families=[SoftBounds])
    measured, fitted = both(found, PulseData.read_csv(path))
    span = 1e6 * CELL.window.span
    worst = max(abs(a - b) for a, b in zip(measured.mean, fitted.mean, strict=True))
    assert worst < 0.08 * span
    assert eval(repr(found.device), vars(devices)) == found.device
    assert isinstance(found.device, Device)


def test_bad_options_are_said_before_any_work(tmp_path, capsys) -> None:
    path = tmp_path / "pulses.csv"
    path.write_text(EXAMPLE.read_text(encoding="utf-8"))
    assert main(["device", str(path), "--fix", "g_max", "--out", str(tmp_path)]) == 2
    assert "FIELD=VALUE" in capsys.readouterr().err
    assert main(["device", str(tmp_path / "none.csv"), "--out", str(tmp_path)]) == 2


def test_lookup_law_can_be_asked_for(tmp_path) -> None:
    path = tmp_path / "pulses.csv"
    path.write_text(EXAMPLE.read_text(encoding="utf-8"))
    options = Namespace(file=path, fix=[], law=["LookupStep"], proportional_read=False)
    found = _fit(options)
    assert isinstance(found.device.update, LookupStep)
    measured, drawn = both(found, PulseData.read_csv(path))
    worst = max(abs(a - b) for a, b in zip(measured.mean, drawn.mean, strict=True))
    assert worst < 0.08 * 1e6 * CELL.window.span


@pytest.mark.slow
@pytest.mark.parametrize("law", ["SoftBounds", "LookupStep"])
def test_whole_study_writes_its_report(tmp_path, law: str) -> None:
    path = tmp_path / "pulses.csv"
    path.write_text(EXAMPLE.read_text(encoding="utf-8"))
    given = ["device", str(path), "--quick", "--law", law, "--out", str(tmp_path / "out")]
    assert main(given) == 0
    page = (tmp_path / "out" / "device-pulses" / "report.html").read_text(encoding="utf-8")
    assert law in page and "data:image/svg" in page
    assert (law == "LookupStep") or ("SoftBounds(" in page and "sigma_c2c" in page)
