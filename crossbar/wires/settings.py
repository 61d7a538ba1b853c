"""The wires of an array and the choice of a solver: settings only."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from devices._check import at_least, flag, instance, positive, whole

Resistance = float | Tensor
"""Ohms; a 0-dim tensor where its gradient is wanted."""
RESISTANCES = ("r_wordline", "r_bitline", "r_driver", "r_sense")


def _resistance(name: str, value: object) -> None:
    if isinstance(value, Tensor):
        if value.ndim != 0 or not value.is_floating_point():
            raise TypeError(f"{name} must be a number or a 0-dim floating tensor, got {value!r}")
        value = float(value.detach())
    at_least(name, value, 0, "ohm")


@dataclass(frozen=True)
class SourceLine:
    """A source line beside every bitline; the wordlines then only gate the cells (1T1R).

    A cell conducts while its gate is on: inputs are 0 or ±`v`, negative ones read in a second
    phase and subtracted. The wordlines carry no current, hence the columns do not see each other.

    Args:
        v: voltage that drives the source lines, > 0 [V].
        r_segment: resistance of one segment of a source line, >= 0 [ohm].
        r_driver: output resistance of its driver, >= 0 [ohm].
        opposite: driven at the end away from the sense amplifier, which evens out the path length
            of near and far cells.

    Raises:
        ValueError: a number out of its range.
    """

    v: float
    r_segment: float = 0.0
    r_driver: float = 0.0
    opposite: bool = False

    def __post_init__(self) -> None:
        flag("opposite", self.opposite)
        positive("v", self.v, "V")
        at_least("r_segment", self.r_segment, 0, "ohm")
        at_least("r_driver", self.r_driver, 0, "ohm")


@dataclass(frozen=True)
class Wires:
    """Resistances of the lines of an array and how its lines are terminated.

    Wordline i runs along row i; its driver sits at column 0. Bitline j runs along column j; its
    sense amplifier, a virtual ground, sits below the last row:

        driver ─r_driver─┬ r_wordline ● r_wordline ● r_wordline ●        ● = cell to the bitline
                         └ only with end_segments

    `end_segments=True` puts one wire segment also between the driver and the first cell and
    between the last cell and the sense amplifier: n segments for n cells (badcrossbar, CrossSim).
    False leaves n − 1 segments, ended by `r_driver` and `r_sense` alone (Chen 2013, MemTorch,
    PytorX). A resistance of 0 merges its nodes exactly.

    Args:
        r_wordline: one segment of a wordline, >= 0 [ohm].
        r_bitline: one segment of a bitline, >= 0 [ohm].
        r_driver: output resistance of a wordline driver, >= 0 [ohm].
        r_sense: input resistance of a sense amplifier, >= 0 [ohm].
        end_segments: whether a wire segment lies before the first and after the last cell.
        both_drivers: drive every wordline from both of its ends, with the same voltage.
        both_senses: sense every bitline at both of its ends and add the currents.
        interleaved: the two devices of a differential pair lie side by side on one wordline, with
            alternating bitlines; the first dimension of the conductances is then the pair.
        source: a separate source line (1T1R); None: a passive array, or 1T1R cells whose source
            lines run along the rows (a cell whose gate is off is then a cell with g = 0).

    Raises:
        TypeError: a field of the wrong type.
        ValueError: a resistance negative or not finite.

    Sources: A. Chen, IEEE TED 60, 1318 (2013), doi:10.1109/TED.2013.2246791 (the nodal equations);
    Joksas & Mehonic, SoftwareX 12, 100617 (2020), doi:10.1016/j.softx.2020.100617.
    """

    r_wordline: Resistance
    r_bitline: Resistance
    r_driver: Resistance = 0.0
    r_sense: Resistance = 0.0
    end_segments: bool = True
    both_drivers: bool = False
    both_senses: bool = False
    interleaved: bool = False
    source: SourceLine | None = None

    def __post_init__(self) -> None:
        for name in RESISTANCES:
            _resistance(name, getattr(self, name))
        for name in ("end_segments", "both_drivers", "both_senses", "interleaved"):
            flag(name, getattr(self, name))
        instance("source", self.source, SourceLine)
        if self.source is not None and (self.both_drivers or self.interleaved):
            raise ValueError("source lines go with both_drivers=False and interleaved=False")

    @property
    def resistances(self) -> tuple[Resistance, Resistance, Resistance, Resistance]:
        """(r_wordline, r_bitline, r_driver, r_sense) [ohm]."""
        return self.r_wordline, self.r_bitline, self.r_driver, self.r_sense

    def having(self, resistances: Sequence[Resistance]) -> Wires:
        """The same lines with these four, in the order of `resistances` [ohm]."""
        return replace(self, **dict(zip(RESISTANCES, resistances, strict=True)))  # type: ignore[arg-type]

    @property
    def differentiated(self) -> bool:
        """Whether autograd will want a gradient with respect to any of them."""
        return any(isinstance(r, Tensor) and r.requires_grad for r in self.resistances)

    @property
    def ohms(self) -> tuple[float, ...]:
        """The same four as plain numbers [ohm]."""
        return tuple(
            float(r.detach()) if isinstance(r, Tensor) else float(r) for r in self.resistances
        )

    def kappa(self, g: Tensor) -> float:
        """κ = N² r ḡ, the one number that says how strong the IR drop is.

        For a rectangular array with unequal lines the mean of n² r_wordline ḡ and m² r_bitline ḡ;
        of several arrays the worst. A uniform N×N array, all rows driven, loses 12 % of its
        current at 0.2, 39 % at 1, 56 % at 2 and 85 % at 10.
        """
        m, n = g.shape[-2:]
        if not g.numel():
            return 0.0
        mean = float(g.detach().mean((-2, -1)).max())
        r_row, r_col, _, _ = self.ohms
        return mean * (n * n * r_row + m * m * r_col) / 2


@dataclass(frozen=True)
class Floating:
    """Lines disconnected from driver or sense amplifier, by index.

    Grounded and half-biased lines need no setting: they are driven with 0 or V/2.

    Args:
        rows: wordlines that float.
        cols: bitlines that float.
    """

    rows: tuple[int, ...] = ()
    cols: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            lines = getattr(self, name)
            if not isinstance(lines, Iterable) or isinstance(lines, str):
                raise TypeError(f"{name} must be a tuple of line indices, got {lines!r}")
            for line in lines:
                whole(name, line, 0)

    def mask(self, rows: int, cols: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which of the lines float, as two boolean vectors.

        Raises:
            ValueError: an index beyond the array.
        """
        masks = []
        for name, lines, size in (("rows", self.rows, rows), ("cols", self.cols, cols)):
            if any(line >= size for line in lines):
                raise ValueError(f"floating {name} must be below {size}, got {lines!r}")
            mask = torch.zeros(size, dtype=torch.bool, device=device)
            mask[list(lines)] = True
            masks.append(mask)
        return masks[0], masks[1]


