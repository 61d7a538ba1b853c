"""Where a converter's full scale comes from; never silently the maximum of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from devices._check import between, positive, whole


class Range(ABC):
    """A policy that sets the full scale of a converter."""

    held: ClassVar[bool] = False
    """Whether it holds a scale that `calibrate` measures."""

    relative: ClassVar[bool] = False
    """Whether the scale is taken from what is converted, in its own unit."""

    @property
    def given(self) -> float | None:
        """The full scale that the settings name, if they do."""
        return None

    @property
    def reached(self) -> bool:
        """Whether an ADC takes it from what its cells can give."""
        return False

    @abstractmethod
    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """The full scale.

        Args:
            peak: gives the largest magnitude of each vector that is converted.
            held: the calibrated scale, 0-dim float64, NaN before `calibrate`; None: none is held.
            default: full scale of a range that is not told any.
        """

    def repeated(self, full: Tensor | float, default: Tensor | float) -> Tensor | None:
        """How often each vector is read again before it has this full scale; None: never."""
        return None


@dataclass(frozen=True)
class Fixed(Range):
    """A constant full scale.

    Args:
        full_scale: of a DAC, the logical input that maps to v_max; of an ADC, the current [A] at
            the largest code, where None takes what the cells behind the converters of a tile can
            give: v_max · ΔG · max over columns of min(√R ‖w‖, |Σw| + 8‖w‖), of R cells w in units
            of the window (`Layout.level`), as they were written; in situ it follows the updates.
            Converters of columns that do not balance, and of lines driven one by one, take what no
            vector v can pass: min(Σw, |Σw| |mean v| + ‖w − mean w‖ ‖v − mean v‖, max|w| Σ|v|).

    Raises:
        ValueError: full_scale not positive.
    """

    full_scale: float | None = None

    def __post_init__(self) -> None:
        if self.full_scale is not None:
            positive("full_scale", self.full_scale)

    @property
    def given(self) -> float | None:
        """The constant."""
        return self.full_scale

    @property
    def reached(self) -> bool:
        """Whether it is left to the cells."""
        return self.full_scale is None

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """The constant."""
        return default


@dataclass(frozen=True)
class PerVector(Range):
    """The largest magnitude of each vector (noise management).

    For a convolution one range a whole image, so that its input need not be unfolded.
    """

    relative: ClassVar[bool] = True

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """The peak; 1 of a vector that is all zero."""
        top = peak()
        return torch.where(top > 0, top, 1)


@dataclass(frozen=True)
class Managed(Range):
    """A full scale that is doubled, and the vector read again, until nothing clips.

        full scale 2^k · start,   the smallest k with max |i| <= 2^k · start, at most `most`

    (bound management). Read noise and currents are those of the last reading; the readings before
    it are counted as conversions (`Probe.repeated`). aihwkit halves the inputs instead, which
    costs a bit of its DAC each time.

    Args:
        start: full scale of the first reading; see `Fixed`.
        most: doublings at most, 1 to 20.

    Raises:
        ValueError: start not positive, most out of range.

    Source: Gokmen, Onen & Haensch, Front. Neurosci. 11:538 (2017), doi:10.3389/fnins.2017.00538.
    """

    relative: ClassVar[bool] = True

    start: float | None = None
    most: int = 10

    def __post_init__(self) -> None:
        if self.start is not None:
            positive("start", self.start)
        whole("most", self.most, 1, 20)

    @property
    def given(self) -> float | None:
        """The first full scale, if it is named."""
        return self.start

    @property
    def reached(self) -> bool:
        """Whether the first is left to the cells."""
        return self.start is None

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """That of the last reading of each vector."""
        top = peak()
        first = torch.as_tensor(default, dtype=top.dtype, device=top.device)
        # a peak that rounding alone lifts over full scale does not clip
        share = top / first * (1 - 8 * torch.finfo(top.dtype).eps)
        doublings = torch.log2(share.clamp(min=1)).ceil().clamp(max=self.most)
        return first * torch.exp2(doublings)

    def repeated(self, full: Tensor | float, default: Tensor | float) -> Tensor | None:
        """The doublings."""
        return torch.log2(torch.as_tensor(full) / default).round()


@dataclass(frozen=True)
class Calibrated(Range):
    """A constant full scale measured on data by `calibrate(model, batches)`.

    Args:
        quantile: quantile of |value| within each calibration batch, of which the largest over the
            batches is taken; in (0, 1].

    Raises:
        ValueError: quantile out of range; RuntimeError at the first use before calibration.
    """

    held: ClassVar[bool] = True

    quantile: float = 1.0

    def __post_init__(self) -> None:
        between("quantile", self.quantile, 1e-6, 1)

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """What was measured."""
        assert held is not None
        return torch.where(held > 0, held, 1)

    def measured(self, values: Tensor) -> Tensor:
        """The quantile of |values|, 0-dim float64."""
        size = values.detach().abs().flatten()
        # torch.quantile refuses more than 2^24 values; the k-th value does not
        rank = max(1, round(self.quantile * size.numel()))
        top = size.amax() if rank == size.numel() else size.kthvalue(rank).values
        return top.double()
