"""What events cost: values with ranges and sources, in sets."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devices._check import at_least, between, instance, positive

BOUNDARIES = ("array", "macro", "tile", "chip", "system")
"""What a set covers: cells; converters and drivers too; buffers, adders; network, leakage; DRAM."""

DIGITAL = (
    *("digital_mac", "add", "activation", "norm", "pool", "table"),
    *("optimiser_op", "optimiser_byte"),
)
"""Events of digital logic, which alone scale as logic does from node to node."""


@dataclass(frozen=True)
class Cost:
    """One value, what it may lie between, and where it is from.

    Args:
        value: in SI: J an event, s, m² or W, as the entry says.
        low: smallest it may be, 0 <= low <= value.
        high: largest, >= value.
        node: of the technology [nm]; None: it has none.
        source: where the number is from. A zero says here why it is one.

    Raises:
        TypeError, ValueError: a number out of its range; no source.
    """

    value: float
    low: float
    high: float
    node: float | None
    source: str

    def __post_init__(self) -> None:
        at_least("value", self.value, 0)
        between("low", self.low, 0, self.value)
        if not (isinstance(self.high, (int, float)) and math.isfinite(self.high)):
            raise ValueError(f"high must be a finite number, got {self.high!r}")
        at_least("high", self.high, self.value)
        if self.node is not None:
            positive("node", self.node, "nm")
        if not isinstance(self.source, str) or not self.source.strip():
            raise ValueError(f"source must say where the number is from, got {self.source!r}")

    def times(self, k: float, node: float | None = None, why: str = "") -> Cost:
        """k of it, as another entry of another node."""
        source = f"{self.source}; {why}" if why else self.source
        value, low, high = self.value * k, self.low * k, self.high * k
        return Cost(value, low, high, self.node if node is None else node, source)


def cost(value: float, spread: tuple[float, float], node: float | None, source: str) -> Cost:
    """A cost that may be `spread` times as small or large: (1/low factor, high factor)."""
    below, above = spread
    return Cost(value, value / below, value * above, node, source)


def exact(value: float, node: float | None, source: str) -> Cost:
    """A cost without a range."""
    return Cost(value, value, value, node, source)


def nothing(why: str) -> Cost:
    """A stated zero."""
    return Cost(0.0, 0.0, 0.0, None, why)


@dataclass(frozen=True)
class Bias:
    """Voltages of lines while pulses are given, as parts of V²; see `ledger.writes`.

    Args:
        none: of cells whose row and column rest.
        row: of cells whose row alone fires.
        col: of cells whose column alone fires.
        row_line: to which a row that fires is charged.
        col_line: a column that fires.
        inhibit: a line that is held while others fire.
        source: of the scheme.
    """

    none: float
    row: float
    col: float
    row_line: float
    col_line: float
    inhibit: float
    source: str

    def __post_init__(self) -> None:
        for name in ("none", "row", "col", "row_line", "col_line", "inhibit"):
            between(name, getattr(self, name), 0, 1)


HALF_SELECT = Bias(0, 0.25, 0.25, 0.25, 0.25, 0, "lines at ±V/2, others at ground (V/2 scheme)")
THIRD_SELECT = Bias(
    *(1 / 9, 1 / 9, 1 / 9, 0.25, 0.25, 1 / 36),
    "lines at ±V/2, others at ∓V/6: no cell but those selected sees more than V/3 (V/3 scheme)",
)
GATED = Bias(
    *(0, 0, 0, 1, 1, 1),
    "1T1R: closed gates; unselected source lines are charged to V, as NeuroSim's inhibited ones",
)


@dataclass(frozen=True)
class Costs:
    """A set: what each kind of event costs on one kind of hardware.

    Args:
        name: of the set.
        boundary: what it covers, of `BOUNDARIES`.
        energy: joules an event by its name, "adc[8]" for one of 8 bits alone; of "load" and
            "store" a bit; of "pulse_charge" and "inhibit_charge" the farads of a line a cell.
        read: how long a read drives its lines [s]: `array` is V² G times that.
        bias: voltages of lines while pulses are given; None: nobody said.
        time: seconds by what takes them, see `ledger.latency`.
        area: m² by what takes it, see `ledger.area`.
        static: power that flows while nothing happens [W] of a tile; None: nobody said.

    Raises:
        TypeError, ValueError: a field of another kind.
    """

    name: str
    boundary: str
    energy: Mapping[str, Cost]
    read: Cost | None = None
    bias: Bias | None = None
    time: Mapping[str, Cost] = field(default_factory=dict)
    area: Mapping[str, Cost] = field(default_factory=dict)
    static: Cost | None = None

    def __post_init__(self) -> None:
        if self.boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {BOUNDARIES}, got {self.boundary!r}")
        for part in ("energy", "time", "area"):
            for name, value in getattr(self, part).items():
                instance(f"{part}[{name!r}]", value, Cost, optional=False)
        for name in ("read", "static"):
            instance(name, getattr(self, name), Cost)
        instance("bias", self.bias, Bias)

    def find(self, part: str, name: str, of: Any = None) -> Cost:
        """The entry of an event, that of its bits before that of all.

        Raises:
            KeyError: there is none; a stated zero is one.
        """
        table: Mapping[str, Cost] = getattr(self, part)
        found = table.get(f"{name}[{of}]") or table.get(name)
        if found is None:
            what = name if of is None else f"{name}[{of}]"
            raise KeyError(
                f"{self.name} has no {part} for {what!r}: give "
                f"costs.having({part}={{{what!r}: Cost(...)}}), a stated zero if it is none"
            )
        return found

    def having(self, **parts: Any) -> Costs:
        """The set with entries added or put in the place of others; whole fields replaced."""
        made: dict[str, Any] = {
            k: {**getattr(self, k), **v} if k in ("energy", "time", "area") else v
            for k, v in parts.items()
        }
        return replace(self, **made)

    def over(self, other: Costs) -> Costs:
        """This set, and what it lacks of another; its own boundary."""
        parts: dict[str, Any] = {
            k: {**getattr(other, k), **getattr(self, k)} for k in ("energy", "time", "area")
        }
        for k in ("read", "bias", "static"):
            own = getattr(self, k)
            parts[k] = getattr(other, k) if own is None else own
        return replace(self, **parts)

    def scaled(self, k: float) -> Costs:
        """Every joule times k."""
        parts = {name: c.times(k) for name, c in self.energy.items()}
        read = None if self.read is None else self.read.times(k)
        return replace(self, energy=parts, read=read)

    @classmethod
    def of(cls, name: str, boundary: str, entries: Mapping[str, Any], source: str) -> Costs:
        """A user's own: joules an event, alone, or (value, low, high); "read" in seconds.

        Raises:
            ValueError: a number out of its range.
        """
        made = {}
        for event, value in entries.items():
            middle, low, high = (value,) * 3 if isinstance(value, (int, float)) else value
            made[event] = Cost(middle, low, high, None, source)
        return cls(name, boundary, made, read=made.pop("read", None))

    @classmethod
    def read_csv(cls, path: str | Path, name: str, boundary: str) -> Costs:
        """A user's own, of columns part, entry, value, low, high, node, source.

        `part` is energy, time, area, read or static; of the last two `entry` stays empty.

        Raises:
            ValueError: a part or column that is none.
        """
        with open(path, newline="") as file:
            return cls._of_rows(csv.DictReader(file), name, boundary)

    @classmethod
    def _of_rows(cls, rows: Iterable[Mapping[str, str]], name: str, boundary: str) -> Costs:
        parts: dict[str, Any] = {"energy": {}, "time": {}, "area": {}}
        for n, row in enumerate(rows, 2):
            if set(row) != {"part", "entry", "value", "low", "high", "node", "source"}:
                raise ValueError(f"line {n}: columns must be part, entry, value, low, high, node, "
                                 f"source, got {', '.join(map(str, row))}")  # fmt: skip
            value, low, high = (float(row[k]) for k in ("value", "low", "high"))
            node = float(row["node"]) if row["node"] else None
            made = Cost(value, low, high, node, row["source"])
            if row["part"] in ("energy", "time", "area"):
                parts[row["part"]][row["entry"]] = made
            elif row["part"] in ("read", "static"):
                parts[row["part"]] = made
            else:
                raise ValueError(f"line {n}: part must be energy, time, area, read or static")
        return cls(name, boundary, **parts)
