"""Runs of the study of one's own device."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.tasks.runs import Train


@dataclass(frozen=True)
class Like(Train):
    """A training at the learning rate that was chosen for another, as on a device much like it."""

    other: Train | None = None

    def trials(self) -> tuple[Train, ...]:
        """Those of the other."""
        return super().trials() if self.other is None else self.other.trials()
