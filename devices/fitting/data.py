"""Measured pulses: their file format, and the arrays a fit works on."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from devices.device import Device
from devices.fitting.files import pulses_in
from devices.fitting.reading import Reading, Reads, plural
from devices.part import Pulses


class Unidentified(ValueError):
    """The data cannot tell a parameter."""


@dataclass(frozen=True, eq=False)
class PulseData:
    """Reads of several cells between programming pulses, in the order in which they were taken.

    One entry is one read. `pulse` counts the pulses of a cycle up to that read: a step of n between
    two reads means n pulses, all of the polarity of the second read. A read that failed is NaN or
    left out.

    Args:
        cell: label of the cell of every read.
        cycle: number of the cycle; a cell may rest or be reset between cycles.
        pulse: pulses given in the cycle before this read, ascending.
        polarity: +1 or −1, direction of the pulses since the read before; 0 where there were none.
        g: conductance [S], NaN for a failed read.
        notes: what was understood of the file, a sentence each.
        amplitude: of the pulses before this read [V]; None: unknown, and the same for all.
        width: duration of the same [s].

    Raises:
        ValueError: columns of unequal length, no reads, a polarity other than −1, 0, 1, pulses that
            do not ascend, conductances above 1 S.
    """

    cell: tuple[str, ...]
    cycle: Tensor  # (reads,) int64
    pulse: Tensor  # (reads,) int64
    polarity: Tensor  # (reads,) int64
    g: Tensor  # (reads,) float64 [S]
    notes: tuple[str, ...] = ()
    amplitude: Tensor | None = None  # (reads,) float64 [V]
    width: Tensor | None = None  # (reads,) float64 [s]

    def __post_init__(self) -> None:
        columns = (self.cycle, self.pulse, self.polarity, self.g, self.amplitude, self.width)
        sizes = {len(self.cell), *(len(t) for t in columns if t is not None)}
        if len(sizes) != 1:
            raise ValueError(f"columns must be of one length, got lengths {sorted(sizes)}")
        if not bool(self.g.isfinite().any()):
            raise ValueError("no finite read in the data")
        largest = float(self.g[self.g.isfinite()].abs().max())
        if largest > 1:
            raise ValueError(f"conductances must be at most 1 S, got {largest:g}; 25 uS is 25e-6")
        if not bool(self.polarity.abs().le(1).all()):
            raise ValueError("polarity must be +1 (up), -1 (down) or 0 (no pulse)")

    def __len__(self) -> int:
        return len(self.g)

    @property
    def cells(self) -> tuple[str, ...]:
        """Labels of the cells, in the order of the data."""
        return tuple(dict.fromkeys(self.cell))

    @classmethod
    def read_csv(
        cls,
        path: str | Path,
        *,
        down: str | Path | None = None,
        unit: str | None = None,
        read_voltage: float | None = None,
        decimal: str | None = None,
        amplitude: float | None = None,
        width: float | None = None,
        window: tuple[float, float] | None = None,
        columns: str | None = None,
        across: str | None = None,
        sheet: str | None = None,
        ramps: tuple[int, int] | None = None,
    ) -> PulseData:
        """Read a file of pulse data, text or .xlsx, in any of the forms of docs/pulse-data.md.

        Args:
            path: the file.
            down: a second file whose columns are the ramps down; those of `path` are then up.
            unit: see `devices.fitting.reading.Reading`, as the rest.
            read_voltage: [V].
            decimal: "." or ",".
            amplitude: in the unit of its column.
            width: in the unit of its column.
            window: [S].
            columns: names of the columns, separated by commas.
            across: "cells" or "cycles".
            sheet: of an .xlsx.
            ramps: pulses up and down of every cycle.

        Raises:
            ValueError: a column that is missing, a value that cannot be read, with its line, or
                something that the file leaves open, with the argument that says it.
            FileNotFoundError: no such file.
        """
        how = Reading(
            unit, read_voltage, decimal, amplitude, width, window, columns, across, sheet, ramps
        )
        return cls.of_reads(*pulses_in(path, down, how))

    @classmethod
    def of_reads(cls, reads: Reads, notes: tuple[str, ...]) -> PulseData:
        """The data of reads in columns, and what was understood of them."""
        return cls(
            tuple(reads.cell),
            torch.tensor(reads.cycle),
            torch.tensor(reads.pulse),
            torch.tensor(reads.sign),
            torch.tensor(reads.g, dtype=torch.float64),
            notes,
            *(
                torch.tensor(c, dtype=torch.float64) if any(map(math.isfinite, c)) else None
                for c in (reads.amplitude, reads.width)
            ),
        )

    @property
    def varies(self) -> str:
        """What to do where pulses of one direction differ in amplitude or width, else nothing."""
        for name, values, unit in (
            ("amplitude", self.amplitude, "V"),
            ("width", self.width, "s"),
        ):
            for way, word in ((1, "up"), (-1, "down")):
                if values is None:
                    continue
                own = values[(self.polarity == way) & values.isfinite()].abs()
                if len(own) and float(own.max()) > float(own.min()) * (1 + 1e-3):
                    low, high = float(own.min()), float(own.max())
                    return (
                        f"{name} varies: from {low:g} to {high:g} {unit} over {word} pulses. "
                        f"Choose the pulses of one with {name}={low:g} (--{name} {low:g}, in the "
                        "unit of its column), or fit a law of all with --law AmplitudeStep or "
                        "--law VTEAM"
                    )
        return ""

    @property
    def account(self) -> tuple[str, ...]:
        """What was understood: columns, units, cells, cycles, reads, pulses between reads."""
        code, order = self._order()
        cycle, pulse, sign = (c[order] for c in (self.cycle, self.pulse, self.polarity))
        same = (code[1:] == code[:-1]) & (cycle[1:] == cycle[:-1])
        ahead = (pulse[1:] - pulse[:-1])[same]
        between, often = torch.unique(ahead, return_counts=True)
        spacing = ", ".join(
            f"{n} ({k} times)"
            for n, k in list(zip(between.tolist(), often.tolist(), strict=True))[:6]
        ) + (", …" if len(between) > 6 else "")
        failed = int((~self.g.isfinite()).sum())
        finite = self.g[self.g.isfinite()]
        traces = len({(c, n) for c, n in zip(code.tolist(), cycle.tolist(), strict=True)})
        pulses = ahead.clamp(min=0)
        up, down = (int(pulses[(sign[1:] == way)[same]].sum()) for way in (1, -1))
        return (
            *self.notes,
            f"{plural(len(self.cells), 'cell')}, {plural(traces, 'cycle')}, {len(self)} reads of "
            f"{1e6 * float(finite.min()):.4g} … {1e6 * float(finite.max()):.4g} µS"
            + (f", {failed} failed reads left out" if failed else ""),
            f"pulses between reads: {spacing or 'none'}; {up} up, {down} down in all",
        )

    def _order(self) -> tuple[Tensor, Tensor]:
        """Index of the cell of every read in order of cell and cycle, and that order."""
        index = {cell: i for i, cell in enumerate(self.cells)}
        code = torch.tensor([index[cell] for cell in self.cell])
        order = _stable_order(code, self.cycle)
        return code[order], order

    def write_csv(self, path: str | Path) -> None:
        """Write the data in the format of docs/pulse-data.md."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            more = {"amplitude (V)": self.amplitude, "width (s)": self.width}
            more = {name: column for name, column in more.items() if column is not None}
            table.writerow(["cell", "cycle", "pulse", "polarity", "conductance", *more])
            columns = (self.cycle, self.pulse, self.polarity, self.g, *more.values())
            rows = zip(self.cell, *(c.tolist() for c in columns if c is not None), strict=True)
            for cell, cycle, pulse, sign, *numbers in rows:
                word = {1: "up", -1: "down", 0: ""}[sign]
                texts = ["" if math.isnan(v) else f"{v:.6g}" for v in numbers]
                table.writerow([cell, cycle, pulse, word, *texts])

    @classmethod
    def measured(
        cls,
        device: Device,
        *,
        cells: int,
        cycles: int,
        pulses: int,
        generator: torch.Generator | None = None,
    ) -> PulseData:
        """What an experimenter would record on cells of a device: reads after every pulse.

        Every cycle gives `pulses` up pulses and as many down pulses, starting from g_min.
        """
        state = device.fabricate((cells,), generator=generator, dtype=torch.float64)
        one, none = torch.ones(cells, dtype=torch.float64), torch.zeros(cells, dtype=torch.float64)
        cycle, pulse, sign, reads = [], [], [], []
        for number in range(cycles):
            signs = [0] + [1] * pulses + [-1] * pulses
            for count, polarity in enumerate(signs):
                if polarity:
                    given = Pulses(one, none) if polarity > 0 else Pulses(none, one)
                    state = device.pulse(state, given, generator=generator)
                seen, std = device.seen(state), device.std(state)
                if std is not None:
                    noise = torch.randn(cells, generator=generator, dtype=torch.float64)
                    seen = seen + std * noise
                reads.append(seen)
                cycle.append(number)
                pulse.append(count)
                sign.append(polarity)
        labels = tuple(str(c) for c in range(cells) for _ in cycle)
        n, k, s = (torch.tensor(c).repeat(cells) for c in (cycle, pulse, sign))
        return cls(labels, n, k, s, torch.stack(reads, 1).flatten())

    def select(self, cells: Iterable[str]) -> PulseData:
        """The reads of some of the cells."""
        chosen = set(cells)
        keep = [i for i, cell in enumerate(self.cell) if cell in chosen]
        index = torch.tensor(keep, dtype=torch.int64)
        cycle, pulse, sign, g = (c[index] for c in (self.cycle, self.pulse, self.polarity, self.g))
        drive = (None if c is None else c[index] for c in (self.amplitude, self.width))
        labels = tuple(self.cell[i] for i in keep)
        return PulseData(labels, cycle, pulse, sign, g, self.notes, *drive)


def _stable_order(code: Tensor, cycle: Tensor) -> Tensor:
    order = torch.argsort(cycle, stable=True)
    return order[torch.argsort(code[order], stable=True)]
