"""THE read: digits × columns × tiles, for both directions of every operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from crossbar.directions import Direction
from crossbar.layout import Column, Layout
from crossbar.operations import Operation
from crossbar.planes import Planes
from crossbar.port import Port, wide_of
from crossbar.regions import EVERYWHERE, WHOLE, Region
from crossbar.spares import physical
from crossbar.streams import CONVERTER, EVALUATION, READ, WRITE
from crossbar.windows import Size


@dataclass(frozen=True)
class Call:
    """One use of a matrix: where it happens, and the other way round (`flipped`: its backward)."""

    matrix: Any  # of `matrix.Matrix`
    op: Operation
    region: Region = EVERYWHERE
    size: Size = ()
    flipped: bool = False
    quiet: bool = False  # an evaluation, see `streams`
    shared: bool = False  # a part of an update: replicas of a data-parallel model see the same
    keeper: Any = None  # what is told x and δ, and asked for the gradient of the weight

    def stream(self, own: int) -> int:
        """Where noise is drawn from that has a stream of its `own` in training."""
        return EVALUATION if self.quiet else WRITE if self.shared else own

    @property
    def transposed(self) -> bool:
        """Whether columns are driven and rows sensed."""
        return self.region.transposed != self.flipped

    @property
    def direction(self) -> Direction:
        """How its vectors meet the lines."""
        return self.op.backward if self.flipped else self.op.forward

    @property
    def port(self) -> Port:
        """The converters of this direction."""
        found: Port = self.matrix.backward_port if self.transposed else self.matrix.forward_port
        return found

    def sensed(self, t: Tensor) -> Tensor:
        """Of (..., lines) of the whole matrix those that are sensed."""
        return self.region.of_rows(t) if self.transposed else self.region.of_cols(t)

    def driven(self, t: Tensor) -> Tensor:
        """Of (..., lines) of the whole matrix those that are driven."""
        return self.region.of_cols(t) if self.transposed else self.region.of_rows(t)

    @property
    def tiles(self) -> list[tuple[int, int, int]]:
        """Number, first and last driven line of every tile, counted within the driven lines."""
        whole = self.matrix.chip.tiles(self.matrix.lines, self.transposed)
        driven = self.region.cols if self.transposed else self.region.rows
        if driven == WHOLE:
            return [(k, a, b) for k, (a, b) in enumerate(whole)]
        lines = range(driven.start, driven.stop, driven.step or 1)
        found, at = [], 0
        for k, (a, b) in enumerate(whole):
            n = len([line for line in lines if a <= line < b])
            if n:
                found.append((k, at, at + n))
                at += n
        return found

    def back(self, x: Tensor) -> Call:
        """The call that gives x's gradient."""
        return replace(self, flipped=not self.flipped, size=self.op.sized(x))

    def crossed(self, tile: int) -> int:
        """Driven lines of a tile, those that are not in use and spare ones too."""
        chip = self.matrix.chip
        a, b = chip.tiles(self.matrix.lines, self.transposed)[tile]
        if chip.spares is None:
            return b - a
        return physical(b - a, chip.spares.columns if self.transposed else chip.spares.rows)

    def turned(self, m: Tensor) -> Tensor:
        """(C, ..., rows, cols) of the whole matrix as what is driven and sensed."""
        m = self.region.of(m)
        form = self.op.form
        if form.groups is None and not form.stack and m.dim() == 4 and m.shape[1] == 1:
            m = m.squeeze(1)
        elif form.groups is not None and m.dim() == 3 and form.groups == 1:
            m = m.unsqueeze(1)
        return m.mT if self.transposed else m

    def columns(self, scale: Tensor) -> Tensor:
        """A scale (..., 1, cols) as (..., cols) of the columns in use."""
        found = self.region.of_cols(scale[..., 0, :])
        form, groups = self.op.form, self.op.form.groups
        if groups is None and not form.stack and found.dim() == 2:
            return found[0]
        return found.unsqueeze(0) if groups is not None and found.dim() == 1 else found

    def drawn(self, like: Tensor) -> Tensor:
        """Standard normals of what weights are written with."""
        found: Tensor = self.matrix.streams.normal(like, WRITE)
        return found

    def gain(self, tile: int) -> Tensor | None:
        """Digital factor of what a tile gives, a factor of a product; None: 1."""
        gain: Tensor | None = self.matrix.tile_gain
        if gain is None:
            return None
        across = self.matrix.chip.tiles(self.matrix.lines, not self.transposed)
        own = gain[..., tile] if self.transposed else gain[..., tile, :]
        sizes = torch.tensor([b - a for a, b in across], device=own.device)
        found = self.sensed(own.repeat_interleave(sizes, -1))
        form = self.op.form
        if form.groups is None and not form.stack and found.dim() == 2:
            found = found[0]
        elif form.groups is not None and found.dim() == 1:
            found = found.unsqueeze(0)
        return self.direction.entry(found)


