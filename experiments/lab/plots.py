"""Figures in one style. Each function takes plain numbers and gives a matplotlib figure.

Every line has a name, as the data behind a figure (`readout`) are told by it; one that begins with
an underscore stays out of legends and of what a picture is said to show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import matplotlib as mpl
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullLocator

INK, SOFT, GRID = "#1f2933", "#66727f", "#e4e8ec"
COLOURS = ("#1763a6", "#d1495b", "#2e8b6f", "#e09f3e", "#7a4fa3", "#4f9fc0", "#8a5a2b", "#5b6770")
MARKERS = "osD^vPX*"  # lines that lie on each other, and eyes that see no colour
WIDTH = 9.6  # [in] of a full figure
_FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of all figures, for as long as the context lasts."""
    present = set(font_manager.get_font_names())
    settings = {
        "font.family": [name for name in _FONTS if name in present],
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": SOFT,
        "axes.linewidth": 0.8,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=COLOURS),
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.8,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.fonttype": "none",
        "svg.hashsalt": "crossbar",
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        yield


@dataclass(frozen=True)
class Line:
    """A curve, with a band or single points around it where there are repeats."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: str | None = None
    dashed: bool = False
    marker: bool = True


def band(
    label: str,
    x: Sequence[float],
    repeats: Sequence[Sequence[float]],
    *,
    colour: str | None = None,
    dashed: bool = False,
) -> Line:
    """A line through the mean of the repeats, its band from the lowest to the highest, if any."""
    columns = list(zip(*repeats, strict=False))  # as long as the shortest repeat
    several = len(repeats) > 1
    return Line(
        label,
        x[: len(columns)],
        [sum(column) / len(column) for column in columns],
        [min(column) for column in columns] if several else None,
        [max(column) for column in columns] if several else None,
        colour,
        dashed,
    )


@dataclass(frozen=True)
class Panel:
    """One set of axes with lines. `categories` replaces a numeric x axis by evenly spaced names."""

    title: str
    xlabel: str
    ylabel: str
    lines: Sequence[Line]
    log_x: bool = False
    categories: Sequence[str] | None = None
    ylim: tuple[float, float] | None = None
    level: tuple[float, str] | None = None  # a horizontal line and its name
    ticks: dict[float, str] = field(default_factory=dict)


def panels(items: Sequence[Panel], *, columns: int = 2, height: float = 2.9) -> Figure:
    """Panels side by side with one legend for all lines of the same name."""
    columns = min(columns, len(items))
    rows = math.ceil(len(items) / columns)
    with style():
        figure = Figure(figsize=(WIDTH if columns > 1 else 6.0, height * rows + 0.4))
        _spread(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        names: dict[str, object] = {}
        for panel, ax in zip(items, axes.flat, strict=False):
            for handle, label in _panel(ax, panel):
                names.setdefault(label, handle)
        for ax in list(axes.flat)[len(items) :]:
            ax.set_visible(False)
        if len(names) > 1:
            figure.legend(
                list(names.values()),  # type: ignore[arg-type]
                list(names),
                loc="outside lower center",
                ncols=len(names) if len(names) < 6 else 4,
            )
        return figure


def _spread(figure: Figure) -> None:
    """More air between the rows and columns of axes."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.08, h_pad=0.1, hspace=0.06, wspace=0.04)


