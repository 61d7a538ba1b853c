"""Base of the laws around another law, which keep every verb that they do not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from devices._check import instance
from devices.draw import Draw
from devices.part import Pulses, Update, Window, check_verbs


@dataclass(frozen=True)
class Around(Update):
    """An update law that is another one but for what a subclass states.

    A subclass whose leaf is more than that of the law says where the law's is (`_inner`) and how a
    new one is put there (`_outer`).

    Args:
        law: the other law.

    Raises:
        TypeError: no update law.

    Source: a composition, without physics of its own.
    """

    law: Update

    def __post_init__(self) -> None:
        instance("law", self.law, Update, optional=False)
        check_verbs(type(self.law))

    @property
    def whole(self) -> bool:  # type: ignore[override]
        """Whether the law needs whole counts."""
        return self.law.whole

    @property
    def ages(self) -> bool:  # type: ignore[override]
        """Whether the law needs the age of every single cell."""
        return self.law.ages

    def _inner(self, p: Any) -> Any:
        return p

    def _outer(self, p: Any, law: Any) -> Any:
        return law

    def step(self, window: Window) -> float:
        """The law's [S]."""
        return self.law.step(window)

    def bounds(self, window: Window, p: Any) -> tuple[Tensor | float, Tensor | float]:
        """The law's [S]."""
        return self.law.bounds(window, self._inner(p))

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Any:
        """Cells of the law."""
        return self.law.fabricate(window, shape, draw)

    def written(self, window: Window, g: Tensor, p: Any, mask: Tensor, draw: Draw) -> Any:
        """What the law makes of a write."""
        return self._outer(p, self.law.written(window, g, self._inner(p), mask, draw))

    def pulse(
        self,
        window: Window,
        g: Tensor,
        p: Any,
        pulses: Pulses,
        draw: Draw,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """The law's."""
        moved, law = self.law.pulse(window, g, self._inner(p), pulses, draw, at)
        return moved, self._outer(p, law)

    def partial(self, p: Any, share: Tensor) -> tuple[Tensor, Tensor]:
        """The law's."""
        return self.law.partial(self._inner(p), share)

    def drive(
        self, window: Window, g: Tensor, p: Any, v: Tensor, dt: float, draw: Draw
    ) -> tuple[Tensor, Any]:
        """The law's dynamics."""
        moved, law = self.law.drive(window, g, self._inner(p), v, dt, draw)
        return moved, self._outer(p, law)
