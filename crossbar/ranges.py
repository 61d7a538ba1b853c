"""Where a converter's full scale comes from; never silently the maximum of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from devices._check import between, positive


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