class Solver(ABC):
    """How the circuit equations are solved; `None` lets `prepare` choose."""

    nonlinear: ClassVar[bool] = False
    """Whether it solves cells with a nonlinear I-V."""


@dataclass(frozen=True)
class Exact(Solver):
    """Direct elimination in float64, then one matrix product per read.

    Error about 1e-13 of the largest output; more where ends of high resistance R nearly disconnect
    lines of conductance Σg, 1e-17 (R Σg)²: `prepare` refuses R Σg above 1e5.
    """


@dataclass(frozen=True)
class Iterative(Solver):
    """Conjugate gradients on the cell voltages, in O(rows·cols) memory and no factor.

    For arrays too large to factor and conductances that differ from read to read.

    Args:
        tolerance: largest residual voltage relative to the largest applied voltage.
        max_steps: iterations before it gives up; it needs about 15 √(1 + κ).

    Raises:
        ValueError: a number out of its range.
    """

    tolerance: float = 1e-12
    max_steps: int = 2000

    def __post_init__(self) -> None:
        positive("tolerance", self.tolerance)
        whole("max_steps", self.max_steps, 1)


@dataclass(frozen=True)
class Newton(Solver):
    """Nonlinear cells: chord steps on the ohmic factor, then damped Newton with inner CG.

    Chord steps go on while each at least halves the residual; the first that does not hands over
    to Newton, whose steps are shortened until the residual falls. Cells have an increasing I-V,
    hence one solution.

    Args:
        tolerance: largest residual voltage relative to the largest applied voltage.
        max_steps: chord steps, and again Newton steps, before it gives up.

    Raises:
        ValueError: a number out of its range.
    """

    tolerance: float = 1e-12
    max_steps: int = 60
    nonlinear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("tolerance", self.tolerance)
        whole("max_steps", self.max_steps, 1)


@dataclass(frozen=True)
class Approximate(Solver):
    """The effective matrix by one formula, a few passes over the array.

        W ≈ g / (1 + R g)

    Every cell is in series with the wires between it and its two terminals, each segment weighted
    by the current that all cells of its line would draw through it without IR drop. Exact to first
    order in κ: of the largest output it errs by about 0.01 % at κ = 0.02, 0.4 % at 0.2, 4 % at
    0.8 and 8 % at 2 on random arrays, where leaving the wires out errs by 2, 17, 60 and 110 %. The
    network states the error measured on its own array (`residual`). It knows no voltages.

    Source: the effective-resistance form of Jeong, Zidan & Lu, IEEE Trans. Nanotechnol. 17, 184
    (2018), doi:10.1109/TNANO.2017.2784364, with the loads of this array instead of a fit.
    """


class NotConverged(RuntimeError):
    """The circuit was not solved; the message carries the residual that was reached."""
