"""Where a converter's full scale comes from; never silently the maximum of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from devices._check import between, flag, positive, whole


class Range(ABC):
    """A policy that sets the full scale of a converter."""

    held: ClassVar[bool] = False
    """Whether it holds a scale that `calibrate` measures."""

    relative: ClassVar[bool] = False
    """Whether the scale is taken from what is converted, in its own unit."""

    learned: ClassVar[bool] = False
    """Whether it holds a Parameter, octaves above its start, that an optimiser moves."""

    @property
    def given(self) -> float | None:
        """The full scale that the settings name, if they do."""
        return None

    @property
    def reached(self) -> bool:
        """Whether an ADC takes it from what its cells can give."""
        return False

    @property
    def halvings(self) -> int:
        """How often inputs are halved at most, and read again, while a current clips."""
        return 0

    @abstractmethod
    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """The full scale.

        Args:
            peak: gives the largest magnitude of each vector that is converted.
            held: the calibrated scale, 0-dim float64, NaN before `calibrate`; the octaves of a
                learned one; None: none is held.
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
        return top + (top == 0)


@dataclass(frozen=True)
class _Started(Range):
    """A full scale that is begun with `start`, or with what the cells give."""

    start: float | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            positive("start", self.start)

    @property
    def given(self) -> float | None:
        """The start, if it is named."""
        return self.start

    @property
    def reached(self) -> bool:
        """Whether it starts from what the cells give."""
        return self.start is None


@dataclass(frozen=True)
class Managed(_Started):
    """A full scale that is doubled, and the vector read again, until nothing clips.

        full scale 2^k · start,   the smallest k with max |i| <= 2^k · start, at most `most`

    (bound management). Read noise and currents are those of the last reading; the readings before
    it are counted as conversions (`Probe.repeated`).

    Args:
        start: full scale of the first reading; see `Fixed`.
        most: doublings at most, 1 to 20.
        inputs: whether the inputs are halved instead, and the codes doubled, as aihwkit does: the
            converter keeps its full scale and the DAC, which encodes x/2^k at the same bits, loses
            one of them each time. Read noise is drawn anew and counts 2^k.

    Raises:
        ValueError: start not positive, most out of range.

    Source: Gokmen, Onen & Haensch, Front. Neurosci. 11:538 (2017), doi:10.3389/fnins.2017.00538.
    """

    relative: ClassVar[bool] = True

    most: int = 10
    inputs: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("most", self.most, 1, 20)
        flag("inputs", self.inputs)

    @property
    def halvings(self) -> int:
        """`most` of them, if it is inputs that are halved."""
        return self.most if self.inputs else 0

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """That of the last reading of each vector."""
        if self.inputs:
            return default
        top = peak()
        first = torch.as_tensor(default, dtype=top.dtype, device=top.device)
        # a peak that rounding alone lifts over full scale does not clip
        share = top / first * (1 - 8 * torch.finfo(top.dtype).eps)
        doublings = torch.log2(share.clamp(min=1)).ceil().clamp(max=self.most)
        return first * torch.exp2(doublings)

    def repeated(self, full: Tensor | float, default: Tensor | float) -> Tensor | None:
        """The doublings."""
        if self.inputs:
            return None
        return torch.log2(torch.as_tensor(full) / default).round()


@dataclass(frozen=True)
class Learned(_Started):
    """A full scale that training moves: 2^p · start, a Parameter p of every tile and column.

    p (`dac_octaves`, `adc_octaves` of a matrix's `forward_port`) is 0 at first and trained by any
    optimiser of a `HardwareAware` model; then it stays. Its gradient is that of rounding taken
    straight through: with q = y/F the converted value over full scale,

        ∂y/∂F = q − i/F  inside,   q = ±1  where it clips

    Args:
        start: full scale that is begun with; see `Fixed`.

    Raises:
        ValueError: start not positive.

    Source: Esser et al., ICLR 2020, arXiv:1902.08153 (learned step sizes).
    """

    learned: ClassVar[bool] = True

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """2^p of the start."""
        assert held is not None
        return default * torch.exp2(held.double())  # of no dimension: other numbers keep theirs


@dataclass(frozen=True)
class Calibrated(Range):
    """A constant full scale measured on data by `calibrate(model, batches)`.

    Args:
        quantile: quantile of |value| within each calibration batch, of which the largest over the
            batches is taken; in (0, 1].
        linked: of the ADC of several layout columns (bit slices), whether the full scales of a
            tile are rounded up to such that what a code counts differs by powers of two: codes are
            then added by shifts.

    Raises:
        ValueError: quantile out of range; RuntimeError at the first use before calibration.
    """

    held: ClassVar[bool] = True

    quantile: float = 1.0
    linked: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        between("quantile", self.quantile, 1e-6, 1)
        flag("linked", self.linked)

    def scale(
        self, peak: Callable[[], Tensor], held: Tensor | None, default: Tensor | float
    ) -> Tensor | float:
        """What was measured."""
        assert held is not None
        return torch.where(held > 0, held, 1)

    def measured(
        self, values: Tensor, size: Tensor, converted: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The quantile of the full scales, `size`, that values need, 0-dim float64.

        `converted`: values at a full scale.
        """
        size = size.detach().flatten()
        # torch.quantile refuses more than 2^24 values; the k-th value does not
        rank = max(1, round(self.quantile * size.numel()))
        top = size.amax() if rank == size.numel() else size.kthvalue(rank).values
        return top.double()

    def settled(self, scale: Tensor, weights: Sequence[float]) -> Tensor:
        """Measured scales (tiles, columns), of columns that count `weights`, as they are held."""
        if not self.linked:
            return scale
        counts = torch.tensor(weights, dtype=scale.dtype, device=scale.device).abs()
        worth = torch.where(scale > 0, scale * counts, torch.nan)
        first = torch.where(worth.isnan(), 0, worth).amax(1, keepdim=True)
        octaves = torch.log2(worth / first)
        # what is a power already stays one, whatever rounding says
        return torch.where(
            worth.isnan(), scale, first * torch.exp2((octaves - 1e-9).ceil()) / counts
        )


@dataclass(frozen=True)
class LeastError(Calibrated):
    """A constant full scale with the least squared error on data, by `calibrate(model, batches)`.

    Of 2^(−k/8) times the largest value of each batch, k = 0 … 80, the one that its converter errs
    least at, clipping and rounding together; the largest over the batches is taken.

    Args:
        quantile: must stay 1.
        linked: see `Calibrated`.

    Raises:
        ValueError: a quantile below 1.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantile != 1:
            raise ValueError("LeastError chooses what to clip itself: leave quantile=1")

    def measured(
        self, values: Tensor, size: Tensor, converted: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The full scale of the least error, 0-dim float64."""
        top = super().measured(values, size, converted)
        if not top > 0:
            return top
        v = values.detach().flatten()
        scales = top * torch.exp2(-torch.arange(81, dtype=top.dtype, device=top.device) / 8)
        errors = [(converted(v, f.to(v.dtype)) - v).double().square().sum() for f in scales]
        return scales[int(torch.stack(errors).argmin())]
