"""Converters that were measured or simulated elsewhere, as tables."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from crossbar.converters.converter import Converter, Normal

Table = tuple[tuple[float, ...], ...]


def _rows(field: str, given: Any, columns: tuple[str, ...]) -> Table:
    """A table, or that of a CSV file with these columns."""
    if isinstance(given, str | Path):
        with open(given, newline="", encoding="utf-8-sig") as file:  # spreadsheets mark UTF-8
            found = csv.DictReader(file, skipinitialspace=True)
            found.fieldnames = [name.strip() for name in found.fieldnames or ()]
            missing = set(columns) - set(found.fieldnames or ())
            if missing:
                raise ValueError(
                    f"{field}: {given} needs the columns {', '.join(columns)}; "
                    f"{', '.join(sorted(missing))} is missing"
                )
            try:
                given = [[float(row[name]) for name in columns] for row in found]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{field}: {given} line {found.line_num}: {error}") from None
    table = tuple(tuple(float(x) for x in row) for row in given)
    if any(len(row) != len(columns) for row in table):
        raise ValueError(f"{field}: every row must have {len(columns)} numbers ({columns})")
    if not all(abs(x) < float("inf") for row in table for x in row):  # NaN too
        raise ValueError(f"{field}: numbers must be finite")
    first = [row[0] for row in table]
    if len(first) < 2 or any(b - a != 1 for a, b in zip(first, first[1:], strict=False)):
        raise ValueError(
            f"{field}: {columns[0]} must count up by one, at least two of them, got {first[:8]}"
        )
    return table


@dataclass(frozen=True)
class LevelNoise(Converter):
    """What comes out at each output level: mean and standard deviation, normal.

    The current is rounded to the nearest level; what is handed on is mean + std N(0, 1), anew at
    every conversion. The level of the largest magnitude is full scale. Errors that belong to a
    column, as those of wires, are the same at every read and become noise here: a network suffers
    less of noise, so such a table is too kind where they cost more than a point or so.

    Args:
        table: rows (level, mean, std) of consecutive whole levels, all in steps, or the path of a
            CSV file with these columns, as circuit simulation or silicon gives them (NeuroSim 1.5
            takes the same); std >= 0. Levels that begin at 0 make a one-sided converter.
        range, noise and the rest: see `Converter`.

    Raises:
        ValueError: a column missing, a level left out, a negative std.
        OSError: the file cannot be read.
    """

    table: Table | str | Path = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        table = _rows("table", self.table, ("level", "mean", "std"))
        if any(row[2] < 0 for row in table):
            raise ValueError("table: std must be >= 0")
        object.__setattr__(self, "table", table)

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last level, relative to the larger one."""
        return _ends(self._columns[0])

    @property
    def _columns(self) -> Table:
        return tuple(zip(*cast(Table, self.table), strict=True))

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """The mean output of the nearest level."""
        return self._out(i, full, None)

    def drawn(self, i: Tensor, full: Tensor | float, leaf: Any, normal: Normal) -> Tensor:
        """A draw of the nearest level's output."""
        return self._out(i, full, normal)

    def _out(self, i: Tensor, full: Tensor | float, normal: Normal | None) -> Tensor:
        level, mean, std = self._columns
        unit = full / max(abs(level[0]), abs(level[-1]))
        at = (torch.round(i / unit) - level[0]).clamp(0, len(level) - 1).nan_to_num(0.0).long()
        out = i.new_tensor(mean)[at]
        if normal is not None and any(std):
            out = out.addcmul(i.new_tensor(std)[at], normal(i))
        return torch.where(i.isnan(), i, out * unit)


def _ends(codes: Sequence[float]) -> tuple[float, float]:
    top = max(abs(codes[0]), abs(codes[-1]))
    return codes[0] / top, codes[-1] / top


@dataclass(frozen=True)
class MeasuredADC(Converter):
    """A converter whose nonlinearity was measured.

    Code k is put out above the current (k − 1/2 + INL_k) steps; the largest code is full scale.

    Args:
        table: rows (code, inl) of consecutive whole codes, INL in steps at the transition to the
            code (that of the lowest is not used), or the path of a CSV file with these columns.
            Codes that begin at 0 make a one-sided converter.
        range, noise and the rest: see `Converter`.

    Raises:
        ValueError: a column missing, a code left out.
        OSError: the file cannot be read.
    """

    table: Table | str | Path = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "table", _rows("table", self.table, ("code", "inl")))

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last code, relative to the larger one."""
        return _ends([row[0] for row in cast(Table, self.table)])

    def convert(self, i: Tensor, full: Tensor | float, leaf: Any) -> Tensor:
        """The code whose transition the current has passed; a missing code is passed over."""
        codes, inl = zip(*cast(Table, self.table), strict=True)
        at = [k - 0.5 + off for k, off in zip(codes[1:], inl[1:], strict=True)]
        # the code is at least k once any later transition is passed
        edges = torch.tensor(at, dtype=torch.float64).flip(0).cummin(0).values.flip(0)
        unit = full / max(abs(codes[0]), abs(codes[-1]))
        steps = i / unit
        found = torch.bucketize(steps, edges.to(steps)).to(i.dtype) + codes[0]
        return torch.where(i.isnan(), i, found * unit)
