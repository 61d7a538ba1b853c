"""Against the drift of conductances: digital factors, measured again after time has passed.

keep = xb.TileCompensation()
xb.program(model)
keep.refer(model)                 # reads of known inputs, right after programming
xb.advance(model, 86_400.0)
keep.apply(model)                 # the same reads, and the factors that undo their decay

aged = xb.over_time(model, score, [1.0, 3600.0, 86_400.0], chips=8, compensation=keep)
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from crossbar.matrix import Matrix
from crossbar.model import advance, fed, inputs_of, placements, program, reseed
from crossbar.probes import lent
from crossbar.states import Writer
from crossbar.streams import derive
from devices._check import at_least, positive, whole


class Compensation(ABC):
    """What is done after time has passed, so that outputs keep their size."""

    @abstractmethod
    def refer(self, model: nn.Module) -> None:
        """Measure the programmed model, to which later ones are compared.

        Raises:
            ValueError: no analog layer. TypeError: hardware-aware weights, which have no cells.
        """

    @abstractmethod
    def apply(self, model: nn.Module) -> None:
        """Measure again and compensate, in place; a second time takes the place of the first.

        Raises:
            ValueError: `refer` was given another model, or none.
        """


@dataclass(eq=False)
class DriftCompensation(Compensation):
    """Digital factors Σ|y₀|/Σ|y| of what known inputs give: y₀ at first, y now.

    Every row of an array is driven with ±1 (full scale with a DAC) at random, tile by tile, by
    reads as noisy and quantised as all of them. The factors act on each tile's codes before they
    are added, in both directions of reading.

    Args:
        vectors: known inputs, >= 1; their number averages noise.
        seed: of the inputs.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9 (global drift
    compensation).
    """

    vectors: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        whole("vectors", self.vectors, 1)
        self._first: dict[str, Tensor] = {}

    @torch.no_grad()
    def refer(self, model: nn.Module) -> None:
        """See `Compensation`."""
        for matrix in _matrices(model).values():
            matrix.tile_gain = None
        self._first = self._measured(model)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """See `Compensation`."""
        matrices = _matrices(model)
        if set(matrices) != set(self._first):
            raise ValueError(
                "refer(model) first, right after programming: nothing is known of "
                f"{sorted(set(matrices) ^ set(self._first))[0]}"
            )
        for matrix in matrices.values():
            matrix.tile_gain = None
        now = self._measured(model)
        for name, factor in self.factors(self._first, now).items():
            matrix = matrices[name]
            matrix.tile_gain = factor.expand_as(now[name]).contiguous()

    def factors(self, first: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Tensor]:
        """From Σ|y| of every weight's tiles (..., down, across): factors that broadcast to them."""
        return {name: _ratio(first[name], now[name]) for name in now}

    def _measured(self, model: nn.Module) -> dict[str, Tensor]:
        return {
            name: tile_sums(matrix, self.vectors, derive(self.seed, name))
            for name, matrix in _matrices(model).items()
        }


@dataclass(eq=False)
class GlobalCompensation(DriftCompensation):
    """One factor for the whole model; see `DriftCompensation`."""

    def factors(self, first: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Tensor]:
        """See the class."""
        ratio = _ratio(
            torch.stack([t.sum().cpu() for t in first.values()]).sum(),
            torch.stack([t.sum().cpu() for t in now.values()]).sum(),
        )
        return {name: ratio.to(t.device) for name, t in now.items()}


@dataclass(eq=False)
class TileCompensation(DriftCompensation):
    """A factor for each tile of each array; see `DriftCompensation`."""


