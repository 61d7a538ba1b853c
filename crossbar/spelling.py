"""Operations and regions as whole numbers, which operators of compiled regions take."""

from __future__ import annotations

from collections.abc import Sequence

from crossbar.operations import Conv, ConvTranspose, Matmul, Operation
from crossbar.regions import Region
from crossbar.stacks import Batch
from crossbar.windows import Window

_NONE = -1
_MATMUL, _BATCH, _CONV, _TRANSPOSED = range(4)
_KINDS: dict[type[Operation], int] = {
    Matmul: _MATMUL,
    Batch: _BATCH,
    Conv: _CONV,
    ConvTranspose: _TRANSPOSED,
}


def spelled(op: Operation, region: Region) -> list[int]:
    """Numbers that `read_back` understands."""
    one = isinstance(region.lead, int)
    lead = slice(region.lead, None) if isinstance(region.lead, int) else region.lead
    parts = [_KINDS[type(op)], int(region.transposed), int(one)]
    for lines in (region.rows, region.cols, lead):
        ends = (lines.start, lines.stop, lines.step)
        parts += [_NONE if end is None else end for end in ends]
    if not isinstance(op, (Conv, ConvTranspose)):
        return parts
    window = op.window
    sizes = (*window.kernel, *window.stride, *window.padding, *window.dilation)
    return [*parts, window.groups, *sizes]


def read_back(spec: Sequence[int]) -> tuple[Operation, Region]:
    """The operation and region that were spelled."""
    kind, transposed, one, *rest = spec
    ends = [None if end == _NONE else end for end in rest[:9]]
    rows, cols, lead = (slice(*ends[k : k + 3]) for k in (0, 3, 6))
    region = Region(rows, cols, bool(transposed), lead.start if one else lead)
    if kind == _MATMUL:
        return Matmul(), region
    if kind == _BATCH:
        return Batch(), region
    groups, *sizes = rest[9:]
    n = len(sizes) // 4
    kernel, stride, padding, dilation = (tuple(sizes[k * n : (k + 1) * n]) for k in range(4))
    window = Window(kernel, stride, padding, dilation, groups)
    return (ConvTranspose if kind == _TRANSPOSED else Conv)(window), region
