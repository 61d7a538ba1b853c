"""Epochs as they go: a line of a CSV file each, or points in TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from experiments.lab.run import Run

Told = Callable[[Run, int, dict[str, float]], None]


class EpochsFile:
    """Writes a line an epoch and quantity; flushed at once, so that it can be followed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file)
        self._csv.writerow(["run", "epoch", "quantity", "value"])

    def __call__(self, run: Run, number: int, found: dict[str, float]) -> None:
        """An epoch is over."""
        self._csv.writerows([[run.label(), number, name, value] for name, value in found.items()])
        self._file.flush()

    @staticmethod
    def of(path: Path | None) -> Told | None:
        """A CSV file, or TensorBoard's writer where the path does not end in .csv.

        Raises:
            ValueError: TensorBoard is wanted and is not installed.
        """
        if path is None:
            return None
        return EpochsFile(path) if path.suffix == ".csv" else _tensorboard(path)


def _tensorboard(folder: Path) -> Told:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            f"--epochs-to {folder} needs the package tensorboard; a name that ends in .csv needs "
            "none"
        ) from None
    writer = SummaryWriter(str(folder))

    def told(run: Run, number: int, found: dict[str, float]) -> None:
        for name, value in found.items():
            writer.add_scalar(f"{name}/{run.label()}", value, number)
        writer.flush()

    return told
