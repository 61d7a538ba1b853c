"""`devices.fit`: which law, with which parameters and which noise, made these pulses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from devices.fitting.binary_fit import binary
from devices.fitting.compare import Candidate, Trial, abrupt, as_good, compare, ends, fitted
from devices.fitting.data import PulseData, Unidentified
from devices.fitting.driven import DRIVEN, driven
from devices.fitting.families import ANY, CURVES, OF_LAW, Family
from devices.fitting.laws import FIELDS, Frame, named
from devices.fitting.look import check, sizes, without_spikes
from devices.fitting.lookup import lookup_device, table_error
from devices.fitting.noise import noise_of
from devices.fitting.result import Fit, frame, made, one_way
from devices.fitting.shooting import Pins, strays
from devices.fitting.switching import clusters
from devices.fitting.traces import Array, Traces, traces_of
from devices.fitting.words import sentences
from devices.part import Update
from devices.update.binary import StochasticSwitch
from devices.update.lookup import LookupStep

COMPARED = 5000
"""Reads on which curves are compared at most."""

FINAL = 12_000
"""Reads that the chosen curve is fitted to at most."""

CELLS = 12, 30
"""Cells in the comparison and in the last fit at most."""

SPREADS = ("sigma_c2c", "sigma_d2d", "sigma_up_down", "sigma_bounds", "sigma_add")

LAWS = (*OF_LAW, *DRIVEN, StochasticSwitch.__name__, LookupStep.__name__)
"""Names of the laws that can be asked for."""


def fit(
    data: PulseData | str | Path,
    *,
    families: Sequence[type[Update]] | None = None,
    fixed: Mapping[str, float] | None = None,
    proportional_read: bool = False,
) -> Fit:
    """Fit a device to measured pulses.

    Each law's mean curve is fitted by least squares to whole traces (their starts, and steps and
    bounds of every cell, with it), so that steps far below the read noise are found where ramps
    show them. Laws are compared by ramps that their fit did not see, or by BIC where there are
    fewer than three traces; of those as good as the best the one with the fewest parameters is
    taken. What the reads do around the curve is then taken apart into white and coloured read
    noise, noise of every pulse, variation from ramp to ramp and from cell to cell, by restricted
    maximum likelihood of a linear model; intervals are those of profile likelihoods, of parameters
    Student's with the noise passed on through the least squares. Reads that stand out from their
    neighbours are left out. Cells with two levels are fitted as switches.

    The device has the curve that was fitted: a law that cannot hold it within the physical range is
    replaced by a linear or piecewise step with the same curve, which `sentences` says.

    Args:
        data: reads, or the path of a text file in a form of docs/pulse-data.md.
        families: laws to try; None: all of them.
        fixed: what is known: "g_min" and "g_max" [S] (hard ends of laws whose steps do not vanish
            there), fields of the law, or spreads, e.g. {"sigma_d2d": 0.0}.
        proportional_read: whether the noise of a read is proportional to the conductance
            (`ProportionalRead`) instead of constant (`GaussianRead`).

    Raises:
        Unidentified: the data cannot tell a parameter; the message names it and what would help.
        ValueError: data or settings that make no sense, such as exchanged polarities.
        FileNotFoundError: no such file.
    """
    if not isinstance(data, PulseData):
        data = PulseData.read_csv(data)
    given = dict(fixed or {})
    wanted = None if families is None else [_name(law) for law in families]
    if wanted is not None and not wanted:
        raise ValueError("families must name at least one law")
    amplitudes = [] if wanted is None else [name for name in wanted if name in DRIVEN]
    if amplitudes and len(amplitudes) < len(wanted or ()):
        raise ValueError(
            f"{', '.join(amplitudes)} say what amplitudes do and other laws do not: fit them apart"
        )
    traces = traces_of(data, driven=bool(amplitudes))
    middle = None if amplitudes else clusters(traces)
    if middle is not None:
        if wanted is not None and StochasticSwitch.__name__ not in wanted:
            raise Unidentified(
                "the reads are of binary cells (two clusters and nothing between): a gradual law "
                f"has no meaning for them, {StochasticSwitch.__name__} has; the scatter of their "
                "states is the error of writing, not read noise"
            )
        return binary(data, traces, middle)
    if wanted == [StochasticSwitch.__name__]:
        raise Unidentified(
            f"{StochasticSwitch.__name__}: the reads are not of two levels: conductances between "
            "them are as frequent, or ramps have six reads and more"
        )
    check(traces)
    traces, spikes = without_spikes(traces)
    lost = int((~np.isfinite(data.g.numpy())).sum()) + spikes
    notes = [*data.account, *traces.notes]
    if spikes:
        notes.append(f"{spikes} reads stand out from both neighbours and are left out")
    if wanted == [LookupStep.__name__]:
        return _table(data, (), tuple(notes), lost)
    return _gradual(data, traces, wanted, given, notes, lost, proportional_read)


def _name(law: type[Update]) -> str:
    name = getattr(law, "__name__", repr(law))
    if name not in LAWS:
        raise ValueError(f"no family is declared for {name}; known: {', '.join(LAWS)}")
    return name


def _table(
    data: PulseData, candidates: tuple[Candidate, ...], notes: tuple[str, ...], lost: int
) -> Fit:
    """The device of the measured steps themselves."""
    said = (
        "the device draws the measured steps themselves: noise of the reads is in them and counts "
        "as noise of the pulses",
    )
    device = lookup_device(data)
    return Fit(device, {}, {}, said, candidates, np.nan, len(data), lost, notes)


def _gradual(
    data: PulseData,
    traces: Traces,
    wanted: list[str] | None,
    given: dict[str, float],
    notes: list[str],
    lost: int,
    proportional: bool,
) -> Fit:
    """A law of steps, compared where several are possible."""
    part = few_cells(traces, CELLS[0]).thinned(COMPARED)
    seen = sizes(part)
    # a read that no smooth curve passes by is left out before curves are compared
    part = part.without(strays(fitted(ANY, part, seen, cells=part.cells > 1)))
    window = _window(given, traces)
    curves, labels = _curves(wanted, given, part)
    hard = _known_ends(given, part, traces)
    walls = hard if hard is not None else ends(part)
    pins = {f.name: _pins(labels.get(f.name), f, given, part, window) for f in curves}
    trials, reasons, held = compare(part, curves, seen, walls=walls, pins=pins)
    if not trials:
        raise Unidentified("; ".join(f"{k}: {v}" for k, v in reasons.items()))
    best = trials[0]
    name = labels.get(best.family.name) or _law_of(best, window)
    candidates = _candidates(trials, labels, reasons, held, window, part)
    if wanted is None or LookupStep.__name__ in wanted:
        entry, wins = _lookup_candidate(part, trials[0], min(trials, key=lambda t: t.score), held)
        if wins:
            others = [replace(c, equivalent=False) for c in candidates]
            return _table(data, (replace(entry, equivalent=True), *others), tuple(notes), lost)
        candidates = (*candidates, entry)
    whole = few_cells(traces, CELLS[1]).thinned(FINAL)
    shot = best.shot
    if len(whole.y) > len(part.y) or int(whole.seen.sum()) > int(part.seen.sum()):
        own = None
        if best.hard:
            own = _known_ends(given, whole, traces)
            own = ends(whole) if own is None else own
        shot = fitted(
            best.family,
            whole,
            seen,
            cells=whole.cells > 1,
            walls=own,
            pins=pins[best.family.name],
            begin=best.shot.theta,
        )
    odd = strays(shot)
    if odd.any():
        lost += int(odd.sum())
        notes.append(f"{int(odd.sum())} reads stand out from those around them and are left out")
        shot = fitted(
            best.family,
            shot.traces.without(odd),
            seen,
            cells=shot.cell is not None,
            walls=shot.walls,
            pins=pins[best.family.name],
            begin=shot.theta,
        )
    notes += [n for n in whole.notes if n not in notes]
    known = one_way(shot)
    if known is not None:
        shot = replace(shot, theta=shot.family.mirrored(shot.theta, known))
    noise, said = noise_of(shot, additive=name == "NeuroSim")
    device, parameters, split, more, draw = made(
        name, shot, noise, given, window, proportional=proportional, known=known
    )
    if best.hard and hard is None:
        more.append("ramps end flat: every cell has hard ends, found from the reads there")
    reach = float(np.ptp(shot.traces.y[shot.traces.seen]))
    return Fit(
        device,
        parameters,
        split,
        (*sentences(split, shot, noise.levels.tau), *said, *more),
        candidates,
        shot.rmse / reach,
        len(data),
        lost,
        tuple(notes),
        noise.log_likelihood,
        shot,
        draw,
    )


def few_cells(traces: Traces, most: int) -> Traces:
    """At most so many cells, at random, numbered anew."""
    if traces.cells <= most:
        return traces
    rng = np.random.default_rng(0)
    cells = np.sort(rng.permutation(traces.cells)[:most])
    own = traces.of(np.nonzero(np.isin(traces.cell, cells))[0])
    said = f"{most} of {traces.cells} cells used"
    return replace(own, cell=np.searchsorted(cells, own.cell), notes=(*own.notes, said))


def _curves(
    wanted: list[str] | None, given: dict[str, float], traces: Traces
) -> tuple[list[Family], dict[str, str]]:
    """The curves to compare, and the law that each stands for where one was named."""
    fields = {k for k in given if k not in ("g_min", "g_max", *SPREADS)}
    if wanted is None and not fields:
        steep = abrupt(traces)
        return ([OF_LAW["AbruptReset"]] if steep else list(CURVES)), {}
    laws: dict[str, list[Family]] = {name: [family] for name, family in OF_LAW.items()}
    laws |= {name: driven(name, traces) for name in (wanted or ()) if name in DRIVEN}
    names = [n for n in (wanted or OF_LAW) if n in laws]
    if wanted is None:
        names.remove("AbruptReset")
    at = Frame(0.0, 1.0, 0.0, 1.0)
    curves, labels, known = [], {}, set[str]()
    pairs = [(name, family) for name in names for family in laws[name]]
    for name, family in pairs:
        own = set(FIELDS[name](family, (family.low + family.high) / 2, at))
        unknown, known = fields - own, known | own
        if unknown and wanted is not None:
            raise ValueError(f"{name} has no field {', '.join(sorted(unknown))}")
        if not unknown and family.name not in labels:
            curves.append(family)
            labels[family.name] = name
    if not curves:
        wrong = ", ".join(sorted(fields - known or fields))
        raise ValueError(f"no law has the fields {wrong}; known are {', '.join(sorted(known))}")
    return curves, labels


def _window(given: dict[str, float], traces: Traces) -> tuple[float, float] | None:
    """The known window [S]."""
    if "g_min" not in given and "g_max" not in given:
        return None
    low = given.get("g_min", max(traces.low, 0.0))
    high = given.get("g_max", traces.low + traces.span)
    if not 0 <= low < high <= 1:
        raise ValueError(f"g_min and g_max must be 0 <= g_min < g_max <= 1 S, got {low}, {high}")
    return low, high


def _known_ends(given: dict[str, float], part: Traces, whole: Traces) -> Array | None:
    """Hard ends that were given, for every cell."""
    if "g_min" not in given and "g_max" not in given:
        return None
    at = [
        (given[k] - whole.low) / whole.span if k in given else side * np.inf
        for k, side in (("g_min", -1), ("g_max", 1))
    ]
    return np.tile(at, (part.cells, 1))


def _pins(
    name: str | None,
    family: Family,
    given: dict[str, float],
    traces: Traces,
    window: tuple[float, float] | None,
) -> Pins | None:
    """What keeps known fields of a law at their values."""
    if name is None:
        return None
    at = Frame(traces.low, traces.span, 0.0, 1.0)
    if window is not None:
        low, high = ((g - traces.low) / traces.span for g in window)
        at = Frame(traces.low, traces.span, low, high)
    make = FIELDS[name]
    own = make(family, (family.low + family.high) / 2, at)
    known = {k: v for k, v in given.items() if k in own and k not in SPREADS}
    if not known:
        return None

    def apart(theta: Array) -> Array:
        found = make(family, theta, at)
        unit = {"g_min": traces.span, "g_max": traces.span}
        return np.array(
            [300 * (found[k] - v) / unit.get(k, abs(v) or 1.0) for k, v in known.items()]
        )

    return apart


def _candidates(
    trials: list[Trial],
    labels: dict[str, str],
    reasons: dict[str, str],
    held: bool,
    window: tuple[float, float] | None,
    traces: Traces,
) -> tuple[Candidate, ...]:
    reach = float(np.ptp(traces.y[traces.seen]))
    best = min(trials, key=lambda t: t.score)
    out = []
    for trial in trials:
        name = labels.get(trial.family.name) or _law_of(trial, window)
        error = float(np.sqrt(trial.squares.sum() / traces.seen.sum())) / reach
        good = as_good(trial, best) if held else trial.score <= best.score + 2
        also = "any affine step has this curve" if trial.family.name == "affine" else ""
        if trial.hard:
            also = "with hard ends" + (f"; {also}" if also else "")
        out.append(Candidate(name, trial.parameters, error, held, good, also))
    out += [Candidate(name, 0, np.inf, held, False, why) for name, why in reasons.items()]
    return tuple(out)


def _lookup_candidate(
    traces: Traces, chosen: Trial, best: Trial, held: bool
) -> tuple[Candidate, bool]:
    """The table of measured steps beside the curves, and whether it is better than all."""
    reach = float(np.ptp(traces.y[traces.seen]))
    own = float(np.sqrt(best.squares.sum() / traces.seen.sum()))
    try:
        error, numbers = table_error(traces, held, best.firm)
    except Unidentified as why:
        return Candidate(LookupStep.__name__, 0, np.inf, held, False, str(why)), False
    wins = (
        held
        and 1.06 * error < own
        and error < 0.8 * float(np.sqrt(chosen.squares.sum() / traces.seen.sum()))
    )
    name = LookupStep.__name__
    return Candidate(name, numbers, error / reach, held, held and error < 1.06 * own), wins


def _law_of(trial: Trial, window: tuple[float, float] | None) -> str:
    """The simplest law of a curve; of one direction with its mirror, not with what it began as."""
    shot, known = trial.shot, one_way(trial.shot)
    theta = shot.theta if known is None else shot.family.mirrored(shot.theta, known)
    return named(shot.family, theta, frame(shot, window))
