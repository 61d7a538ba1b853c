"""Files of other measurements beside the pulses: columns by names, quantities by units."""

from __future__ import annotations

import numpy as np
import pytest

import devices
from devices import CubicIV, Device, GaussianWrite, PowerLawDrift, SinhIV, SoftBounds
from experiments.studies.device.parts import with_parts

DEVICE = Device(1e-6, 51e-6, update=SoftBounds(1e-7))
TIMES = np.geomspace(1, 1e5, 12)
DRIFTING = 30e-6 * np.outer((TIMES / TIMES[0]) ** -0.05, np.linspace(0.6, 1.2, 8))


def written(tmp_path, head, columns):
    path = tmp_path / "part.csv"
    rows = [",".join(f"{value:.9g}" for value in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def heads(unit, count=8):
    return ",".join(f"cell {k} ({unit})" for k in range(count))


@pytest.mark.parametrize(
    ("unit", "reads", "voltage"),
    [
        ("uS", DRIFTING * 1e6, None),
        ("kOhm", 1e-3 / DRIFTING, None),
        ("uA", DRIFTING * 0.2 * 1e6, 0.2),
    ],
)
def test_retention_is_of_conductances_whatever_was_measured(tmp_path, unit, reads, voltage):
    """A resistance that grows is a conductance that falls."""
    item = np.arange(len(TIMES))
    path = written(tmp_path, f"Item,Time (h),{heads(unit)}", [item, TIMES / 3600, *reads.T])
    device, found = with_parts(DEVICE, {"retention": (path,)}, read_voltage=voltage)
    assert isinstance(device.retention, PowerLawDrift)
    assert found["retention"].parameters["nu"].value == pytest.approx(0.05, rel=0.05)
    assert any("not used: Item" in line for line in found["retention"].sentences)
    if voltage is not None:
        with pytest.raises(ValueError, match="--read-voltage"):
            with_parts(DEVICE, {"retention": (path,)})


def test_sweeps_are_found_by_their_units(tmp_path):
    """An instrument's file: item, time, voltage, current, resistance."""
    v = np.linspace(-0.5, 0.5, 41)
    i = 2e-5 * 0.2 * np.sinh(v / 0.2)
    columns = [np.arange(41), 0.08 * np.arange(41), v * 1e3, i * 1e6, v / np.where(i == 0, 1, i)]
    path = written(tmp_path, "Item,Time (s),V (mV),I (uA),R (Ohm)", columns)
    device, found = with_parts(DEVICE, {"iv": (path,)})
    assert isinstance(device.iv, SinhIV) and device.iv.v0 == pytest.approx(0.2, rel=1e-4)
    assert any("not used: Item, Time, R" in line for line in found["iv"].sentences)
    anonymous = written(tmp_path, "Item,A,B", columns[:1] + columns[2:4])
    with pytest.raises(ValueError, match="one column must be named voltage"):
        with_parts(DEVICE, {"iv": (anonymous,)})
    conductances = written(tmp_path, "V (V),G (uS)", [v, np.ones(41)])
    with pytest.raises(ValueError, match="no column says current"):
        with_parts(DEVICE, {"iv": (conductances,)})


def test_a_sweep_that_switches_its_cell_is_refused():
    up = np.linspace(0, 1, 60)
    v = np.r_[up, up[::-1][1:]]
    law = CubicIV(0.1, 0.5)
    i = 1e-5 * v * (1 + 0.1 * v + 0.5 * v**2)
    same = devices.fit_iv(v, i)
    assert isinstance(same.part, CubicIV) and same.part.b == pytest.approx(law.b, rel=1e-6)
    i[60:] *= 1.4
    with pytest.raises(ValueError, match="cell switched"):
        devices.fit_iv(v, i)


def test_targets_and_what_was_reached_have_units_of_their_own(tmp_path):
    rng = np.random.default_rng(3)
    target = np.repeat(np.linspace(5e-6, 45e-6, 5), 60)
    reached = target + 1e-6 * rng.standard_normal(target.shape)
    path = written(tmp_path, "target (uS),achieved (kOhm)", [target * 1e6, 1e-3 / reached])
    device, _ = with_parts(DEVICE, {"writes": (path,)})
    assert isinstance(device.write, GaussianWrite)
    assert device.write.sigma == pytest.approx(1e-6 / 50e-6, rel=0.15)
