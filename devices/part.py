"""The parts a memory cell is composed of: one small abstract class per kind of physics.

A `Device` holds at most one part of each kind. A part is a final frozen dataclass (its fields are
its settings, SI units) and owns nothing else: what differs from cell to cell is drawn once by
`fabricate` and travels beside the conductances as a NamedTuple of tensors, the part's *leaf*.
A part sees the nominal window, the conductances and its own leaf, never another part's.

Every random number of a part comes from the `Draw` that its verb is given.

Adding a law is one file: subclass one of the classes below, implement its verbs, and pass
`devices.testing.check(part)`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from devices._check import finite, verbs
from devices.blocks import BLOCK
from devices.draw import Draw

MOST = 1e15
"""Pulses beyond which more of them change nothing, in any law."""


class Window(NamedTuple):
    """Nominal conductance window of a device [S]."""

    g_min: float
    g_max: float

    @property
    def span(self) -> float:
        """Width of the window, g_max − g_min [S]."""
        return self.g_max - self.g_min


class Pulses(NamedTuple):
    """Potentiation and depression pulses for one device of every weight.

    Two counts, never a signed net one: on an asymmetric device the pulses that cancel in the net
    still move the cell. `up_var`/`down_var` are the variances of random counts that travel as
    moments; None says that the counts are exact. `z` is a standard normal shared by devices that
    are given the same pulses, so that their random counts stay the same counts.
    """

    up: Tensor  # (..., rows, cols) mean count >= 0
    down: Tensor  # (..., rows, cols) mean count >= 0
    up_var: Tensor | None = None  # (..., rows, cols)
    down_var: Tensor | None = None  # (..., rows, cols)
    z: Tensor | None = None  # (..., rows, cols)

    def to(self, dtype: torch.dtype) -> Pulses:
        """The same pulses in the cells' dtype."""
        if all(t is None or t.dtype == dtype for t in self):
            return self
        return Pulses(*(None if t is None else t.to(dtype) for t in self))  # type: ignore[arg-type]

    def checked(self) -> Pulses:
        """The same pulses, both variances or none, at most `MOST` of them.

        Raises:
            ValueError: counts that are negative or no numbers.
        """
        up_var, down_var = self.up_var, self.down_var
        if (up_var is None) != (down_var is None):
            up_var = torch.zeros_like(self.up) if up_var is None else up_var
            down_var = torch.zeros_like(self.down) if down_var is None else down_var
        given = [self.up, self.down, up_var, down_var]
        ends = [torch.stack(t.aminmax()) for t in given if t is not None and t.numel()]
        if ends:
            low, high = zip(*torch.stack(ends).tolist(), strict=True)  # one sync
            if not all(count >= 0 for count in low):
                raise ValueError("pulse counts and their variances must be >= 0, got NaN or less")
            if max(high) > MOST:
                given = [None if t is None else t.clamp(max=MOST) for t in given]
        given.append(self.z)
        return Pulses(*given)  # type: ignore[arg-type]

    def swapped(self) -> Pulses:
        """The same pulses with potentiation and depression exchanged.

        The shared normal changes sign with the direction of the net count it stands for.
        """
        z = None if self.z is None else -self.z
        return Pulses(self.down, self.up, self.down_var, self.up_var, z)

    def weakened(self, up: Tensor, down: Tensor) -> Pulses:
        """The same pulses, each of which does only a part (..., rows, cols) of its work."""
        up_var = None if self.up_var is None else self.up_var * up.square()
        down_var = None if self.down_var is None else self.down_var * down.square()
        return Pulses(self.up * up, self.down * down, up_var, down_var, self.z)


class Empty(NamedTuple):
    """The leaf of a part whose cells are all alike."""


class State(NamedTuple):
    """Everything that evolves in an array of cells; a pytree of tensors, one leaf per part.

    An absent part has the leaf None.
    """

    g: Tensor  # (..., rows, cols) [S]
    age: Tensor  # () or (..., rows, cols) float64 [s], time since the cell was last written
    update: Any = None
    read: Any = None
    retention: Any = None
    faults: Any = None


class Part(ABC):
    """One kind of physics of a memory cell."""

    ages: ClassVar[bool] = False
    """Whether the part needs the age of every single cell (drift, 1/f noise)."""
    fixed: ClassVar[bool] = False
    """Whether what differs from cell to cell stays as it was drawn."""

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Any:
        """Draw what differs from cell to cell, once.

        Returns a NamedTuple of tensors, each of full `shape` or 0-dim, none sharing storage.
        """
        return Empty()

    def written(
        self,
        window: Window,
        g: Tensor,  # (..., rows, cols) [S] after the write
        p: Any,
        mask: Tensor,  # (..., rows, cols) bool, the cells that were written
        draw: Draw,
    ) -> Any:
        """The leaf after a write: a part that redraws on rewriting (PCM's drift exponent) does.

        1-D throughout where only some cells were pulsed, as in `Update.pulse`.
        """
        return p


@functools.cache
def check_verbs(kind: type[Part]) -> None:
    """Refuse verbs that a device could not call, such as those of version 0.1.

    Raises:
        TypeError: a verb, what is wrong and what it must look like.
    """
    for cls in kind.__mro__:
        verbs(cls, __name__)


