"""The converters of one direction of reading, at work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.converters import DAC, Converter, Digit
from crossbar.converters.converter import Normal
from crossbar.directions import Direction
from crossbar.ranges import Calibrated, Fixed, Learned, PerVector
from crossbar.streams import FABRICATION, Streams
from devices._check import instance
from devices.draw import seeded


@dataclass(frozen=True)
class Periphery:
    """Converters of one direction of reading.

    Without a DAC the logical inputs are the line voltages in volts; without an ADC the currents
    are read exactly.
    """

    dac: DAC | None = None
    adc: Converter | None = None

    def __post_init__(self) -> None:
        instance("dac", self.dac, DAC)
        instance("adc", self.adc, Converter)

    @property
    def v_max(self) -> float:
        """Full-scale line voltage [V]; 1 without a DAC."""
        return 1.0 if self.dac is None else self.dac.v_max

    @property
    def calibrated(self) -> bool:
        """Whether a range waits for `calibrate`."""
        return any(part is not None and part.range.held for part in (self.dac, self.adc))

    def transposed(self) -> Periphery:
        """The same converters for the backward direction, δ ranged per vector.

        A calibrated or learned ADC has a fixed range there: neither sees δ. Errors have either
        sign: drivers of one sign give way to signed ones of one bit more, 8 at least.
        """
        dac = None if self.dac is None else replace(self.dac, range=PerVector(), signed=True)
        if self.dac is not None and not self.dac.signed and self.dac.bits is not None:
            dac = replace(self.dac, range=PerVector(), signed=True, bits=max(8, self.dac.bits + 1))
        adc = self.adc
        if adc is not None and isinstance(adc.range, Calibrated):
            adc = replace(adc, range=Fixed())
        if adc is not None and isinstance(adc.range, Learned):
            adc = replace(adc, range=Fixed(adc.range.start))
        return Periphery(dac, adc)


class Port(nn.Module):
    """A periphery at work: its settings, its calibration and what differs between converters.

    Currents are in units of v_max · ΔG, so they stay near one in any precision.
    """

    dac_scale: Tensor | None  # () float64, logical input at v_max
    adc_scale: Tensor | None  # (tiles, columns of the layout) float64, in units of v_max ΔG
    adc_gain_error: Tensor | None  # (tiles, columns of the layout, ..., lines), see `Mismatch`
    adc_offset: Tensor | None
    dac_offset: Tensor | None  # (..., driven lines) relative to v_max

    def __init__(
        self,
        settings: Periphery,
        tiles: int,
        columns: int,
        lines: tuple[int, ...],
        driven: tuple[int, ...],
        name: str,
    ) -> None:
        super().__init__()
        self.settings = self.wanted = settings  # while it is calibrated other settings are in use
        self.ready = False  # whether what is to be calibrated is
        dac, adc = settings.dac, settings.adc
        # numbers from the start, also in a model on the meta device: no checkpoint need bring them
        nan = torch.full((), torch.nan, dtype=torch.float64, device="cpu")
        held = dac is not None and dac.range.held
        self.register_buffer("dac_scale", nan.clone() if held else None)
        held = adc is not None and adc.range.held
        self.register_buffer("adc_scale", nan.repeat(tiles, columns) if held else None)
        learned = dac is not None and dac.range.learned
        self.dac_octaves = nn.Parameter(torch.zeros(())) if learned else None
        learned = adc is not None and adc.range.learned
        # of one dimension: those of more are taken for weights
        self.adc_octaves = nn.Parameter(torch.zeros(tiles * columns)) if learned else None
        self.columns = columns
        self.leaf: Any = None
        self.parts: tuple[str, ...] = ()
        self.register_buffer("adc_gain_error", None)
        self.register_buffer("adc_offset", None)
        self.register_buffer("dac_offset", None)
        if dac is not None and dac.sigma_offset:
            generator = seeded(f"{name}/lines/{FABRICATION}", torch.device("cpu"))
            self.dac_offset = dac.sigma_offset * torch.randn(driven, generator=generator)
        if adc is not None:
            generator = seeded(f"{name}/{FABRICATION}", torch.device("cpu"))
            *lead, last = lines
            shape = (tiles, columns, *lead, -(-last // adc.shared))

            def served(t: Tensor | None) -> Tensor | None:
                """Of every line, that of the converter that serves it."""
                return None if t is None else t.repeat_interleave(adc.shared, -1)[..., :last]

            self.leaf = adc.fabricate(shape, generator)
            gain, offset = adc.mismatch(shape, generator)
            self.adc_gain_error, self.adc_offset = served(gain), served(offset)
            if self.leaf is not None:
                self.leaf = type(self.leaf)(*map(served, self.leaf))
                self.parts = tuple(f"adc_{field}" for field in self.leaf._fields)
                for part, value in zip(self.parts, self.leaf, strict=True):
                    self.register_buffer(part, value)

    def _apply(self, fn: Any, recurse: bool = True) -> Port:
        """Move to another device; values and float64 stay, through `half` and `to_empty` too."""

        def move(t: Tensor) -> Tensor:
            device = fn(t).device
            return t if device.type == "meta" else t.to(device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self

    def inherit(self, old: Port, names: Sequence[str]) -> None:
        """Scales of another chip's port: what was calibrated, or learned from the same start on."""
        for name in names:
            mine, theirs = getattr(self, name), getattr(old, name)
            if mine is None or theirs is None:
                continue
            part = name.partition("_")[0]
            ranges = [getattr(port.wanted, part).range for port in (self, old)]
            if mine.shape == theirs.shape and ranges[0] == ranges[1]:
                mine.data.copy_(theirs.data)
            elif bool(theirs.data.any()):
                warnings.warn(
                    f"{name}: full scales that were learned in other tiles or from another start "
                    "do not fit this chip and begin anew",
                    stacklevel=2,
                )

    def encode(
        self,
        x: Tensor,
        direction: Direction,
        streams: Streams | None,
        stream: int,
        halvings: int = 0,
    ) -> tuple[tuple[Digit, ...], Tensor | None]:
        """Line voltages relative to v_max, and the logical input at v_max (None: 1).

        Without streams their noise is left out. Of inputs that are halved so often, each digit is
        that part of itself.
        """
        dac = self.settings.dac
        if dac is None:
            x = x / 2**halvings if halvings else x
            return (Digit(x, 1.0, x),), None
        wide = wide_of(x)
        held = self._held(self.dac_scale) if dac.range.held else self.dac_octaves
        scale = dac.range.scale(lambda: direction.peak(wide), held, dac.range.given or 1.0)
        if not isinstance(scale, Tensor):
            scale = wide.new_full((), scale)
        scale = scale * 2**halvings if halvings else scale
        learns = scale.requires_grad
        share = wide / (scale.detach() if learns else scale)
        digits = dac.digits(share)
        if learns:  # straight through the first digit's rounding
            slope = torch.where(share.abs() <= 1, -share / scale.detach(), 0) / digits[0].weight
            moved = digits[0].v + slope * (scale - scale.detach())
            digits = (digits[0]._replace(v=moved), *digits[1:])
        if dac.noise and streams is not None:
            digits = tuple(
                d._replace(v=d.v.add(streams.normal(d.v, stream), alpha=dac.noise)) for d in digits
            )
        if wide.dtype != x.dtype:
            digits = tuple(d._replace(v=d.v.to(x.dtype)) for d in digits)
        return digits, scale

    def full_scale(
        self, i: Tensor, tile: int, column: int, reach: Tensor | float, unit: float, channel: int
    ) -> Tensor | float:
        """Current at the largest code, in units of v_max ΔG = `unit` [A]."""
        adc = self.settings.adc
        assert adc is not None
        given = adc.range.given
        held = None
        if adc.range.held and self.adc_scale is not None:
            held = self._held(self.adc_scale[tile, column])  # others may never have been read
        if self.adc_octaves is not None:
            held = self.adc_octaves[tile * self.columns + column]
        return adc.range.scale(
            lambda: adc.needs(i).amax(channel, keepdim=True) if i.numel() else i,
            held,
            reach if given is None else given / unit,
        )

    def tell_repeats(
        self, matrix: Any, full: Tensor | float, reach: Tensor | float, unit: float, lines: int
    ) -> None:
        """To the probe, the conversions that were made again, of so many lines a vector."""
        adc = self.settings.adc
        assert adc is not None
        given = adc.range.given
        again = adc.range.repeated(full, reach if given is None else given / unit)
        if again is not None:
            matrix.probe.repeated(matrix, self, again.sum() * lines)

    def _held(self, scale: Tensor | None) -> Tensor | None:
        """A calibrated scale; whether all are is asked once, which costs a synchronisation."""
        if scale is not None and not self.ready and not torch.compiler.is_compiling():
            if bool(scale.isnan()):
                raise RuntimeError(
                    "a converter with range=Calibrated() was used before calibration; "
                    "run crossbar.calibrate(model, batches) first"
                )
            self.ready = not any(
                bool(t.isnan().any()) for t in (self.dac_scale, self.adc_scale) if t is not None
            )
        return scale

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.ready = False

    def convert(
        self,
        i: Tensor,
        full: Tensor | float,
        tile: int,
        column: int,
        where: Callable[[Tensor], Tensor],
        d: Direction,
        normal: Normal,
    ) -> Tensor:
        """Codes of the currents of one tile, in the unit of `full`; `where`: of those lines."""
        adc = self.settings.adc
        assert adc is not None

        def own(t: Tensor) -> Tensor:
            return d.entry(where(t[tile, column])).to(i.dtype)

        if self.adc_gain_error is not None:
            i = torch.addcmul(i, i, own(self.adc_gain_error))
        if self.adc_offset is not None:
            i = i + own(self.adc_offset) * full
        if adc.compression:
            i = i * (1 - adc.compression * (i / full).clamp(-1, 1).square())
        leaf = self.leaf
        if leaf is not None:
            leaf = type(leaf)(*(own(getattr(self, part)) for part in self.parts))
        if not self.learns:
            return adc.drawn(i, full, leaf, normal)
        size = torch.as_tensor(full).detach()
        found = adc.drawn(i.detach(), size, leaf, normal)
        low, high = adc.ends
        inside = (i.detach() >= low * size) & (i.detach() <= high * size)
        slope = (found - torch.where(inside, i.detach(), 0)) / size
        return found + torch.where(inside, i - i.detach(), 0) + slope * (full - size)

    @property
    def learns(self) -> bool:
        """Whether a gradient of a full scale is asked for."""
        found = (self.dac_octaves, self.adc_octaves)
        return torch.is_grad_enabled() and any(p is not None and p.requires_grad for p in found)


def wide_of(v: Tensor) -> Tensor:
    """v in float32 at least."""
    return v.float() if v.dtype in (torch.float16, torch.bfloat16) else v
