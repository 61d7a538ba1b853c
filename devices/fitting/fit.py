"""`devices.fit`: which law, with which parameters, made these pulses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from devices.device import Device
from devices.fitting.compare import (
    Candidate,
    check_identified,
    compare,
    limited,
    without_rest,
)
from devices.fitting.data import DOWN, UP, Blocks, PulseData, Unidentified
from devices.fitting.engine import COARSE, Solution, solve
from devices.fitting.families import FAMILIES, Family
from devices.fitting.lookup import tabulated
from devices.fitting.problem import Problem, begin
from devices.fitting.result import Parameter, device, parameters
from devices.fitting.start import Averages, averages
from devices.part import Update
from devices.update.lookup import LookupStep


@dataclass(frozen=True)
class Fit:
    """A device fitted to pulse data.

    Where no family describes them as well as the measured steps themselves, `device` is the lookup
    device, which has neither parameters with intervals nor a solution.
    """

    device: Device
    parameters: dict[str, Parameter]  # every fitted field with its 95 % interval
    candidates: tuple[Candidate, ...]  # the families that were compared, best first
    reads: int
    left_out: int  # outliers that were not used
    log_likelihood: float | None  # conductances in siemens; an outlier counts as at the threshold
    solution: Solution | None
    scale: float  # [S] unit of the solution

    @property
    def equivalent(self) -> tuple[str, ...]:
        """Families that predict unseen data as well, within one standard error."""
        return tuple(c.name for c in self.candidates if c.equivalent)


def fit(
    data: PulseData | str | Path,
    *,
    families: Sequence[type[Update] | Family] | None = None,
    fixed: Mapping[str, float] | None = None,
    proportional_read: bool = False,
) -> Fit:
    """Fit a device to measured pulses.

    Each family's law is fitted by maximum likelihood to all reads between pulses: noise of the
    pulses (which stays) is told from noise of the reads (which does not), and spread from cell to
    cell from both. Where several families are given, each predicts cells (or, with fewer than six
    cells, traces) that its fit did not see; of those within one standard error of the best the one
    with the fewest parameters wins. Reads more than 4.5 standard deviations from their prediction
    are left out. The lookup device (`lookup_device`) takes part, with all of its tables as its
    parameters: it is chosen only where it predicts better than every law, because the data follow
    none (a kink in the response, noise that depends on the conductance).

    More than 40,000 reads are compared, and the fit begun, on as many of them; the chosen family
    is then fitted to all.

    The window is fitted for laws whose steps vanish at its ends (soft bounds, power steps). For the
    others it is a convention: the range that the pulses explored, unless given by `fixed`, where
    it is then a hard bound; the spread of the bounds is then taken to be zero.

    Args:
        data: reads, or the path of a CSV file in the format of docs/pulse-data.md.
        families: laws to try (classes); None: all of `devices.fitting.FAMILIES`, and `LookupStep`
            unless `fixed` names more than the window.
        fixed: fields of the law or the window that are known, e.g. {"g_min": 1e-6, "g_max": 50e-6}
            [S] or {"sigma_d2d": 0.0}.
        proportional_read: whether the noise of a read is proportional to the conductance
            (`ProportionalRead`) instead of constant (`GaussianRead`).

    Raises:
        Unidentified: the data cannot tell a parameter; the message names it and what would help.
        ValueError: data or settings that make no sense.
        FileNotFoundError: no such file.
        RuntimeError: the fit of the law does not converge.
    """
    if not isinstance(data, PulseData):
        data = PulseData.read_csv(data)
    given = dict(fixed or {})
    if families is None:
        chosen, lookup = FAMILIES, not set(given) - {"g_min", "g_max"}
    else:
        chosen = tuple(_family(f) for f in families if f is not LookupStep)
        lookup = LookupStep in families
    if not chosen and not lookup:
        raise ValueError("families must name at least one law")
    blocks, cells = data.blocks(), len(data.cells)
    scale = _scale(blocks.y)
    blocks = blocks._replace(y=blocks.y / scale)
    seen = _check(blocks, given)
    problems = []
    for family in chosen:
        if families is None and not _applies(family, given):
            continue
        known = _known(family, given, scale, seen, cells)
        hard = not family.bounded and "g_min" in given and "g_max" in given
        low, high = min(seen.low, known.get("g_min", 9e9)), max(seen.high, known.get("g_max", 0))
        problems.append(Problem(family, blocks, cells, known, hard, proportional_read, low, high))
    if not problems and not lookup:
        raise ValueError(f"no family has all the fields of fixed={given!r}")
    reads = int((~blocks.y.isnan()).sum())
    candidates: tuple[Candidate, ...] = ()
    begun: Solution | None = None
    if len(problems) + lookup > 1:
        moving = blocks
        if "g_min" in given and "g_max" in given:
            ends = (given["g_min"] / scale, given["g_max"] / scale)
            moving = without_rest(blocks, ends, 4 * math.sqrt(seen.read_variance))
        shown = [replace(problem, blocks=moving) for problem in problems]
        candidates, begun = compare(shown, seen, lookup=lookup)
    elif problems:
        part = replace(problems[0], blocks=limited(blocks, cells))
        begun = solve(part, begin(part, seen), small=COARSE)
    if begun is None:
        law, kept = tabulated(data.blocks(), data.cells)
        window = [given.get("g_min", scale * seen.low), given.get("g_max", scale * seen.high)]
        lost = reads - int((~kept.isnan()).sum())
        own = Device(max(window[0], 0.0), window[1], update=law)
        return Fit(own, {}, candidates, len(data), lost, None, None, scale)
    whole = next(p for p in problems if p.family is begun.problem.family)
    # what a part of the data says leads to the neighbourhood of what all of them say
    if whole.blocks is begun.problem.blocks:
        solution = solve(whole, begun.at, corrections=0, slope=begun.slope)
    else:
        solution = solve(whole, begun.at, corrections=1, slope=begun.slope, small=COARSE)
    check_identified(solution)
    fair = int((solution.screen.use >= 0.5).sum()) + int(solution.screen.restart.sum())
    predicted = reads - blocks.y.shape[1]  # all but the first of every trace
    return Fit(
        device(solution, scale),
        parameters(solution, scale),
        candidates,
        len(data),
        reads - fair,
        float(solution.last.log_likelihood.sum()) - predicted * math.log(scale),
        solution,
        scale,
    )


def _family(law: type[Update] | Family) -> Family:
    if isinstance(law, Family):
        return law
    for family in FAMILIES:
        if family.law is law:
            return family
    known = ", ".join(f.name for f in FAMILIES)
    raise ValueError(f"no family is declared for {law!r}; known: {known}")


def _scale(y: Tensor) -> float:
    reads = y[~y.isnan()]
    return float(reads.abs().quantile(0.99)) if reads.numel() < 1e7 else float(reads.abs().max())


def _applies(family: Family, given: Mapping[str, float]) -> bool:
    names = {m.name for m in family.means} | {s.name for s in family.spreads}
    names |= {n for n in (family.cycle, family.add) if n}
    return set(given) <= names


def _check(blocks: Blocks, given: Mapping[str, float]) -> Averages:
    """Averages of the data, or the reason why no law can be fitted."""
    for kind, word in ((UP, "up"), (DOWN, "down")):
        count = int((blocks.kind == kind).sum())
        if count < 8:
            raise Unidentified(
                f"the steps of {word} pulses cannot be identified: the data hold {count} {word} "
                "pulses between reads, at least 8 are needed"
            )
    reads = blocks.y[~blocks.y.isnan()]
    if float(reads.max() - reads.min()) < 1e-9:
        raise Unidentified(
            "dg_min cannot be identified: every read has the same conductance, so no pulse moved "
            "a cell"
        )
    seen = averages(blocks)
    if float((seen.step / seen.error).abs().max()) < 4 and _still(blocks):
        raise Unidentified(
            "dg_min cannot be identified: the steps are not larger than their scatter; more "
            "pulses or less read noise are needed"
        )
    return seen


def _still(blocks: Blocks) -> bool:
    """Whether up and down pulses move cells no differently, within four standard errors."""
    d = blocks.y.diff(dim=0)
    means = []
    for kind in (UP, DOWN):
        steps = d[(blocks.kind[1:] == kind) & ~d.isnan()]
        middle = steps.median()
        limit = 6 * (steps - middle).abs().median() + 1e-12
        steps = steps[(steps - middle).abs() <= limit]
        means.append((steps.mean(), steps.var() / len(steps)))
    (up, var_up), (down, var_down) = means
    return bool((up - down) <= 4 * (var_up + var_down).sqrt())


def _known(
    family: Family, given: Mapping[str, float], scale: float, seen: Averages, cells: int
) -> dict[str, float]:
    """Everything that is not fitted, in units of the fit."""
    if not _applies(family, given):
        raise ValueError(
            f"{family.name} has no field of "
            f"{sorted(k for k in given if not _applies(family, {k: 0.0}))}"
        )
    known: dict[str, float] = {}
    for mean in family.means:
        if mean.name in given:
            value = given[mean.name] / scale if mean.siemens else given[mean.name]
            known[mean.name] = math.log(value) if mean.log else value
    for spread in family.spreads:
        if spread.name in given:
            known[spread.name] = given[spread.name]
    for noise, name in (("cycle", family.cycle), ("add", family.add)):
        if name is None:
            known[noise] = 0.0
        elif name in given:
            if given[name] != 0 and noise == "add":
                raise ValueError(f"{name} can be fixed at 0 only, got {given[name]!r}")
            known[noise] = given[name] ** 2
    if not family.bounded:
        margin = 1e-3 * (seen.high - seen.low)
        known.setdefault("g_min", max(seen.low - margin, 0.0))
        known.setdefault("g_max", seen.high + margin)
        if any(s.name == "sigma_bounds" for s in family.spreads):
            known.setdefault("sigma_bounds", 0.0)
    unknown = [s.name for s in family.spreads if s.name not in known]
    if cells < 2 and unknown:
        zeros = ", ".join(f"{name!r}: 0.0" for name in unknown)
        raise Unidentified(
            f"{', '.join(unknown)} cannot be identified from one cell: measure several cells, or "
            f"fit this cell alone with fixed={{{zeros}}}"
        )
    return known
