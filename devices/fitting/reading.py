"""What a file does not say of itself, what its columns are, and their reads in siemens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.fitting.text import Sheet
from devices.fitting.units import Column, meaning, unit

Array = NDArray[np.float64]

PLAUSIBLE = 0.1
"""Siemens above which a conductance without a unit is not taken as siemens."""


@dataclass(frozen=True)
class Reading:
    """What a file does not say of itself; None asks for nothing.

    Args:
        unit: unit of the reads where no header names one: S, ohm or A with a prefix ("uS").
        read_voltage: voltage of a read [V], where reads are currents.
        decimal: "." or ",".
        amplitude: pulse amplitude whose pulses are used, in the unit of its column.
        width: pulse width whose pulses are used, in the unit of its column.
        window: conductances [S] of the smallest and largest read of a normalised file.
        columns: the header, for a file that has none or whose names are not known:
            "pulse,polarity,current,-" ("-" leaves a column out).
        across: what columns side by side are: "cells" or "cycles" of one cell.
        sheet: name of the sheet of an .xlsx; None: the only one with numbers.
        ramps: pulses up, then down, of every cycle, where no column says the direction: (100, 100).

    Raises:
        ValueError: a field out of its range.
    """

    unit: str | None = None
    read_voltage: float | None = None
    decimal: str | None = None
    amplitude: float | None = None
    width: float | None = None
    window: tuple[float, float] | None = None
    columns: str | None = None
    across: str | None = None
    sheet: str | None = None
    ramps: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and unit(self.unit)[0] not in READS:
            raise ValueError(f"unit must be one of conductance, resistance or current: {self.unit}")
        if self.read_voltage is not None and not (
            math.isfinite(self.read_voltage) and self.read_voltage != 0
        ):
            raise ValueError(f"read_voltage must be finite and not 0 V, got {self.read_voltage!r}")
        if self.window is not None and not 0 <= self.window[0] < self.window[1] <= 1:
            raise ValueError(f"window must be 0 <= low < high <= 1 S, got {self.window!r}")
        if self.across not in (None, "cells", "cycles"):
            raise ValueError(f"across must be 'cells' or 'cycles', got {self.across!r}")
        if self.ramps is not None and (min(self.ramps) < 0 or max(self.ramps) < 1):
            raise ValueError(f"ramps must be numbers of pulses up and down, got {self.ramps!r}")


READS = ("conductance", "resistance", "current")


@dataclass
class Reads:
    """Columns of the reads, one entry a read, before they become `PulseData`."""

    cell: list[str]
    cycle: list[int]
    pulse: list[int]
    sign: list[int]
    g: list[float]
    amplitude: list[float]
    width: list[float]

    @classmethod
    def none(cls) -> Reads:
        """No reads yet."""
        return cls([], [], [], [], [], [], [])

    def add(
        self,
        cell: str,
        cycle: int,
        pulse: int,
        sign: int,
        g: float,
        drive: tuple[float, float] = (math.nan, math.nan),
    ) -> None:
        """One read more; `drive` is the amplitude [V] and width [s] of its pulses."""
        self.amplitude.append(drive[0])
        self.width.append(drive[1])
        self.cell.append(cell)
        self.cycle.append(cycle)
        self.pulse.append(pulse)
        self.sign.append(sign)
        self.g.append(g)


def plural(count: int, word: str) -> str:
    """So many of something."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def named(sheet: Sheet, how: Reading) -> list[Column]:
    """What each column is.

    Raises:
        ValueError: no header, or two columns of one meaning.
    """
    names = sheet.names
    if how.columns is not None:
        names = [name.strip() for name in how.columns.split(",")]
        width = len(sheet.rows[0]) if sheet.rows else len(sheet.names)
        if len(names) != width:
            raise ValueError(
                f"columns must name each of the {width} columns ('-' leaves one out), got "
                f"{len(names)}: {how.columns!r}"
            )
        sheet.names = names
    found = [meaning(name) for name in names]
    if how.columns is not None:
        found = [c._replace(role="unused") if c.label == "-" else c for c in found]
    found = _beside(found)
    for role in ("cell", "cycle", "pulse", "polarity", *READS, "voltage", "amplitude", "width"):
        same = [c.label for c in found if c.role == role]
        if len(same) > 1:
            raise ValueError(
                f"columns {' and '.join(same)} both say {role}: name the columns with "
                "columns=... (--columns)"
            )
    return found


