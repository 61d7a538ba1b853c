"""The forms in which measured pulses are kept: which layout a file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from devices.fitting.layouts import is_long, long_table, side_by_side
from devices.fitting.reading import Array, Reading, Reads, named
from devices.fitting.text import Sheet, decoded, matlab_arrays, read_sheet
from devices.fitting.units import Column


def pulses_in(
    path: str | Path, down: str | Path | None, how: Reading
) -> tuple[Reads, tuple[str, ...]]:
    """The reads in one file, or in two of which the second holds the ramps down.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a layout, column or value that cannot be understood, with the file's name.
    """
    try:
        if down is not None:
            ways = [
                (read_sheet(one, how.decimal, how.sheet), way)
                for one, way in ((path, 1), (down, -1))
            ]
            return of_ramps(ways, how)
        if str(path).lower().endswith(".m"):
            return _matlab(decoded(Path(path).read_bytes())[0], how)
        return of_sheet(read_sheet(path, how.decimal, how.sheet), how)
    except ValueError as error:
        words = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {words}") from None


def of_sheet(sheet: Sheet, how: Reading) -> tuple[Reads, tuple[str, ...]]:
    """The reads of a table, as it stands in a text file or a spreadsheet.

    Raises:
        ValueError: a layout, column or value that cannot be understood.
    """
    said: list[str] = []
    if not sheet.names and how.columns is None:
        sheet.names = _unnamed(sheet, said)
    columns = named(sheet, how)
    if not sheet.rows:
        raise ValueError("no reads, only a header")
    if is_long(columns):
        reads, notes = long_table(sheet, columns, how)
    else:
        reads, notes = side_by_side([(sheet, columns, 0)], how)
    return reads, (*sheet.notes, *said, *notes)


def of_ramps(sheets: list[tuple[Sheet, int]], how: Reading) -> tuple[Reads, tuple[str, ...]]:
    """The ramps of several tables, each of one direction: a column per ramp (CrossSim).

    Raises:
        ValueError: a column or value that cannot be understood.
    """
    given = []
    for sheet, way in sheets:
        if not sheet.names:
            sheet.names = [f"ramp{i + 1}" for i in range(len(sheet.rows[0]))]
        # in a file of one direction a header is a name, whatever it says
        columns: list[Column] = [
            c._replace(role="") if c.role in ("up", "down") else c for c in named(sheet, how)
        ]
        given.append((sheet, columns, way))
    reads, notes = side_by_side(given, how)
    return reads, (*sheets[0][0].notes, *notes)


def _unnamed(sheet: Sheet, said: list[str]) -> list[str]:
    """Names for two columns without a header: ramps up and down (aihwkit), or a count and reads."""
    width = len(sheet.rows[0])
    if width == 2:
        counts = [_counts(np.array(sheet.column(c))) for c in (0, 1)]
        if counts == [True, False]:
            said.append("no header: the first column counts pulses, the second has the reads")
            return ["pulse", "reads"]
        ends = []
        for c in (0, 1):
            values = np.array(sheet.column(c))
            values = values[np.isfinite(values)]
            part = max(1, len(values) // 10)
            ends.append(float(values[-part:].mean() - values[:part].mean()))
        if ends[0] > 0 > ends[1]:
            said.append("no header: the column that rises is LTP, the one that falls LTD")
            return ["LTP", "LTD"]
    raise ValueError(
        f"no header above {width} columns of numbers: name them, columns='pulse,conductance,…' "
        "(--columns); known names: cell, cycle, pulse, polarity, conductance, resistance, "
        "current, voltage, amplitude, width, LTP, LTD; - leaves one out"
    )


def _counts(values: Array) -> bool:
    """Whether numbers go up by one whole number: an index, and no reads."""
    steps = np.diff(values)
    return len(steps) > 1 and steps[0] >= 1 and bool((steps == round(float(steps[0]))).all())


def _matlab(text: str, how: Reading) -> tuple[Reads, tuple[str, ...]]:
    """Arrays of NeuroSim's fitting script: `exp_LTP_raw` and `exp_LTD_raw`, pulse beside read.

    Raises:
        ValueError: no array of ramps.
    """
    arrays = matlab_arrays(text)
    sheets: list[tuple[Sheet, list[Column], int]] = []
    notes = []
    for name, rows in arrays.items():
        way = 1 if "ltp" in name.lower() else -1 if "ltd" in name.lower() else 0
        width = len(rows[0])
        if not way or width > 2 or any(len(row) != width for row in rows):
            continue
        names = ["pulse", "LTP"] if width == 2 else ["LTP"]
        if way < 0:
            names[-1] = "LTD"
        text_rows = [[repr(v) for v in row] for row in rows]
        if width == 2 and rows[0][0] > rows[-1][0]:
            text_rows.reverse()
            notes.append(f"{name}: pulses count down, so the ramp is turned round")
        sheet = Sheet(names, text_rows, list(range(1, len(rows) + 1)))
        sheets.append((sheet, named(sheet, how), 0))
        notes.append(f"{name}: {len(rows)} reads")
    if not sheets:
        raise ValueError("no array named …LTP… or …LTD… with one or two columns")
    reads, said = side_by_side(sheets, how)
    return reads, (*notes, *said)
