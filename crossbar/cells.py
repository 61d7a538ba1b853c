"""The cells of a matrix: their state, what reads see of it, and the verbs that write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from crossbar import states
from crossbar.chip import Chip
from crossbar.held import Held
from crossbar.placing import fabricated
from crossbar.planes import Order, Planes, Seen, in_order, over_line, planes_of, reach_of, seen_of
from crossbar.programming import Written, programmed, rewritten
from crossbar.regions import Form
from crossbar.states import Writer, writing
from crossbar.streams import FABRICATION, WRITE, Streams
from crossbar.wires import CellTiles, Efficacy, Fired
from devices import Pulses
from devices.device import STATEFUL
from devices.draw import seeded
from devices.trees import mapped

FEW = 4
"""Part of the weights, 1/FEW, beyond which what reads see is computed anew as a whole."""

PACE = 100
"""Updates after which the full scales of converters follow the cells; before, at powers of two."""


class Cells(Held):
    """Cells in the shape (K, ..., rows, cols), and what reads see of them.

    Every writing verb refreshes `matrix`, `variance` and `back` in place. Conductances stay float32
    or float64 under `.half()` and autocast, ages float64 always.
    """

    scaled = False  # whether `matrix` is in units of the weight, not of the window
    KEPT = "g"  # name of the buffer that every write changes

    w_max: Tensor  # () or (..., 1, cols)
    updates: Tensor
    rounds: Tensor | None  # of pulses that were dealt out, see `Mapping.dealt`
    matrix: Tensor  # (C, ..., in the weight's memory order)
    variance: Tensor | None
    back: Tensor | None
    reach: Tensor | None  # (2, tiles, C, 4) that converters without a range of their own follow

    def __init__(
        self,
        chip: Chip,
        form: Form,
        shape: tuple[int, ...],  # (..., rows, cols) of the logical matrix
        w_max: Tensor,
        streams: Streams,
        *,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Tensor | None = None,  # the weight that is about to be written
        name: str = str(FABRICATION),
    ) -> None:
        super().__init__()
        self.chip, self.form, self.streams = chip, form, streams
        self.tiles: CellTiles | None = None
        self.order: Order | None = None
        self.void = False  # memory that nobody has written, as torch's `to_empty` leaves it
        # places in torch's weight and weights that moved since they were shown; None: any may
        self.moved: list[tuple[Tensor, Tensor]] | None = None
        # the first number of this seed, whatever has been drawn before
        first = seeded(f"{streams.seed}/{name}", torch.device("cpu"))
        if device.type == "meta":  # nothing to draw yet
            one = chip.device.fabricate((1,), generator=first, dtype=dtype)
            state = states.empty(one, (chip.layout.devices, *shape))
            lying = in_order(chip, state.g) if chip.spares and chip.wires else None
        else:
            w = None if wanted is None else wanted.to(dtype) / w_max.to(dtype)
            state, lying = fabricated(chip, shape, w, first, dtype, device)
        self.register_buffer("w_max", w_max.detach().to(dtype, copy=True))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=device))
        dealt = torch.zeros_like(self.updates) if chip.mapping.arbitrated else None
        self.register_buffer("rounds", dealt)
        self.hold(state, lying)
        for part in Planes._fields[:3]:
            if part not in self._buffers:
                self.register_buffer(part, None, persistent=False)
        self.line: Cells | None = None  # reference columns, (1, ..., rows, tiles across)
        if chip.line is not None:
            size = (*shape[:-1], len(chip.tiles(shape, True)))
            own: Any = {"dtype": dtype, "device": device, "name": f"{name}/line"}
            self.line = Cells(chip.line, form, size, w_max.new_ones(()), streams, **own)
        self.refresh()
        converters = (chip.forward.adc, chip.backwards.adc)
        self._paces = any(adc is not None and adc.range.reached for adc in converters)
        self.register_buffer("reach", None)
        self.sized()

    # ---- what reads see ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Compute anew what reads see; the verbs do, whoever writes a buffer by hand must."""
        if self.w_max.is_meta:
            columns = len(self.chip.layout.columns)
            planes = Planes(self.w_max.new_empty(columns, *self.size[1:]))
        else:
            with writing():
                planes = self.solved()
        self.tiles = planes.tiles
        with writing():
            for name, value in zip(Planes._fields[:3], planes[:3], strict=True):
                self._put(name, None if value is None else self._turned(value))
        self._own, self._seen = self._buffers["matrix"], self._stamp()
        self.moved = None

    def sized(self) -> None:
        """Let the full scales of converters that follow their cells fit what these hold now.

        Verbs that write weights do; time and noise leave full scales as they are.
        """
        if self._paces:
            with writing():
                self._put("reach", reach_of(self.chip, self.relative()))

    def paced(self) -> None:
        """After an update: full scales follow at once at first, then every `PACE` updates."""
        if self._paces:
            n = int(self.updates)
            if n & (n - 1) == 0 or n % PACE == 0:
                self.sized()

    @property
    def kept(self) -> Any:
        """The buffer that every write changes."""
        return getattr(self, self.KEPT)

    def _stamp(self) -> int | None:
        return None if self.kept.is_inference() else self.kept._version

    def _turned(self, t: Tensor) -> Tensor:
        """(..., rows, cols) with the dimensions of torch's weight in their order, or back."""
        return t if t.dim() == 0 or self.form.rows_first else t.mT

    def planes(self) -> Planes:
        """What reads see."""
        kept = self.kept
        if not torch.compiler.is_compiling() and not kept.is_inference():
            if not torch._C._functorch.is_functorch_wrapped_tensor(kept):
                if kept._version != self._seen:  # written by hand
                    self.refresh()
        matrix, variance, back = self._turned(self.matrix), self.variance, self.back
        variance = None if variance is None else self._turned(variance)
        back = None if back is None else self._turned(back)
        return Planes(matrix, variance, back, self.tiles, self.reach)

    def relative(self) -> Planes:
        """What reads see, relative to the window."""
        return self.planes()

    def solved(self) -> Planes:
        """What reads see, differentiable in resistances that ask for it."""
        return self.over_line(planes_of(self.chip, self.state, self.lying or self.order))

    def over_line(self, planes: Planes, at: Tensor | None = None) -> Planes:
        """Planes of such cells, or those `at` (n,), less how far a reference column is off."""
        if self.line is None or planes.tiles is not None:
            return planes
        if at is not None:
            return over_line(self.chip, planes, self.line.planes(), at, self.size[-1])
        tiles = torch.arange(self.line.size[-1], device=self.w_max.device)
        self.line.order = None if self.order is None else (self.order[0], tiles)
        return over_line(self.chip, planes, self.line.solved())

    @property
    def weight(self) -> Tensor:
        """Logical weights (..., rows, cols) that the cells hold now."""
        layout, device = self.chip.layout, self.chip.device
        if self.separate and device.read is None and self.g._version == self._seen:
            planes = self._turned(self.matrix)  # nothing else is seen of them
        else:
            planes = self._held(layout.planes(self.g, device.window.span))
        return layout.logical(planes, self.chip.floor).mul_(self.w_max)

    def _held(self, planes: Tensor, at: Tensor | None = None) -> Tensor:
        """Planes of conductances, less how far those of a reference column are off."""
        if self.line is None:
            return planes
        own = Planes(self.line.g / self.chip.device.window.span)
        return over_line(self.chip, Planes(planes), own, at, self.size[-1]).matrix

    # ---- verbs ---------------------------------------------------------------------------------

    def program(
        self, weight: Tensor, writer: Writer | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, list[Written]]:
        """Write logical weights (..., rows, cols), or those in `mask`; ±w_max clips them.

        Returns the wanted conductances [S], and what was done to get there.

        Raises:
            ValueError: NaN or infinite weights.
        """
        with writing():
            if not bool(torch.isfinite(weight).all()):
                raise ValueError("weight must be finite to be programmed, got NaN or infinity")
            w = weight.to(self.w_max.dtype) / self.w_max
            generator = self.streams.generator(WRITE, self.w_max.device)
            line: list[Written] = []
            if self.line is not None and mask is None:
                line = self.line.program(torch.zeros_like(self.line.g[0]), writer)[1]
            state, targets, written = programmed(self.chip, self.state, w, writer, mask, generator)
            self.state = state
            self.sized()
        return targets, line + written

    def given(self, pulses: Pulses, ahead: int = 0) -> tuple[Pulses | None, ...]:
        """What each of the K devices is given of a round of pulses, `ahead` rounds from now."""
        clock = 0 if self.rounds is None else int(self.rounds)
        return self.chip.mapping.dealt(pulses, clock + ahead)

    def pulse(
        self,
        given: tuple[Pulses | None, ...],
        fired: Fired | None = None,
        efficacy: Efficacy | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Whole arrays (..., rows, cols) of counts; `refresh` is left to the caller."""
        generator = generator or self.streams.generator(WRITE, self.w_max.device)
        written: Any = None
        if efficacy is not None:
            # lines reach the devices of a weight as the coincidences do
            alone: Any = [(None, None)] * len(given)
            if fired is not None:
                alone = list(zip(*map(self.given, fired[:2]), strict=True))
            # a disturbed cell does not start a new life
            written = tuple(None if p is None else (p.up > 0) | (p.down > 0) for p in given)
            given = tuple(
                None if pulses is None else efficacy.of(k).on(pulses, *alone[k])
                for k, pulses in enumerate(given)
            )
        shape = self.size[1:]
        rounds, written = mapped(((given,), written), lambda t: t.expand(shape).flatten())
        state = self.state
        flat = states.flattened(state)
        made = states.pulsed(self.chip.device, flat, rounds, generator, written)
        states.put_back(state, None, made)
        self.keep(state)
        if self.rounds is not None:
            self.rounds += 1

    def pulse_some(
        self, at: Tensor | None, rounds: Iterable[Pulses], generator: torch.Generator
    ) -> bool:
        """Rounds of pulses of all weights, or 1-D counts of the first so many of those `at` (n,).

        Returns whether what reads see has followed; else `refresh` is left to the caller.
        """
        given = [self.given(pulses, ahead) for ahead, pulses in enumerate(rounds)]
        if at is None:
            for one in given:
                self.pulse(one, generator=generator)
            return False
        if self.rounds is not None:
            self.rounds += len(given)
        if not len(at):
            return True
        some = self.taken(at)
        self.put(at, states.pulsed(self.chip.device, some, given, generator), some)
        follows = self.separate and FEW * len(at) <= self.matrix[0].numel()
        if follows:
            self.follow(at, seen_of(self.chip, some))
        return follows

    @property
    def separate(self) -> bool:
        """Whether what a read sees of a weight hangs on its own cells alone, and has a place."""
        chip, g = self.chip, self.g
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(g):
            return False
        plain = chip.wires is None and chip.device.iv is None and g.is_contiguous()
        return plain and self.matrix.is_contiguous() and self._seen is not None

    def follow(self, at: Tensor, seen: Seen) -> None:
        """What reads see of the weights `at` has become this, reference columns left out."""
        place, (matrix, variance, own, held) = self.form.place(at, self.size[1:]), seen
        if self.line is not None:
            matrix, variance, *_ = self.over_line(Planes(matrix, variance), at)
            held = self.chip.layout.logical(self._held(own, at), self.chip.floor)
        self.matrix.view(len(matrix), -1).index_copy_(1, place, matrix)
        if self.variance is not None and variance is not None and self.variance.dim():
            self.variance.view(len(matrix), -1).index_copy_(1, place, variance)
        self._seen = self._stamp()
        if self.moved is not None:
            w_max = self.w_max
            w_max = w_max.expand(self.size[1:]).reshape(-1)[at] if w_max.dim() else w_max
            self.moved.append((place, held * w_max))
            if sum(len(w) for _, w in self.moved) > self.matrix[0].numel():
                self.moved = None  # nobody shows them

    def drive(self, v: Tensor, dt: float) -> None:
        """Voltages v (broadcastable to the cells) [V], wordline minus bitline, held for dt [s]."""
        with writing():
            generator = self.streams.generator(WRITE, self.w_max.device)
            v = v.to(self.w_max).expand(self.size)
            self.state = self.chip.device.drive(self.state, v, dt, generator=generator)
            self.sized()

    def advance(self, dt: float, temperature: float) -> None:
        """Let dt seconds pass at `temperature` [K]."""
        with writing():
            if self.line is not None:
                self.line.advance(dt, temperature)
            generator = self.streams.generator(WRITE, self.w_max.device)
            self.state = self.chip.device.advance(
                self.state, dt, temperature=temperature, generator=generator
            )

    def maintain(self, generator: torch.Generator) -> Tensor | None:
        """Rewrite, to the weight they hold, the weights that the mapping finds worn.

        Returns which cells (K, ..., rows, cols) were; None: none.
        """
        self.updates.add_(1)
        if not self.chip.mapping.due(self.updates):
            return None
        found = rewritten(self.chip, self.state, self.weight / self.w_max, generator)
        if found is None:
            return None
        self.state = found[0]
        return found[1]

    def adopt(self, old: Cells) -> bool:
        """Carry over from another chip's cells what fits these; faults are laid on top.

        Leaves of equal parts in an equal window stay as they are, and so do the conductances
        where the window and the encoding are the same (True); otherwise the weights are to be
        written (False).
        """
        mine, theirs, new, state = self.chip.device, old.chip.device, self.state, old.state
        if mine.window != theirs.window or self.size != old.size or not self.together(old):
            return False
        kept = {
            part: getattr(state, part)
            for part in STATEFUL
            if getattr(mine, part) is not None and getattr(mine, part) == getattr(theirs, part)
        }
        new = new._replace(**kept)
        same = self.chip.layout == old.chip.layout and bool((self.w_max == old.w_max).all())
        if same:
            age = state.age.expand(new.age.shape) if new.age.dim() else state.age.amax()
            new = mine.stick(new._replace(g=state.g, age=age))
            if self.line is not None and not (old.line and self.line.adopt(old.line)):
                self.line.program(torch.zeros_like(self.line.g[0]))
        self.state = mapped(new, Tensor.clone)
        self.sized()
        return same

    # ---- torch's conventions -------------------------------------------------------------------

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, a: Any, b: Any, missing: Any, *args: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, a, b, missing, *args)
        self.void &= f"{prefix}{self.KEPT}" not in state_dict
        if f"{prefix}reach" in missing:  # of a chip whose converters had ranges of their own
            missing.remove(f"{prefix}reach")
            self.sized()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Cells:
        """Move devices and change between float32 and float64; never below, never the clock."""

        def move(t: Tensor) -> Tensor:
            probe = fn(t.new_empty(0))
            if not t.is_floating_point():
                return fn(t)
            if t.dtype == torch.bfloat16 and not (t.is_meta or probe.is_meta):  # as it was drawn
                return t.to(probe.device)
            low = probe.dtype in (torch.float16, torch.bfloat16)
            clock = t is self.age or t is self.reach
            dtype = torch.float64 if clock else torch.float32 if low else probe.dtype
            if t.is_meta or probe.is_meta or dtype == probe.dtype:
                return fn(t)
            return t.to(device=probe.device, dtype=t.dtype if low else dtype)

        blank = self.w_max.is_meta
        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        if self.order is not None:
            self.order = (fn(self.order[0]), fn(self.order[1]))
        self._own = self.matrix
        self.void |= blank and not self.w_max.is_meta
        if not (blank or self.w_max.is_meta):
            self.refresh()
        self._seen = self._stamp()
        return self

    @property
    def replaced(self) -> bool:
        """Whether another chip's cells take the place of these for a call."""
        return self._buffers["matrix"] is not self._own
