"""The periphery of an array: DAC, ADC, and the policies that set their ranges."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from crossbar.operations import Operation
from crossbar.quantise import quantize
from crossbar.streams import Streams
from devices._check import at_least, between, instance, positive, whole


class Range(ABC):
    """Where a converter's full scale comes from; never silently the maximum of a batch."""


@dataclass(frozen=True)
class Fixed(Range):
    """A constant full scale.

    Args:
        full_scale: of a DAC, the logical input that maps to v_max; of an ADC, the current [A] at
            the largest code, where None takes v_max · span · ΔG · √lines (lines summed by the tile;
            inputs and weights of random sign stay well inside it).

    Raises:
        ValueError: full_scale not positive.
    """

    full_scale: float | None = None

    def __post_init__(self) -> None:
        if self.full_scale is not None:
            positive("full_scale", self.full_scale)


@dataclass(frozen=True)
class PerVector(Range):
    """The largest magnitude of each vector (noise management).

    For a convolution one range a whole image, so that its input need not be unfolded.
    """


@dataclass(frozen=True)
class Calibrated(Range):
    """A constant full scale measured on data by `calibrate(model, batches)`.

    Args:
        quantile: quantile of |value| within each calibration batch, of which the largest over the
            batches is taken; in (0, 1].

    Raises:
        ValueError: quantile out of range; RuntimeError at the first use before calibration.
    """

    quantile: float = 1.0

    def __post_init__(self) -> None:
        between("quantile", self.quantile, 1e-6, 1)


@dataclass(frozen=True)
class DAC:
    """Input converter: logical inputs to line voltages.

    Args:
        bits: resolution, 1 to 24 (signed, 2^b − 1 levels); None: a perfect converter.
        v_max: voltage at full scale [V], > 0.
        range: what input maps to v_max.
        noise: Gaussian noise of the line voltage, relative to v_max, >= 0.

    Raises:
        TypeError, ValueError: a field out of range.
    """

    bits: int | None = 8
    v_max: float = 0.2
    range: Range = field(default_factory=PerVector)
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.bits is not None:
            whole("bits", self.bits, 1, 24)
        positive("v_max", self.v_max, "V")
        instance("range", self.range, Range, optional=False)
        at_least("noise", self.noise, 0)
        if isinstance(self.range, Fixed) and self.range.full_scale is None:
            raise ValueError("range of a DAC must be Fixed(full_scale), got Fixed(None)")


@dataclass(frozen=True)
class ADC:
    """Output converter: column currents to codes, one conversion per tile and column.

    Args:
        bits: resolution, 1 to 24 (signed, 2^b − 1 levels); None: a perfect converter.
        range: the current at the largest code.
        noise: Gaussian noise of the input current, relative to full scale, >= 0.

    Raises:
        TypeError, ValueError: a field out of range.
    """

    bits: int | None = 8
    range: Range = field(default_factory=Fixed)
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.bits is not None:
            whole("bits", self.bits, 1, 24)
        instance("range", self.range, Range, optional=False)
        at_least("noise", self.noise, 0)


@dataclass(frozen=True)
class Periphery:
    """Converters of one direction of reading.

    Without a DAC the logical inputs are the line voltages in volts; without an ADC the currents
    are read exactly.
    """

    dac: DAC | None = None
    adc: ADC | None = None

    def __post_init__(self) -> None:
        instance("dac", self.dac, DAC)
        instance("adc", self.adc, ADC)

    @property
    def v_max(self) -> float:
        """Full-scale line voltage [V]; 1 without a DAC."""
        return 1.0 if self.dac is None else self.dac.v_max

    def transposed(self) -> Periphery:
        """The same converters for the backward direction, δ ranged per vector.

        A calibrated ADC falls back on its default fixed range there: calibration sees no δ.
        """
        dac = None if self.dac is None else replace(self.dac, range=PerVector())
        adc = self.adc
        if adc is not None and isinstance(adc.range, Calibrated):
            adc = replace(adc, range=Fixed())
        return Periphery(dac, adc)


