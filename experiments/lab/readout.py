"""What a figure shows, for machines and for who does not see it: its data, and a sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure

Rows = Iterable[tuple[str, object, object]]


def data(figure: Figure) -> str:
    """What a figure draws, as CSV: panel, line, x, y.

    A level across the whole panel has no x, one down the whole panel no y; a field's rows are
    lines, its columns x and its values y.
    """
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["panel", "line", "x", "y"])
    for n, ax in enumerate(figure.axes):
        if ax.get_label() == "<colorbar>":
            continue
        panel = ax.get_title(loc="left").strip() or f"panel {n + 1}"
        told = [*_lines(ax), *_bars(ax), *_points(ax), *_fields(ax)]
        table.writerows([panel, name, _number(x), _number(y)] for name, x, y in told)
    return file.getvalue()


def _lines(ax: Axes) -> Rows:
    for line in ax.get_lines():
        name = str(line.get_label()).removeprefix("_")
        x, y = line.get_xdata(), line.get_ydata()
        if line.get_transform() is ax.get_yaxis_transform(which="grid"):
            yield name, "", y[0]
        elif line.get_transform() is ax.get_xaxis_transform(which="grid"):
            yield name, x[0], ""
        else:
            yield from ((name, *point) for point in zip(x, y, strict=True))


def _bars(ax: Axes) -> Rows:
    for bars in ax.containers:
        sizes = [bar.get_width() for bar in bars]
        yield from ((str(bars.get_label()), size, n) for n, size in enumerate(sizes))


def _points(ax: Axes) -> Rows:
    for points in ax.collections:
        if isinstance(points, PathCollection):
            name = str(points.get_label()).removeprefix("_")
            yield from ((name, x, y) for x, y in np.asarray(points.get_offsets()).tolist())


def _fields(ax: Axes) -> Rows:
    meshes = [found for found in ax.collections if isinstance(found, QuadMesh)]
    for field in [*ax.get_images(), *meshes]:
        for n, row in enumerate(np.asarray(field.get_array()).tolist()):
            yield from ((f"row {n}", x, value) for x, value in enumerate(row))


def seen(figure: Figure) -> str:
    """What is seen in a figure, for who does not see it: lines from end to end, fields' ranges."""
    said = [text for ax in figure.axes if (text := _said(ax))]
    return ". ".join(said[:6]) or "see the table of the data"


def _said(ax: Axes) -> str:
    if ax.get_label() == "<colorbar>" or not ax.get_visible():
        return ""
    title = ax.get_title(loc="left").strip() or ax.get_ylabel()
    lines = [
        f"{line.get_label()} from {_number(line.get_ydata()[0])} to {_number(line.get_ydata()[-1])}"
        for line in ax.get_lines()
        if not str(line.get_label()).startswith("_") and len(line.get_ydata()) > 1
    ]
    if lines:
        return f"{title}, over {ax.get_xlabel()}: {'; '.join(lines[:8])}"
    values = [value for _, _, value in _fields(ax)]
    if values:
        low, high = min(values), max(values)  # type: ignore[type-var]
        return f"{title}: a field from {_number(low)} to {_number(high)}"
    if ax.get_lines():
        ends = [_number(v) for v in (*ax.get_xlim(), *ax.get_ylim())]
        return f"{title}: x from {ends[0]} to {ends[1]}, y from {ends[2]} to {ends[3]}"
    return ""


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, int | float | np.number) else str(value)