@dataclass(eq=False)
class ColumnCompensation(DriftCompensation):
    """A factor for each column of each array, the same in all of its tiles.

    See `DriftCompensation`; of transposed reads the factors act on what drives the columns.

    Raises:
        TypeError: of mappings that add a multiple of Σv digitally (`SingleCell`), which the factors
            would act on too.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._before: dict[str, Tensor | None] = {}

    @torch.no_grad()
    def refer(self, model: nn.Module) -> None:
        """See `Compensation`."""
        matrices = _matrices(model)
        self._before = {name: matrix.column_gain for name, matrix in matrices.items()}
        self._first = self._measured(model)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """See `Compensation`."""
        matrices = _matrices(model)
        if set(matrices) != set(self._first):
            raise ValueError("refer(model) first, right after programming")
        now = self._measured(model)
        for name, matrix in matrices.items():
            ratio, before = _ratio(self._first[name], now[name]), self._before[name]
            ratio = ratio.to(matrix.written.w_max.dtype)
            matrix.column_gain = ratio if before is None else before * ratio

    def _measured(self, model: nn.Module) -> dict[str, Tensor]:
        for name, matrix in _matrices(model).items():
            if shifted(matrix):
                raise TypeError(
                    f"{name}: {type(matrix.chip.mapping).__name__} takes the middle of the window "
                    "off digitally, which factors of columns would scale too: use "
                    "TileCompensation() or GlobalCompensation()"
                )
        return {
            name: column_sums(matrix, self.vectors, derive(self.seed, name))
            for name, matrix in _matrices(model).items()
        }


@dataclass(eq=False)
class NormRecalibration(Compensation):
    """Means and variances of batch norms, taken anew of the model as it is now.

    Args:
        batches: inputs, (inputs, …) tuples or dictionaries of named ones.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9 (adaptive
    batch normalisation statistics).
    """

    batches: Iterable[Any]

    def refer(self, model: nn.Module) -> None:
        """Nothing is to be measured."""
        placements(model)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """See `Compensation`.

        Raises:
            ValueError: no batch, or no batch norm that keeps statistics.
        """
        inputs = inputs_of(self.batches)
        norms = [
            m
            for m in model.modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
        ]
        if not norms:
            raise ValueError("model has no batch norm whose statistics could be taken anew")
        flags = [(m, m.training) for m in model.modules()]
        momenta = [m.momentum for m in norms]
        try:
            model.eval()
            for norm in norms:
                norm.reset_running_stats()
                norm.training, norm.momentum = True, None  # the mean over all batches
            for x in inputs:
                fed(model, x)
        finally:
            for module, flag in flags:
                module.training = flag
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _ratio(first: Tensor, now: Tensor) -> Tensor:
    return torch.where(now > 0, first / now.clamp(min=1e-300), 1.0)


def _matrices(model: nn.Module) -> dict[str, Matrix]:
    """The matrices of a model's weights by name."""
    found: dict[str, Matrix] = {}
    for name, _, _, weight in placements(model):
        for k, (_, matrix) in enumerate(weight.all()):
            if matrix.cells is None:
                raise TypeError(
                    f"{name} is a float weight, which does not age: program(model) first"
                )
            found[f"{name}/{k}"] = matrix
    return found


def _driven(matrix: Matrix, vectors: int, seed: int) -> Tensor:
    """Known inputs (vectors, ..., rows), ±v_max with a DAC.

    Where something is added digitally in proportion to Σv, and does not age, there are as many of
    either sign in every tile.
    """
    *lead, rows, _ = matrix.lines
    generator = torch.Generator("cpu").manual_seed(seed % 2**63)
    signs = torch.randint(0, 2, (vectors, *lead, rows), generator=generator).mul_(2).sub_(1)
    if shifted(matrix):
        for a, b in matrix.chip.tiles(matrix.lines, False):
            place = torch.rand((vectors, *lead, b - a), generator=generator).argsort(-1)
            signs[..., a:b] = (2 * place - (b - a - 1)).sign()
    signs = signs[:, 0] if len(lead) == 1 and lead[0] == 1 else signs
    return signs.to(matrix.written.w_max)


def _outputs(matrix: Matrix, x: Tensor) -> Tensor:
    """Σ|y| over the vectors, (..., cols) float64, with the matrix's own dimensions."""
    y = matrix.mv(x).double().abs().sum(0)
    return y.reshape(*matrix.lines[:-2], matrix.lines[-1])


def shifted(matrix: Matrix) -> bool:
    """Whether what its converters give is not yet the product: a multiple of Σv is added."""
    return matrix.layout.shift(matrix.floor) != 0


def column_sums(matrix: Matrix, vectors: int, seed: int) -> Tensor:
    """Σ|y| of every column of a matrix under known inputs, (..., cols) float64."""
    return _outputs(matrix, _driven(matrix, vectors, seed))


