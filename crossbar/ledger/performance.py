"""How long counted work takes and how much chip it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from crossbar.costs import Costs
from crossbar.ledger.bill import Bill, Pulses, si
from crossbar.ledger.events import Counts, Key
from devices._check import between, flag, whole

READS = ("forward", "backward", "update")


@dataclass(frozen=True)
class Schedule:
    """How arrays and converters take turns.

    Args:
        share: columns that one converter serves one after another, >= 1.
        parallel: whether the tiles of a matrix work at the same time.
        replicate: copies of every array that share the vectors, >= 1.
    """

    share: int = 1
    parallel: bool = True
    replicate: int = 1

    def __post_init__(self) -> None:
        whole("share", self.share, 1)
        flag("parallel", self.parallel)
        whole("replicate", self.replicate, 1)


class Stages(NamedTuple):
    """Work of one matrix in one phase, step by step."""

    weight: str
    phase: str
    matrix: int
    steps: float  # reads of one digit, or slots and rows of a write
    times: dict[str, float]  # of each stage of a step [s]

    @property
    def sequential(self) -> float:
        """Every stage after the other [s]."""
        return self.steps * sum(self.times.values())

    @property
    def pipelined(self) -> float:
        """In step with the slowest stage, after the others have filled [s]."""
        times = [t for t in self.times.values() if t > 0]
        if not self.steps or not times:
            return 0.0
        return (self.steps + len(times) - 1) * max(times)


class Latency(Sequence[Stages]):
    """Stages of all weights and phases; totals are of weights one after another."""

    def __init__(self, stages: Sequence[Stages]) -> None:
        self.stages = tuple(stages)

    def __getitem__(self, k: Any) -> Any:
        return self.stages[k]

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def sequential(self) -> float:
        """Nothing overlaps [s]."""
        return math.fsum(s.sequential for s in self.stages)

    @property
    def pipelined(self) -> float:
        """Within weights stages overlap [s]."""
        return math.fsum(s.pipelined for s in self.stages)

    def __repr__(self) -> str:
        rows = [
            f"{s.weight:24s} {s.phase:9s} {s.steps:10.6g} steps of "
            + " + ".join(f"{name} {si(t, 's')}" for name, t in s.times.items())
            + f": {si(s.sequential, 's')}, pipelined {si(s.pipelined, 's')}"
            for s in self.stages
        ]
        total = f"total {si(self.sequential, 's')}, pipelined {si(self.pipelined, 's')}"
        return "\n".join([*rows, total])


def latency(
    counts: Counts,
    costs: Costs,
    matrices: Mapping[tuple[str, int], Any],
    pulses: Pulses,
    schedule: Schedule | None = None,
) -> Latency:
    """How long the counted reads, updates and writes take.

    A step of a read drives the lines of one digit ("dac", if the set has one), lets the currents
    settle and gather ("read") and converts columns ("adc", as often as columns share one). Updates
    last their slots, each as long as the device says. Writes go row by row; a write-and-verify
    takes as many rounds as its mean cell.

    Args:
        counts: of a `Ledger`.
        costs: a set with `time` for "read" and "adc".
        matrices: those that were counted, as `Ledger.matrices` has them.
        pulses: write pulses of the matrices, as `Ledger.pulses` has them.
        schedule: None: a converter a column, all tiles at once, no copies.

    Raises:
        KeyError: a time that the set does not have, by name.
        ValueError: writes of a device that does not say what its pulses are.
    """
    how, found = schedule or Schedule(), []
    for (name, k), matrix in matrices.items():
        for phase in READS:
            key = Key(name, phase, k, "integrate")
            if key in counts:
                found.append(_read(key, counts, costs, matrix, how))
        slots = [_most(counts, Key(name, "update", k, "slot", way)) for way in ("up", "down")]
        if any(slots):
            pulse = _said(pulses, name, k)
            last = slots[0] * pulse.t_up + slots[1] * pulse.t_down
            found.append(Stages(name, "update", k, sum(slots), {"pulse": last / sum(slots)}))
        written = _sum(counts, name, k, "write"), _sum(counts, name, k, "verify_pulse")
        if any(written):
            found.append(_written(name, k, written, counts, costs, matrix, pulses))
    return Latency(found)


def _read(key: Key, counts: Counts, costs: Costs, matrix: Any, how: Schedule) -> Stages:
    """Of one matrix and phase."""
    gathered = counts[key]
    adc = matrix.forward_port.settings.adc
    transposed = key.phase == "backward"
    lines = matrix.chip.tiles(matrix.lines, not transposed)
    columns = np.array([b - a for a, b in lines]) * len(matrix.layout.columns)
    widest = int(columns.max())
    each = gathered / (columns[:, None] if transposed else columns) / math.prod(matrix.lines[:-2])
    steps = float(each.max() if how.parallel else each.sum()) / how.replicate
    times = {"read": costs.find("time", "read").value}
    if "dac" in costs.time:
        times = {"dac": costs.time["dac"].value, **times}
    if adc is not None:
        bits = getattr(adc, "bits", None)
        turns = math.ceil(widest / math.ceil(widest / how.share))
        times["adc"] = turns * costs.find("time", "adc", bits).value
        dac = (matrix.backward_port if transposed else matrix.forward_port).settings.dac
        if dac is not None and dac.gathered:  # converted after the last digit
            times["adc"] /= len(dac.digits(torch.zeros(1)))
    return Stages(key.weight, key.phase, key.matrix, math.ceil(steps), times)


def _written(
    name: str,
    k: int,
    written: tuple[float, float],
    counts: Counts,
    costs: Costs,
    matrix: Any,
    pulses: Pulses,
) -> Stages:
    """Rows one after another, all tiles at once."""
    pulse = _said(pulses, name, k)
    once, verified = written
    tiles = len(matrix.chip.tiles(matrix.lines, False))
    in_row = matrix.layout.devices * math.prod(matrix.lines[:-2]) * matrix.lines[-1] * tiles
    steps = (once + verified) / in_row
    times = {"pulse": pulse.t_up}
    reads = _sum(counts, name, k, "verify_read") / in_row
    if reads:
        per = costs.find("time", "read").value + costs.find("time", "adc").value
        times["verify"] = reads * per / steps
    return Stages(name, "program", k, steps, times)


def _said(pulses: Pulses, name: str, k: int) -> Any:
    pulse = pulses.get((name, k))
    if pulse is None:
        raise ValueError(
            f"{name}: its device does not say how long a write pulse is: give "
            "Device(write_pulse=WritePulse(...))"
        )
    return pulse


def _most(counts: Counts, key: Key) -> float:
    return float(counts[key].max()) if key in counts else 0.0


def _sum(counts: Counts, name: str, k: int, event: str) -> float:
    return counts.total(event, weight=name, matrix=k)


class Area(NamedTuple):
    """Square metres of arrays and what stands around them."""

    parts: dict[str, float]  # nominal [m²]
    wiring: float  # part that is added
    utilisation: float  # cells that hold a weight over cells of whole tiles, 0 … 1
    boundary: str

    @property
    def total(self) -> float:
        """With wiring [m²]."""
        return math.fsum(self.parts.values()) * (1 + self.wiring)

    def __repr__(self) -> str:
        rows = [f"Area of the {self.boundary}"]
        rows += [f"{name:10s} {value * 1e6:.4g} mm²" for name, value in self.parts.items()]
        rows.append(f"total      {self.total * 1e6:.4g} mm² with {self.wiring:.0%} of wiring; "
                    f"utilisation {self.utilisation:.1%}")  # fmt: skip
        return "\n".join(rows)


def area(
    costs: Costs,
    matrices: Mapping[tuple[str, int], Any],
    schedule: Schedule | None = None,
    wiring: float = 0.15,
) -> Area:
    """A walk over the tiles: cells, a driver a row, a converter for every `share` columns.

    Args:
        costs: a set with `area` for "cell", "dac" and "adc"; "shift_add", one a converter, if any.
        matrices: as `Ledger.matrices` has them; tiles are whole, however little they hold.
        schedule: how many columns a converter serves.
        wiring: part that is added for it.

    Raises:
        KeyError: an area that the set does not have, by name.
    """
    between("wiring", wiring, 0, 10)
    how, parts, held, whole_cells = schedule or Schedule(), dict.fromkeys(("cell",), 0.0), 0, 0
    for matrix in matrices.values():
        *lead, rows, cols = matrix.lines
        down, across = (matrix.chip.tiles(matrix.lines, back) for back in (False, True))
        tiles = math.prod(lead) * len(down) * len(across)
        high, wide = matrix.chip.tile or (rows, cols)
        layout, settings = matrix.layout, matrix.forward_port.settings
        cells = tiles * high * wide * layout.devices
        held += math.prod(matrix.lines) * layout.devices
        whole_cells += cells
        own = {"cell": cells * costs.find("area", "cell").value}
        if settings.dac is not None:
            bits = getattr(settings.dac, "width", settings.dac.bits)
            own["dac"] = tiles * high * costs.find("area", "dac", bits).value
        if settings.adc is not None:
            n = tiles * math.ceil(wide * len(layout.columns) / how.share)
            bits = getattr(settings.adc, "bits", None)
            own["adc"] = n * costs.find("area", "adc", bits).value
            if "shift_add" in costs.area:
                own["shift_add"] = n * costs.area["shift_add"].value
        for name, value in own.items():
            parts[name] = parts.get(name, 0.0) + value * how.replicate
    return Area(parts, wiring, held / max(whole_cells, 1), costs.boundary)


class Performance(NamedTuple):
    """Operations, two a MAC, over time, joules and area."""

    tops: float
    tops_per_watt: float
    tops_per_mm2: float | None
    bits: str
    boundary: str

    def __repr__(self) -> str:
        area_ = "" if self.tops_per_mm2 is None else f", {self.tops_per_mm2:.4g} TOPS/mm²"
        return (
            f"{self.tops:.4g} TOPS, {self.tops_per_watt:.4g} TOPS/W{area_} "
            f"(2 operations a MAC, {self.bits}, {self.boundary})"
        )


def performance(
    counts: Counts, bill: Bill, time: Latency, space: Area | None = None
) -> Performance:
    """Of all that was counted, at the resolutions of its converters.

    Raises:
        ValueError: an area of another boundary than the joules'.
    """
    if space is not None and space.boundary != bill.boundary:
        raise ValueError(f"area of the {space.boundary}, joules of the {bill.boundary}")
    ops = 2 * (counts.total("mac") + counts.total("digital_mac"))
    seconds, joules = time.pipelined, bill.total.joules
    tops = ops / seconds / 1e12 if seconds else math.inf
    bits = ", ".join(
        f"{what} {'/'.join(sorted(str(b) for b in counts.of(event)))} bits"
        for event, what in (("load", "inputs"), ("adc", "outputs"))
    )
    density = None if space is None else tops / (space.total * 1e6)
    return Performance(tops, ops / joules / 1e12, density, bits, bill.boundary)
