"""What a row of the comparison is, and what all predicted ones say together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

UNMET = "cannot be met"
"""How the reason of a row begins that stays red."""


class Kind(Enum):
    """What a row can show."""

    IDENTITY = "identity"  # a published number made of published numbers: tests units alone
    COUNTED = "counted × stated cost"
    FITTED = "fitted"  # a cell that fixed a constant
    PREDICTED = "predicted"  # by constants of other cells


class Row(NamedTuple):
    """One published number beside ours.

    `tolerance` is relative, None where nothing is claimed; `reason` says why a row is red, or what
    is left out.
    """

    source: str
    setting: str
    unit: str
    published: float | None  # None: it is not stated
    ours: float | None  # None: it cannot be computed
    kind: Kind
    tolerance: float | None = None
    reason: str = ""

    @property
    def error(self) -> float | None:
        """Ours over published, less 1."""
        if self.published is None or self.ours is None:
            return None
        return self.ours / self.published - 1

    @property
    def verdict(self) -> str:
        """green, red, or "shown" where nothing is claimed."""
        if self.reason.startswith(UNMET):
            return "red"
        if self.kind is Kind.FITTED or self.tolerance is None:
            return "shown" if self.ours is not None else "red"
        error = self.error
        return "green" if error is not None and abs(error) <= self.tolerance else "red"


class Summary(NamedTuple):
    """Of the predicted rows; those that cannot be met are counted apart, and stay red."""

    rows: int
    median: float
    largest: float
    unmet: int

    @property
    def holds(self) -> bool:
        """Median at most 10 %, largest at most 25 %."""
        return self.median <= 0.10 and self.largest <= 0.25


def summary(rows: Iterable[Row]) -> Summary:
    """Of the predicted rows."""
    predicted = [row for row in rows if row.kind is Kind.PREDICTED]
    met = [row for row in predicted if not row.reason.startswith(UNMET)]
    errors = [abs(row.error) for row in met if row.error is not None]
    return Summary(
        len(errors), statistics.median(errors), max(errors), len(predicted) - len(errors)
    )
