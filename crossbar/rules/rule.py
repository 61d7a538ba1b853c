"""What a rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.operations import Operation
from crossbar.regions import Region
from crossbar.streams import Streams


class Slot(NamedTuple):
    """A matrix that a rule wants.

    The shown weight is Σ gain · matrix; the last matrix is the one that is programmed, the others
    start at zero.
    """

    gain: float = 1.0
    chip: Chip | None = None  # None: the weight's own


class Job(NamedTuple):
    """One step of one weight."""

    matrices: Sequence[Matrix]
    leaf: Any  # the rule's digital state, a NamedTuple of tensors written in place; None: none
    op: Operation
    x: Tensor  # as `op` takes them
    d: Tensor
    lr: float
    region: Region

    def lines(self) -> tuple[Tensor, Tensor]:
        """Inputs (n, ..., rows) and errors (n, ..., cols) one by one: a convolution unfolds."""
        x, d = self.op.vectors(self.x, self.d)
        return (d, x) if self.region.transposed else (x, d)


class Rule(ABC):
    """How the steps of an optimiser reach the cells."""

    def slots(self) -> tuple[Slot, ...]:
        """The matrices it wants for each weight."""
        return (Slot(),)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Any:
        """Digital state and clocks of a weight (..., rows, cols), a NamedTuple of tensors."""
        return None

    def check(self, chip: Chip) -> None:
        """Refuse a chip that the rule cannot work on.

        Raises:
            TypeError: a device or mapping that pulses cannot train.
        """
        if chip.device.update is None:
            raise TypeError(
                "mode InSitu() needs a device with an update law, got update=None (a write-only "
                "device): train with HardwareAware() and program() it"
            )
        if why := chip.mapping.untrainable():
            raise TypeError(why)

    @abstractmethod
    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """All jobs of a step at once; what a rule draws itself comes from `streams`."""

    def whole(self, job: Job) -> None:
        """Refuse a job of a part of a weight.

        Raises:
            TypeError: a region of the matrix.
        """
        if not job.region.whole:
            raise TypeError(
                f"{type(self).__name__} keeps a state of the whole weight and cannot be given the "
                "gradient of a part of it: use InSitu(scheme), or the weight as a whole"
            )


def like(matrix: Matrix, shape: tuple[int, ...]) -> Tensor:
    """Zeros for a digital state beside a matrix."""
    return torch.zeros(shape, dtype=matrix.written.g.dtype, device=matrix.written.g.device)
