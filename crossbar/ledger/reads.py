"""Events of one read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.converters import DAC, Digit
from crossbar.directions import Dense
from crossbar.ledger import jit
from crossbar.ledger.conductance import CHUNK, Conductances, dissipated
from crossbar.ledger.sums import Tiles, by_tile, compiled
from crossbar.planes import Planes
from crossbar.read import Call
from crossbar.wires import CellTiles, GatedTiles
from crossbar.wires.interleaved import weave


class Use(NamedTuple):
    """A read as it falls on tiles; events are (driven tiles, sensed tiles)."""

    call: Call
    digits: Sequence[Digit]
    planes: Planes
    held: Conductances

    @property
    def lead(self) -> int:
        """Dimensions of the matrix in use beside driven and sensed."""
        return self.planes.matrix.dim() - 3

    @property
    def whole(self) -> tuple[Tiles, Tiles]:
        """Driven and sensed lines of all tiles of the matrix."""
        found = self.held.down, self.held.across
        return found[::-1] if self.call.transposed else found

    def lines(self) -> tuple[list[int], list[int]]:
        """Driven and sensed lines in use of every tile."""
        region = self.call.region
        parts = (region.rows, region.cols)
        parts = parts[::-1] if self.call.transposed else parts
        driven, sensed = (_inside(t, p) for t, p in zip(self.whole, parts, strict=True))
        return driven, sensed

    def put(self, parts: Tensor) -> Tensor:
        """(tiles in use, ...) at the places of these tiles among all driven ones."""
        at = [k for k, *_ in self.call.tiles]
        if at == list(range(len(self.whole[0]))):
            return parts
        out = parts.new_zeros(len(self.whole[0]), *parts.shape[1:])
        return out.index_copy(0, torch.tensor(at, device=parts.device), parts)


def _inside(tiles: Tiles, part: slice) -> list[int]:
    """Lines of a part in each tile."""
    if part == slice(None):
        return [b - a for a, b in tiles]
    lines = range(*part.indices(tiles[-1][1]))
    return [sum(1 for line in lines if a <= line < b) for a, b in tiles]


class Plan:
    """Reads that fall on tiles alike: what each vector does, and how many there were."""

    def __init__(self, use: Use) -> None:
        """Of the first of them.

        Raises:
            TypeError: an array whose joules are not V² G t.
        """
        call, matrix, settings = use.call, use.call.matrix, use.call.port.settings
        dac, adc = settings.dac, settings.adc
        if adc is not None and adc.capacitor is not None:
            raise TypeError(
                "charge-domain columns (adc.capacitor) dissipate C V², not V² G t: their array is "
                "not counted"
            )
        if adc is not None and adc.range.halvings:
            raise TypeError(
                "Managed(inputs=True) drives some vectors again, at half their voltages, "
                "which is not counted: Managed() converts held currents again"
            )
        driven, sensed = (np.array(n, dtype=np.float64) for n in use.lines())
        self.of = settings, matrix.chip  # kept, as its key is their identity
        self.transposed, self.lone = call.transposed, call.direction.lone
        self.on = (sensed > 0).astype(np.float64)  # tiles outside the region rest
        self.cells = _line_cells(use)
        self.bits = None if dac is None else dac.bits
        self.step = getattr(dac, "width", self.bits)  # bits of one digit
        self.has_dac = dac is not None
        digits = len(use.digits)
        integrated = digits * len(matrix.layout.columns)
        # digits that are gathered on capacitors are converted once
        codes = len(matrix.layout.columns) if dac is not None and dac.gathered else integrated
        each = np.outer((driven > 0).astype(np.float64), sensed)  # of every tile and column
        loaded = np.outer(driven, self.on)
        self.each: dict[tuple[str, Any], np.ndarray] = {("integrate", None): integrated * each}
        out_bits = None if adc is None else getattr(adc, "bits", None)
        if dac is not None and not self.lone:
            self.each["dac", self.step] = digits * loaded
        if adc is not None:
            self.each["adc", out_bits] = codes * each
        if codes > 1:
            self.each["shift_add", None] = (codes - 1) * each
        if not self.lone:
            self.each["mac", None] = np.outer(driven, sensed)
            self.each["load", self.bits] = loaded
        used = [k for k, *_ in call.tiles]
        if len(used) > 1:
            rest = each.copy()
            rest[used[0]] = 0
            self.each["partial_sum", None] = rest
        out = np.zeros_like(each)
        out[used[0]] = each[used[0]]
        self.each["store", out_bits] = out
        self.vectors = 0
        self.drives: Any = 0.0  # (driven tiles,)
        self.power: Any = 0.0  # (driven tiles, sensed tiles) [W]
        # the same of what one compiled pass adds to, of the tiles in use
        self.at, self.ends = np.array(used), np.array([0, *(end for *_, end in call.tiles)])
        self.swept = np.zeros(len(driven)), np.zeros((len(driven), len(sensed)))

    def add(self, use: Use) -> None:
        """One more read."""
        self.vectors += use.call.direction.number(use.digits[0].code)
        if _plain(use):
            self._sweep(use)
        else:
            self.drives = self.drives + use.put(_drives(use))
            self.power = self.power + _power(use)

    def _sweep(self, use: Use) -> None:
        call, lines = use.call, use.digits[0].v.shape[-1]
        gamma = call.driven(use.held.driven(call.transposed)).numpy()  # (sensed tiles, lines)
        scale = call.port.settings.v_max**2
        assert jit.driven is not None
        for digit in use.digits:
            v, code = (t.detach().reshape(-1, lines).contiguous() for t in (digit.v, digit.code))
            jit.driven(v.numpy(), code.numpy(), gamma, self.at, self.ends, scale, *self.swept)

    def events(self) -> dict[tuple[str, Any], np.ndarray]:
        """By kind and `of`, each (tiles down, tiles across)."""
        seen = (torch.as_tensor(t).detach().cpu().numpy() for t in (self.drives, self.power))
        drives, power = (a + b for a, b in zip(seen, self.swept, strict=True))
        drives = np.outer(drives, self.on)
        found = {key: self.vectors * value for key, value in self.each.items()}
        found["row_drive", None] = drives
        found["line_charge", None] = drives * self.cells
        found["array", None] = power * self.on
        if self.lone and self.has_dac:
            found["dac", self.step] = drives
        return {key: value.T for key, value in found.items()} if self.transposed else found


def kind(use: Use) -> tuple[Any, ...]:
    """Equal for reads that fall on tiles alike."""
    call = use.call
    region = None if call.region.whole else repr(call.region)
    # what is counted a vector goes by the periphery, which calibrations exchange, and by the chip
    made = id(call.port.settings), id(call.matrix.chip)
    return call.transposed, region, call.direction.lone, len(use.digits), *made


def _line_cells(use: Use) -> np.ndarray:
    """Cells along a driven line in each sensed tile, reference column included."""
    matrix = use.call.matrix
    cells = np.array([b - a for a, b in use.whole[1]], dtype=np.float64)
    cells = cells * matrix.layout.devices
    if matrix.written.line is not None and not use.call.transposed:
        cells += 1
    return cells


def _drives(use: Use) -> Tensor:
    """Lines driven by codes that are not zero, (driven tiles in use,)."""
    call, tiles = use.call, [(a, b) for _, a, b in use.call.tiles]
    found = []
    for digit in use.digits:
        if isinstance(use.planes.tiles, GatedTiles) and not call.transposed:
            planes, _ = use.planes.tiles._planes(_volts(use, digit.v))
            lines = (planes != 0).double().flatten(0, -2).sum(0)
            found.append(by_tile(lines, tiles))
        else:
            found.append(call.direction.fired(digit.code.detach(), tiles, use.lead))
    return found[0] if len(found) == 1 else torch.stack(found).sum(0)


def _plain(use: Use) -> bool:
    """Whether one compiled pass over vectors of amplitudes says all of their lines."""
    call, dac, v = use.call, use.call.port.settings.dac, use.digits[0].v
    ohmic = use.planes.tiles is None and call.matrix.chip.wires is None
    square = dac is None or type(dac).energy is DAC.energy
    still = call.port.dac_offset is None and v.dtype in (torch.float32, torch.float64)
    return (
        compiled(v)
        and type(call.direction) is Dense
        and not use.lead
        and ohmic
        and square
        and still
    )


def _volts(use: Use, v: Tensor) -> Tensor:
    """Vectors (..., n, lines) [V] on the lines in use."""
    call = use.call
    lines = call.direction.lines(v.detach().double()) * call.port.settings.v_max
    return _with_offset(use, lines)


def _with_offset(use: Use, lines: Tensor) -> Tensor:
    offset = use.call.port.dac_offset
    if offset is None:
        return lines
    own = use.call.driven(offset).double() * use.call.port.settings.v_max
    return lines + own.reshape(*lines.shape[:-2], 1, lines.shape[-1])


def _power(use: Use) -> Tensor:
    """Σ over vectors and digits of V² G, or of V I at the driven terminals (driven, sensed) [W]."""
    if use.planes.tiles is not None:
        return _solved_power(use, use.planes.tiles)
    if use.call.matrix.chip.wires is not None:
        return _wired_power(use)
    call, lead = use.call, use.lead
    dac = call.port.settings.dac
    energy = torch.square if dac is None else dac.energy
    e: Any = 0
    for digit in use.digits:
        v = digit.v.detach().double()
        e = e + call.direction.summed(energy(v), lead)
        if call.port.dac_offset is not None:
            if call.direction.lone:
                raise TypeError("offsets of DACs on lines that rest in a one-hot read: not counted")
            own = call.driven(call.port.dac_offset).double()
            e = e + 2 * own.reshape(e.shape) * call.direction.summed(v, lead)
            n = call.direction.number(v) // max(1, e[..., 0].numel())
            e = e + n * own.reshape(e.shape).square()
    return _burnt(use, e)


def _burnt(use: Use, e: Tensor) -> Tensor:
    """Σ e Γ (driven, sensed) [W] of what lines (..., driven) see, in parts of v_max²."""
    call = use.call
    gamma = call.driven(use.held.driven(call.transposed))
    found = gamma.reshape(len(gamma), *e.shape)
    parts = [
        (found[..., a:b] * e[..., a:b]).flatten(1).sum(1) if e.dim() > 1 else found[:, a:b] @ e[a:b]
        for _, a, b in call.tiles
    ]
    return use.put(torch.stack(parts)) * call.port.settings.v_max**2


def _amplitudes(use: Use) -> None:
    dac = use.call.port.settings.dac
    if dac is not None and type(dac).energy is not DAC.energy:
        raise TypeError(
            f"{type(dac).__name__}: how pulses of different lengths overlap on lines that share "
            "wires is not stated: the array is not counted"
        )


def _whole(use: Use, v: Tensor) -> Tensor:
    """Voltages (..., n, all driven lines) [V]; lines outside the region rest at 0 V."""
    call, lines = use.call, use.call.matrix.lines
    vectors = _volts(use, v)
    if vectors.dim() == 2 and use.lead:  # of groups, one after another in each vector
        vectors = vectors.unflatten(0, (-1, use.planes.matrix.shape[1])).transpose(0, 1)
    vectors = vectors.movedim(-2, 0)
    lead = lines[:-2]
    full = vectors.new_zeros(len(vectors), *lead, lines[-1 if call.transposed else -2])
    part = call.driven(full)
    part.copy_(vectors.reshape(part.shape))
    if call.matrix.order is not None:
        full = full.index_select(-1, call.matrix.order[1 if call.transposed else 0])
    return full.movedim(0, -2)


def _wired_power(use: Use) -> Tensor:
    """At the driven terminals of circuits of ohmic cells and wires."""
    _amplitudes(use)
    held, transposed = use.held, use.call.transposed
    circuits = held.circuits(transposed)
    total: Any = 0
    for digit in use.digits:
        v = _whole(use, digit.v)
        rows = [
            [dissipated(v[..., a:b], y).sum() for y in line]
            for (a, b), line in zip(use.whole[0], circuits, strict=True)
        ]
        total = total + torch.stack([torch.stack(row) for row in rows])
    assert isinstance(total, Tensor)
    return total


def _solved_power(use: Use, tiles: CellTiles) -> Tensor:
    """At the driven terminals of tiles whose every vector is a circuit of its own."""
    _amplitudes(use)
    transposed, (driven, sensed) = use.call.transposed, use.whole
    out = torch.zeros(len(driven), len(sensed), dtype=torch.float64, device=tiles.g.device)
    for digit in use.digits:
        v = _whole(use, digit.v)
        for tile in tiles.tiles:
            ends = ((tile.a, tile.b), (tile.c, tile.d))
            (a, b), other = ends[::-1] if transposed else ends
            out[driven.index((a, b)), sensed.index(other)] += _tile_power(
                tile.network, v[..., a:b], tiles, transposed
            )
    return out


def _tile_power(network: Any, v: Tensor, tiles: CellTiles, transposed: bool) -> Tensor:
    if isinstance(tiles, GatedTiles):
        if transposed:  # rows open one after another
            conducts = network.matrix_t.double().sum(-2)
            return (v.square() * conducts.unsqueeze(-2)).sum()
        planes, _ = tiles._planes(v)
        phases = [planes.clamp(min=0), (-planes).clamp(min=0)]
        return torch.stack([_fields_power(network, p) for p in phases]).sum()
    if not transposed:
        return _fields_power(network, v)
    if tiles.interleaved:
        return _fields_power(network.inner.transposed, weave(torch.stack([v, -v])).flip(-1))
    return _fields_power(network.transposed, v.flip(-1))


def _fields_power(network: Any, v: Tensor) -> Tensor:
    step = max(1, CHUNK // max(1, network.g.numel()))
    parts = [network.fields(part).power.double().sum() for part in v.split(step, -2)]
    return torch.stack(parts).sum()
