"""From the table in a file to reads of cells, with everything that is said on the way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from devices.fitting.reading import READS, Array, Reading, Reads, plural, siemens
from devices.fitting.text import MISSING, Sheet
from devices.fitting.units import SERIES, Column

UP = {"up", "+", "+1", "1", "1.0", "set", "p", "pot", "potentiation", "ltp", "increase", "inc"}
UP |= {"pos", "positive", "u"}
DOWN = {"down", "-", "-1", "-1.0", "reset", "d", "dep", "depression", "ltd", "decrease", "dec"}
DOWN |= {"neg", "negative", "n"}
NONE = {"0", "0.0", "none", "start", "read"} | MISSING


def signs(sheet: Sheet, column: int, name: str) -> list[int]:
    """Directions in a column: words, or the sign of a number or of a voltage.

    Raises:
        ValueError: another word, with its line.
    """
    out = []
    for row in range(len(sheet.rows)):
        word = sheet.rows[row][column].strip().lower()
        if word in UP or word in DOWN or word in NONE:
            out.append((word in UP) - (word in DOWN))
            continue
        try:
            value = sheet.number(row, column)
        except ValueError:
            raise ValueError(
                f"line {sheet.lines[row]}: {name} must be up or down (also set/reset, LTP/LTD, "
                f"a sign or a write voltage), got {sheet.rows[row][column]!r}"
            ) from None
        out.append(int(np.sign(value)))
    return out


def whole_pulses(
    sheet: Sheet, column: int, name: str, notes: list[str] | None = None
) -> list[int | None]:
    """Pulse counts, None where the field is empty.

    With `notes`, counts that were read off a figure are rounded, which is noted: none further
    than 0.25 from a whole number, no two in a row alike.

    Raises:
        ValueError: a count that is no whole number, with its line.
    """
    out: list[int | None] = []
    values = sheet.column(column)
    if notes is not None:
        near = np.round(values)
        given = np.isfinite(near)
        off = np.abs(near - values)[given].max(initial=0)
        if given.sum() > 3 and 0 < off <= 0.25 and np.diff(near[given]).all():
            notes.append(f"{name}: rounded to whole pulses, at most {off:.2g} away")
            values = near.tolist()
    for row, value in enumerate(values):
        if math.isnan(value):
            out.append(None)
            continue
        if value != round(value):
            raise ValueError(
                f"line {sheet.lines[row]}: {name} must be a whole number of pulses, got {value:g}; "
                "if it is a time or a dose, leave the column out: every row is then one pulse"
            )
        out.append(round(value))
    return out


def one_scheme(
    sheet: Sheet, index: int, column: Column, sign: list[int], wanted: float | None
) -> tuple[list[bool], str]:
    """The rows given with the pulses that are used, and what to say of them.

    Raises:
        ValueError: no pulse has the chosen amplitude or width.
    """
    size = np.abs(np.array(sheet.column(index)))
    given = [s != 0 and not math.isnan(v) for s, v in zip(sign, size, strict=True)]
    name, unit_name = column.label, f" {column.unit}" if column.unit else ""
    if wanted is not None:
        near = np.isclose(size, abs(wanted), rtol=1e-3)
        if not (near & np.array(given)).any():
            raise ValueError(f"{column.role}: no pulse has {name} {wanted:g}{unit_name}")
        keep = [bool(n) or not g for n, g in zip(near, given, strict=True)]
        lost = keep.count(False)
        return keep, f"{name} {wanted:g}{unit_name} alone used, {lost} reads of others left out"
    shown = []
    for way, word in ((1, "up"), (-1, "down")):
        own = [v for v, s, g in zip(size, sign, given, strict=True) if g and s == way]
        if own:
            levels = np.unique(np.round(own, 12))
            ends = f"{levels[0]:g}" + (f" … {levels[-1]:g}" if len(levels) > 1 else "")
            shown.append(f"{ends}{unit_name} {word}")
    return [True] * len(sign), f"{name}: {', '.join(shown) or 'no pulses'}"


def long_table(sheet: Sheet, columns: list[Column], how: Reading) -> tuple[Reads, list[str]]:
    """A row per read.

    Raises:
        ValueError: a column that is missing or cannot be understood.
    """
    at = {c.role: i for i, c in enumerate(columns) if c.role}
    notes: list[str] = []
    value = next((at[role] for role in READS if role in at), None)
    if value is None:
        value = next(i for i, c in enumerate(columns) if c.kind in READS)
    cells = ["0"] * len(sheet.rows)
    if "cell" in at:
        cells = [row[at["cell"]].strip() or "0" for row in sheet.rows]
    cycles = [0] * len(cells)
    if "cycle" in at:
        cycles = [0 if n is None else n for n in whole_pulses(sheet, at["cycle"], "cycle")]
    pulses: list[int | None] = [None] * len(cells)
    if "pulse" in at:
        pulses = whole_pulses(sheet, at["pulse"], columns[at["pulse"]].label, notes)
    if how.ramps is None:
        sign = _direction(sheet, columns, at, notes)
    else:
        sign = _alternating(list(zip(cells, cycles, strict=True)), pulses, how.ramps, notes)
    kind = columns[value].role if columns[value].role in READS else columns[value].kind
    voltage = _voltage(sheet, columns, at, how) if kind in ("", "current") else None
    numbers = np.array(sheet.column(value))
    g = siemens(numbers, columns[value], how, voltage, notes)
    keep = [True] * len(sign)
    drive = np.full((len(sign), 2), math.nan)
    for role, wanted in (("amplitude", how.amplitude), ("width", how.width)):
        if role in at:
            own, said = one_scheme(sheet, at[role], columns[at[role]], sign, wanted)
            keep = [a and b for a, b in zip(keep, own, strict=True)]
            notes.append(said)
            values = np.abs(np.array(sheet.column(at[role]))) * columns[at[role]].factor
            drive[:, 0 if role == "amplitude" else 1] = values
        elif wanted is not None:
            raise ValueError(f"{role}={wanted:g} was given, but no column says {role}")
    used = {value, *(at[r] for r in at if r not in ("time", "unused"))}
    others = [c.label for i, c in enumerate(columns) if i not in used and c.label]
    if others:
        notes.append(f"columns not used: {', '.join(others)}")
    return _counted(cells, cycles, pulses, sign, g, drive, keep, notes), notes


def _direction(
    sheet: Sheet, columns: list[Column], at: dict[str, int], notes: list[str]
) -> list[int]:
    if "polarity" in at:
        return signs(sheet, at["polarity"], columns[at["polarity"]].label)
    for role in ("amplitude", "voltage"):
        if role in at:
            values = np.array(sheet.column(at[role]))
            if (values > 0).any() and (values < 0).any():
                notes.append(f"polarity: the sign of {columns[at[role]].label}")
                return [int(s) for s in np.sign(np.nan_to_num(values))]
    words = [
        i
        for i, c in enumerate(columns)
        if not c.role and {row[i].strip().lower() for row in sheet.rows} <= UP | DOWN | NONE
    ]
    if len(words) == 1 and any(row[words[0]].strip().isalpha() for row in sheet.rows):
        notes.append(f"polarity: the words of {columns[words[0]].label}")
        at["polarity"] = words[0]
        return signs(sheet, words[0], columns[words[0]].label)
    raise ValueError(
        f"no column says the polarity of the pulses (columns: "
        f"{', '.join(c.label for c in columns)}): say how many pulses up and down every cycle has, "
        "ramps=(100, 100) (--ramps 100 100; 0 of a direction that is not there), add a column with "
        "up or down or a signed write voltage, or give the ramps as columns LTP and LTD"
    )


def _alternating(
    keys: list[tuple[str, int]],
    pulses: list[int | None],
    ramps: tuple[int, int],
    notes: list[str],
) -> list[int]:
    """Directions of so many pulses up, so many down, and so on, in every cell and cycle.

    Without counts every row is a pulse, and so is the first but in a table of one row more than
    its pulses.
    """
    whole = sum(ramps)
    rows = Counter(keys)
    own: Counter[tuple[str, int]] = Counter()
    out = []
    for key, count in zip(keys, pulses, strict=True):
        if count is None:
            count = own[key] + (rows[key] % whole != 1 % whole)
        own[key] += 1
        out.append(0 if count < 1 else 1 if (count - 1) % whole < ramps[0] else -1)
    notes.append(f"polarity: {ramps[0]} pulses up, then {ramps[1]} down, as said")
    return out


def _voltage(
    sheet: Sheet, columns: list[Column], at: Mapping[str, int], how: Reading
) -> Array | None:
    """Read voltage of every row [V]."""
    if how.read_voltage is not None:
        return np.full(len(sheet.rows), how.read_voltage)
    if "voltage" not in at:
        return None
    volt = columns[at["voltage"]]
    values = np.array(sheet.column(at["voltage"])) * volt.factor
    if "polarity" not in at and (values > 0).any() and (values < 0).any():
        raise ValueError(
            f"column {volt.label} has both signs, so it is the voltage of the pulses: give that "
            "of the reads, read_voltage=0.1 (--read-voltage 0.1)"
        )
    return values


def _counted(
    cells: list[str],
    cycles: list[int],
    pulses: list[int | None],
    sign: list[int],
    g: Array,
    drive: Array,
    keep: list[bool],
    notes: list[str],
) -> Reads:
    """Reads with pulses that ascend in every trace; restarts of the count are said."""
    out = Reads.none()
    # of each cell and cycle as written: trace number, last count as written, offset, last sign
    state: dict[tuple[str, int], list[int]] = {}
    number: dict[str, int] = {}
    turned = restarted = 0
    broken: set[tuple[str, int]] = set()
    for cell, cycle, count, way, value, used, given in zip(
        cells, cycles, pulses, sign, g.tolist(), keep, map(tuple, drive.tolist()), strict=True
    ):
        key = (cell, cycle)
        if not used:
            broken.add(key)
            continue
        if key in broken:  # what other pulses did in between is not known
            state.pop(key, None)
            broken.discard(key)
        if key not in state:
            number[cell] = number.get(cell, -1) + 1
            state[key] = [number[cell], count or 0, 0, 0]
            out.add(cell, number[cell], count or 0, way, value, given)
            state[key][3] = way
            continue
        own = state[key]
        if count is None:
            count = own[1] + abs(way)
        if count < own[1]:
            if way and own[3] and way != own[3]:
                own[2] += own[1]
                turned += 1
            else:
                number[cell] += 1
                own[0], own[2] = number[cell], 0
                restarted += 1
        own[1] = count
        if way:
            own[3] = way
        out.add(cell, own[0], count + own[2], way, value, given)
    if restarted > max(2, len(sign) // 4):
        raise ValueError(
            f"the pulse count falls {restarted} times while the direction stays, so it is none: "
            "leave its column out, - in columns=... (--columns); every row is then one pulse"
        )
    if turned:
        notes.append(f"the pulse count restarts at {turned} changes of polarity: taken as going on")
    if restarted:
        notes.append(f"the pulse count restarts {restarted} times within a cycle: a new trace each")
    return out


def side_by_side(
    sheets: list[tuple[Sheet, list[Column], int]], how: Reading
) -> tuple[Reads, list[str]]:
    """A column per ramp, cell or cycle; the int is the direction of a whole sheet, or 0.

    Raises:
        ValueError: columns whose cell, cycle or direction cannot be told.
    """
    notes: list[str] = []
    out = Reads.none()
    order: dict[str, int] = {}
    for sheet, columns, whole in sheets:
        at = {c.role: i for i, c in enumerate(columns) if c.role}
        shared = signs(sheet, at["polarity"], "polarity") if "polarity" in at else None
        at |= {f"{c.role}:{c.number}": i for i, c in enumerate(columns) if " " in c.role}
        shared_counts = whole_pulses(sheet, at["pulse"], "pulse") if "pulse" in at else None
        ramps = [i for i, c in enumerate(columns) if _is_ramp(c)]
        if how.ramps is not None:
            if whole or any(columns[i].role in ("up", "down") for i in ramps):
                raise ValueError("ramps (--ramps) were given, but the columns are ramps themselves")
            rows = len(sheet.rows)
            shared = _alternating(
                [("", 0)] * rows, shared_counts or [None] * rows, how.ramps, notes
            )
        across = _across([columns[i] for i in ramps], how, bool(whole))
        notes.append(_said(columns, ramps, across, whole))
        times = [c.label for c in columns if c.role.startswith("time ")]
        notes += [f"{name}: not used, every row is a pulse" for name in times]
        for rank, i in enumerate(ramps):
            column = columns[i]
            way = {"up": 1, "down": -1}.get(column.role, whole)
            label = column.number or column.label or str(rank)
            own = at.get(f"pulse {column.role}:{column.number}")
            counts = shared_counts
            if own is not None:
                counts = whole_pulses(sheet, own, columns[own].label, notes)
            if not way and shared is None:
                raise ValueError(
                    f"no column says the polarity of the pulses, and {label} is no ramp up or "
                    "down: say how many pulses up and down every column has, ramps=(50, 50) "
                    "(--ramps 50 50; 0 of a direction that is not there), name it LTP or LTD, add "
                    "a column polarity, or give the ramps down as a second file (down=..., --down)"
                )
            cell = (column.number or column.label) if across == "cells" else "0"
            quiet: list[str] = [] if rank else notes
            volt = None
            if how.read_voltage is not None:
                volt = np.full(len(sheet.rows), how.read_voltage)
            given = column._replace(role="") if column.role in ("up", "down") else column
            g = siemens(np.array(sheet.column(i)), given, how, volt, quiet)
            if way:  # where the ramp begins is its own first read
                cycle = order[cell] = order.get(cell, -1) + 1
                last = int(np.nonzero(np.isfinite(g))[0][-1]) + 1
                ramp = [(k if counts is None else counts[k], float(g[k])) for k in range(last)]
                points = [(n, value) for n, value in ramp if n is not None]
                if len(points) > 2 and all(a[0] > b[0] for a, b in pairwise(points)):
                    points.reverse()
                    notes.append(f"{label}: pulses count down, so the ramp is turned round")
                for k, (n, value) in enumerate(points):
                    out.add(cell, cycle, n, way if k else 0, value)
                continue
            cycle = order[cell] = order.get(cell, -1) + 1
            total = -1
            for k, way in enumerate(shared or []):
                total = total + (abs(way) if k else 1)
                count = total if counts is None else counts[k]
                if count is not None:
                    out.add(cell, cycle, count, way, float(g[k]))
    if not out.cell:
        raise ValueError("no column of reads")
    if "polarity" not in {c.role for _, columns, _ in sheets for c in columns}:
        notes.append("every ramp starts from its own first read: where it began is not given")
    return out, notes


def _is_ramp(column: Column) -> bool:
    return column.role in ("up", "down", "", *READS) and bool(
        column.role or column.label or column.unit
    )


def _across(ramps: list[Column], how: Reading, whole: bool) -> str:
    """Whether columns side by side are cells or cycles."""
    if how.across is not None:
        return how.across
    words = {w for c in ramps for w in SERIES if c.label.lower().strip().startswith(w)}
    if words and words <= set(SERIES[:4]):
        return "cells"
    if words and not words & set(SERIES[:4]):
        return "cycles"
    ways = [c.role for c in ramps]
    if len(ramps) == 1 or (ways.count("up") <= 1 and ways.count("down") <= 1 and any(ways)):
        return "cycles"
    raise ValueError(
        f"columns {', '.join(c.label for c in ramps[:4])}…: are they cells, or cycles of one "
        "cell? Say across='cells' or across='cycles' (--across cells)"
    )


def _said(columns: list[Column], ramps: list[int], across: str, whole: int) -> str:
    ways = [columns[i].role for i in ramps]
    if whole:
        way = "up" if whole > 0 else "down"
        return f"{plural(len(ramps), 'ramp')} {way}, one a column ({across})"
    if "up" in ways or "down" in ways:
        up = plural(ways.count("up"), "ramp")
        return f"{up} up and {ways.count('down')} down, one a column ({across})"
    return f"{plural(len(ramps), 'column')} of reads: {across}"


def is_long(columns: list[Column]) -> bool:
    """Whether a row is a read: one column of reads, and none that is a ramp."""
    roles = [c.role for c in columns]
    if "up" in roles or "down" in roles:
        return False
    values = [c for c in columns if c.role in READS or (not c.role and c.kind in READS)]
    numbered = [c for c in columns if not c.role and any(w in c.label.lower() for w in SERIES)]
    return len(values) == 1 and not numbered
