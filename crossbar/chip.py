"""The settings of an array and everything around it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from crossbar.converters import DAC
from crossbar.layout import Layout
from crossbar.mappings import Differential, Mapping
from crossbar.mappings.single import Line
from crossbar.port import Periphery
from crossbar.quantise import balanced
from crossbar.spares import Spares, physical
from crossbar.wires.disturb import ParallelWrite
from crossbar.wires.settings import Newton, Solver, SourceLine, Wires
from devices import Device, presets
from devices._check import instance, whole
from devices.part import Update


@dataclass(frozen=True)
class Chip:
    """One kind of hardware: cells, mapping, converters, tiles. `Chip()` is ideal.

    Args:
        device: the memory cell.
        mapping: how logical weights sit on cells.
        forward: converters of the forward read.
        backward: converters of the transposed read; None: the same, δ ranged per vector.
        tile: largest (rows, columns) of one physical array; a larger matrix is split evenly and
            its partial sums are added digitally, each after its own ADC. None: one array.
        wires: resistances of the lines of every tile; None: ideal lines. With a current–voltage
            law (`device.iv`) every input vector is solved by itself, wired or not. With source
            lines (1T1R) the forward DAC's codes open the gates, one binary digit after another.
        solver: how the wired tiles are solved; None chooses, exactly. `Approximate()` trades
            exactness for speed.
        write: what in-situ updates do where a cell does not see the whole write voltage, through
            the IR drop or half-selected; None: selected cells take their whole step, others none.
        spares: spare lines of every tile and the placing of weights around stuck cells.

    Raises:
        TypeError, ValueError: a field of another kind or out of range.
    """

    device: Device = field(default_factory=presets.ideal)
    mapping: Mapping = field(default_factory=Differential)
    forward: Periphery = field(default_factory=Periphery)
    backward: Periphery | None = None
    tile: tuple[int, int] | None = None
    wires: Wires | None = None
    solver: Solver | None = None
    write: ParallelWrite | None = None
    spares: Spares | None = None

    def __post_init__(self) -> None:
        instance("device", self.device, Device, optional=False)
        instance("mapping", self.mapping, Mapping, optional=False)
        instance("forward", self.forward, Periphery, optional=False)
        instance("backward", self.backward, Periphery)
        if self.backward is not None and self.backward.calibrated:
            raise ValueError(
                "backward must not have range=Calibrated(): calibrate(model, batches) sees no "
                "errors; use PerVector() or Fixed(full_scale)"
            )
        instance("wires", self.wires, Wires)
        instance("solver", self.solver, Solver)
        instance("write", self.write, ParallelWrite)
        if self.write is not None:
            self._check_write(self.write)
        instance("spares", self.spares, Spares)
        if self.spares is not None and self.device.faults is None:
            raise ValueError("spares stand in for stuck cells, and device has faults=None")
        if self.spares is not None and self.wires is not None:
            self._check_wired_spares(self.wires)
        dac = self.forward.dac
        if dac is not None and (dac.sigma_offset or type(dac).energy is not DAC.energy):
            if self.device.iv is not None or (self.wires and self.wires.source):
                raise ValueError(
                    f"{type(dac).__name__}: offsets of lines and pulse widths are those of ohmic "
                    "cells, got device.iv or source lines"
                )
        parts = (self.forward.dac, self.forward.adc)
        if any(part is not None and part.range.learned for part in parts):
            if self.device.iv is not None or (self.wires and self.wires.source):
                raise ValueError(
                    "range=Learned() of cells that are solved vector by vector (device.iv, source "
                    "lines) has no gradient: use Calibrated() or PerVector()"
                )
        for port in (self.forward, self.backwards):
            if port.adc is not None and port.adc.range.halvings:
                self._check_halved(port.dac)
        if self.wires is not None and self.wires.interleaved:
            if self.layout.signs != ((1, -1),):
                raise ValueError(
                    "wires with interleaved=True lay the two devices of a pair side by side: "
                    f"mapping must be Differential, got {self.mapping!r}"
                )
        if len({c.shared for c in self.layout.columns} - {None}) > 1:
            raise ValueError(
                "a tile has one reference column: `shared` must be one place, got "
                f"{[c.shared for c in self.layout.columns]}"
            )
        if self.wires is not None and self.wires.source is not None:
            self._check_gates(self.wires.source)
        if self.device.iv is not None and not isinstance(self.solver, Newton | None):
            raise TypeError(
                f"nonlinear cells (device.iv) need Newton(), got solver={self.solver!r}"
            )
        if self.device.iv is None and isinstance(self.solver, Newton):
            raise TypeError("solver Newton() is for nonlinear cells, got device.iv=None")
        if self.tile is not None:
            if not isinstance(self.tile, tuple) or len(self.tile) != 2:
                raise TypeError(f"tile must be (rows, columns) or None, got {self.tile!r}")
            whole("tile rows", self.tile[0], 1)
            whole("tile columns", self.tile[1], 1)

    def tiles(self, lines: tuple[int, ...], transposed: bool) -> list[tuple[int, int]]:
        """First and last driven line of every tile of a matrix (..., rows, cols)."""
        tile = self.tile or (None, None)
        return balanced(lines[-1 if transposed else -2], tile[1 if transposed else 0])

    def made(self, lines: tuple[int, ...], transposed: bool) -> list[tuple[int, int]]:
        """The same of the lines that are there, spare ones too."""
        spares = self.spares or Spares(None, 0.0)
        share = spares.columns if transposed else spares.rows
        sizes = (physical(b - a, share) for a, b in self.tiles(lines, transposed))
        ends = list(accumulate(sizes, initial=0))
        return list(pairwise(ends))

    @property
    def backwards(self) -> Periphery:
        """Converters of the transposed read."""
        return self.backward or self.forward.transposed()

    @property
    def layout(self) -> Layout:
        """What the converters see of the cells."""
        return self.mapping.layout(self.device)

    @property
    def line(self) -> Chip | None:
        """Reference columns of the tiles, arrays of one column each; None: there are none."""
        places = [c.shared for c in self.layout.columns if c.shared is not None]
        if not places:
            return None
        tile = None if self.tile is None else (self.tile[0], 1)
        linear = self.wires is not None and self.device.iv is None and self.gate_bits is None
        wires, solver = (self.wires, self.solver) if linear else (None, None)
        device = self.device if self.device.iv is None else replace(self.device, iv=None)
        return Chip(device, Line(places[0]), tile=tile, wires=wires, solver=solver)

    @property
    def floor(self) -> float:
        """g_min/ΔG, what a cell at the bottom of the window shows."""
        return self.device.window.g_min / self.device.window.span

    @property
    def gate_bits(self) -> int | None:
        """Bits of the codes that open the gates of 1T1R tiles; None: passive tiles."""
        if self.wires is None or self.wires.source is None or self.forward.dac is None:
            return None
        return self.forward.dac.bits

    def _check_halved(self, dac: DAC | None) -> None:
        if dac is not None and not dac.at_once:
            raise ValueError(
                f"Managed(inputs=True) halves what one voltage stands for, {type(dac).__name__} "
                "applies inputs digit by digit: use Managed()"
            )
        if dac is not None and dac.range.learned:
            raise ValueError(
                "Managed(inputs=True) with a Learned() range of the DAC: which inputs are halved "
                "has no gradient: use Managed() or another range"
            )
        if self.layout.shift(self.floor):
            raise ValueError(
                f"Managed(inputs=True) with {type(self.mapping).__name__}: a multiple of the sum "
                "of the encoded input is added digitally, and each tile may halve it for itself: "
                "use Managed()"
            )

    def _check_wired_spares(self, wires: Wires) -> None:
        if self.device.iv is not None or wires.source is not None or self.write is not None:
            raise ValueError(
                "spares with wires are solved for ohmic cells without source lines and for reads: "
                "got device.iv, a source line or write=ParallelWrite(...)"
            )
        if any(column.shared is not None for column in self.layout.columns):
            raise ValueError(
                "spares with wires: where the cells of a reference column lie along its line is "
                f"not modelled: leave one of them None, got {self.mapping!r}"
            )

    def _check_gates(self, source: SourceLine) -> None:
        dac = self.forward.dac
        if dac is None or dac.bits is None or dac.noise:
            raise ValueError(
                "wires with a source line open gates bit by bit: forward needs a DAC with bits and "
                f"noise=0, got dac={dac!r}"
            )
        if not dac.signed:
            raise ValueError("gates open by the codes of a signed DAC, got signed=False")
        if dac.v_max != source.v:
            raise ValueError(
                "v_max of the forward DAC must be the voltage of the source lines, "
                f"{source.v!r} V, got {dac.v_max!r}"
            )
        if self.device.iv is not None or self.solver is not None:
            raise TypeError("wires with a source line take ohmic cells and solver=None")
        if self.write is not None:
            raise ValueError(
                "gates that are off protect the cells of other rows, and the IR drop of gated "
                "writes is not modelled: leave write=None"
            )

    def _check_write(self, write: ParallelWrite) -> None:
        if self.wires is None and not write.half_select:
            raise ValueError("write=ParallelWrite(...) needs wires or half_select=True")
        if self.wires is not None and self.wires.interleaved and write.half_select:
            raise ValueError(
                "half_select=True counts the pulses of arrays of their own, got wires with "
                "interleaved=True"
            )
        update = self.device.update
        if update is None:
            return
        if update.whole:
            raise TypeError(
                f"{type(update).__name__} needs whole pulses and cannot take parts of a step: "
                "leave write=None"
            )
        if write.v0 is None and type(update).partial is Update.partial:
            raise TypeError(
                f"{type(update).__name__} says nothing of other voltages than its own: give "
                "ParallelWrite a v0"
            )