def tile_sums(matrix: Matrix, vectors: int, seed: int) -> Tensor:
    """Σ|y| of every tile of a matrix under known inputs, (..., down, across) float64."""
    x, found = _driven(matrix, vectors, seed), []
    across = matrix.chip.tiles(matrix.lines, True)
    for a, b in matrix.chip.tiles(matrix.lines, False):
        alone = torch.zeros_like(x)
        alone[..., a:b] = x[..., a:b]
        sums = _outputs(matrix, alone)
        found.append(torch.stack([sums[..., c:d].sum(-1) for c, d in across], -1))
    return torch.stack(found, -2)


@dataclass(frozen=True)
class Aged:
    """Scores of several chips at several times.

    Args:
        times: since programming [s].
        scores: (chips, times).
    """

    times: tuple[float, ...]
    scores: Tensor

    @property
    def mean(self) -> Tensor:
        """(times,) over the chips."""
        return self.scores.mean(0)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Bounds (times,) of the mean over all chips of this kind, of Student's t.

        Raises:
            ValueError: fewer than two chips.
        """
        n = len(self.scores)
        if n < 2:
            raise ValueError("an interval needs at least two chips")
        half = float(stdtrit(n - 1, 0.5 + level / 2)) * self.scores.std(0) / math.sqrt(n)
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        rows = [f"{'after [s]':>12}  {'mean':>12}  {'least':>12}  {'most':>12}"]
        for k, time in enumerate(self.times):
            own = self.scores[:, k]
            numbers = (time, self.mean[k], own.min(), own.max())
            rows.append("  ".join(f"{float(number):12.5g}" for number in numbers))
        return "\n".join(rows)


def over_time(
    model: nn.Module,
    score: Callable[[nn.Module], float],
    times: Sequence[float],
    *,
    chips: int = 1,
    compensation: Compensation | None = None,
    refresh: float | None = None,
    writer: Writer | None = None,
    seed: int = 0,
    temperature: float = 300.0,
) -> Aged:
    """What a model scores as its chips age; the model itself stays as it is.

    A ledger of the model counts what happens on all of these chips.

    Args:
        model: hardware-aware, or with cells: every chip is programmed with what it holds.
        score: of a model.
        times: since programming [s], increasing, >= 0.
        chips: of this kind, each programmed and aged by itself.
        compensation: refers to every chip as programmed, and is applied at every time.
        refresh: period after which all cells are written anew with what they were to hold [s],
            write error, wear and reference of the compensation included; at a time that is a
            multiple of it, cells are as old as ever they get. None: never.
        writer: how cells are written, see `program`.
        seed: of the chips.
        temperature: [K].

    Raises:
        ValueError: no times, or such that do not increase, no chip, no analog layer.
    """
    whole("chips", chips, 1)
    times = list(times)
    if not times:
        raise ValueError("times must hold at least one")
    before = 0.0
    for time in times:
        at_least("times", float(time), before, "s, in increasing order")
        before = float(time)
    if refresh is not None:
        positive("refresh", refresh, "s")
    rows = []
    for number in range(chips):
        with torch.inference_mode(False):
            chip = copy.deepcopy(model)
        reseed(chip, derive(seed, f"chip {number}"))
        wanted = [weight.wanted(parameter) for _, _, parameter, weight in placements(chip)]
        with lent(model, chip):
            program(chip, writer)
            if compensation is not None:
                compensation.refer(chip)
            row, now = [], 0.0
            for time, rewrites in _steps(times, refresh):
                if time > now:
                    advance(chip, time - now, temperature=temperature)
                    now = time
                if rewrites:
                    for (_, _, parameter, weight), w in zip(placements(chip), wanted, strict=True):
                        weight.rewrite(parameter, w, writer)
                if compensation is not None:
                    (compensation.refer if rewrites else compensation.apply)(chip)
                if not rewrites:
                    row.append(float(score(chip)))
        rows.append(row)
    return Aged(tuple(float(t) for t in times), torch.tensor(rows, dtype=torch.float64))


def _steps(times: Sequence[float], refresh: float | None) -> Iterator[tuple[float, bool]]:
    """Moments [s] in their order, and whether cells are written anew then; else they are scored."""
    done = 1
    for time in times:
        while refresh is not None and done * refresh < time:
            yield done * refresh, True
            done += 1
        yield float(time), False
