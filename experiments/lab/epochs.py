"""Epochs as they go: a line of a CSV file each, or points in TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from experiments.lab.run import Run

Told = Callable[[Run, int, dict[str, float]], None]


class EpochsFile:
    """Writes a line an epoch and quantity; closed each time, so that it can be followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write("w", [["run", "epoch", "quantity", "value"]])

    def __call__(self, run: Run, done: int, found: dict[str, float]) -> None:
        """An epoch is over."""
        self._write("a", [[run.label(), done, name, value] for name, value in found.items()])

    def _write(self, mode: str, rows: list[list[object]]) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

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

    def told(run: Run, done: int, found: dict[str, float]) -> None:
        for name, value in found.items():
            writer.add_scalar(f"{name}/{run.label()}", value, done)
        writer.flush()

    return told