def read(x: Tensor, planes: Planes, call: Call, gauge: Tensor | None = None) -> Tensor:
    """DAC, Ohm and Kirchhoff, read noise, an ADC per tile and column, digital sum.

    In units of W/w_max times x. White read noise is added to each tile's output with its exact
    variance Σ σ²v², instead of drawing every cell for every read.

    Args:
        x: the driven image.
        planes: (C, ..., driven, sensed) of the lines in use.
        call: where it happens.
        gauge: unit of the planes in units of the window, () or (..., sensed); the result is in it.
            None: 1.
    """
    matrix, port, direction = call.matrix, call.port, call.direction
    streams = matrix.streams
    digits, scale = port.encode(x, direction, streams, call.stream(CONVERTER))
    if matrix.probe is not None:
        matrix.probe.encoded(matrix, port, x, scale, digits)
        matrix.probe.used(call, digits, planes)
    layout = matrix.layout
    entry = None if gauge is None or gauge.dim() == 0 else direction.entry(gauge)
    unit = gauge if entry is None else entry
    shift = layout.shift(matrix.floor)
    apart = (
        port.settings.adc is not None
        or (matrix.probe is not None and matrix.probe.currents)
        or planes.variance is not None
        or planes.tiles is not None
        or matrix.tile_gain is not None
        or port.dac_offset is not None
        or shift != 0
        or any(column.shared is not None for column in layout.columns)
    )
    m = planes.matrix
    total: Tensor | None = None
    for v, weight, code in digits:
        for c, column in enumerate(layout.columns):
            if not apart:
                found = wide_of(direction.whole(v, m[c].to(v.dtype), call.size))
            else:
                found = _column(v, planes, c, column, call, gauge, unit)
            factor = weight * column.weight
            found = found if factor == 1 else found * factor
            total = found if total is None else total + found
        if shift:
            common = direction.total(wide_of(code), 0, m.shape[-2], m.shape[-1]) * (shift * weight)
            total = total + (common if unit is None else common * unit)
    assert total is not None
    if apart:
        total = direction.finish(total, call.size)
    return total if scale is None else total * scale


def _column(
    v: Tensor,
    planes: Planes,
    c: int,
    column: Column,
    call: Call,
    gauge: Tensor | None,
    unit: Tensor | None,
) -> Tensor:
    """Digital sum over the tiles of one layout column, each with its noise and through its ADC."""
    matrix, port, direction = call.matrix, call.port, call.direction
    adc, floor, volts = port.settings.adc, matrix.floor, port.settings.v_max
    ampere = volts * matrix.span  # v_max ΔG [A]
    m, streams = planes.matrix, matrix.streams
    noise, normal = call.stream(READ), partial(streams.normal, stream=call.stream(CONVERTER))
    sensed = m.shape[-1]
    total: Tensor | None = None
    for tile, a, b in call.tiles:
        i, power = _currents(v, planes, c, a, b, call, volts)
        if port.dac_offset is not None:
            own, per = m[c][..., a:b, :].to(i.dtype), column.reference(floor)
            if per and gauge is not None:
                own = own - per * (gauge.unsqueeze(-2) if gauge.dim() else gauge)
            elif per:
                own = own - per
            lines = call.driven(port.dac_offset).to(i.dtype)[..., a:b]
            lines = lines.reshape(own.shape[:-1]).unsqueeze(-1)
            i = i + direction.entry((lines * own).sum(-2))
        if column.shared is not None:
            common = direction.total(wide_of(v), a, b, sensed) * column.reference(floor)
            i = i - (common if unit is None else common * unit)
        if power is not None:
            spread = _root(power) if unit is None else _root(power) * unit
            i = torch.addcmul(i, streams.normal(i, noise), spread.to(i.dtype))
        full: Tensor | float | None = None
        if adc is not None:
            reach = _reach(v, planes, c, (tile, a, b), call, gauge) if adc.range.reached else 1.0
            # a range taken from what is converted is taken of currents, not of their logical sums
            own = i / unit if unit is not None and adc.range.relative else i
            full = port.full_scale(own, tile, c, reach, ampere, direction.channel)
            if matrix.probe is not None:
                port.tell_repeats(matrix, full, reach, ampere, own.shape[direction.channel])
            full = full if unit is None else full * unit
            if adc.noise:
                i = i + normal(i) * (adc.noise * full)
            if adc.capacitor is not None:
                thermal = normal(i) * adc.thermal(call.crossed(tile) * column.cells, volts)
                i = i + (thermal if unit is None else thermal * unit)
        if matrix.probe is not None:
            told = i if unit is None else i / unit
            scale = full if unit is None or full is None else full / unit
            matrix.probe.converted(matrix, port, tile, c, told, scale)
        if full is not None:
            i = port.convert(i, full, tile, c, call.sensed, direction, normal)
        if (gain := call.gain(tile)) is not None:
            i = i * gain.to(i.dtype)
        total = i if total is None else total + i
    assert total is not None
    return total