def _beside(columns: list[Column]) -> list[Column]:
    """The same, where ramps have counts or times of their own in front of each."""
    counts = [i for i, c in enumerate(columns) if c.role in ("pulse", "time")]
    ahead = [columns[i + 1] for i in counts if i + 1 < len(columns)]
    ramps = [c for c in ahead if c.role in ("up", "down")]
    if len(counts) < 2 or len(ramps) < len(counts):
        return columns
    out = list(columns)
    for i, ramp in zip(counts, ramps, strict=True):
        out[i] = out[i]._replace(role=f"{out[i].role} {ramp.role}", number=ramp.number)
    return out


def siemens(
    values: Array, column: Column, how: Reading, voltage: Array | None, notes: list[str]
) -> Array:
    """The reads of one column [S].

    Raises:
        ValueError: a quantity or unit that cannot be told, with the option that tells it.
    """
    name = column.label or "the column of reads"
    kind = column.role if column.role in READS else ""
    if column.kind:
        if kind and column.kind != kind:
            raise ValueError(f"column {name} is a {kind}, but its unit {column.unit} is not")
        kind, factor, written = column.kind, column.factor, column.unit
    elif how.unit is not None:
        given, factor = unit(how.unit)
        if kind and given != kind:
            raise ValueError(f"column {name} is a {kind}, but unit={how.unit} (--unit) is not")
        kind, written = given, how.unit
    else:
        if not kind:
            kind = "current" if how.read_voltage is not None else "conductance"
        factor, written = 1.0, {"conductance": "S", "resistance": "ohm", "current": "A"}[kind]
    if kind not in READS:
        raise ValueError(f"column {name} has the unit {column.unit}, which is no unit of a read")
    if how.window is not None and not column.unit and how.unit is None:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        notes.append(f"{name}: {low:g} … {high:g} stand for {how.window[0]:g} … {how.window[1]:g}S")
        return how.window[0] + (values - low) / (high - low) * (how.window[1] - how.window[0])
    assumed = not column.unit and how.unit is None
    _plausible(values, kind, name, assumed)
    said = f"{name}: {kind} in {written}" + (" (no unit in the header)" if assumed else "")
    if kind == "conductance":
        g = values * factor
    elif kind == "resistance":
        with np.errstate(divide="ignore"):
            g = np.where(values > 0, 1 / (values * factor), np.nan)
        lost = int((values <= 0).sum())
        said += f"; {lost} reads of 0 ohm or less left out" if lost else ""
    else:
        if voltage is None:
            raise ValueError(
                f"column {name} is a current: give the read voltage, read_voltage=0.1 "
                "(--read-voltage 0.1), or a column voltage"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            g = values * factor / voltage
        g[~np.isfinite(g)] = np.nan
        if np.nanmedian(g) < 0:
            raise ValueError(
                f"column {name}: the current is negative at a positive read voltage (median "
                f"{np.nanmedian(values):.3g} {written}); turn the sign of one, "
                "read_voltage=-0.1 (--read-voltage -0.1)"
            )
        shown = np.unique(voltage[np.isfinite(voltage)])
        said += f", divided by {shown[0]:g} V" if len(shown) == 1 else ", divided by the voltage"
    notes.append(said)
    finite = g[np.isfinite(g)]
    if not len(finite):
        raise ValueError(f"column {name} has no finite read")
    if np.median(finite) < 0:
        raise ValueError(f"column {name}: most conductances are negative; turn their sign")
    if finite.max() > 1:
        raise ValueError(
            f"conductances must be at most 1 S, column {name} gives {finite.max():g} S; 25 uS is "
            "25e-6: name the unit of the reads with unit='uS' (--unit uS)"
        )
    return g


def _plausible(values: Array, kind: str, name: str, assumed: bool) -> None:
    """Refuse numbers without a unit that are no SI values of any cell."""
    finite = np.abs(values[np.isfinite(values)])
    if not assumed or not len(finite):
        return
    top = float(finite.max())
    wrong = {
        "conductance": top > PLAUSIBLE,
        "current": top > PLAUSIBLE,
        "resistance": float(np.median(finite)) < 1,
    }[kind]
    if wrong:
        si = {"conductance": "S", "resistance": "ohm", "current": "A"}[kind]
        example = {"conductance": "25 uS is 25e-6: unit='uS' (--unit uS)"}.get(
            kind, f"unit='{'u' if kind == 'current' else 'k'}{si}' (--unit)"
        )
        raise ValueError(
            f"column {name} has no unit, and values up to {top:g} are no {kind} in {si}: name "
            f"the unit, {example}; a normalised file needs window=(1e-6, 50e-6) "
            "(--window 1e-6 50e-6), the conductances [S] of its smallest and largest read"
        )
