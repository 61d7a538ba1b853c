"""Events of one read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar.converters import DAC, Digit
from crossbar.ledger.conductance import CHUNK, Conductances, dissipated
from crossbar.ledger.sums import Tiles, by_tile
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


def counted(use: Use) -> dict[tuple[str, Any], Any]:
    """Events of a read, by kind and `of`; each (tiles down, tiles across)."""
    call, digits = use.call, use.digits
    matrix, port, direction = call.matrix, call.port, call.direction
    dac, adc = port.settings.dac, port.settings.adc
    if adc is not None and adc.capacitor is not None:
        raise TypeError(
            "charge-domain columns (adc.capacitor) dissipate C V², not V² G t: their array is not "
            "counted"
        )
    driven, sensed = (np.array(n, dtype=np.float64) for n in use.lines())
    on = (sensed > 0).astype(np.float64)  # tiles outside the region rest
    n = float(direction.number(digits[0].code))
    layout = matrix.layout
    d, codes = len(digits), len(digits) * len(layout.columns)
    each = n * np.outer((driven > 0).astype(np.float64), sensed)  # of every tile and column
    drives = use.put(_drives(use)).unsqueeze(1)
    along = torch.tensor(on, device=drives.device)
    cells = _line_cells(use)
    drives = drives * along
    loaded = n * np.outer(driven, on)
    found: dict[tuple[str, Any], Any] = {
        ("row_drive", None): drives,
        ("line_charge", None): drives * torch.tensor(cells, device=drives.device),
        ("array", None): _power(use) * along,
        ("integrate", None): codes * each,
    }
    bits = None if dac is None else dac.bits
    if dac is not None:
        step = getattr(dac, "width", bits)  # of one digit
        found["dac", step] = drives if direction.lone else d * loaded
    if adc is not None:
        found["adc", getattr(adc, "bits", None)] = codes * each
    if codes > 1:
        found["shift_add", None] = (codes - 1) * each
    if not direction.lone:
        found["mac", None] = n * np.outer(driven, sensed)
        found["load", bits] = loaded
    used = [k for k, *_ in call.tiles]
    if len(used) > 1:
        rest = each.copy()
        rest[used[0]] = 0
        found["partial_sum", None] = rest
    out = np.zeros_like(each)
    out[used[0]] = each[used[0]]
    found["store", None if adc is None else getattr(adc, "bits", None)] = out
    if call.transposed:
        found = {key: value.T for key, value in found.items()}
    return found


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
    call = use.call
    total: Any = 0
    for digit in use.digits:
        code = digit.code.detach()
        if isinstance(use.planes.tiles, GatedTiles) and not call.transposed:
            planes, _ = use.planes.tiles._planes(_volts(use, digit.v))
            total = total + _in_use(use, (planes != 0).double().sum(-2))
            continue
        kind = torch.float64 if code.numel() > 1 << 24 else torch.float32
        lines = call.direction.summed((code != 0).to(kind), use.lead)
        total = total + _in_use(use, lines.double())
    assert isinstance(total, Tensor)
    return total


def _in_use(use: Use, lines: Tensor) -> Tensor:
    """Sums (..., driven) of lines over matrices and tiles in use."""
    flat = lines.reshape(-1, lines.shape[-1]).sum(0)
    return by_tile(flat, [(a, b) for _, a, b in use.call.tiles])


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
    dac, v_max = call.port.settings.dac, call.port.settings.v_max
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
    gamma = call.driven(use.held.driven(call.transposed))
    found = gamma.reshape(len(gamma), *e.shape) * e
    if e.dim() > 1:
        found = found.flatten(1, -2).sum(1)
    parts = by_tile(found, [(a, b) for _, a, b in call.tiles])  # (sensed tiles, tiles in use)
    return use.put(parts.T) * v_max**2


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
