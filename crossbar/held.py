"""A state of cells as buffers of a module."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from crossbar import states
from crossbar.chip import Chip
from crossbar.planes import Lying
from crossbar.states import copied, writing
from devices import State
from devices.device import STATEFUL


class Held(nn.Module):
    """Every tensor of a `State` is a buffer, written in place."""

    chip: Chip
    g: Tensor  # (K, ..., rows, cols) [S]
    age: Tensor
    size: tuple[int, ...]  # of g

    def hold(self, state: State, lying: Lying | None) -> None:
        """Register what the state is made of, and where wires find it among spare lines."""
        if lying is not None:
            self.register_buffer("idle", lying.idle)
            self.register_buffer("at", lying.at)
        self._leaves: dict[str, Any] = {}  # each leaf with its buffers' names for tensors
        self.size = tuple(state.g.shape)
        self.register_buffer("g", state.g)
        self.register_buffer("age", state.age)
        for part in STATEFUL:
            self._leaves[part] = self._named(part, getattr(state, part))

    @property
    def lying(self) -> Lying | None:
        """Where the cells lie in tiles with spare lines and wires."""
        idle, at = (self._buffers.get(name) for name in Lying._fields)
        return None if idle is None or at is None else Lying(idle, at)

    def together(self, old: Held) -> bool:
        """Whether these cells lie as those of another chip do, among the same spare lines."""
        new, was = self.chip, old.chip
        if new.spares is None and was.spares is None:
            return True
        mine, theirs = self.lying, old.lying
        if (new.spares, new.tile) != (was.spares, was.tile) or (mine is None) != (theirs is None):
            return False
        if mine is not None and theirs is not None and new.device.faults == was.device.faults:
            with writing():
                for name, value in zip(Lying._fields, theirs, strict=True):
                    self._put(name, value)
        return True

    def lends(self, parameter: Tensor) -> bool:
        """Whether a Parameter that shows these cells is their own memory."""
        return False

    def apart(self, parameter: Tensor) -> None:
        """Somebody is about to write into the Parameter: cells keep what they hold."""

    def taken(self, at: Tensor) -> State:
        """The cells (K, n) of the weights at flat indices (n,)."""
        return states.taken(self.state, at)

    def put(self, at: Tensor, made: State, some: State) -> None:
        """What `states.pulsed` made of the cells that were `taken`, which are now `some`."""
        states.put_back(self.state, at, made)

    @abstractmethod
    def refresh(self) -> None:
        """What is to be done after the state was written."""

    def _named(self, name: str, leaf: Any) -> Any:
        """Register every tensor of a leaf, nested ones too; the leaf with their names instead."""
        if isinstance(leaf, Tensor):
            self.register_buffer(name, leaf)
            return name
        if leaf is None:
            return None
        fields = leaf._asdict().items()
        return type(leaf)(*(self._named(f"{name}_{field}", value) for field, value in fields))

    @property
    def state(self) -> State:
        """The state as one tuple of tensors; assigning it writes the buffers in place."""
        return self._with(self.g)

    @state.setter
    def state(self, state: State) -> None:
        self.keep(state)
        self.refresh()

    def _with(self, g: Tensor) -> State:
        """The state with these conductances."""
        buffers = self._buffers

        def held(names: Any) -> Any:
            if isinstance(names, str):
                return buffers[names]
            return names if names is None else type(names)(*(held(name) for name in names))

        return State(g, self.age, **{part: held(x) for part, x in self._leaves.items()})

    def keep(self, state: State) -> None:
        """Write a state, whose tensors may be the buffers; `refresh` is left to the caller."""

        def hold(names: Any, leaf: Any) -> None:
            if isinstance(names, str):
                self._put(names, leaf)
            elif names is not None:
                for name, value in zip(names, leaf, strict=True):
                    hold(name, value)

        with writing():
            self._put("g", state.g)
            self._put("age", state.age)
            for part, names in self._leaves.items():
                hold(names, getattr(state, part))

    def _put(self, name: str, value: Tensor | None) -> None:
        """Into the buffer that is there: compiled graphs and stacked chips keep seeing it."""
        held: Tensor | None = getattr(self, name)
        if value is None or value is held:
            setattr(self, name, value)
            return
        fits = held is not None and held.shape == value.shape and held.dtype == value.dtype
        if held is None or not fits or held.is_inference() or held.device != value.device:
            setattr(self, name, value.clone() if value.is_inference() else value.contiguous())
        else:
            copied(held, value)
