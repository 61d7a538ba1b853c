"""Figures of costs: what a total is made of, and what a better result costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.lab.plots import COLOURS, INK, MARKERS, SOFT, WIDTH, style


@dataclass(frozen=True)
class Offer:
    """One thing at a cost: less x and more y are better."""

    name: str
    x: float
    y: float


def front(offers: Sequence[Offer]) -> list[Offer]:
    """Those that no other one betters at no higher cost (Pareto), the cheapest first."""
    best: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (o.x, -o.y)):
        if not best or offer.y > best[-1].y:
            best.append(offer)
    return best


def pareto(offers: Sequence[Offer], xlabel: str, ylabel: str) -> Figure:
    """Every offer a point with its name, those that none betters joined by a line."""
    costs, short = [offer.x for offer in offers], all(len(o.name) < 13 for o in offers)
    with style():
        figure = Figure(figsize=(6.4, 3.6) if short else (WIDTH, 3.6))
        ax = figure.subplots()
        for n, offer in enumerate(offers):
            colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
            ax.plot([offer.x], [offer.y], marker, color=colour, label=offer.name, zorder=3)
            if short:
                ax.annotate(offer.name, (offer.x, offer.y), (5, 4), textcoords="offset points",
                            fontsize=8, color=INK)  # fmt: skip
        best = front(offers)
        ax.plot([o.x for o in best], [o.y for o in best], color=SOFT, linewidth=1, zorder=2,
                label="none betters", drawstyle="steps-post")  # fmt: skip
        if min(costs) > 0 and max(costs) > 10 * min(costs):
            ax.set_xscale("log")
        if not short:
            figure.legend(loc="outside right upper")
        ax.margins(0.15)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        return figure


def breakdown(parts: Mapping[str, Mapping[str, float]], xlabel: str, least: float = 0.01) -> Figure:
    """A bar for each thing, stacked of its parts as shares of its total, which stands behind it.

    Parts below the share `least` of every total are drawn together.
    """
    totals = {name: sum(own.values()) for name, own in parts.items()}
    kinds = list(dict.fromkeys(kind for own in parts.values() for kind in own))
    large = [
        k for k in kinds if any(own.get(k, 0.0) > least * totals[n] for n, own in parts.items())
    ]
    small = [k for k in kinds if k not in large]
    rows = list(parts)
    with style():
        figure = Figure(figsize=(WIDTH, 0.45 * len(rows) + 1.6))
        ax = figure.subplots()
        left = [0.0] * len(rows)
        for n, kind in enumerate([*large, *(["others"] if small else [])]):
            of = small if kind == "others" else [kind]
            share = [100 * sum(parts[r].get(k, 0.0) for k in of) / totals[r] for r in rows]
            ax.barh(rows, share, 0.7, left, label=kind, color=COLOURS[n % len(COLOURS)],
                    hatch="//" if n >= len(COLOURS) else None, edgecolor="white")  # fmt: skip
            left = [a + b for a, b in zip(left, share, strict=True)]
        ax.set(xlabel=xlabel, xlim=(0, 100))
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        handles, names = ax.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=5)
        return figure
