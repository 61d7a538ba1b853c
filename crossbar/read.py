"""THE read: digits × columns × tiles, for both directions of every operation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.converters import Digit
from crossbar.currents import currents, reach_of, root
from crossbar.directions import Direction
from crossbar.operations import Operation
from crossbar.planes import Planes
from crossbar.port import Port, wide_of
from crossbar.regions import EVERYWHERE, WHOLE, Region
from crossbar.spares import physical
from crossbar.streams import CONVERTER, EVALUATION, READ, WRITE, traced
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
    # what a read asks for again and again:
    transposed: bool = field(init=False)  # whether columns are driven and rows sensed
    direction: Direction = field(init=False)  # how its vectors meet the lines
    port: Port = field(init=False)  # the converters of this direction

    def __post_init__(self) -> None:
        transposed, op = self.region.transposed != self.flipped, self.op
        object.__setattr__(self, "transposed", transposed)
        object.__setattr__(self, "direction", op.backward if self.flipped else op.forward)
        ports = self.matrix.backward_port if transposed else self.matrix.forward_port
        object.__setattr__(self, "port", ports)

    def stream(self, own: int) -> int:
        """Where noise is drawn from that has a stream of its `own` in training."""
        return EVALUATION if self.quiet else WRITE if self.shared else own

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
        own = self.region, self.op.sized(x), not self.flipped, self.quiet, self.shared, self.keeper
        return Call(self.matrix, self.op, *own)

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


class Step(NamedTuple):
    """One conversion, of one digit of the input or of several that are added before it."""

    parts: tuple[tuple[Tensor, float], ...]  # voltages relative to v_max, and what each counts
    v: Tensor  # their sum
    weight: float  # of the code
    code: Tensor  # of the input, without the noise of its converter


class _Reading:
    """One read at work: what is driven, which planes are seen, in which unit."""

    def __init__(self, x: Tensor, planes: Planes, call: Call, gauge: Tensor | None) -> None:
        self.x, self.planes, self.call, self.gauge = x, planes, call, gauge
        per_line = gauge is not None and gauge.dim() > 0
        self.unit = call.direction.entry(gauge) if per_line else gauge  # type: ignore[arg-type]
        self.digits, self.scale = self.encoded(0)

    def encoded(self, halvings: int) -> tuple[tuple[Digit, ...], Tensor | None]:
        """Voltages of inputs that are halved so often, and the input at full scale."""
        call = self.call
        stream = call.stream(CONVERTER)
        return call.port.encode(self.x, call.direction, call.matrix.streams, stream, halvings)

    def normal(self, like: Tensor) -> Tensor:
        """Noise of the converters."""
        drawn: Tensor = self.call.matrix.streams.normal(like, self.call.stream(CONVERTER))
        return drawn

    def in_unit(self, t: Tensor) -> Tensor:
        """What is in units of the window, in that of the planes."""
        return t if self.unit is None else t * self.unit

    def steps(self) -> list[Step]:
        """What is converted one after another."""
        dac, digits = self.call.port.settings.dac, self.digits
        if dac is None or not dac.gathered:
            return [Step(((v, 1.0),), v, weight, code) for v, weight, code in digits]
        v, code = (sum(d[k] * d.weight for d in digits) for k in (0, 2))
        return [Step(tuple((d.v, d.weight) for d in digits), v, 1.0, code)]  # type: ignore[arg-type]

    def column(self, n: int, c: int, step: Step) -> Tensor:
        """Digital sum over the tiles of one step and layout column, each through its ADC."""
        call, unit = self.call, self.unit
        matrix, port, direction = call.matrix, call.port, call.direction
        adc = port.settings.adc
        total: Tensor | None = None
        for tile in call.tiles:
            number = tile[0]
            i, full = self.seen(step.parts, step.v, c, tile)
            found = i if full is None else self.converted(i, full, number, c)
            for k in range(1, 0 if adc is None else adc.range.halvings + 1):
                # currents that rounding alone lifts over full scale do not clip
                assert adc is not None
                beyond = adc.needs(i.detach()) > full * (1 + 8 * torch.finfo(i.dtype).eps)
                again = beyond.any(direction.channel, keepdim=True)
                if not traced(i) and not bool(again.any()):
                    break
                half = self.encoded(k)[0][n].v
                more, scale = self.seen(((half, 1.0),), half, c, tile)
                code = self.converted(more, scale, number, c)
                found = torch.where(again, code * 2.0**k, found)
                i, full = torch.where(again, more, i), torch.where(again, scale, full)
                if matrix.probe is not None:
                    matrix.probe.repeated(matrix, port, again.sum() * i.shape[direction.channel])
            if matrix.probe is not None:
                told = i if unit is None else i / unit
                scale = full if unit is None or full is None else full / unit
                matrix.probe.converted(matrix, port, number, c, told, scale)
            if (gain := call.gain(number)) is not None:
                found = found * gain.to(found.dtype)
            total = found if total is None else total + found
        assert total is not None
        return total

    def converted(self, i: Tensor, full: Any, number: int, c: int) -> Tensor:
        """Codes of the currents of a tile."""
        call = self.call
        return call.port.convert(i, full, number, c, call.sensed, call.direction, self.normal)

    def current(
        self, v: Tensor, c: int, tile: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor | None]:
        """What v drives through a tile and layout column, and the variance of its read noise."""
        matrix, port, (_, a, b) = self.call.matrix, self.call.port, tile
        column = matrix.layout.columns[c]
        i, power = currents(v, self.planes, c, a, b, self.call, port.settings.v_max)
        if port.dac_offset is not None:
            i = i + self.offsets(port.dac_offset, c, a, b, i.dtype)
        if column.shared is not None:
            common = self.call.direction.total(wide_of(v), a, b, self.planes.matrix.shape[-1])
            i = i - self.in_unit(common * column.reference(matrix.floor))
        return i, power

    def seen(
        self,
        parts: tuple[tuple[Tensor, float], ...],
        v: Tensor,
        c: int,
        tile: tuple[int, int, int],
    ) -> tuple[Tensor, Any]:
        """What the converters of a tile and layout column are given, and their full scale."""
        call, planes, gauge, unit = self.call, self.planes, self.gauge, self.unit
        matrix, port, direction = call.matrix, call.port, call.direction
        adc, column, volts = port.settings.adc, matrix.layout.columns[c], port.settings.v_max
        number = tile[0]
        i, power = self.current(parts[0][0], c, tile)
        if len(parts) > 1:
            found = [(i, power), *(self.current(one, c, tile) for one, _ in parts[1:])]
            pairs = list(zip(found, (counts for _, counts in parts), strict=True))
            i = torch.stack([own * counts for (own, _), counts in pairs]).sum(0)
            noisy = [own * counts**2 for (_, own), counts in pairs if own is not None]
            power = torch.stack(noisy).sum(0) if noisy else None
        if power is not None:
            spread = self.in_unit(root(power))
            i = torch.addcmul(i, matrix.streams.normal(i, call.stream(READ)), spread.to(i.dtype))
        if adc is None:
            return i, None
        reach = reach_of(v, planes, c, tile, call, gauge) if adc.range.reached else 1.0
        # a range taken from what is converted is taken of currents, not of their logical sums
        own = i / unit if unit is not None and adc.range.relative else i
        ampere = volts * matrix.span  # v_max ΔG [A]
        full = port.full_scale(own, number, c, reach, ampere, direction.channel)
        if matrix.probe is not None:
            port.tell_repeats(matrix, full, reach, ampere, own.shape[direction.channel])
        full = full if unit is None else full * unit
        if adc.noise:
            i = i + self.normal(i) * (adc.noise * full)
        if adc.capacitor is not None:
            thermal = adc.thermal(call.crossed(number) * column.cells, volts)
            thermal *= math.sqrt(sum(counts**2 for _, counts in parts))
            i = i + self.in_unit(self.normal(i) * thermal)
        return i, full

    def offsets(self, voltages: Tensor, c: int, a: int, b: int, dtype: torch.dtype) -> Tensor:
        """Currents of the drivers' offset voltages."""
        call, gauge = self.call, self.gauge
        own = self.planes.matrix[c][..., a:b, :].to(dtype)
        reference = call.matrix.layout.columns[c].reference(call.matrix.floor)
        if reference:
            per = 1.0 if gauge is None else gauge.unsqueeze(-2) if gauge.dim() else gauge
            own = own - reference * per
        lines = call.driven(voltages).to(dtype)[..., a:b]
        lines = lines.reshape(own.shape[:-1]).unsqueeze(-1)
        return call.direction.entry((lines * own).sum(-2))


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
    layout, m = matrix.layout, planes.matrix
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
    if not apart and port.settings.dac is None and matrix.probe is None:
        if len(layout.columns) == 1 and layout.columns[0].weight == 1:  # a product, no more
            return wide_of(direction.whole(x, m[0].to(x.dtype), call.size))
    reading = _Reading(x, planes, call, gauge)
    digits, scale = reading.digits, reading.scale
    if matrix.probe is not None:
        matrix.probe.encoded(matrix, port, x, scale, digits)
        matrix.probe.used(call, digits, planes)
    total: Tensor | None = None
    for n, step in enumerate(reading.steps()):
        _, v, weight, code = step
        for c, column in enumerate(layout.columns):
            if apart:
                found = reading.column(n, c, step)
            else:
                found = wide_of(direction.whole(v, m[c].to(v.dtype), call.size))
            factor = weight * column.weight
            found = found if factor == 1 else found * factor
            total = found if total is None else total + found
        if shift:
            common = direction.total(wide_of(code), 0, m.shape[-2], m.shape[-1])
            common = reading.in_unit(common * (shift * weight))
            total = common if total is None else total + common
    assert total is not None
    if apart:
        total = direction.finish(total, call.size)
    return total if scale is None else total * scale
