"""What a sweep found, as a section of a report: figure, specification, table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.lab.paths import short
from experiments.lab.plots import Panel, band, grid, panels
from experiments.lab.report import Picture, Section, Table
from experiments.lab.statistics import (
    Crossing,
    bands,
    crossing,
    estimate,
    paired,
    percent,
    signed,
    spreads,
)
from experiments.lab.store import Store
from experiments.lab.tradeoffs import Offer, front, pareto
from experiments.tasks.energy import COSTS
from experiments.tasks.sweeps import Sweep

LIMIT = 1.0
"""Points of accuracy that a specification allows to be lost."""


def scores(sweep: Sweep, store: Store) -> tuple[list[float], dict[tuple[str, ...], list[float]]]:
    """Accuracy of every seed [%]: digital, and of each point by its names."""
    seeds = range(sweep.seeds)
    digital = [store[sweep.digital(seed)].metrics["accuracy"] for seed in seeds]
    found = {
        point.names: [store[sweep.read(point, seed)].metrics["accuracy"] for seed in seeds]
        for point in sweep.points()
    }
    return digital, found


def specification(sweep: Sweep, store: Store) -> Crossing | None:
    """Where the loss to the digital network exceeds a point; None where that cannot be asked.

    It is looked for from the end of the axis where less is lost: bits may be named up or down.
    """
    numbers = sweep.axes[0].numbers
    if len(sweep.axes) != 1 or numbers is None or sweep.seeds < 2 or len(numbers) < 2:
        return None
    if list(numbers) not in (sorted(numbers), sorted(numbers, reverse=True)):
        return None
    digital, found = scores(sweep, store)
    losses = [[d - a for d, a in zip(digital, own, strict=True)] for own in found.values()]
    if sum(losses[0]) > sum(losses[-1]):
        numbers, losses = numbers[::-1], losses[::-1]
    return crossing(numbers, losses, LIMIT)


def in_words(value: Crossing | None) -> str:
    """A specification as a person would say it."""
    if value is None:
        return "not decided"
    if math.isnan(value.value):
        return "every value tried"
    if math.isinf(value.value):
        return "nowhere within the values tried"

    def end(bound: float, open_end: str) -> str:
        return f"{bound:.3g}" if math.isfinite(bound) else open_end

    low, high = end(value.low, "before the mildest"), end(value.high, "beyond the worst")
    return f"{value.value:.3g} [{low}, {high}]"


def section(sweep: Sweep, store: Store, about: str = "") -> Section:
    """One sweep: what it varies, what it found."""
    digital, found = scores(sweep, store)
    told = specification(sweep, store)
    base = estimate(digital).mean
    words = [about] if about else []
    if len(sweep.axes) == 1 and sweep.axes[0].numbers is not None:
        title = sweep.axes[0].title
        words.append(f"**More than {LIMIT:g} point is lost at {title}: {in_words(told)}.**")
    rows, energy = [], _energies(sweep, store)
    for n, (names, own) in enumerate(found.items()):
        gap = signed(paired(digital, own))
        shown = ["—" if v is None else f"{1e12 * v:.4g}" for v in (energy[n],)]
        cells = [", ".join(names), percent(estimate(own)), gap, _clipped(sweep, store, n)]
        rows.append([*cells, *shown])
    headers = [", ".join(a.title for a in sweep.axes), "accuracy [%]", "to digital [points]"]
    note = f"{spreads(sweep.seeds)} Energy: of an image, {COSTS.boundary}, {COSTS.name}."
    table = Table([*headers, "clipped [%]", "energy [pJ]"], rows, note)
    return Section(sweep.name, words, [*_pictures(sweep, found, base, energy), table])


def _clipped(sweep: Sweep, store: Store, index: int) -> str:
    row = store[sweep.read(sweep.points()[index], 0)]
    shares = [value for name, value in row.metrics.items() if name.startswith("clipped ")]
    return f"{max(shares):.2f}" if shares else "—"


def _energies(sweep: Sweep, store: Store) -> list[float | None]:
    """Mean joules of an image at each point; None where it was not priced."""
    found: list[float | None] = []
    for point in sweep.points():
        own = [store[sweep.read(point, seed)].metrics.get("energy") for seed in range(sweep.seeds)]
        known = [value for value in own if value is not None]
        found.append(sum(known) / len(known) if known else None)
    return found


def _pictures(
    sweep: Sweep,
    found: dict[tuple[str, ...], list[float]],
    base: float,
    energy: Sequence[float | None],
) -> list[Picture]:
    """Accuracy over the axes; against energy too where that changes."""
    first = _picture(sweep, found, base)
    offers = [
        Offer(", ".join(names), 1e12 * joules, estimate(own).mean)
        for (names, own), joules in zip(found.items(), energy, strict=True)
        if joules is not None
    ]
    costs = [offer.x for offer in offers]
    if len(offers) < 2 or max(costs) < 1.02 * min(costs):
        return [first]
    best = ", ".join(offer.name for offer in front(offers))
    figure = pareto(offers, f"pJ an image, {COSTS.boundary}", "test accuracy [%]")
    seen = "; ".join(f"{o.name}: {o.x:.4g} pJ, {o.y:.1f} %" for o in offers[:40])
    caption = f"Accuracy against energy; none betters {best}."
    return [first, Picture(f"{first.name}-energy", figure, caption, f"By value: {seen}.")]


def _picture(sweep: Sweep, found: dict[tuple[str, ...], list[float]], base: float) -> Picture:
    name = "".join(c if c.isalnum() else "-" for c in sweep.name.lower())
    means = [estimate(own).mean for own in found.values()]
    if len(sweep.axes) == 2:
        rows, columns = sweep.axes
        width = len(columns.names)
        cells = [means[k : k + width] for k in range(0, len(means), width)]
        figure = grid(
            cells, (rows.title, rows.names), (columns.title, columns.names), "accuracy [%]"
        )
        caption = f"Mean accuracy over {sweep.seeds} seeds; {base:.1f} % digitally."
        return Picture(name, figure, caption, _seen(list(found), means))
    repeats = list(zip(*found.values(), strict=True))
    one = sweep.axes[0]
    numbers = one.numbers if len(sweep.axes) == 1 else None
    panel = Panel(
        "",
        " × ".join(a.title for a in sweep.axes),
        "test accuracy [%]",
        [band(sweep.name, numbers or range(len(found)), repeats)],
        categories=None if numbers else [", ".join(names) for names in found],
        log_x=bool(numbers) and min(numbers) > 0 and max(numbers) > 10 * min(numbers),
        level=(base, "digital"),
    )
    return Picture(name, panels([panel], height=3.0), bands(sweep.seeds), _seen(list(found), means))


def _seen(names: list[tuple[str, ...]], means: list[float]) -> str:
    """What is seen, for who does not see it."""
    shown = [f"{', '.join(n)}: {mean:.1f} %" for n, mean in zip(names, means, strict=True)]
    return f"Accuracy by value: {'; '.join(shown[:40])}."


def held(sweep: Sweep) -> Table:
    """What is compared and what is held."""
    how = "trained digitally, written onto each chip" if sweep.mode is None else short(sweep.mode)
    rows = [
        ["Varied", "; ".join(f"{a.title} ({len(a.values)})" for a in sweep.axes)],
        ["Compared with", "the same network trained digitally, seed by seed"],
        ["Held", f"{short(sweep.network)} on {type(sweep.data).__name__}, `{short(sweep.recipe)}`"],
        ["Chip", f"`{short(sweep.chip)}`"],
        ["Training", f"`{how}`"],
        ["Seeds", f"{sweep.seeds}, the same everywhere"],
        ["Read", f"{sweep.after:g} s after the last write"],
    ]
    return Table(["", ""], rows, prose=True)
