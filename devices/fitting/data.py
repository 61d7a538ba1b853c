"""Measured pulses: their file format, and the arrays a fit works on."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from devices.device import Device
from devices.part import Pulses

LONGEST = 256
"""Reads in a block: a longer trace is cut, and each block starts from its own first read."""

GAP = 64
"""Pulses without a read after which a trace starts anew."""

_UP, _DOWN = {"up", "+", "+1", "1", "1.0", "set", "p"}, {"down", "-", "-1", "-1.0", "reset", "d"}
_NONE = {"", "0", "0.0", "none", "start", "nan"}


UP, DOWN, NOTHING = 0, 1, 2


class Unidentified(ValueError):
    """The data cannot tell a parameter."""


class Blocks(NamedTuple):
    """Traces side by side, one pulse or one repeated read a row; padded at the end."""

    y: Tensor  # (times, blocks) conductance read [S], NaN where there is none; the first is a read
    kind: Tensor  # (times, blocks) int64, what came before that read: UP, DOWN or NOTHING
    cell: Tensor  # (blocks,) index of the cell, ascending


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

    Raises:
        ValueError: columns of unequal length, no reads, a polarity other than −1, 0, 1, pulses that
            do not ascend, conductances above 1 S.
    """

    cell: tuple[str, ...]
    cycle: Tensor  # (reads,) int64
    pulse: Tensor  # (reads,) int64
    polarity: Tensor  # (reads,) int64
    g: Tensor  # (reads,) float64 [S]

    def __post_init__(self) -> None:
        sizes = {len(self.cell), *(len(t) for t in (self.cycle, self.pulse, self.polarity, self.g))}
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
    def read_csv(cls, path: str | Path) -> PulseData:
        """Read a file of pulse data; the format is that of docs/pulse-data.md.

        Raises:
            ValueError: a missing column or a value that cannot be read, with its line.
            FileNotFoundError: no such file.
        """
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = (line for line in file if line.strip() and not line.lstrip().startswith("#"))
            reader = csv.DictReader(lines, skipinitialspace=True)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            return cls._of_rows(path, names, reader)

    @classmethod
    def _of_rows(
        cls, path: str | Path, names: Sequence[str], rows: Iterable[dict[str, str]]
    ) -> PulseData:
        ohmic = "conductance" in names
        wanted = ["polarity"] + (["conductance"] if ohmic else ["current", "voltage"])
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(
                f"{path}: needs the columns polarity and conductance (or current and voltage), "
                f"has {', '.join(names) or 'none'}; missing: {', '.join(missing)}"
            )
        cells: list[str] = []
        numbers: list[tuple[int, int, int, float]] = []
        at: dict[tuple[str, int], int] = {}
        for row in rows:
            cell = (row.get("cell") or "0").strip()
            where = f"{path}: read {len(cells) + 1}"
            cycle = int(_number(row.get("cycle") or "0", where, "cycle"))
            sign = _polarity(row["polarity"], where)
            last = at.get((cell, cycle))
            if row.get("pulse"):
                pulse = int(_number(row["pulse"], where, "pulse"))
            else:
                pulse = 0 if last is None else last + abs(sign)
            at[cell, cycle] = pulse
            g = _number(row["conductance" if ohmic else "current"], where, "value")
            if not ohmic:
                voltage = _number(row["voltage"], where, "voltage")
                g = g / voltage if voltage else math.nan
            cells.append(cell)
            numbers.append((cycle, pulse, sign, g))
        if not cells:
            raise ValueError(f"{path}: no reads")
        cycle_, pulse_, sign_, g_ = zip(*numbers, strict=True)
        return cls(
            tuple(cells),
            torch.tensor(cycle_),
            torch.tensor(pulse_),
            torch.tensor(sign_),
            torch.tensor(g_, dtype=torch.float64),
        )

    def write_csv(self, path: str | Path) -> None:
        """Write the data in the format of docs/pulse-data.md."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["cell", "cycle", "pulse", "polarity", "conductance"])
            columns = (self.cycle, self.pulse, self.polarity, self.g)
            rows = zip(self.cell, *(c.tolist() for c in columns), strict=True)
            for cell, cycle, pulse, sign, g in rows:
                word = {1: "up", -1: "down", 0: ""}[sign]
                table.writerow([cell, cycle, pulse, word, "" if math.isnan(g) else f"{g:.6g}"])

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
        columns = (c[index] for c in (self.cycle, self.pulse, self.polarity, self.g))
        return PulseData(tuple(self.cell[i] for i in keep), *columns)

    def blocks(self) -> Blocks:
        """The traces on a grid of pulses, cut into blocks of at most `LONGEST` reads."""
        index = {cell: i for i, cell in enumerate(self.cells)}
        code = torch.tensor([index[cell] for cell in self.cell])
        order = _stable_order(code, self.cycle)
        code, cycle = code[order], self.cycle[order]
        pulse, sign, g = self.pulse[order], self.polarity[order], self.g[order]
        same = (code[1:] == code[:-1]) & (cycle[1:] == cycle[:-1])
        ahead = torch.where(same, pulse[1:] - pulse[:-1], 1)
        if bool((ahead < 0).any()):
            i = int(torch.nonzero(ahead < 0)[0]) + 1
            raise ValueError(
                f"pulse must ascend within a cycle, but goes from {int(pulse[i - 1])} to "
                f"{int(pulse[i])} in cell {self.cells[int(code[i])]}, cycle {int(cycle[i])}"
            )
        bad = same & (ahead > 0) & (sign[1:] == 0)
        if bool(bad.any()):
            i = int(torch.nonzero(bad)[0]) + 1
            raise ValueError(
                f"pulse {int(pulse[i])} of cell {self.cells[int(code[i])]}, cycle "
                f"{int(cycle[i])} has no polarity"
            )
        new = torch.cat([torch.tensor([True]), ~same | (ahead > GAP)])
        cuts = [*torch.nonzero(new).flatten().tolist(), len(g)]
        pieces: list[tuple[int, Tensor, Tensor]] = []
        for start, stop in zip(cuts, cuts[1:], strict=False):
            grid, kind = _on_rows(pulse[start:stop], sign[start:stop], g[start:stop])
            parts = -(-len(grid) // LONGEST)
            size = -(-len(grid) // parts)
            for first in range(0, len(grid), size):
                seen = torch.nonzero(~grid[first : first + size].isnan()).flatten()
                if len(seen) > 1:
                    keep = slice(first + int(seen[0]), first + int(seen[-1]) + 1)
                    pieces.append((int(code[start]), grid[keep], kind[keep]))
        if not pieces:
            raise ValueError("no two reads with a pulse between them")
        pad = torch.nn.utils.rnn.pad_sequence
        return Blocks(
            pad([p[1] for p in pieces], padding_value=math.nan),
            pad([p[2] for p in pieces], padding_value=NOTHING),
            torch.tensor([p[0] for p in pieces]),
        )


def _stable_order(code: Tensor, cycle: Tensor) -> Tensor:
    order = torch.argsort(cycle, stable=True)
    return order[torch.argsort(code[order], stable=True)]


def _on_rows(pulse: Tensor, sign: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Reads and kinds of one trace with one row per pulse, and one per read without a pulse."""
    ahead = pulse.diff()
    at = torch.cat([torch.zeros(1, dtype=torch.int64), ahead.clamp(min=1).cumsum(0)])
    grid = torch.full((int(at[-1]) + 1,), math.nan, dtype=torch.float64)
    grid[at] = torch.where(g.isfinite(), g, math.nan)
    kind = torch.where(sign > 0, UP, DOWN)
    kind[1:][ahead == 0] = NOTHING
    kind[0] = NOTHING
    return grid, kind[torch.searchsorted(at, torch.arange(len(grid)))]


def _number(text: str | None, where: str, name: str) -> float:
    word = (text or "").strip()
    if word.lower() in ("", "nan", "na", "none"):
        if name == "value" or name == "voltage":
            return math.nan
        raise ValueError(f"{where}: {name} is empty")
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{where}: {name} must be a number, got {word!r}") from None


def _polarity(text: str | None, where: str) -> int:
    word = (text or "").strip().lower()
    if word in _UP:
        return 1
    if word in _DOWN:
        return -1
    if word in _NONE:
        return 0
    raise ValueError(f"{where}: polarity must be up or down (+1 or -1, 0 for none), got {text!r}")
