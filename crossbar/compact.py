"""Cells of pairs in six bytes a weight, and in ten with a spread of their steps.

    d = g⁺ − g⁻ = ΔG W/w_max in float32: the weight itself, in the memory of torch's Parameter
    c = (g⁺ + g⁻)/2 as a code of 16 bits, c = n q,   q = 2 g_max/65535

Reads see d alone, which nothing rounds: their full scales, codes and gradients do not know of the
code. What hangs on the single cells (a pulse's step, drift, noise that depends on g) is given
g± = c ± d/2. Where c does not lie on a code, one of the two nearest is drawn, with the chances that
keep its mean, P(n + 1) = c/q − n, so that moves of less than a code add up; each rounding adds a
variance of at most q²/4 to c, and none to d. Cells that did not move keep their code. What was
drawn of an update law once and stays (`Part.fixed`) is kept as bfloat16: another chip of the same
kind, whose draws differ by at most 0.4 %.

What is refused: chips whose reads see more than the difference of a pair (other mappings, wires,
current-voltage laws, coloured read noise) and scales that differ from column to column; in situ,
pairs of which one cell is not pulsed, whose rest the common code would not keep.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossbar import states
from crossbar.cells import Cells
from crossbar.chip import Chip
from crossbar.planes import Lying, Planes, Seen, planes_of
from crossbar.states import copied, writing
from crossbar.streams import FABRICATION
from devices import State
from devices.device import STATEFUL
from devices.part import Read
from devices.trees import mapped

CODES = 65535
"""Steps of the code of c."""

TOP = 2.0
"""Largest c that has a code, in g_max: bounds that differ from cell to cell may lie beyond it."""

ZERO = 32768
"""What int16 keeps codes less by."""


def pairs(chip: Chip, trained: bool) -> None:
    """Refuse a chip whose cells cannot be kept so.

    Raises:
        TypeError: it names why.
    """
    device, columns = chip.device, chip.layout.columns
    why = ""
    if len(columns) > 1 or columns[0].signs != (1, -1) or columns[0].weight != 1:
        why = f"{chip.mapping!r} has other cells than a pair"
    elif chip.line is not None or chip.layout.offset:
        why = f"{chip.mapping!r} reads more than the difference of a pair"
    elif chip.mapping.per_column:
        why = "per_column=True gives every column a scale of its own"
    elif chip.wires is not None or device.iv is not None:
        why = "with wires or a current-voltage law reads see more than the difference of a pair"
    elif device.read is not None and type(device.read).shift is not Read.shift:
        why = f"{device.read!r} is a noise that stays between reads"
    elif trained and not chip.mapping.alike:
        why = f"{chip.mapping!r} pulses one cell of a pair, and the other is to stay where it is"
    if why:
        raise TypeError(f"compact=True keeps a weight and what its pair has in common: {why}")


class CompactCells(Cells):
    """See the module. `g` is a copy, made of what is kept: `state` is written as a whole."""

    scaled = True
    KEPT = "common"

    matrix: Tensor  # (1, ..., in the weight's memory order) W
    common: Tensor  # (..., rows, cols) int16 n less ZERO

    @property
    def g(self) -> Tensor:  # type: ignore[override]
        """Conductances (2, ..., rows, cols) [S]."""
        return self._pairs(self._turned(self.matrix)[0], self.common)

    @property
    def q(self) -> float:
        """Step of the code of c [S]."""
        return TOP * self.chip.device.window.g_max / CODES

    def _pairs(self, weight: Tensor, code: Tensor) -> Tensor:
        half = weight * (self.chip.device.window.span / 2) / self.w_max
        c = code.to(half.dtype).add_(ZERO).mul_(self.q)
        return torch.stack([c + half, c - half]).clamp_(min=0)

    def _kept(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of cells (2, ...), and codes of what they have in common, drawn."""
        layout = self.chip.layout
        planes = layout.planes(g, self.chip.device.window.span)
        weight = layout.logical(planes, self.chip.floor).mul_(self.w_max)
        place = (g[0] + g[1]).mul_(0.5 / self.q).clamp_(0, CODES)
        below = place.floor()
        generator = self.streams.generator(FABRICATION, g.device)
        drawn = torch.rand(place.shape, generator=generator, dtype=g.dtype, device=g.device)
        return weight, below.add_(drawn < place.sub_(below)).sub_(ZERO).to(torch.int16)

    # ---- the state -----------------------------------------------------------------------------

    def hold(self, state: State, lying: Lying | None) -> None:
        """Register what is kept of a state."""
        self.size, update = tuple(state.g.shape), self.chip.device.update
        self._leaves: dict[str, Any] = {}
        plane = self._turned(state.g[:1])
        self.register_buffer("matrix", plane.new_zeros(plane.shape))
        self.register_buffer("common", plane.new_zeros(self.size[1:], dtype=torch.int16))
        self.register_buffer("age", state.age)
        if update is not None and update.fixed:
            state = state._replace(update=mapped(state.update, _short))
        for part in STATEFUL:
            self._leaves[part] = self._named(part, getattr(state, part))
        if not state.g.is_meta:
            with writing():
                self._put("g", state.g)

    @property
    def state(self) -> State:
        """The state as one tuple of tensors, wide copies of what is kept short."""
        return self._wide(self._with(self.g))

    @state.setter
    def state(self, state: State) -> None:
        most = TOP * self.chip.device.window.g_max
        if bool((state.g.mean(0) > most).any()):
            raise ValueError(f"compact cells keep up to {TOP:g} g_max, {most:g} S, of their mean")
        self.keep(state)
        self.refresh()

    def _wide(self, state: State) -> State:
        dtype = self.w_max.dtype
        return state._replace(
            update=mapped(state.update, lambda t: t.to(dtype) if t.dtype == SHORT else t)
        )

    def _put(self, name: str, value: Tensor | None) -> None:
        if name != "g":
            held: Tensor | None = getattr(self, name)
            if held is not None and value is not None and held.dtype == SHORT:
                value = value.to(SHORT)
            super()._put(name, value)
            return
        assert value is not None
        moved = (value != self.g).any(0)
        weight, code = self._kept(value)
        copied(self.common, torch.where(moved, code, self.common))
        kept = self._turned(self.matrix)[0]
        copied(kept, torch.where(moved, weight, kept))

    def taken(self, at: Tensor) -> State:
        """See `Held`."""
        some = states.taken(self._with(self.common.unsqueeze(0)), at)
        weight = self.matrix.view(-1).index_select(0, self.form.place(at, self.size[1:]))
        return self._wide(some._replace(g=self._pairs(weight, some.g[0])))

    def put(self, at: Tensor, made: State, some: State) -> None:
        """See `Held`."""
        weight, code = self._kept(some.g)
        self.matrix.view(-1).index_copy_(0, self.form.place(at, self.size[1:]), weight)
        self.common.view(-1).index_copy_(0, at, code)
        rest: Any = made._replace(g=None)  # type: ignore[arg-type]
        states.put_back(self._with(self.common), at, rest)
        self.moved = None

    # ---- what reads see ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Compute anew the noise that reads see."""
        if not self.w_max.is_meta and (self.variance is None or self.variance.dim()):
            if self.chip.device.read is not None:
                with writing():
                    found = planes_of(self.chip, self.state).variance
                    self._put("variance", None if found is None else self._turned(found))
        self._own, self._seen = self._buffers["matrix"], self._stamp()
        self.moved = None

    def relative(self) -> Planes:
        """What reads see, relative to the window."""
        found = self.planes()
        return found._replace(matrix=found.matrix / self.w_max)

    @property
    def weight(self) -> Tensor:
        """Logical weights (..., rows, cols) that the cells hold now."""
        return self._turned(self.matrix)[0].clone()

    def lends(self, parameter: Tensor) -> bool:
        """See `Held`."""
        if parameter.is_meta or not self.matrix.numel():
            return False
        return parameter.data_ptr() == self.matrix.data_ptr()

    def apart(self, parameter: Tensor) -> None:
        """See `Held`: by memory of their own."""
        if self.lends(parameter):
            self._buffers["matrix"] = self._own = self.matrix.clone()

    @property
    def separate(self) -> bool:
        """See `Cells`."""
        if torch.compiler.is_compiling() or not self.matrix.is_contiguous():
            return False
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(self.matrix)
        return not wrapped and self._seen is not None

    def follow(self, at: Tensor, seen: Seen) -> None:
        """See `Cells`; of the noise alone, as the weights are kept themselves."""
        if self.variance is not None and self.variance.dim():
            assert seen.variance is not None
            place = self.form.place(at, self.size[1:])
            self.variance.view(1, -1).index_copy_(1, place, seen.variance)
        self._seen = self._stamp()


SHORT = torch.bfloat16
"""What draws that stay are kept in."""


def _short(t: Tensor) -> Tensor:
    return t.to(SHORT) if t.dim() and t.is_floating_point() else t