class Update(Part):
    """How programming pulses move the conductance."""

    whole: ClassVar[bool] = False
    """Whether the law needs whole pulse counts; `Expected` and moments are then refused."""

    block: ClassVar[int] = BLOCK
    """Cells of a large array that are pulsed at once; more for a law that needs no temporaries."""

    @abstractmethod
    def step(self, window: Window) -> float:
        """Nominal conductance change of one pulse, the `dg_min` of pulse schemes [S]."""

    @abstractmethod
    def pulse(
        self,
        window: Window,
        g: Tensor,  # (..., rows, cols) [S]
        p: Any,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """New conductances [S] and leaf after any (up, down) counts, one call for all cells.

        Up and down pulses are taken as evenly interleaved. The law may overshoot the window; the
        device clips the move.

        Args:
            window: the nominal window.
            g: conductances of the cells that are pulsed.
            p: their leaf.
            pulses: their counts.
            draw: of the cycle-to-cycle noise.
            at: None where these are all cells in their shape; else the flat index (cells,) int64 of
                each of them, as only some are pulsed or a large array comes in blocks: then g, the
                counts and what the leaf has for every cell are 1-D.
        """

    def bounds(self, window: Window, p: Any) -> tuple[Tensor | float, Tensor | float]:
        """Lower and upper conductance a pulse can reach [S], per cell where they are spread."""
        return window.g_min, window.g_max

    def partial(self, p: Any, share: Tensor) -> tuple[Tensor, Tensor]:
        """What up and down pulses of a share of their voltage do, relative to whole ones.

        `share` is >= 0 and broadcasts to the cells; so do the answers.
        """
        raise TypeError(
            f"{type(self).__name__} is a pulse law and says nothing of other voltages than its own"
        )

    def drive(
        self,
        window: Window,
        g: Tensor,  # (..., rows, cols) [S]
        p: Any,
        v: Tensor,  # (..., rows, cols) [V] held for dt
        dt: float,
        draw: Draw,
    ) -> tuple[Tensor, Any]:
        """New conductances [S] and leaf after the voltage v was held for dt seconds."""
        raise TypeError(
            f"{type(self).__name__} is a pulse law and has no voltage dynamics; "
            "drive() needs a dynamical law such as VTEAM"
        )


def whole_counts(law: Update, pulses: Pulses) -> tuple[Tensor, Tensor]:
    """The counts of a law that needs whole ones.

    Raises:
        ValueError: fractional or random counts.
    """
    up, down = (n if n.is_floating_point() else n.double() for n in (pulses.up, pulses.down))
    moments = pulses.up_var is not None or pulses.down_var is not None
    if moments or bool(((up != up.floor()) | (down != down.floor())).any()):
        raise ValueError(
            f"{type(law).__name__} needs whole pulse counts; use ExactBits, Deterministic or "
            "Poisson counts, not Expected or moments"
        )
    return up, down


class Read(Part):
    """Fluctuation of the conductance while it is read."""

    @abstractmethod
    def std(
        self,
        window: Window,
        g: Tensor,  # (..., rows, cols) [S]
        p: Any,
        age: Tensor,  # () or (..., rows, cols) [s]
    ) -> Tensor:
        """Standard deviation of one read, white from read to read; () or g's shape [S]."""

    def shift(self, window: Window, g: Tensor, p: Any) -> Tensor | None:
        """Slow (coloured) noise as it stands now, added to g [S]; None where there is none."""
        return None

    def step(self, window: Window, p: Any, dt: float, draw: Draw) -> Any:
        """The leaf dt seconds later (coloured noise moves on)."""
        return p


class Retention(Part):
    """What time does to a cell that nobody touches."""

    @abstractmethod
    def advance(
        self,
        window: Window,
        g: Tensor,  # (..., rows, cols) [S]
        p: Any,
        age: Tensor,  # () or (..., rows, cols) [s] before the step
        dt: float,
        draw: Draw,
        *,
        temperature: float,
    ) -> tuple[Tensor, Any]:
        """Conductances [S] and leaf dt seconds later at `temperature` [K]."""


class Write(Part):
    """The error of setting a cell to a wanted conductance in one go."""

    @abstractmethod
    def program(
        self,
        window: Window,
        target: Tensor,  # (..., rows, cols) [S]
        draw: Draw,
    ) -> Tensor:
        """Conductance reached for each target [S]; the device clips it to the window."""


class IV(Part):
    """Current through a cell against the voltage across it."""

    @abstractmethod
    def current(
        self,
        g: Tensor,  # (..., rows, cols) [S]
        v: Tensor,  # broadcastable to g [V]
    ) -> Tensor:
        """Current [A]; zero at v = 0 and increasing in v."""

    def spice(self, g: str, v: str) -> str:
        """The same current as an expression of a SPICE B source, of two expressions g and v."""
        raise TypeError(f"{type(self).__name__} states no SPICE expression of its current")


class Faults(Part):
    """Cells that no longer follow their pulses."""

    @abstractmethod
    def stuck(self, p: Any) -> Tensor:
        """Conductance at which each cell is stuck [S], NaN for a healthy cell."""


def check_window(g_min: object, g_max: object) -> Window:
    """A validated window.

    Raises:
        TypeError: a bound is not a real number.
        ValueError: a bound is not finite, negative, not ordered, or above 1 S (a missing prefix).
    """
    low, high = finite("g_min", g_min), finite("g_max", g_max)
    if low < 0:
        raise ValueError(f"g_min must be >= 0 S, got {low!r}")
    if not low < high:
        raise ValueError(f"g_min must be below g_max, got g_min={low!r} S and g_max={high!r} S")
    if high > 1.0:
        raise ValueError(
            f"g_max must be at most 1 S, got {high!r}; conductances are in siemens, "
            "so 25 uS is 25e-6"
        )
    return Window(low, high)
