"""Events of pulses and writes.

With X_i pulses of row i, D_j of column j, C_ij coincidences and S slots, at voltages V_r of rows
that fire alone, V_c of columns, V_n of cells of neither, V of both,

    E/t = V_n² S ΣG + (V_r² − V_n²) Σ X_i Γ_i + (V_c² − V_n²) Σ D_j Γ_j
          + (V² − V_r² − V_c² + V_n²) Σ C_ij G_ij

exactly, with G as it was when the update began: the four sums are counted, voltages are costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from crossbar.ledger.conductance import Conductances
from crossbar.ledger.sums import Tiles, by_tile, doses
from crossbar.programming import Written
from crossbar.pulses.scheme import Lines
from crossbar.wires import Fired
from devices import Pulses
from devices.verify import Verified

Add = Callable[[str, Any, Any], None]
"""Told an event, its `of`, and (tiles down, tiles across)."""

BOTH = ("up", "down")


def pulsed(
    matrix: Any,
    at: Tensor | None,
    rounds: Sequence[Pulses],
    lines: Lines,
    held: Conductances,
    add: Add,
) -> None:
    """Events of rounds of pulses, see `Probe.struck`."""
    cells = matrix.written
    g, tiles = held.seen, (held.down, held.across)
    fired = None if lines is None else lines()
    ones = torch.ones(len(tiles[0]), len(tiles[1]), dtype=torch.float64, device=g.device)
    if fired is not None:
        for way, t in zip(BOTH, fired.slots[:2], strict=True):
            add("slot", way, t.detach().double().sum() * ones)
    for ahead, pulses in enumerate(rounds):
        longest: dict[str, Tensor] = {}
        for k, given in enumerate(cells.given(pulses, ahead)):
            if given is None:
                continue
            found = doses(at, given.up, given.down, g[k], tiles)
            for way, n, siemens in zip(BOTH, found[:2], found[2:], strict=True):
                add("pulse", way, n)
                add("selected", way, siemens)
            own = None
            if lines is None:
                own = one_by_one(at, given, matrix.lines)
                for way, t in zip(BOTH, own.slots[:2], strict=True):
                    longest[way] = torch.maximum(longest.get(way, t.sum()), t.sum())
            elif fired is not None and ahead == 0:
                rows, cols = (cells.given(p, ahead)[k] for p in fired[:2])
                assert rows is not None and cols is not None
                own = Fired(rows, cols, _slots(cells, fired.slots, k, ahead))
            if own is not None:
                _lines(own, k, held, tiles, add)
            for way, n in zip(BOTH, found[:2], strict=True):
                add("half_select", way, -2 * n)
        for way, n in longest.items():
            add("slot", way, n * ones)


def one_by_one(at: Tensor | None, given: Pulses, lines: tuple[int, ...]) -> Fired:
    """Lines of counts that are given row by row, the columns of a row at once.

    A row has as many slots as its weight of most pulses, of each direction.
    """
    *lead, rows, cols = lines
    found = []
    for counts in (given.up.detach(), given.down.detach()):
        if at is None:
            whole = counts.expand(lines).double()
            row, col = whole.amax(-1), whole.sum(-2)
        else:
            some, line = at[: len(counts)], at[: len(counts)] // cols
            wide = counts.double()
            row = wide.new_zeros(torch.Size((*lead, rows)).numel())
            row = row.scatter_reduce(0, line, wide, "amax").view(*lead, rows)
            col = wide.new_zeros(torch.Size((*lead, cols)).numel())
            of = line // rows * cols + some - line * cols
            col = col.index_add(0, of, wide).view(*lead, cols)
        found.append((row.unsqueeze(-1), col.unsqueeze(-2), row.sum(-1)[..., None, None]))
    return Fired(*(Pulses(up, down) for up, down in zip(*found, strict=True)))


def _slots(cells: Any, slots: Pulses, k: int, ahead: int) -> Pulses:
    """Of one device of the weights, whose phases the route exchanges or leaves out."""
    given = cells.given(slots, ahead)[k]
    assert given is not None
    return Pulses(given.up, given.down)


def _lines(fired: Fired, k: int, held: Conductances, tiles: tuple[Tiles, Tiles], add: Add) -> None:
    """Of one device of every weight; both directions at once, (2, ..., lines)."""
    gamma_row, gamma_col = held.rows[k], held.cols[k]  # (across, ..., rows), (down, ..., cols)
    down, across = tiles
    high, wide = (
        torch.tensor([b - a for a, b in t], dtype=torch.float64, device=gamma_row.device)
        for t in tiles
    )
    of_rows, of_cols, slots = (torch.stack([p.up, p.down]).detach().double() for p in fired)
    lead, n = gamma_row.shape[1:-1], gamma_row[0, ..., 0].numel()
    x = of_rows.squeeze(-1).expand(2, *lead, gamma_row.shape[-1]).reshape(2, n, -1)
    d = of_cols.squeeze(-2).expand(2, *lead, gamma_col.shape[-1]).reshape(2, n, -1)
    s = slots.reshape(2, -1).expand(2, n)
    gamma_row, gamma_col = (g.reshape(len(g), n, -1) for g in (gamma_row, gamma_col))
    none = torch.zeros(2, len(down), len(across), dtype=torch.float64, device=x.device)
    rows = by_tile(x.sum(1), down).unsqueeze(-1) + none
    cols = by_tile(d.sum(1), across).unsqueeze(-2) + none
    turns = s.sum(1).view(2, 1, 1)
    along_rows, along_cols = rows * wide, cols * high.unsqueeze(-1)
    on_row = by_tile((x.unsqueeze(1) * gamma_row).sum(2), down).mT
    on_col = by_tile((d.unsqueeze(1) * gamma_col).sum(2), across)
    at_rest = by_tile((s[:, None, :, None] * gamma_row).sum(2), down).mT
    found = {
        "row_pulse": rows,
        "col_pulse": cols,
        "half_select": along_rows + along_cols,
        "inhibit": turns * (high.unsqueeze(-1) + wide) - rows - cols,
        "row_charge": along_rows,
        "col_charge": along_cols,
        "inhibit_charge": 2 * turns * high.unsqueeze(-1) * wide - along_rows - along_cols,
        "on_row": on_row,
        "on_col": on_col,
        "at_rest": at_rest,
    }
    for event, both in found.items():
        for way, value in zip(BOTH, both, strict=True):
            add(event, way, value)


def written(one: Written, port: Any, add: Add) -> None:
    """Events of one writing, see `Probe.wrote`; cells are read through the converters of `port`.

    A cell that is read between writes has a line driven and a conversion of its own.

    Raises:
        TypeError: a writer that does not say what it did.
    """
    g, mask = one.g.detach().double(), one.mask
    every = torch.ones((), dtype=torch.float64, device=g.device).expand(g.shape)
    some = every if mask is None else mask.expand(g.shape).double()
    if one.found is None:
        add("write", None, some.sum())
        add("written", None, (some * g).sum())
    elif isinstance(one.found, Verified):
        found = one.found
        counts = (found.up, found.pulses - found.up)
        for way, n, dose in zip(BOTH, counts, found.dose[:2], strict=True):
            add("verify_pulse", way, n.double().sum())
            add("verified", way, dose.double().sum())
        _read(found.reads.double(), g, port, add)
    else:
        raise TypeError(
            f"a writer returned {type(one.found).__name__}, which does not say how many pulses it "
            "gave: return devices.verify.Verified"
        )
    if one.reads:
        _read(one.reads * every, g, port, add)


def _read(reads: Tensor, g: Tensor, port: Any, add: Add) -> None:
    settings, n = port.settings, reads.sum()
    add("verify_read", None, n)
    add("verify_array", None, (reads * g).sum() * settings.v_max**2)
    add("row_drive", None, n)
    if settings.adc is not None:
        add("adc", getattr(settings.adc, "bits", None), n)
