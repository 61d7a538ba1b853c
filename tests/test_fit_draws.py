"""Devices drawn from what a fit leaves open, and those with parts from other files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import devices
from devices import (
    Device,
    Endurance,
    GaussianRead,
    GaussianWrite,
    PowerLawDrift,
    PulseData,
    SinhIV,
    SoftBounds,
    Unidentified,
)
from experiments.lab.command import main, parser
from experiments.lab.study import studies
from experiments.studies.device.study import DRAWN, FITTED, _fit, _trained, _whole, predicted


@pytest.fixture(scope="module")
def data() -> PulseData:
    law = SoftBounds(dg_min=1e-6, up_down=0.2, sigma_c2c=0.4)
    device = Device(10e-6, 60e-6, update=law, read=GaussianRead(0.005))
    generator = torch.Generator().manual_seed(1)
    return PulseData.measured(device, cells=1, cycles=12, pulses=60, generator=generator)


def test_draws_have_the_intervals_of_the_fit(data: PulseData) -> None:
    found = devices.fit(data, families=[SoftBounds])
    drawn = [found.drawn(seed) for seed in range(600)]
    assert found.drawn(3) == found.drawn(3) != found.drawn(4)
    for name, of in (
        ("dg_min", lambda d: d.update.dg_min),
        ("up_down", lambda d: d.update.up_down),
        ("g_max", lambda d: d.g_max),
        ("sigma_c2c", lambda d: d.update.sigma_c2c),
        ("read", lambda d: d.read.sigma),
    ):
        low, high = np.quantile([of(d) for d in drawn], [0.025, 0.975])
        own = found.parameters[name]
        wide = own.high - own.low
        assert low == pytest.approx(own.low, abs=0.15 * wide), name
        assert high == pytest.approx(own.high, abs=0.15 * wide), name
    # the parameters are drawn together: the curve that the reads hold fast scatters less than they
    top = np.array([d.g_max for d in drawn])
    step = np.array([d.update.dg_min for d in drawn])
    assert abs(np.corrcoef(top, step)[0, 1]) > 0.3


def test_what_is_known_stays_and_what_is_no_law_draws_nothing(data: PulseData) -> None:
    fixed = devices.fit(data, families=[SoftBounds], fixed={"sigma_c2c": 0.25})
    assert all(fixed.drawn(k).update.sigma_c2c == 0.25 for k in range(5))
    table = devices.fit(data, families=[devices.LookupStep])
    with pytest.raises(Unidentified, match="no distribution"):
        table.drawn(0)


def test_an_accuracy_has_the_interval_of_one_more_device() -> None:
    # oracle: how often a further draw of the same normal falls inside
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        *seen, new = 80 + 2 * rng.standard_normal(6)
        low, high = predicted(seen)
        inside += low <= new <= high
    assert 0.935 < inside / 2000 < 0.965


@pytest.fixture
def files(tmp_path, data: PulseData) -> dict[str, str]:
    rng = np.random.default_rng(5)
    data.write_csv(tmp_path / "pulses.csv")
    times = [1, 3, 10, 30, 100, 300, 1000]
    cells = 20 + rng.uniform(0, 25, 9)
    volts = np.linspace(-0.5, 0.5, 21)
    want = rng.uniform(12, 58, 60)
    rows = {
        "retention": ["time (s)," + ",".join(f"cell {k} (uS)" for k in range(9))]
        + [",".join(map(str, [t, *(cells * (t + 1.0) ** -0.03)])) for t in times],
        "iv": ["V (mV);sweep 1 (µA)"]
        + [f"{1e3 * v:.4f};{20 * 0.3 * np.sinh(v / 0.3):.6f}".replace(".", ",") for v in volts],
        "writes": ["target (uS),achieved (uS)"]
        + [f"{w},{w + rng.standard_normal()}" for w in want],
        "reads": ["time (s),A (uS),B (uS)"]
        + [
            f"{0.01 * k},{20 + 0.1 * rng.standard_normal()},{40 + 0.1 * rng.standard_normal()}"
            for k in range(100)
        ],
        "endurance": ["pulses,failed"]
        + [f"{10 ** (6 + 0.3 * rng.standard_normal()):.0f},{int(k < 30)}" for k in range(40)],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    return {name: str(tmp_path / f"{name}.csv") for name in ("pulses", *rows)}


def options(files: dict[str, str], *given: str):
    named = [word for k, v in files.items() if k != "pulses" for word in (f"--{k}", v)]
    return parser(studies()).parse_args(
        ["device", files["pulses"], "--law", "SoftBounds", "--quick", *named, *given]
    )


def test_a_device_of_all_measurements(files: dict[str, str]) -> None:
    given = options(files)
    found, _ = _fit(given)
    device, parts = _whole(found.device, given)
    assert isinstance(device.retention, PowerLawDrift)
    assert device.retention.nu == pytest.approx(0.03, rel=0.01)
    assert isinstance(device.iv, SinhIV) and device.iv.v0 == pytest.approx(0.3, rel=0.01)
    assert isinstance(device.write, GaussianWrite)
    assert parts["writes"].parameters["sigma"].covers(1e-6 / device.window.span)
    assert isinstance(device.read, GaussianRead)
    assert parts["reads"].parameters["sigma"].covers(0.1e-6 / device.window.span)
    assert isinstance(device.update, Endurance) and device.update.law == found.device.update
    assert parts["endurance"].parameters["pulses"].covers(1e6)
    # the study trains on the whole device, and on draws that have the parts too
    trained = _trained(given)
    assert all(run.chip.device == device for run in trained[FITTED])
    drawn = [run.chip.device for run in trained[DRAWN]]
    assert len(drawn) == 3 and len({d.update.law.dg_min for d in drawn}) == 3
    assert all(d.retention == device.retention for d in drawn)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("retention", "time (s)\n1\n2\n", "one column is too few"),
        ("writes", "wanted,got\n1,2\n", "one column must be named target"),
        ("reads", "time (s),A (uS)\n" + "1,2\n" * 20, "evenly apart"),
        ("iv", "1,2\n3,4\n", "have no names"),
        ("endurance", "pulses,failed\n10,0\n20,0\n", "two cells must have failed"),
    ],
)
def test_files_that_cannot_be_meant_are_named(files, tmp_path, capsys, name, text, words) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(text)
    command = ["device", files["pulses"], "--law", "SoftBounds", f"--{name}", str(bad)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said and f"--{name}" in said and "Traceback" not in said
