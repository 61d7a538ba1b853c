"""What a published study claims, stated before anything runs, and its verdict by code."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from experiments.lab.run import Run, Stored
from experiments.lab.statistics import decided, estimate, percent


@dataclass(frozen=True)
class Claim:
    """One number of a publication beside ours.

    Args:
        source: publication.
        setting: what was computed, and how.
        unit: of the numbers.
        published: the number as it was published, or in words.
        low: smallest value that meets the claim.
        high: largest one.
        ours: independent repeats; of one number that no seed moves, that number alone.
        exact: whether no seed moves it.
        note: what is different here, or not known.
    """

    source: str
    setting: str
    unit: str
    published: str
    ours: Sequence[float]
    low: float = -math.inf
    high: float = math.inf
    exact: bool = False
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether ours lies between the bounds; None where its 95 % interval leaves that open."""
        if self.exact:
            (value,) = self.ours
            return self.low <= value <= self.high
        return decided(estimate(self.ours), self.low, self.high)

    @property
    def criterion(self) -> str:
        """The bounds in words."""
        if math.isinf(self.high):
            return f"≥ {self.low:g}"
        return f"≤ {self.high:g}" if math.isinf(self.low) else f"{self.low:g} … {self.high:g}"

    @property
    def found(self) -> str:
        """Ours in words."""
        if self.exact:
            return f"{self.ours[0]:.4g}"
        own = estimate(self.ours)
        digits = max(0, 2 - math.floor(math.log10(abs(own.mean)))) if own.mean else 2
        return percent(own, min(digits, 4))


class Anchor(ABC):
    """A published study, small enough to be repeated.

    Args:
        quick: a size that shows that it runs, and decides nothing unless the anchor is exact.
    """

    key: ClassVar[str]
    about: ClassVar[str]
    exact: ClassVar[bool] = False
    """Whether its smaller size decides as well."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick

    @abstractmethod
    def runs(self) -> list[Run]:
        """What is computed."""

    @abstractmethod
    def claims(self, store: Stored) -> list[Claim]:
        """What was claimed, beside what those runs found."""
