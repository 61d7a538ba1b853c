"""What a fit looks for, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from devices.fitting.data import Blocks
from devices.fitting.families import Family, Mean
from devices.fitting.start import Averages, start

NOISE = ("cycle", "add", "read")


@dataclass(frozen=True)
class Problem:
    """What is to be found, with which data, in units of the data's range."""

    family: Family
    blocks: Blocks
    cells: int
    known: Mapping[str, float]  # means, spreads and noises that are given
    hard: bool  # whether the window is a hard bound that pulses reach
    proportional: bool  # whether a read's noise is proportional to the conductance
    low: float  # range of the reads
    high: float

    @property
    def walls(self) -> bool:
        """Whether pulses can reach the ends of a cell's own range, where they are cut short."""
        return self.hard or self.family.bounded

    @property
    def free(self) -> tuple[Mean, ...]:
        """Means that are fitted."""
        return tuple(m for m in self.family.means if m.name not in self.known)

    @property
    def noises(self) -> tuple[str, ...]:
        """Noise variances that are fitted."""
        have = {"cycle": self.family.cycle, "add": self.family.add, "read": "read"}
        return tuple(n for n in NOISE if have[n] is not None and n not in self.known)

    @property
    def random(self) -> tuple[str, ...]:
        """Quantities that differ from cell to cell."""
        return tuple(
            q for s in self.family.spreads if self.known.get(s.name, 1.0) != 0 for q in s.of
        )

    @property
    def spreads(self) -> tuple[str, ...]:
        """Spreads that are fitted."""
        return tuple(s.name for s in self.family.spreads if s.name not in self.known)


@dataclass(frozen=True)
class Estimate:
    """Where the fit stands: values, noise variances, spread variances, cells' deviations."""

    values: dict[str, float]
    noise: dict[str, float]
    spread: dict[str, float]  # variances of the spread fields
    delta: Tensor  # (C, R)
    inner: Tensor  # (C, R, R)

    def design(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Variances T of the cells' quantities (R,), and how the spreads' make them (R, M)."""
        names, fitted = problem.random, problem.spreads
        design = torch.zeros(len(names), len(fitted), dtype=torch.float64)
        total = torch.zeros(len(names), dtype=torch.float64)
        for s in problem.family.spreads:
            unit = problem.family.unit(s.name, self.values) ** 2
            for q in s.of:
                if q in names:
                    total[names.index(q)] = unit * self.spread[s.name]
                    if s.name in fitted:
                        design[names.index(q), fitted.index(s.name)] = unit
        return total, design


def begin(problem: Problem, seen: Averages) -> Estimate:
    """The estimate a fit starts from."""
    family = problem.family
    known = {k: v for k, v in problem.known.items() if k in {m.name for m in family.means}}
    values = start(family, seen, problem.free, known, problem.hard)
    size = float(seen.step.square().mean())
    both = family.cycle is not None and family.add is not None
    share = 0.5 if both else 1.0
    noise = {
        "cycle": share * seen.pulse_variance / size if family.cycle else 0.0,
        "add": share * seen.pulse_variance if family.add else 0.0,
        "read": seen.read_variance,
    }
    if problem.proportional:
        middle = (seen.low + seen.high) / 2
        noise["read"] /= middle**2
    noise |= {n: problem.known[n] for n in NOISE if n in problem.known}
    spread = {
        s.name: problem.known.get(s.name, 0.0) ** 2 if s.name in problem.known else 0.1**2
        for s in family.spreads
    }
    return Estimate(values, noise, spread, *unknown_cells(problem, values))


def unknown_cells(problem: Problem, values: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Deviations of cells (C, R) nothing is known of, and their covariance.

    They are zero, but a cell's own range holds its reads, which would count as outliers otherwise.
    """
    random = problem.random
    delta = torch.zeros(problem.cells, len(random), dtype=torch.float64)
    if "g_min" in random:
        low, high = _ranges(problem)
        delta[:, random.index("g_min")] = (low - values["g_min"]).clamp(max=0)
        delta[:, random.index("g_max")] = (high - values["g_max"]).clamp(min=0)
    return delta, torch.zeros(problem.cells, len(random), len(random), dtype=torch.float64)


def _ranges(problem: Problem) -> tuple[Tensor, Tensor]:
    """The range of each cell's reads but for the outermost 1 % at each end (C,)."""
    y, _, cell = problem.blocks
    ends = torch.tensor([0.01, 0.99], dtype=y.dtype)
    reads = [y[:, cell == c].flatten() for c in range(problem.cells)]
    low, high = torch.stack([torch.nanquantile(r, ends) for r in reads], 1)
    return low, high
