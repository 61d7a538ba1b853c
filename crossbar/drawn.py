"""What a programming of a float weight would give now: cells drawn for one read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.handles import handle_of, held_by
from crossbar.planes import Order, Planes, over_line, planes_of
from crossbar.states import with_device
from crossbar.streams import EVALUATION, WRITE, Streams, advanced
from devices.part import Read


class Rehearsal:
    """A chip without cells, and how its programmed weights differ from the wanted ones.

    `direct`: the layout is linear and no cell differs from another, so that the float weight
    itself can be read; `variance` is then the read noise of every weight / ΔG², () or (C, 1, 1, 1).
    """

    def __init__(self, chip: Chip, streams: Streams) -> None:
        self.chip, self.streams = chip, streams
        device, layout = chip.device, chip.layout
        self.handle = handle_of(self)
        self.wired = chip.wires is not None or device.iv is not None
        self.direct = layout.linear is not None and device.write is None and not self.wired
        self.direct = self.direct and len(layout.columns) == 1
        self.variance: Tensor | None = None
        if self.direct and device.read is not None:
            self.direct = not device.draws_reads and type(device.read).shift is Read.shift
        if self.direct and device.read is not None:
            probe = torch.full(
                (layout.devices, 1, 1), device.g_min, dtype=torch.float64, device="cpu"
            )
            std = device.std(device.rehearse(probe))
            assert std is not None
            self.direct = std.dim() == 0
            if self.direct:
                self.variance = layout.power((std / device.window.span).square())

        settings = (chip.forward, chip.backward or chip.forward)
        ports = [part for port in settings for part in (port.dac, port.adc)]
        #: whether a read of a float weight is the product itself
        self.bare = self.direct and self.variance is None and not chip.mapping.clips
        self.bare = self.bare and not any(part is not None for part in ports)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rehearsal:
        streams = memo.get(id(self.streams), self.streams)
        return Rehearsal(self.chip, streams)

    def __reduce__(self) -> Any:
        return Rehearsal, (self.chip, self.streams)

    def cells(
        self, matrix: Tensor, w_max: Tensor, order: Order | None, quiet: bool
    ) -> tuple[Tensor, Planes]:
        """Conductances [S] just written with (..., rows, cols), and what reads see of them.

        `order` is where wires find the cells. Differentiable in the matrix where wires are, or a
        current-voltage law is; else without a gradient.
        """
        state = self.streams.state
        if self.wired:
            return self.draw(matrix, w_max, order, quiet, state)
        compiled = torch.compiler.is_compiling()
        if compiled or torch._C._functorch.is_functorch_wrapped_tensor(matrix):
            seen, variance = _drawn(matrix.detach(), w_max, state, self.handle, quiet)
            return seen, Planes(seen, variance if self.chip.device.read is not None else None)
        with torch.no_grad():
            return self.draw(matrix, w_max, order, quiet, state)

    def draw(
        self, matrix: Tensor, w_max: Tensor, order: Order | None, quiet: bool, state: Tensor
    ) -> tuple[Tensor, Planes]:
        """The same with the counters `state`, which an operator is given and must advance."""
        device = self.chip.device
        places = matrix / w_max
        # clipped straight through, as without wires: their gradients have one limit
        clipped = places + (places.clamp(self.chip.mapping.low, 1) - places).detach()
        window = device.window
        g = self.chip.mapping.places(clipped, device) * window.span + window.g_min
        generator = None
        if device.write is not None or device.draws_reads:
            generator = advanced(state, EVALUATION if quiet else WRITE, g.device)
        g = g + (g.clamp(min=0) - g).detach()  # a rounding below 0
        cells = device.rehearse(g, generator=generator)
        if device.write is not None:
            for k in self.chip.mapping.turns(device):
                found = (device.seen(cells) - window.g_min) / window.span
                place = self.chip.mapping.again(clipped, found, k, device)
                one = device.rehearse(place * window.span + window.g_min, generator=generator)
                cells = with_device(cells, k, one)
        planes = planes_of(self.chip, cells, order)
        if self.chip.line is not None and planes.tiles is None:
            tiles = len(self.chip.tiles(tuple(matrix.shape), True))
            at = self.chip.line.mapping.targets(g.detach()[0, ..., :tiles], device)
            line = device.rehearse(at, generator=generator)
            rows = None if order is None else (order[0], torch.arange(tiles, device=g.device))
            planes = over_line(self.chip, planes, planes_of(self.chip.line, line, rows))
        return device.seen(cells), planes


@torch.library.custom_op("crossbar::drawn", mutates_args=("state",))
def _drawn(
    matrix: Tensor, w_max: Tensor, state: Tensor, handle: int, quiet: bool
) -> tuple[Tensor, Tensor]:
    rehearsal: Rehearsal = held_by(handle)
    _, found = rehearsal.draw(matrix, w_max, None, quiet, state)
    shape = (*found.matrix.shape[:1], *matrix.shape)
    variance = matrix.new_zeros(()) if found.variance is None else found.variance
    return found.matrix.contiguous(), variance.expand(shape).contiguous()


@_drawn.register_fake
def _(
    matrix: Tensor, w_max: Tensor, state: Tensor, handle: int, quiet: bool
) -> tuple[Tensor, Tensor]:
    rehearsal: Rehearsal = held_by(handle)
    shape = (len(rehearsal.chip.layout.columns), *matrix.shape)
    return matrix.new_empty(shape), matrix.new_empty(shape)


@_drawn.register_vmap
def _(
    info: Any,
    in_dims: tuple[int | None, ...],
    matrix: Tensor,
    w_max: Tensor,
    state: Tensor,
    handle: int,
    quiet: bool,
) -> Any:
    if info.randomness == "error":
        raise RuntimeError(
            'vmap: cells are drawn at every read, with randomness="error"; choose "different" or '
            '"same"'
        )
    before = state.clone()
    drawn = []
    for k in range(info.batch_size):
        m = matrix if in_dims[0] is None else matrix.select(in_dims[0], k)
        w = w_max if in_dims[1] is None else w_max.select(in_dims[1], k)
        if info.randomness == "same":
            state.numpy()[:] = before.numpy()
        drawn.append(_drawn(m, w, state, handle, quiet))
    planes, variance = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    return (planes, variance), (0, 0)
