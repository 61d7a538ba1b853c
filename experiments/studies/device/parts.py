"""Measurements of one's own beside the pulses: retention, currents, writes, reads, wear, maps."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import devices
from devices import Device
from devices.fitting import PartFit
from devices.fitting.text import Sheet, read_sheet
from devices.fitting.units import Column, meaning
from devices.fitting.units import unit as quantity

Array = NDArray[np.float64]

FILES = {
    "retention": "conductance against time: a column of times, then one of every cell",
    "iv": "current against voltage: a column of voltages, then one of every sweep",
    "writes": "wanted and reached conductances: columns target and achieved",
    "reads": "repeated reads: a column of times, then one of every cell",
    "endurance": "pulses that cells survived: columns pulses and failed (1, or 0 if it lives)",
}
"""Option → what its file holds."""


def part_arguments(parser: ArgumentParser) -> None:
    """Options for the files of other parts."""
    for name, what in FILES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"{what}, units in names")
    parser.add_argument(
        "--stuck",
        type=Path,
        nargs=2,
        metavar=("OFF", "ON"),
        help="maps of an array after RESET and after SET, for its stuck cells",
    )


def part_paths(options: Namespace) -> dict[str, tuple[Path, ...]]:
    """The files that were given."""
    given = {name: getattr(options, name) for name in (*FILES, "stuck")}
    return {k: tuple(v) if isinstance(v, list) else (v,) for k, v in given.items() if v}


def with_parts(
    device: Device, paths: dict[str, tuple[Path, ...]], unit: str | None = None
) -> tuple[Device, dict[str, PartFit]]:
    """A device with the parts that the files tell of, each in place of its own, and their fits.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a table or measurement that cannot be understood, with the file's name.
    """
    window, found = (device.g_min, device.g_max), {}
    for name, files in paths.items():
        try:
            if name == "stuck":
                off, on = (_map(path, unit) for path in files)
                fit = devices.fit_stuck(off, on, window=window)
            else:
                fit = _fitted(name, files[0], device, unit)
        except ValueError as error:
            raise ValueError(f"--{name} {files[0]}: {error}") from None
        found[name] = fit
        field = {"writes": "write", "reads": "read", "endurance": "update", "stuck": "faults"}
        device = replace(device, **{field.get(name, name): fit.part})
    return device, found


def _fitted(name: str, path: Path, device: Device, unit: str | None) -> PartFit:
    sheet = read_sheet(path)
    columns = [meaning(label) for label in sheet.names]
    if not columns:
        raise ValueError(f"the columns have no names; wanted is {FILES[name]}")
    window = (device.g_min, device.g_max)
    if name == "endurance":
        assert device.update is not None
        pulses, failed = (_named(sheet, columns, word) for word in ("pulses", "failed"))
        return devices.fit_endurance(pulses, failed > 0, law=device.update)
    if name == "writes":
        target, achieved = (
            _si(sheet, columns, _place(columns, word), unit) for word in ("target", "achieved")
        )
        return devices.fit_write(target, achieved, window=window)
    if len(columns) < 2:
        raise ValueError(f"one column is too few; wanted is {FILES[name]}")
    first = _si(sheet, columns, 0, None)
    cells = np.array([_si(sheet, columns, c, unit) for c in range(1, len(columns))])
    if name == "iv":
        return devices.fit_iv(first, cells)
    if name == "reads":
        steps = np.diff(first)
        if not (steps > 0).all() or np.ptp(steps) > 0.1 * np.median(steps):
            raise ValueError("the first column must be times of reads, evenly apart")
        return devices.fit_read(cells, window=window, dt=float(np.median(steps)))
    return devices.fit_retention(first, cells, window=window)


def _place(columns: list[Column], word: str) -> int:
    near = [i for i, c in enumerate(columns) if c.label.lower().startswith(word)]
    if len(near) != 1:
        names = ", ".join(c.label for c in columns)
        raise ValueError(f"one column must be named {word}, got {names}")
    return near[0]


def _named(sheet: Sheet, columns: list[Column], word: str) -> Array:
    return np.array(sheet.column(_place(columns, word)))


def _si(sheet: Sheet, columns: list[Column], place: int, unit: str | None) -> Array:
    """A column in SI units; those without a unit in their name have the one given, if any."""
    column = columns[place]
    factor = column.factor
    if not column.unit and unit is not None:
        factor = quantity(unit)[1]
    return np.array(sheet.column(place)) * factor


def _map(path: Path, unit: str | None) -> Array:
    if path.suffix == ".npy":
        values = np.load(path)
    else:
        sheet = read_sheet(path)
        values = np.array([sheet.column(c) for c in range(len(sheet.rows[0]))]).T
    return values * (quantity(unit)[1] if unit else 1.0)