def _root(power: Tensor) -> Tensor:
    """√power, of slope zero at zero, where a learned range would be given an infinite one."""
    if not power.requires_grad:
        return power.sqrt()
    return torch.where(power > 0, power, 1).sqrt() * (power > 0)


def _reach(
    v: Tensor,
    planes: Planes,
    c: int,
    tile: tuple[int, int, int],
    call: Call,
    gauge: Tensor | None,
) -> Tensor:
    """Default full scale of the converters of a tile and column, in units of v_max ΔG."""
    layout: Layout = call.matrix.layout
    floor, direction, (k, a, b) = call.matrix.floor, call.direction, tile
    bounded = not layout.columns[c].balanced or direction.lone

    def of_cells() -> Tensor:
        m, unit = planes.matrix[c].detach()[..., a:b, :], gauge
        if unit is not None and (unit.dim() or layout.columns[c].reference(floor)):
            m, unit = m / (unit.unsqueeze(-2) if unit.dim() else unit), None
        found = layout.reach(c, m, floor) if bounded else layout.level(c, m, floor)
        found = found if unit is None else found / unit
        return found if bounded else _some(found)

    if planes.reach is not None:
        found = planes.reach[int(call.transposed), k, c]
        found = found if bounded else _some(found[0])
    elif gauge is not None and call.keeper is not None and call.region.whole:
        found = call.keeper.kept((call.transposed, k, c, bounded), of_cells)
    else:
        found = of_cells()
    if bounded:
        level, total, spread, top = found.unbind()
        v, sensed = wide_of(v), planes.matrix.shape[-1]
        mean = direction.total(v, a, b, sensed) / max(b - a, 1)
        power = direction.total(v.square(), a, b, sensed) - mean.square() * (b - a)
        size = direction.total(v.abs(), a, b, sensed)
        found = mean.abs() * total + _root(power.clamp(min=0)) * spread
        found = torch.minimum(found, size * top).clamp(max=level)
        found = _some(found)
    return found


def _some(full: Tensor) -> Tensor:
    """A full scale; 1 where nothing can flow."""
    return torch.where(full > 0, full, 1.0)


def _currents(
    v: Tensor, planes: Planes, c: int, a: int, b: int, call: Call, volts: float
) -> tuple[Tensor, Tensor | None]:
    """Currents of one tile and column, and the variance of their read noise."""
    direction, m, variance = call.direction, planes.matrix[c], planes.variance
    if planes.tiles is not None:
        return _cell_currents(v, planes.tiles, c, a, b, call, volts)
    i = wide_of(direction.product(v, m.to(v.dtype), a, b))
    if variance is None:
        return i, None
    dac = call.port.settings.dac
    energy = wide_of(v).square() if dac is None else dac.energy(wide_of(v))
    own = variance if variance.dim() == 0 else variance[c]
    if own.numel() == 1:
        return i, direction.total(energy, a, b, m.shape[-1]) * own.reshape(())
    return i, direction.product(energy, own.to(energy.dtype), a, b)


def _cell_currents(
    v: Tensor, tiles: Any, c: int, a: int, b: int, call: Call, volts: float
) -> tuple[Tensor, Tensor | None]:
    """The same where every input vector is a circuit of its own."""
    direction = call.direction
    ampere = volts * call.matrix.span
    lines = direction.lines(wide_of(v)) * volts
    solve: Callable[..., Tensor] = tiles.mv_t if call.transposed else tiles.mv
    spread = tiles.variance_t if call.transposed else tiles.variance
    i = direction.entries(solve(lines, a)[c], v) / ampere
    power = spread(lines, a, b)
    return i, None if power is None else direction.entries(power[c], v) / ampere**2
