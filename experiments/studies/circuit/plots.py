"""Pictures of a wired array: heat maps of its fields, and the drawing of the circuit.

`python -m experiments.studies.circuit.plots docs/circuit.svg` draws the circuit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.lab.plots import COLOURS, INK, SOFT, style


def maps(
    items: dict[str, tuple[Sequence[float], str]], rows: int, cols: int, *, columns: int = 3
) -> Figure:
    """One heat map per field of a rows × cols array: name to (values row by row, unit).

    Row 0 is on top and column 0 next to the drivers, as in the drawing. Cells are drawn as
    vectors, so that the file scales.
    """
    lines = -(-len(items) // columns)
    with style():
        figure = Figure(figsize=(3.5 * columns, 3.0 * lines))
        axes = figure.subplots(lines, columns, squeeze=False)
        for (name, (values, unit)), ax in zip(items.items(), axes.flat, strict=False):
            grid = [list(values[i * cols : (i + 1) * cols]) for i in range(rows)]
            mesh = ax.pcolormesh(grid, cmap="viridis", rasterized=False, linewidth=0)
            mesh.set_edgecolor("face")
            ax.invert_yaxis()
            ax.set_aspect("equal")
            ax.set(title=name, xlabel="column (drivers at the left)", ylabel="row (sensing below)")
            ax.grid(visible=False)
            figure.colorbar(mesh, ax=ax, label=unit, shrink=0.85)
        for ax in list(axes.flat)[len(items) :]:
            ax.set_visible(False)
        return figure


def drawing(rows: int = 3, cols: int = 3) -> Figure:
    """The circuit of an array: every resistance of `crossbar.Wires` in its place."""
    with style():
        figure = Figure(figsize=(9.0, 7.0))
        ax = figure.subplots()
        ax.set_axis_off()
        ax.set_aspect("equal")
        x = [3.2 + 2.8 * j for j in range(cols)]
        y = [-2.3 * i for i in range(rows)]
        for i in range(rows):
            _wordline(ax, x, y[i], i)
        for j in range(cols):
            _bitline(ax, x[j] + 0.85, y, j)
        for i in range(rows):
            for j in range(cols):
                _cell(ax, x[j], y[i], f"$g_{{{i}{j}}}$")
        notes = (
            "end_segments=True: the hatched segments exist (n segments for n cells); "
            "False: they are short circuits (n − 1 segments).\n"
            "both_drivers / both_senses: the open ends get the same driver or sense amplifier."
        )
        ax.text(-1.4, y[-1] - 4.1, notes, fontsize=8.5, color=SOFT, va="top")
        ax.set_xlim(-1.6, x[-1] + 2.6)
        ax.set_ylim(y[-1] - 5.2, 1.1)
        return figure


def _resistor(
    ax: Axes,
    a: tuple[float, float],
    b: tuple[float, float],
    name: str,
    at: float = 0.5,
    **look: str,
) -> None:
    """A box on a wire from a to b, which is horizontal or vertical; `at`: how far along."""
    ax.plot([a[0], b[0]], [a[1], b[1]], color=INK, linewidth=1.1, zorder=1)
    mid = (a[0] + at * (b[0] - a[0]), a[1] + at * (b[1] - a[1]))
    flat = a[1] == b[1]
    width, height = (0.62, 0.2) if flat else (0.2, 0.62)
    ax.add_patch(
        Rectangle(
            (mid[0] - width / 2, mid[1] - height / 2),
            width,
            height,
            facecolor="white",
            edgecolor=look.get("colour", INK),
            hatch=look.get("hatch"),
            linewidth=1.1,
            zorder=2,
        )
    )
    shift = (0, 0.24) if flat else (0.2, 0)
    ax.text(
        mid[0] + shift[0],
        mid[1] + shift[1],
        name,
        ha="center" if flat else "left",
        va="center",
        fontsize=8,
        color=look.get("colour", INK),
    )


def _wordline(ax: Axes, x: Sequence[float], y: float, i: int) -> None:
    ax.text(-1.35, y, f"$x_{i}$", fontsize=11, va="center")
    ax.plot([-0.9], [y], "o", color=COLOURS[0], markersize=6)
    _resistor(ax, (-0.9, y), (0.9, y), "r_driver", colour=COLOURS[0])
    _resistor(ax, (0.9, y), (x[0], y), "r_wordline", hatch="////")
    for left, right in zip(x[:-1], x[1:], strict=True):
        _resistor(ax, (left, y), (right, y), "r_wordline", 0.72)
    ax.plot([x[-1], x[-1] + 1.2], [y, y], color=INK, linewidth=1.1, linestyle=(0, (2, 2)))
    ax.text(x[-1] + 1.3, y, "open", fontsize=8, color=SOFT, va="center")


def _bitline(ax: Axes, x: float, y: Sequence[float], j: int) -> None:
    nodes = [v - 0.85 for v in y]
    ax.plot([x, x], [nodes[0], nodes[0] + 0.6], color=INK, linewidth=1.1, linestyle=(0, (2, 2)))
    for above, below in zip(nodes[:-1], nodes[1:], strict=True):
        _resistor(ax, (x, above), (x, below), "r_bitline", 0.3)
    end = nodes[-1] - 1.2
    _resistor(ax, (x, nodes[-1]), (x, end), "r_bitline", hatch="////")
    _resistor(ax, (x, end), (x, end - 1.2), "r_sense", colour=COLOURS[1])
    ax.plot([x], [end - 1.2], "o", color=COLOURS[1], markersize=6)
    ax.text(x + 0.2, end - 1.35, f"$I_{j}$, 0 V", fontsize=10, va="center")


def _cell(ax: Axes, x: float, y: float, name: str) -> None:
    ax.plot([x, x + 0.85], [y, y - 0.85], color=COLOURS[2], linewidth=1.4, zorder=1)
    ax.plot([x, x + 0.85], [y, y - 0.85], "o", color=INK, markersize=3.5, zorder=3)
    ax.text(
        x + 0.42,
        y - 0.42,
        name,
        fontsize=8.5,
        ha="center",
        va="center",
        color=COLOURS[2],
        bbox={"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": COLOURS[2]},
    )


if __name__ == "__main__":
    with style():
        drawing().savefig(sys.argv[1], metadata={"Date": None})