def _panel(ax: Axes, panel: Panel) -> list[tuple[object, str]]:
    shown = []
    for index, line in enumerate(panel.lines):
        colour = line.colour or COLOURS[index % len(COLOURS)]
        x = list(range(len(line.x))) if panel.categories else line.x
        (handle,) = ax.plot(
            x,
            line.y,
            label=line.label,
            color=colour,
            linestyle=(0, (4, 2)) if line.dashed else "-",
            marker=MARKERS[index % len(MARKERS)] if line.marker and len(line.x) < 16 else None,
            markersize=4,
            zorder=3,
        )
        if line.low is not None and line.high is not None:
            ax.fill_between(x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        shown.append((handle, line.label))
    if panel.level is not None:
        level, name = panel.level
        ax.axhline(level, color=SOFT, linewidth=1, linestyle=":", zorder=2, label=f"_{name}")
        ax.annotate(
            name,
            (1.0, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=SOFT,
        )
    if panel.log_x:
        ax.set_xscale("log")
    if panel.categories:
        ax.set_xticks(range(len(panel.categories)), panel.categories)
    if panel.ticks:
        ax.set_xticks(list(panel.ticks), list(panel.ticks.values()))
        ax.xaxis.set_minor_locator(NullLocator())
    if panel.ylim:
        ax.set_ylim(*panel.ylim)
    ax.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
    ax.grid(axis="x", visible=False)
    return shown


def dots(
    rows: Sequence[str],
    columns: dict[str, Sequence[Sequence[float]]],
    *,
    xlabel: str,
    levels: dict[str, tuple[float, str]],
    colours: Sequence[str] | None = None,
) -> Figure:
    """A row per thing, axes per group: every repeat a dot, the mean a bar with its value.

    `levels` draws one vertical line per column, for instance the digital baseline.
    """
    with style():
        figure = Figure(figsize=(WIDTH if len(columns) > 1 else 6.6, 0.34 * len(rows) + 1.3))
        _spread(figure)
        axes = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
        for ax, (name, values) in zip(axes, columns.items(), strict=True):
            for y, repeats in enumerate(values):
                if not repeats:
                    continue
                colour = colours[y] if colours else COLOURS[0]
                mean = sum(repeats) / len(repeats)
                ax.vlines(mean, y - 0.28, y + 0.28, color=colour, linewidth=2.6, zorder=4)
                ax.plot(repeats, [y] * len(repeats), "o", color=colour, alpha=0.45, ms=5, mew=0,
                        label=f"_{rows[y]}")  # fmt: skip
                ax.annotate(
                    f"{mean:.1f}",
                    (1.01, y),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=8.5,
                    color=INK,
                )
            if name in levels:
                level, text = levels[name]
                ax.axvline(level, color=SOFT, linewidth=1, linestyle=":", zorder=1,
                           label=f"_{text}")  # fmt: skip
                ax.annotate(
                    text,
                    (level, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(-3, 3),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                    color=SOFT,
                )
            ax.set(title=f"{name}\n" if name in levels else name, xlabel=xlabel)
            ax.set_ylim(len(rows) - 0.4, -0.6)
            ax.grid(axis="y", visible=False)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
        axes[0].set_yticks(range(len(rows)), rows)
        return figure


@dataclass(frozen=True)
class Trace:
    """Mean, spread and one cell of a device's response, conductances in siemens."""

    label: str
    mean: Sequence[float]
    std: Sequence[float]
    cell: Sequence[float]
    window: tuple[float, float]


def responses(traces: Sequence[Trace], *, columns: int = 4, points: int = 200) -> Figure:
    """Small multiples: the conductance while up pulses, then as many down pulses arrive.

    Of a response to more than `points` pulses every n-th is drawn, and the ends of both halves.
    """
    columns = min(columns, len(traces))
    rows = math.ceil(len(traces) / columns)
    with style():
        figure = Figure(figsize=(WIDTH * columns / 4, 1.95 * rows + 0.3))
        _spread(figure)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=False)
        for trace, ax in zip(traces, axes.flat, strict=False):
            total = len(trace.mean)
            every = range(0, total, math.ceil(total / points))
            x = sorted({*every, total // 2, total - 1})
            mean, std, cell = ([1e6 * v[n] for n in x] for v in (trace.mean, trace.std, trace.cell))
            ax.fill_between(
                x,
                [m - s for m, s in zip(mean, std, strict=True)],
                [m + s for m, s in zip(mean, std, strict=True)],
                color=COLOURS[0],
                alpha=0.18,
                linewidth=0,
            )
            ax.plot(x, cell, color=COLOURS[3], linewidth=0.9, zorder=3, label="_one cell")
            ax.plot(x, mean, color=COLOURS[0], linewidth=1.8, zorder=4, label="_mean of cells")
            ax.axvline(total // 2, color=GRID, linewidth=1, label="_down pulses begin")
            low, high = (1e6 * g for g in trace.window)
            ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            ax.set_title(trace.label, fontsize=9)
            ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.grid(axis="x", visible=False)
        for ax in list(axes.flat)[len(traces) :]:
            ax.set_visible(False)
        figure.supxlabel("pulses: first up, then down", fontsize=9.5)
        figure.supylabel("conductance [µS]", fontsize=9.5)
        return figure


def pairs(
    groups: Sequence[tuple[str, Sequence[float], Sequence[float], str]],
    *,
    names: tuple[str, str],
    ylabel: str,
) -> Figure:
    """Before and after for every pair of each (name, before, after, colour); means in bold."""
    with style():
        figure = Figure(figsize=(2.2 * len(groups) + 0.8, 3.1))
        _spread(figure)
        axes = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for ax, (title, before, after, colour) in zip(axes, groups, strict=True):
            for n, (a, b) in enumerate(zip(before, after, strict=True)):
                ax.plot([0, 1], [a, b], color=colour, alpha=0.3, linewidth=1, marker="o", ms=3,
                        label=f"_pair {n + 1}")  # fmt: skip
            means = [sum(before) / len(before), sum(after) / len(after)]
            ax.plot([0, 1], means, color=colour, linewidth=2.8, marker="o", ms=6, zorder=4,
                    label="_mean")  # fmt: skip
            for x, mean in enumerate(means):
                ax.annotate(
                    f"{mean:.1f}",
                    (x, mean),
                    xytext=(-8 if x == 0 else 8, 0),
                    textcoords="offset points",
                    ha="right" if x == 0 else "left",
                    va="center",
                    fontweight="bold",
                )
            ax.set_xticks([0, 1], names)
            ax.set_xlim(-0.45, 1.45)
            ax.set_title(title)
            ax.grid(axis="x", visible=False)
        axes[0].set_ylabel(ylabel)
        return figure


def grid(
    cells: Sequence[Sequence[float]],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    what: str,
) -> Figure:
    """Two fields at once: a number in each cell, shaded; rows and columns are (title, names)."""
    with style():
        figure = Figure(figsize=(min(WIDTH, 1.0 * len(columns[1]) + 2.2), 0.5 * len(cells) + 1.6))
        ax = figure.subplots()
        image = ax.imshow(cells, cmap="Blues", aspect="auto")
        middle = (min(map(min, cells)) + max(map(max, cells))) / 2
        for y, row in enumerate(cells):
            for x, value in enumerate(row):
                colour = "white" if value > middle else INK
                ax.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour)
        ax.set_xticks(range(len(columns[1])), columns[1])
        ax.set_yticks(range(len(rows[1])), rows[1])
        ax.set(xlabel=columns[0], ylabel=rows[0])
        ax.grid(visible=False)
        figure.colorbar(image, label=what)
        return figure
