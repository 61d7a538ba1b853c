"""What is counted: kinds of events, their keys, and sums of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

KINDS: dict[str, str] = {
    # reads
    "dac": "lines given a code by a DAC (of: bits of a digit)",
    "row_drive": "lines driven by a code that is not zero",
    "line_charge": "cells along such lines",
    "array": "Σ V² G of the cells, one read long [W]",
    "integrate": "columns whose current is gathered",
    "adc": "conversions, those made again too (of: bits)",
    "shift_add": "additions of the codes of digits and layout columns",
    "partial_sum": "additions of the codes of row tiles",
    "load": "inputs brought to a tile (of: bits)",
    "store": "outputs taken from the last addition (of: bits)",
    "mac": "multiplications of the logical product",
    # pulses; of: "up" or "down"
    "pulse": "coincidences: pulses of cells",
    "row_pulse": "pulses of rows",
    "col_pulse": "pulses of columns",
    "half_select": "pulses that cells see of one line alone",
    "inhibit": "lines held while others are pulsed, slot by slot",
    "row_charge": "cells along rows that are pulsed",
    "col_charge": "cells along columns that are pulsed",
    "inhibit_charge": "cells along lines that are held",
    "slot": "slots of the trains, all devices of the weights at once (of: as the weights move)",
    "selected": "Σ G of the cells over coincidences [S]",
    "on_row": "Σ G over pulses of their rows [S]",
    "on_col": "Σ G over pulses of their columns [S]",
    "at_rest": "Σ G of all cells over slots [S]",
    # one-shot writes and write-and-verify
    "write": "cells written by one pulse",
    "written": "Σ G of them afterwards [S]",
    "verify_pulse": "pulses of a write-and-verify (of: up or down)",
    "verified": "Σ G of the cells before each of them [S] (of: up or down)",
    "verify_read": "reads of single cells between writes",
    "verify_array": "Σ V² G of the cells at the end over those reads [W]",
    "drive": "Σ V² G t of waveforms [J]",
    "second": "time that passed [s]",
    # digital logic
    "digital_mac": "multiplications of products that no array computes",
    "add": "additions of biases",
    "activation": "values of functions element by element",
    "norm": "values normalised",
    "pool": "values pooled",
    "table": "values looked up",
    "optimiser_op": "operations of optimisers and rules",
    "optimiser_byte": "bytes that these read and write",
}
"""What each event counts; joules are priced per unit of it."""


class Key(NamedTuple):
    """What a count belongs to."""

    weight: str  # module path and parameter name; of digital functions the module's path
    phase: str  # forward, backward, update, program, advance
    matrix: int  # which of the weight's, the last one is the one that is programmed
    event: str  # of KINDS
    of: int | str | None = None  # bits, direction


class Counts(Mapping[Key, Any]):
    """Sums of events, each (tiles down, tiles across) float64.

    Sums add: `a + b` are those of both.
    """

    def __init__(self, sums: Mapping[Key, Any] | None = None) -> None:
        self._sums: dict[Key, Any] = dict(sums or {})

    def add(self, key: Key, value: Any) -> None:
        """One more; a tensor stays where it is."""
        old = self._sums.get(key)
        if isinstance(old, np.ndarray) and isinstance(value, Tensor):
            old = torch.as_tensor(old, device=value.device)
        self._sums[key] = value if old is None else value + old

    def __getitem__(self, key: Key) -> Any:
        """(tiles down, tiles across) float64."""
        value = self._sums[key]
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        return np.atleast_2d(np.asarray(value, dtype=np.float64))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)

    def __add__(self, other: Counts) -> Counts:
        """The events of both."""
        found = Counts({key: self[key] for key in self})
        for key in other:
            found.add(key, other[key])
        return found

    def total(self, event: str | None = None, **where: Any) -> float:
        """Sum over tiles of what matches.

        Args:
            event: of KINDS; None: all of them, which makes sense of equal units alone.
            where: other fields of `Key`: weight, phase, matrix, of.

        Raises:
            KeyError: no such event, or no such field.
        """
        if event is not None:
            if event not in KINDS:
                raise KeyError(f"no event {event!r}; there are {', '.join(KINDS)}")
            where["event"] = event
        for field in where:
            if field not in Key._fields:
                raise KeyError(f"a key has {', '.join(Key._fields)}, got {field!r}")
        keys = (k for k in self if all(getattr(k, f) == v for f, v in where.items()))
        return float(sum(self[k].sum() for k in keys))

    def of(self, event: str) -> dict[Any, float]:
        """Sums of an event by bits or direction."""
        found: dict[Any, float] = {}
        for key in self:
            if key.event == event:
                found[key.of] = found.get(key.of, 0.0) + float(self[key].sum())
        return found

    def select(self, keep: Callable[[Key], bool]) -> Counts:
        """Those whose key is kept."""
        return Counts({key: self[key] for key in self if keep(key)})

    def __repr__(self) -> str:
        """A line an event and phase."""
        rows: dict[tuple[str, str, Any], float] = {}
        for key in self:
            name = key.phase, key.event, key.of
            rows[name] = rows.get(name, 0.0) + float(self[key].sum())
        lines = []
        for (phase, event, of), n in rows.items():
            what = event if of is None else f"{event}[{of}]"
            lines.append(f"{phase:9s} {what:22s} {n:.6g}")
        return "\n".join(lines)
