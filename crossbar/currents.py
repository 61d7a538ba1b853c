"""Currents of one tile, their noise and the full scale that its cells can give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from crossbar.layout import Layout
from crossbar.planes import Planes
from crossbar.port import wide_of


def root(power: Tensor) -> Tensor:
    """√power, of slope zero at zero, where a learned range would be given an infinite one."""
    if not power.requires_grad:
        return power.sqrt()
    return torch.where(power > 0, power, 1).sqrt() * (power > 0)


def reach_of(
    v: Tensor,
    planes: Planes,
    c: int,
    tile: tuple[int, int, int],
    call: Any,
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
        where = (int(call.transposed), k, c)
        found = planes.reach[where if bounded else (*where, 0)]
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
        found = mean.abs() * total + root(power.clamp(min=0)) * spread
        found = _some(torch.minimum(found, size * top).clamp(max=level))
    return found


def _some(full: Tensor) -> Tensor:
    """A full scale; 1 where nothing can flow."""
    return torch.where(full > 0, full, 1.0)


def currents(
    v: Tensor, planes: Planes, c: int, a: int, b: int, call: Any, volts: float
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
    v: Tensor, tiles: Any, c: int, a: int, b: int, call: Any, volts: float
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
