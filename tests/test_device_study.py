"""The study of one's own pulse data: its options, its pictures, and the example file it ships."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import torch

import devices
from devices import Device, LookupStep, NeuroSim, PulseData, SoftBounds
from devices.fitting.traces import traces_of
from experiments.lab.command import main, parser
from experiments.lab.study import studies
from experiments.studies.device.example import CELL, example
from experiments.studies.device.fit import both, simulated
from experiments.studies.device.study import _fit

EXAMPLE = resources.files("experiments").joinpath("examples/pulses.csv")


@pytest.fixture
def path(tmp_path):
    out = tmp_path / "pulses.csv"
    out.write_text(EXAMPLE.read_text(encoding="utf-8"))
    return out


def options(*given):
    return parser(studies()).parse_args(["device", *map(str, given)])


def test_example_file_is_what_its_script_makes(tmp_path) -> None:
    example().write_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == EXAMPLE.read_text(encoding="utf-8")


def test_whole_cycles_are_shown_both_ways(path) -> None:
    data = PulseData.read_csv(path)
    found = devices.fit(data, families=[SoftBounds])
    seen = both(found, data)
    assert seen.pulse.max() == 80 and seen.up.any() and not seen.up.all()
    assert len(np.unique(seen.trace)) == len(traces_of(data).cell)
    # the spread of the cells is the device's, so its band holds nine reads of ten
    for way in (True, False):
        assert 0.8 < seen.inside(seen.up == way) <= 1
    worst = np.abs(seen.residual[seen.trace == 0]).max() / 100 * seen.reach
    assert worst < 0.15 * 1e6 * CELL.window.span
    assert eval(repr(found.device), vars(devices)) == found.device


def test_simulated_ramps_are_those_of_the_device() -> None:
    # oracle: the closed form of soft bounds, reads 7 pulses apart
    device = Device(0.0, 50e-6, update=SoftBounds(0.5e-6))
    pulse = torch.arange(0, 141, 7)
    sign = torch.where(pulse <= 70, 1, -1)
    g = torch.linspace(1e-6, 2e-6, len(pulse), dtype=torch.float64)
    data = PulseData(("A",) * len(pulse), torch.zeros_like(pulse), pulse, sign, g)
    mean, reads = simulated(device, traces_of(data))
    up = 50e-6 - 49e-6 * 0.98 ** pulse[:11].numpy()
    # seven pulses across the turn divide in an unknown way: the trace starts anew
    down = float(g[11]) * 0.98 ** (pulse[11:].numpy() - 77)
    np.testing.assert_allclose(mean, np.r_[up, down], rtol=1e-6)
    np.testing.assert_allclose(reads, mean[:, None].repeat(reads.shape[1], 1))


def test_options_say_what_a_file_leaves_open(tmp_path, capsys) -> None:
    law = NeuroSim(60, 60, 2.0, -2.0)
    data = PulseData.measured(
        Device(2e-6, 40e-6, update=law, read=devices.GaussianRead(0.003)),
        cells=1,
        cycles=1,
        pulses=60,
        generator=torch.Generator().manual_seed(0),
    )
    g = data.g.numpy()
    rows = [
        f"{u * 1e5:.6g};{d * 1e5:.6g}".replace(".", ",") for u, d in zip(g, g[60:], strict=False)
    ]
    path = tmp_path / "mess.csv"
    path.write_bytes(("LTP (µA);LTD (µA)\n" + "\n".join(rows)).encode("cp1252"))
    assert main(["device", str(path), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--read-voltage 0.1" in said and "Traceback" not in said
    found, read = _fit(options(path, "--read-voltage", "0.1"))
    np.testing.assert_allclose(read.g.numpy()[:61], g[:61], rtol=1e-4)
    # what was understood stands on the terminal before the fit
    assert "current in µA, divided by 0.1 V" in capsys.readouterr().err
    assert found.rmse < 0.006


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--fix", "g_max"], "FIELD=VALUE"),
        (["--unit", "furlong"], "unit 'furlong' is not known"),
        (["--read-voltage", "0"], "read_voltage"),
        (["--window", "5", "1"], "window"),
        (["--columns", "a,b"], "--columns|columns must name"),
        (["--law", "ConstantStep", "--fix", "gamma_up=0.1"], "no field gamma_up"),
        (["--law", "StochasticSwitch"], "not of two levels"),
    ],
)
def test_bad_options_are_said_before_any_work(path, tmp_path, capsys, given, words) -> None:
    assert main(["device", str(path), *given, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert any(word in err for word in words.split("|")) and "Traceback" not in err


def test_files_that_are_none_are_said(tmp_path, capsys) -> None:
    for other in (tmp_path / "none.csv", tmp_path):
        assert main(["device", str(other), "--out", str(tmp_path)]) == 2
    assert "is no file" in capsys.readouterr().err


def test_lookup_law_can_be_asked_for(path) -> None:
    found, data = _fit(options(path, "--law", "LookupStep"))
    assert isinstance(found.device.update, LookupStep)
    seen = both(found, data)
    assert seen.rmse() < 12


@pytest.mark.slow
@pytest.mark.parametrize("law", ["SoftBounds", "LookupStep"])
def test_whole_study_writes_its_report(path, tmp_path, law: str) -> None:
    given = ["device", str(path), "--quick", "--law", law, "--out", str(tmp_path / "out")]
    assert main(given) == 0
    page = (tmp_path / "out" / "device-pulses" / "report.html").read_text(encoding="utf-8")
    assert law in page and "data:image/svg" in page
    assert "Measured against simulated" in page and "What was read" in page
    if law == "SoftBounds":
        assert "SoftBounds(" in page and "sigma_c2c" in page and "Noise taken apart" in page
