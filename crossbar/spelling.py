"""Operations and regions as whole numbers, which operators of compiled regions take."""

from __future__ import annotations

from collections.abc import Sequence

from crossbar.operations import Conv, ConvTranspose, Matmul, Operation
from crossbar.regions import Region
from crossbar.windows import Window

_NONE = -1


def spelled(op: Operation, region: Region) -> list[int]:
    """Numbers that `read_back` understands."""
    parts = [int(region.transposed)]
    for lines in (region.rows, region.cols):
        ends = (lines.start, lines.stop, lines.step)
        parts += [_NONE if end is None else end for end in ends]
    if not isinstance(op, (Conv, ConvTranspose)):
        return parts
    window = op.window
    sizes = (*window.kernel, *window.stride, *window.padding, *window.dilation)
    return [*parts, int(isinstance(op, ConvTranspose)), window.groups, *sizes]


def read_back(spec: Sequence[int]) -> tuple[Operation, Region]:
    """The operation and region that were spelled."""
    ends = [None if end == _NONE else end for end in spec[1:7]]
    region = Region(slice(*ends[:3]), slice(*ends[3:]), bool(spec[0]))
    if len(spec) == 7:
        return Matmul(), region
    transposed, groups, *sizes = spec[7:]
    n = len(sizes) // 4
    kernel, stride, padding, dilation = (tuple(sizes[k * n : (k + 1) * n]) for k in range(4))
    window = Window(kernel, stride, padding, dilation, groups)
    return (ConvTranspose if transposed else Conv)(window), region
