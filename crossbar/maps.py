"""Measured conductance maps: onto the array of a layer, and out of it again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from crossbar.cells import Cells
from crossbar.model import Placement, only
from crossbar.states import writing
from crossbar.streams import WRITE

Map = Tensor | str | Path
"""Conductances (rows, cols) [S], or the path of a CSV file of them: a line per row, no header."""


def load_maps(layer: nn.Module, positive: Map, negative: Map) -> None:
    """Give the cells of a layer measured conductances, those of g⁺ and of g⁻.

    Rows are wordlines (inputs), columns are bitlines (outputs). The conductances are taken as they
    are, outside the nominal window too: nothing is clipped, no write error is added, and the cells
    are as fresh as after a write. Stuck cells of the chip stay stuck.

    Args:
        layer: an analog layer whose weights are on devices (`InSitu` or `Programmed`).
        positive: map of the devices g⁺.
        negative: map of the devices g⁻.

    Raises:
        ValueError: another shape than the array, a negative or infinite conductance, one above 1 S,
            or a layer without an array.
    """
    place, cells = _cells(layer)
    maps = [
        _checked(name, m, cells) for name, m in (("positive", positive), ("negative", negative))
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
    """Write the conductances of a layer's cells [S] as two CSV files, a line per row."""
    g = _cells(layer)[1].g
    for path, plane in ((positive, g[0]), (negative, g[1])):
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = plane.double().cpu().tolist()
            csv.writer(file, lineterminator="\n").writerows([f"{v:.9g}" for v in r] for r in rows)


def _cells(layer: nn.Module) -> tuple[Placement, Cells]:
    place = only(layer)
    cells = place.weight.matrix.cells
    if cells is None:
        raise ValueError(
            "the layer has no conductances: its weights are floats until program() writes them"
        )
    if cells.g.dim() != 3 or len(cells.g) != 2:
        raise ValueError(f"maps are of one matrix of pairs, got cells of shape {cells.g.shape}")
    return place, cells


def _checked(name: str, given: Map, array: Cells) -> Tensor:
    if isinstance(given, Tensor):
        g = given.double()
    else:
        with open(given, newline="", encoding="utf-8-sig") as file:
            g = torch.tensor(
                [[float(v) for v in row] for row in csv.reader(file) if row], dtype=torch.float64
            )
    if g.shape != array.g.shape[1:]:
        raise ValueError(
            f"{name} must be of shape {tuple(array.g.shape[1:])} (wordlines, bitlines), got "
            f"{tuple(g.shape)}"
        )
    if not bool((g.isfinite() & (g >= 0) & (g <= 1)).all()):
        raise ValueError(f"{name} must hold conductances in [0, 1] S")
    return g
