"""Events priced: joules with ranges, by weight, phase and event."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from crossbar.costs import Bias, Cost, Costs
from crossbar.ledger.events import Counts, Key
from devices import WritePulse

INFORMATION = {
    *("mac", "slot", "inhibit", "pulse", "half_select", "row_pulse", "col_pulse"),
    *("write", "verify_pulse", "verify_read"),
}
"""Events whose joules are those of others: of cells by their siemens, of lines by their charge."""

PER_BIT = {"load", "store"}
"""Events whose cost is that of one of their bits."""

Pulses = Mapping[tuple[str, int], WritePulse | None]
"""What a write pulse of each matrix is."""


class Line(NamedTuple):
    """Joules of one kind of event."""

    weight: str
    phase: str
    matrix: int
    event: str
    of: Any
    number: float
    cost: Cost  # of one

    @property
    def joules(self) -> float:
        """Nominal."""
        return self.number * self.cost.value

    @property
    def range(self) -> tuple[float, float]:
        """All low, all high."""
        return self.number * self.cost.low, self.number * self.cost.high


class Total(NamedTuple):
    """Joules and what they may lie between."""

    joules: float
    quadrature: tuple[float, float]  # kinds of events err independently
    extremes: tuple[float, float]  # all low, all high

    def __str__(self) -> str:
        low, high = self.quadrature
        return f"{si(self.joules, 'J')} [{si(low, 'J')} … {si(high, 'J')}]"


@dataclass(frozen=True)
class Bill:
    """Priced events; its boundary is in the title of whatever it prints.

    Args:
        lines: one for each key of the counts.
        costs: by which they were priced.
    """

    lines: tuple[Line, ...]
    costs: Costs

    @property
    def boundary(self) -> str:
        """What the joules cover."""
        return self.costs.boundary

    def select(self, keep: Callable[[Line], bool]) -> Bill:
        """The lines that are kept."""
        return Bill(tuple(line for line in self.lines if keep(line)), self.costs)

    @property
    def total(self) -> Total:
        """Sum of all lines.

        An error of a cost is common to all events of its kind; those of kinds are independent,
        so that their deviations add as squares, upwards and downwards apart.
        """
        nominal = math.fsum(line.joules for line in self.lines)
        kinds = self.kinds()
        low, high = (math.fsum(k[n] for k in kinds.values()) for n in (1, 2))
        down, up = (
            math.sqrt(math.fsum((k[0] - k[n]) ** 2 for k in kinds.values())) for n in (1, 2)
        )
        return Total(nominal, (nominal - down, nominal + up), (low, high))

    def kinds(self) -> dict[str, tuple[float, float, float]]:
        """Nominal, low and high joules of every kind of event."""
        return self._sums(lambda line: line.event)

    def by(self, field: str) -> dict[Any, Total]:
        """Joules and their ranges by a field of `Line`: weight, phase, event, matrix, of.

        Raises:
            KeyError: no such field.
        """
        if field not in Line._fields:
            raise KeyError(f"a line has {', '.join(Line._fields)}, got {field!r}")
        found: dict[Any, list[Line]] = {}
        for line in self.lines:
            found.setdefault(getattr(line, field), []).append(line)
        return {k: Bill(tuple(lines), self.costs).total for k, lines in found.items()}

    def _sums(self, of: Callable[[Line], Any]) -> dict[Any, tuple[float, float, float]]:
        found: dict[Any, list[float]] = {}
        for line in self.lines:
            one = found.setdefault(of(line), [0.0, 0.0, 0.0])
            for n, value in enumerate((line.joules, *line.range)):
                one[n] += value
        return {k: (v[0], v[1], v[2]) for k, v in found.items()}

    @property
    def dominant(self) -> str:
        """The kind of event that most of the spread comes of."""
        kinds = self.kinds()
        return max(kinds, key=lambda k: kinds[k][2] - kinds[k][1])

    def table(self) -> str:
        """A line a kind of event, with its share, its spread and its source."""
        total, kinds = self.total, self.kinds()
        source = {line.event: line.cost.source for line in self.lines}
        rows = [f"Energy of the {self.boundary} ({self.costs.name})"]
        for kind, (nominal, low, high) in sorted(kinds.items(), key=lambda k: -k[1][0]):
            share = nominal / total.joules if total.joules else 0.0
            spread = f"[{si(low, 'J')} … {si(high, 'J')}]"
            rows.append(f"{kind:15s} {si(nominal, 'J'):>10s} {spread:>26s} {share:6.1%}  "
                        f"{source[kind]}")  # fmt: skip
        rows.append(f"{'total':15s} {total}; all low … all high "
                    f"{si(total.extremes[0], 'J')} … {si(total.extremes[1], 'J')}; "
                    f"most of the spread: {self.dominant}")  # fmt: skip
        return "\n".join(rows)

    def __repr__(self) -> str:
        return self.table()


def price(
    counts: Counts,
    costs: Costs,
    pulses: Pulses,
    tiles: Mapping[tuple[str, int], int] | None = None,
) -> Bill:
    """Joules of counted events.

    Args:
        counts: of a `Ledger`.
        costs: a set that has an entry for each of them.
        pulses: write pulses of the matrices, as `Ledger.pulses` has them.
        tiles: how many tiles each matrix has, whose static power flows.

    Raises:
        KeyError: an event that the set does not price, by name.
        ValueError: pulses of a device that does not say what they are; no bias.
    """
    lines = []
    for key in counts:
        if key.event in INFORMATION:
            continue
        n = float(counts[key].sum())
        if n:
            lines.append(Line(*key, n, _of(key, costs, pulses, tiles or {})))
    return Bill(tuple(lines), costs)


def _of(key: Key, costs: Costs, pulses: Pulses, tiles: Mapping[Any, int]) -> Cost:
    """What one event of a key costs."""
    event, of = key.event, key.of
    if event == "drive":
        return Cost(1.0, 1.0, 1.0, None, "counted in joules")
    if event in ("array", "verify_array"):
        own = costs.energy.get("array")
        if own is not None:
            return own
        if costs.read is None:
            raise KeyError(f"{costs.name} does not say how long a read is: costs.having(read=...)")
        return costs.read
    if event == "second":
        if costs.static is None:
            raise KeyError(
                f"{costs.name} does not say what power flows while nothing happens: give "
                "costs.having(static=...), a stated zero if it is none"
            )
        return costs.static.times(tiles.get((key.weight, key.matrix), 1))
    if event in PER_BIT:
        if of is None:
            raise ValueError(
                f"{key.weight}: values of unlimited resolution are brought and taken: give the "
                "chip converters with bits"
            )
        return costs.find("energy", event, of).times(float(of))
    if event in _ON_CELLS or event in _ON_LINES:
        return _pulse(key, costs, pulses)
    return costs.find("energy", event, of)


_ON_CELLS: dict[str, Callable[[Bias], float]] = {
    "selected": lambda b: 1 - b.row - b.col + b.none,
    "on_row": lambda b: b.row - b.none,
    "on_col": lambda b: b.col - b.none,
    "at_rest": lambda b: b.none,
    "written": lambda b: 1.0,
    "verified": lambda b: 1.0,
}
"""Part of V² t of each sum of conductances."""

_ON_LINES: dict[str, tuple[str, Callable[[Bias], float]]] = {
    "row_charge": ("pulse_charge", lambda b: b.row_line),
    "col_charge": ("pulse_charge", lambda b: b.col_line),
    "inhibit_charge": ("inhibit_charge", lambda b: b.inhibit),
}
"""Entry of each sum of cells along lines, in farads, and part of V²."""


def _pulse(key: Key, costs: Costs, pulses: Pulses) -> Cost:
    """Joules a siemens, or a cell, of one direction."""
    pulse = pulses.get((key.weight, key.matrix))
    if pulse is None:
        raise ValueError(
            f"{key.weight}: its device does not say what a write pulse is at its terminals: give "
            "Device(write_pulse=WritePulse(...)); between devices lie eight decades"
        )
    bias = costs.bias
    if key.event in ("written", "verified"):
        bias = bias or Bias(0, 0, 0, 0, 0, 0, "cells one by one")
    if bias is None:
        raise ValueError(
            f"{costs.name} does not say how lines are biased while pulses are given: "
            "costs.having(bias=HALF_SELECT), THIRD_SELECT or GATED"
        )
    volt = {"up": pulse.v_up**2, "down": pulse.v_down**2}
    if key.event in _ON_LINES:
        name, part = _ON_LINES[key.event]
        k = part(bias) * volt[str(key.of)]
        if not k:
            return Cost(0.0, 0.0, 0.0, None, bias.source)
        return costs.find("energy", name).times(k, why=bias.source)
    k = _ON_CELLS[key.event](bias)
    if key.of is None:  # one pulse a cell, of which only one direction or both may be
        both = sorted((pulse.up, pulse.down))
        return Cost(pulse.up, both[0], both[1], None, f"{pulse.source}; potentiation")
    joules = k * {"up": pulse.up, "down": pulse.down}[str(key.of)]
    return Cost(joules, joules, joules, None, f"{pulse.source}; {bias.source}")


def compare(bills: Sequence[Bill], *, across: bool = False) -> str:
    """Bills beside each other, each with its boundary.

    Raises:
        ValueError: of different boundaries, unless `across` says that this is meant.
    """
    boundaries = {bill.boundary for bill in bills}
    if len(boundaries) > 1 and not across:
        raise ValueError(
            f"energies of {', '.join(sorted(boundaries))} are not of the same thing: give "
            "across=True to compare them all the same"
        )
    rows = [f"{bill.costs.name:24s} {bill.boundary:7s} {bill.total}" for bill in bills]
    return "\n".join(rows)


def si(value: float, unit: str) -> str:
    """With three digits and a prefix."""
    if not value:
        return f"0 {unit}"
    power = math.floor(math.log10(abs(value)) / 3)
    power = max(-6, min(4, power))
    prefix = ["a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T"][power + 6]
    return f"{value / 1000.0**power:.3g} {prefix}{unit}"
