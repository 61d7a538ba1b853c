"""Measured conductance maps: onto the array of a layer, and out of it again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crossbar.cells import Cells
from crossbar.model import Placement, only
from crossbar.states import writing
from crossbar.streams import WRITE
from devices.fitting.text import read_sheet
from devices.fitting.units import unit as quantity

Map = Tensor | NDArray[np.floating] | str | Path
"""Conductances (rows, cols), or the path of them: `.npy`, or text with a line per row."""


def load_maps(
    layer: nn.Module,
    positive: Map,
    negative: Map,
    *,
    unit: str = "S",
    missing: float | None = None,
    below_zero: float | None = None,
) -> None:
    """Give the cells of a layer measured conductances, those of g⁺ and of g⁻.

    Rows are wordlines (inputs), columns are bitlines (outputs); the array of a grouped convolution
    has its groups in front, which `.npy` files and arrays hold. Text may be separated by commas,
    semicolons, tabs or blanks, with a decimal comma, and have a header row. The conductances are
    taken as they are, outside the nominal window too: nothing is clipped, no write error is added,
    and the cells are as fresh as after a write. Stuck cells of the chip stay stuck.

    Args:
        layer: an analog layer whose weights are on devices (`InSitu` or `Programmed`).
        positive: map of the devices g⁺.
        negative: map of the devices g⁻.
        unit: of the maps: S with a prefix ("uS"), or ohm with a prefix.
        missing: what a cell that was not read (NaN, an empty field) becomes [S]; None: refused.
        below_zero: what a cell that was read below 0 S becomes [S]; None: refused. Reads of cells
            near 0 S scatter to both sides; 0.0 takes them as off.

    Raises:
        ValueError: another shape than the array, a cell without a conductance, a negative or an
            infinite one, one above 1 S (each with its row and column, from 0), a unit that is not
            known, or a layer without an array.
    """
    place, cells = _cells(layer)
    maps = [
        _checked(name, m, cells, unit, missing, below_zero)
        for name, m in (("positive", positive), ("negative", negative))
    ]
    with writing():
        state = cells.state
        g = torch.stack(maps).to(state.g)
        device = cells.chip.device
        # a write without error or window resets age and redraws what a write redraws
        generator = cells.streams.generator(WRITE, state.g.device)
        written = replace(device, write=None).program(state, g, generator=generator)
        cells.state = device.stick(written._replace(g=g))
    place.weight.show(place.parameter)


def save_maps(layer: nn.Module, positive: str | Path, negative: str | Path) -> None:
    """Write the conductances of a layer's cells [S] as two files: `.npy`, else CSV, a line a row.

    Raises:
        ValueError: a layer without an array, or groups of a convolution to a CSV file.
    """
    g = _cells(layer)[1].g
    for path, plane in ((positive, g[0]), (negative, g[1])):
        values = plane.double().cpu().numpy()
        if str(path).endswith(".npy"):
            np.save(path, values)
            continue
        flat = _matrix(values)
        if flat is None:
            raise ValueError(f"{path}: {values.shape} cells are no matrix; save them as .npy")
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = flat.tolist()
            csv.writer(file, lineterminator="\n").writerows([f"{v:.17g}" for v in r] for r in rows)


def _matrix(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The (rows, cols) of an array with nothing else in front, or None."""
    single = values.ndim >= 2 and all(n == 1 for n in values.shape[:-2])
    return values.reshape(values.shape[-2:]) if single else None


def _cells(layer: nn.Module) -> tuple[Placement, Cells]:
    place = only(layer)
    cells = place.weight.matrix.cells
    if cells is None:
        raise ValueError(
            "the layer has no conductances: its weights are floats until program() writes them"
        )
    if cells.g.dim() < 3 or len(cells.g) != 2:
        raise ValueError(f"maps are of pairs of devices, got cells of shape {tuple(cells.g.shape)}")
    return place, cells


def _values(name: str, given: Map) -> NDArray[np.float64]:
    if isinstance(given, Tensor):
        return given.detach().double().cpu().numpy()
    if isinstance(given, str | Path):
        if str(given).endswith(".npy"):
            return np.asarray(np.load(given), dtype=np.float64)
        sheet = read_sheet(given)
        if not sheet.rows:
            raise ValueError(f"{name}: {given} has no rows of numbers")
        return np.array([sheet.column(c) for c in range(len(sheet.rows[0]))]).T
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be a tensor, an array or a path, got {type(given).__name__}"
        ) from None


def _checked(
    name: str,
    given: Map,
    array: Cells,
    unit: str,
    missing: float | None,
    below_zero: float | None,
) -> Tensor:
    """The map in siemens, in the shape of the array."""
    kind, factor = quantity(unit)
    if kind not in ("conductance", "resistance"):
        raise ValueError(f"unit must be one of conductance or resistance, got {unit!r}")
    values = _values(name, given)
    shape = tuple(array.g.shape[1:])
    own, wanted = _matrix(values), shape[-2:]
    if own is not None and own.shape == wanted and all(n == 1 for n in shape[:-2]):
        values = own.reshape(shape)
    if values.shape != shape:
        hint = ""
        if own is not None and own.shape in (
            (wanted[0] + 1, wanted[1]),
            (wanted[0], wanted[1] + 1),
        ):
            hint = "; is one row or column of it numbers of wordlines or bitlines?"
        raise ValueError(
            f"{name} must be of shape {wanted if len(shape) == 2 else shape} (wordlines, "
            f"bitlines), got {values.shape}{hint}"
        )
    with np.errstate(divide="ignore"):
        g = values * factor if kind == "conductance" else 1 / (values * factor)
    for bad, instead, words in (
        (np.isnan(g), missing, "has no conductance (missing=... [S] says what it becomes)"),
        (np.isinf(g), None, "is infinite"),
        (g < 0, below_zero, "is negative (below_zero=0.0 takes reads below 0 S as off)"),
    ):
        if bad.any() and instead is None:
            raise ValueError(f"{name}: {_where(bad)} {words}; read {values[bad][0]:g} {unit}")
        if instead is not None:
            g = np.where(bad, instead, g)
    if (g > 1).any():
        raise ValueError(
            f"{name} must hold conductances of at most 1 S, {_where(g > 1)} has {g[g > 1][0]:g} S; "
            "25 uS is 25e-6: name the unit with unit='uS'"
        )
    return torch.from_numpy(np.ascontiguousarray(g))


def _where(bad: NDArray[np.bool_]) -> str:
    """The first of some cells, and how many there are."""
    at = np.argwhere(bad)
    *group, row, column = (int(i) for i in at[0])
    inside = f" of group {group[-1]}" if group and bad.shape[-3] > 1 else ""
    more = f" (and {len(at) - 1} more)" if len(at) > 1 else ""
    return f"the cell at row {row}, column {column}{inside}{more}"
