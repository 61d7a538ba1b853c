"""Pictures of spiking networks: rasters, membranes and weights."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.lab.plots import style


def raster(
    times: Sequence[float], neurons: Sequence[float], *, xlabel: str, ylabel: str = "neuron"
) -> Figure:
    """A dot for every spike."""
    with style():
        figure = Figure(figsize=(6.0, 3.0), layout="constrained")
        ax = figure.subplots()
        ax.scatter(times, neurons, s=2, linewidths=0, label="_spikes")
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        return figure


def membranes(
    time: Sequence[float],
    traces: dict[str, Sequence[float]],
    *,
    threshold: float | None,
    xlabel: str,
    ylabel: str = "membrane",
) -> Figure:
    """Membranes over time, and the threshold (None: there is none)."""
    with style():
        figure = Figure(figsize=(6.0, 3.0), layout="constrained")
        ax = figure.subplots()
        for name, trace in traces.items():
            ax.plot(time, trace, label=name, linewidth=1)
        if threshold is not None:
            ax.axhline(threshold, linestyle=":", color="grey", linewidth=1, label="_threshold")
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        if len(traces) > 1:
            ax.legend()
        return figure


def weight_maps(
    columns: Sequence[Sequence[float]],
    shape: tuple[int, int],
    names: Sequence[str],
    across: int = 10,
) -> Figure:
    """What each output's cells hold, as images of one scale."""
    rows = -(-len(columns) // across)
    low, high = min(map(min, columns)), max(map(max, columns))
    with style():
        figure = Figure(figsize=(0.7 * across, 0.8 * rows + 0.2), layout="constrained")
        for k, ax in enumerate(figure.subplots(rows, across, squeeze=False).flat):
            ax.axis("off")
            if k < len(columns):
                w, h = shape
                image = [columns[k][w * row : w * row + w] for row in range(h)]
                ax.imshow(image, vmin=low, vmax=high, cmap="gray")
                ax.set_title(names[k], fontsize=7)
        return figure
