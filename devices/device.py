"""A memory cell composed of parts, and the verbs an array uses on all of its cells at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import at_least, instance, positive
from devices.blocks import blockwise
from devices.draw import Draw, seeded
from devices.electrical import WritePulse
from devices.part import (
    IV,
    Faults,
    Part,
    Pulses,
    Read,
    Retention,
    State,
    Update,
    Window,
    Write,
    check_verbs,
    check_window,
)
from devices.trees import pick, put
from devices.update.clip import clip_move, within
from devices.update.moments import Count, rate

STATEFUL = ("update", "read", "retention", "faults")
"""Parts that have a leaf in `State`, in the order in which they are fabricated."""


@dataclass(frozen=True)
class Device:
    """One kind of memory cell; a part left out (None) is physics left out.

    Args:
        g_min: lower end of the nominal conductance window [S], >= 0.
        g_max: upper end [S], above g_min and at most 1.
        update: how pulses move the conductance; None: a write-only device.
        read: fluctuation while reading; None: noiseless reads.
        write: error of programming to a target; None: exact.
        retention: what time does; None: nothing.
        iv: current–voltage law; None: ohmic, I = g V.
        faults: which cells are stuck; None: all cells work.
        write_pulse: what a pulse is at the terminals, for what it costs; None: nobody said.

    Raises:
        TypeError: a field that is not a number or not a part of its kind.
        ValueError: a window that is empty, negative or above 1 S.
    """

    g_min: float
    g_max: float
    update: Update | None = None
    read: Read | None = None
    write: Write | None = None
    retention: Retention | None = None
    iv: IV | None = None
    faults: Faults | None = None
    write_pulse: WritePulse | None = None

    def __post_init__(self) -> None:
        check_window(self.g_min, self.g_max)
        kinds: tuple[tuple[str, type[Any]], ...] = (
            ("update", Update),
            ("read", Read),
            ("write", Write),
            ("retention", Retention),
            ("iv", IV),
            ("faults", Faults),
        )
        instance("write_pulse", self.write_pulse, WritePulse)
        for name, kind in kinds:
            instance(name, getattr(self, name), kind)
            part: Part | None = getattr(self, name)
            if part is not None:
                check_verbs(type(part))

    @property
    def window(self) -> Window:
        """The nominal window [S]."""
        return Window(float(self.g_min), float(self.g_max))

    @property
    def draws_reads(self) -> bool:
        """Whether the read noise of a cell has parameters of its own, drawn at fabrication."""
        return self.read is not None and type(self.read).fabricate is not Part.fabricate

    @property
    def ages(self) -> bool:
        """Whether any part needs the age of every single cell."""
        return any(part.ages for _, part in self._parts())

    def _parts(self) -> list[tuple[str, Part]]:
        named = ((name, getattr(self, name)) for name in STATEFUL)
        return [(name, part) for name, part in named if part is not None]

    def fabricate(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> State:
        """A new array of cells at g_min, of the given shape.

        Every part draws from its own stream seeded by one number of `generator`, so that adding a
        part, or a parameter of another one, leaves the rest of the chip as it was.
        """
        dtype = dtype or torch.get_default_dtype()
        where = "cpu" if generator is None else generator.device
        seed = int(torch.randint(2**62, (), generator=generator, device=where).item())
        g = torch.full(shape, self.g_min, dtype=dtype, device=device)
        age = torch.zeros(shape if self.ages else (), dtype=torch.float64, device=device)
        leaves = {
            name: self.leaf(name, shape, seed, dtype=dtype, device=device)
            for name, _ in self._parts()
        }
        return self.stick(State(g, age, **leaves))

    def leaf(
        self,
        name: str,
        shape: tuple[int, ...],
        seed: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ) -> Any:
        """What differs from cell to cell in one part, from the part's own stream of `seed`."""
        part: Part = getattr(self, name)
        own = seeded(f"{seed}/{name}", torch.device(device or "cpu"))
        return part.fabricate(self.window, shape, Draw(own, dtype, device))

    def pulse(
        self,
        state: State,
        pulses: Pulses,
        *,
        written: Tensor | None = None,  # (..., rows, cols) bool
        generator: torch.Generator | None = None,
        at: Tensor | None = None,  # (cells,) int64
        checked: bool = False,
    ) -> State:
        """The array after the pulses.

        A pulse never moves a cell beyond its own bounds, nor further outside them: it is the move
        that is clipped, as a drifted cell may lie below g_min.

        Args:
            state: the array.
            pulses: potentiation and depression pulses of every cell, or of those `at`.
            written: the cells that start a new life by it; None: all that were pulsed.
            generator: source of the cycle-to-cycle noise.
            at: flat indices of the only cells that are pulsed, none of them twice; counts and
                `written` are then 1-D, one for each index. The others stay as they are, bit for
                bit. None: all cells.
            checked: the pulses are `Pulses.checked`, which need not be done for each device.

        Raises:
            TypeError: a write-only device.
            ValueError: counts of another shape than the cells or `at`, negative or no numbers.
        """
        if self.update is None:
            raise TypeError(
                "this device has no update law (update=None): it can only be programmed"
            )
        pulses = pulses if checked else pulses.checked()
        if at is None:
            for name, counts in zip(Pulses._fields, pulses, strict=True):
                _fits(name, counts, state.g)
            return self._pulse(self.update, state, pulses, written, generator, None)
        if at.dim() != 1 or pulses.up.shape != at.shape or pulses.down.shape != at.shape:
            raise ValueError(
                f"at and the counts of its cells must be 1-D and of one length, got {at.shape}, "
                f"up {pulses.up.shape} and down {pulses.down.shape}"
            )
        few = pick(state, at)
        pulsed = self._pulse(self.update, few, pulses, written, generator, at)
        return put(state, at, few, pulsed, state.g.shape)

    def _pulse(
        self,
        update: Update,
        state: State,
        pulses: Pulses,
        written: Tensor | None,
        generator: torch.Generator | None,
        at: Tensor | None,
    ) -> State:
        """`pulse` of an array, or of the cells `at` of one."""
        draw = Draw.like(state.g, generator)
        pulses = pulses.to(draw.dtype)

        def law(
            g: Tensor, leaf: Any, given: Pulses, at: Tensor | None, out: Tensor | None
        ) -> tuple[Tensor, Any]:
            moved, leaf = update.pulse(self.window, g, leaf, given, draw, at)
            return clip_move(g, moved, *update.bounds(self.window, leaf), out), leaf

        g, leaf = blockwise(law, state.g, state.update, pulses, at, update.block)
        state = state._replace(g=g, update=leaf)
        if self._rewriting:
            if written is None:
                written = _pulsed(pulses, draw)
            state = self._written(state, written, draw)
        return self.stick(state)

    def drive(
        self, state: State, v: Tensor, dt: float, *, generator: torch.Generator | None = None
    ) -> State:
        """The array after v [V] lay across the cells for dt [s].

        Raises:
            TypeError: a device without voltage dynamics.
            ValueError: dt not positive.
        """
        if self.update is None:
            raise TypeError("this device has no update law (update=None): it cannot be driven")
        positive("dt", dt, "s")
        draw = Draw.like(state.g, generator)
        g, leaf = self.update.drive(self.window, state.g, state.update, v, dt, draw)
        low, high = self.update.bounds(self.window, leaf)
        moved = state._replace(g=clip_move(state.g, g, low, high), update=leaf)
        if self._rewriting:
            moved = self._written(moved, moved.g != state.g, draw)
        return self.stick(moved)

    def program(
        self,
        state: State,
        target: Tensor,  # broadcastable to (..., rows, cols) [S]
        *,
        mask: Tensor | None = None,  # (..., rows, cols) bool
        generator: torch.Generator | None = None,
    ) -> State:
        """The array after one programming to `target`, within the window and the cell's bounds.

        Args:
            state: the array.
            target: wanted conductances [S].
            mask: the cells that are written; None: all.
            generator: source of the write error.

        Raises:
            ValueError: a target that is no number, of a cell that is written; a shape that is not
                that of the cells.
        """
        draw = Draw.like(state.g, generator)
        _fits("target", target, state.g)
        _fits("mask", mask, state.g)
        target = target.to(state.g.dtype).expand_as(state.g)
        unknown = target.isnan() if mask is None else target.isnan() & mask
        if bool(unknown.any()):
            raise ValueError("target must be a number for every cell that is written, got NaN")
        g = target
        if self.write is not None:
            g = self.write.program(self.window, target, draw)
        g = g.clamp(self.g_min, self.g_max)
        if self.update is not None:
            g = within(g, *self.update.bounds(self.window, state.update))
        if mask is None:
            mask = torch.ones((), dtype=torch.bool, device=g.device).expand(g.shape)
        else:
            g = torch.where(mask, g, state.g)
        return self.stick(self._written(state._replace(g=g), mask, draw))

    def rehearse(self, target: Tensor, *, generator: torch.Generator | None = None) -> State:
        """Fresh cells just written to `target` [S], as far as a read at once would tell.

        Differentiable in the target (the error is added straight through); cells have neither
        update parameters, drift nor faults.
        """
        draw = Draw.like(target, generator)
        g = target
        if self.write is not None:
            g = self.write.program(self.window, g, draw)
            g = g.clamp(self.g_min, self.g_max)
        age = torch.zeros((), dtype=torch.float64, device=g.device)
        if self.read is None:
            return State(g, age)
        leaf = self.read.fabricate(self.window, tuple(g.shape), draw)
        everywhere = torch.ones((), dtype=torch.bool, device=g.device).expand(g.shape)
        leaf = self.read.written(self.window, g.detach(), leaf, everywhere, draw)
        return State(g, age, read=leaf)

    def advance(
        self,
        state: State,
        dt: float,
        *,
        temperature: float = 300.0,
        generator: torch.Generator | None = None,
    ) -> State:
        """The array dt seconds later at `temperature` [K]: drift, slow noise, older cells.

        Raises:
            ValueError: dt negative or temperature not positive.
        """
        dt = at_least("dt", dt, 0, "s")
        positive("temperature", temperature, "K")
        draw = Draw.like(state.g, generator)
        if self.retention is not None:
            g, leaf = self.retention.advance(
                self.window,
                state.g,
                state.retention,
                state.age,
                dt,
                draw,
                temperature=temperature,
            )
            state = state._replace(g=g, retention=leaf)
        if self.read is not None:
            leaf = self.read.step(self.window, state.read, dt, draw)
            state = state._replace(read=leaf)
        return self.stick(state._replace(age=state.age + dt))

    def seen(self, state: State) -> Tensor:
        """Conductance as reads see it now, with slow noise but without white noise [S]."""
        if self.read is None:
            return state.g
        shift = self.read.shift(self.window, state.g, state.read)
        return state.g if shift is None else state.g + shift

    def std(self, state: State) -> Tensor | None:
        """Standard deviation of the white noise of one read, () or per cell [S]; None: none."""
        if self.read is None:
            return None
        return self.read.std(self.window, state.g, state.read, state.age)

    @property
    def _rewriting(self) -> bool:
        """Whether a rewritten cell must be told so."""
        return self.ages or any(type(part).written is not Part.written for _, part in self._parts())

    def _written(self, state: State, mask: Tensor, draw: Draw) -> State:
        age = state.age
        age = torch.where(mask, 0.0, age) if age.dim() else torch.zeros_like(age)
        leaves = {
            name: part.written(self.window, state.g, getattr(state, name), mask, draw)
            for name, part in self._parts()
        }
        return state._replace(age=age, **leaves)

    def stick(self, state: State) -> State:
        """The array with every faulty cell at the conductance it is stuck at."""
        if self.faults is None:
            return state
        at = self.faults.stuck(state.faults)
        return state._replace(g=torch.where(at.isnan(), state.g, at))


def _fits(name: str, given: Tensor | None, g: Tensor) -> None:
    """Refuse what does not broadcast to the cells, or what they would broadcast to.

    Raises:
        ValueError: another shape.
    """
    if given is None or given.shape == g.shape:
        return
    pairs = zip(reversed(given.shape), reversed(g.shape), strict=False)
    if given.dim() > g.dim() or any(own not in (1, cells) for own, cells in pairs):
        raise ValueError(
            f"{name} must be like the cells {tuple(g.shape)}, got {tuple(given.shape)}"
        )


def _pulsed(pulses: Pulses, draw: Draw) -> Tensor:
    """The cells that get a pulse at all: of random counts and parts of a pulse, as many as do."""
    up, down, up_var, down_var, _ = pulses
    given = (up > 0) | (down > 0)
    part = (up != up.floor()) | (down != down.floor())
    if up_var is None and down_var is None and not bool(part.any()):
        return given
    never = -torch.ones_like(up)
    none = -rate(never, Count.of(up, up_var)) - rate(never, Count.of(down, down_var))
    return given & (draw.uniform(up.shape) < -torch.expm1(none))
