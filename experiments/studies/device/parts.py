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
from devices.fitting.reading import READS, Reading, siemens
from devices.fitting.text import Sheet, read_sheet
from devices.fitting.units import SERIES, Column, meaning
from devices.fitting.units import unit as quantity

Array = NDArray[np.float64]

FILES = {
    "retention": "conductance against time: a column time, and one of every cell",
    "iv": "current against voltage: a column voltage, and one of every sweep",
    "writes": "wanted and reached conductances: columns target and achieved",
    "reads": "repeated reads: a column time, and one of every cell",
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
    device: Device,
    paths: dict[str, tuple[Path, ...]],
    unit: str | None = None,
    read_voltage: float | None = None,
) -> tuple[Device, dict[str, PartFit]]:
    """A device with the parts that the files tell of, each in place of its own, and their fits.

    `unit` is that of reads whose column names none, `read_voltage` [V] that of currents.

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
                fit = _fitted(name, files[0], device, Reading(unit=unit, read_voltage=read_voltage))
        except ValueError as error:
            raise ValueError(f"--{name} {files[0]}: {error}") from None
        found[name] = fit
        field = {"writes": "write", "reads": "read", "endurance": "update", "stuck": "faults"}
        device = replace(device, **{field.get(name, name): fit.part})
    return device, found


def _fitted(name: str, path: Path, device: Device, how: Reading) -> PartFit:
    sheet = read_sheet(path)
    columns = [meaning(label) for label in sheet.names]
    if not columns:
        raise ValueError(f"the columns have no names; wanted is {FILES[name]}")
    window = (device.g_min, device.g_max)
    if name == "endurance":
        assert device.update is not None
        pulses, failed = (np.array(sheet.column(_place(columns, w))) for w in ("pulses", "failed"))
        return devices.fit_endurance(pulses, failed > 0, law=device.update)
    if len(columns) < 2:
        raise ValueError(f"one column is too few; wanted is {FILES[name]}")
    notes: list[str] = []
    if name == "writes":
        target, achieved = (
            _siemens(sheet, columns, _place(columns, word), how, notes)
            for word in ("target", "achieved")
        )
        fit = devices.fit_write(target, achieved, window=window)
    elif name == "iv":
        along, cells = _along(columns, "voltage", ("current",), name, notes)
        volts = np.array(sheet.column(along)) * columns[along].factor
        currents = [np.array(sheet.column(c)) * _ampere(columns[c], how) for c in cells]
        fit = devices.fit_iv(volts, np.array(currents))
    else:
        along, cells = _along(columns, "time", READS, name, notes)
        times = np.array(sheet.column(along)) * columns[along].factor
        reads = np.array([_siemens(sheet, columns, c, how, notes) for c in cells])
        if name == "retention":
            fit = devices.fit_retention(times, reads, window=window)
        else:
            steps = np.diff(times)
            if not (steps > 0).all() or np.ptp(steps) > 0.1 * np.median(steps):
                raise ValueError("times of reads must be evenly apart")
            fit = devices.fit_read(reads, window=window, dt=float(np.median(steps)))
    return replace(fit, sentences=(*notes, *fit.sentences))


def _along(
    columns: list[Column], kind: str, wanted: tuple[str, ...], name: str, notes: list[str]
) -> tuple[int, list[int]]:
    """The column of times or voltages, and those measured at them; others are noted."""
    labels = ", ".join(c.label for c in columns)
    own = [i for i, c in enumerate(columns) if kind in (c.role, c.kind)]
    if len(own) != 1:
        raise ValueError(
            f"one column must be named {kind}, with its unit; columns are {labels}; wanted is "
            f"{FILES[name]}"
        )
    others = [i for i in range(len(columns)) if i not in own]
    cells = [i for i in others if columns[i].role in wanted or columns[i].kind in wanted]
    if not cells:  # names of cells or sweeps
        cells = [i for i in others if not columns[i].kind and columns[i].role in ("", *SERIES)]
    if not cells:
        raise ValueError(
            f"no column says {' or '.join(wanted)}; columns are {labels}; wanted is {FILES[name]}"
        )
    lost = [columns[i].label for i in others if i not in cells]
    if lost:
        notes.append(f"columns not used: {', '.join(lost)}")
    return own[0], cells


def _place(columns: list[Column], word: str) -> int:
    near = [i for i, c in enumerate(columns) if c.label.lower().startswith(word)]
    if len(near) != 1:
        names = ", ".join(c.label for c in columns)
        raise ValueError(f"one column must be named {word}, got {names}")
    return near[0]


def _siemens(
    sheet: Sheet, columns: list[Column], place: int, how: Reading, notes: list[str]
) -> Array:
    """A column of reads [S], of whatever quantity its name says."""
    volts = None if how.read_voltage is None else np.full(len(sheet.rows), how.read_voltage)
    column = columns[place]
    column = column._replace(role=column.role if column.role in READS else "")
    return siemens(np.array(sheet.column(place)), column, how, volts, notes)


def _ampere(column: Column, how: Reading) -> float:
    """Unit of a column of currents; one without a unit has the one given, if it is a current's."""
    if column.unit or how.unit is None:
        return column.factor
    kind, factor = quantity(how.unit)
    return factor if kind == "current" else 1.0


def _map(path: Path, unit: str | None) -> Array:
    if path.suffix == ".npy":
        values = np.load(path)
    else:
        sheet = read_sheet(path)
        values = np.array([sheet.column(c) for c in range(len(sheet.rows[0]))]).T
    return values * (quantity(unit)[1] if unit else 1.0)