class Port(nn.Module):
    """A periphery at work: its settings and its calibration.

    Currents inside a layer are in units of v_max · ΔG, so they stay near one in any precision.
    """

    dac_scale: Tensor | None
    adc_scale: Tensor | None

    def __init__(self, settings: Periphery, tiles: int) -> None:
        super().__init__()
        self.settings = settings
        self.observing: str | None = None  # "dac" or "adc" while being calibrated
        dac, adc = settings.dac, settings.adc
        calibrated = dac is not None and isinstance(dac.range, Calibrated)
        self.register_buffer("dac_scale", torch.full((), torch.nan) if calibrated else None)
        calibrated = adc is not None and isinstance(adc.range, Calibrated)
        self.register_buffer("adc_scale", torch.full((tiles,), torch.nan) if calibrated else None)

    def encode(self, x: Tensor, op: Operation, streams: Streams) -> tuple[Tensor, Tensor | None]:
        """Line voltages relative to v_max, and the logical input at v_max (None: 1)."""
        dac = self.settings.dac
        if dac is None:
            return x, None
        scale: Tensor
        if isinstance(dac.range, Fixed):
            scale = x.new_full((), dac.range.full_scale or 1.0)
        elif self.dac_scale is not None and self.observing != "dac":
            scale = self._calibrated(self.dac_scale).to(x.dtype)
        else:
            if self.observing == "dac" and self.dac_scale is not None:
                self._observe(self.dac_scale, x, dac.range)
            peak = op.peak(x)
            scale = torch.where(peak > 0, peak, 1)
        v = x / scale
        if dac.bits is not None:
            v = quantize(v, dac.bits)
        else:
            v = torch.clamp(v, -1, 1)
        if dac.noise:
            v = torch.addcmul(v, streams.normal(v), v.new_full((), dac.noise))
        return v, scale

    def digitise(
        self,
        i: Tensor,  # columns along dimension `channel`, in units of v_max ΔG
        tile: int,
        lines: int,
        *,
        unit: float,  # v_max ΔG [A]
        span: float,
        channel: int,
        streams: Streams,
    ) -> Tensor:
        """Currents after the converters of one tile that sums `lines` lines."""
        adc = self.settings.adc
        if adc is None:
            return i
        full: float | Tensor
        if isinstance(adc.range, Fixed):
            given = adc.range.full_scale
            full = span * lines**0.5 if given is None else given / unit
        elif isinstance(adc.range, PerVector):
            peak = i.abs().amax(channel, keepdim=True) if i.numel() else i
            full = torch.where(peak > 0, peak, 1)
        else:
            assert self.adc_scale is not None
            if self.observing:
                if self.observing == "adc":
                    self._observe(self.adc_scale[tile], i, adc.range)
                return i
            full = self._calibrated(self.adc_scale[tile]).to(i.dtype)
        if adc.noise:
            i = i + streams.normal(i) * (adc.noise * full)
        if adc.bits is not None:
            return quantize(i, adc.bits, full)
        return i.clamp(-full, full)  # type: ignore[arg-type]

    @staticmethod
    def _observe(scale: Tensor, values: Tensor, policy: Range) -> None:
        assert isinstance(policy, Calibrated)
        if values.numel():
            size = values.detach().abs().flatten().float()
            # torch.quantile refuses more than 2^24 values; the k-th value does not
            rank = max(1, round(policy.quantile * size.numel()))
            top = size.amax() if rank == size.numel() else size.kthvalue(rank).values
            scale.copy_(torch.fmax(scale, top))

    @staticmethod
    def _calibrated(scale: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and bool(scale.isnan().any()):
            raise RuntimeError(
                "a converter with range=Calibrated() was used before calibration; "
                "run crossbar.calibrate(model, batches) first"
            )
        return torch.where(scale > 0, scale, 1)
