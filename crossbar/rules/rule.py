"""What a rule is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.operations import Operation
from crossbar.pulses import Scheme
from crossbar.regions import Region
from crossbar.streams import WRITE, Streams
from devices import Pulses


class Slot(NamedTuple):
    """A matrix that a rule wants.

    The shown weight is Σ gain · matrix; the last matrix is the one that is programmed, the others
    start at zero.
    """

    gain: float = 1.0
    chip: Chip | None = None  # None: the weight's own
    zero_pairs: int | None = None  # of pulses, after which symmetry points stand for zero


class Job(NamedTuple):
    """One step of one weight."""

    matrices: Sequence[Matrix]
    leaf: Any  # the rule's digital state, a NamedTuple of tensors written in place; None: none
    op: Operation
    x: Tensor  # as `op` takes them
    d: Tensor
    lr: float
    region: Region

    def onto(
        self,
        matrix: Matrix,
        rate: float,
        scheme: Scheme,
        d: Tensor | None = None,
        g: Tensor | None = None,
    ) -> None:
        """−rate Σ x δ by pulses on one of the matrices."""
        how: Any = {"op": self.op, "region": self.region, "g": g}
        matrix.update(self.x, self.d if d is None else d, rate, scheme, **how)

    def lines(self) -> tuple[Tensor, Tensor]:
        """Inputs (n, ..., rows) and errors (n, ..., cols) one by one: a convolution unfolds."""
        x, d = self.op.vectors(self.x, self.d)
        return (d, x) if self.region.transposed else (x, d)


class Work(NamedTuple):
    """What digital logic does for a step of one weight, beside reads and pulses of its arrays."""

    digital_mac: float = 0.0  # products of gradients that no array computes
    optimiser_op: float = 0.0  # operations on single numbers
    optimiser_byte: float = 0.0  # of memory read and written

    def __add__(self, other: Any) -> Work:
        """Both."""
        return Work(*(a + b for a, b in zip(self, other, strict=True)))


class Load(NamedTuple):
    """How much a step of one weight is."""

    vectors: int  # x and δ of each matrix, those of gradients that were changed counted as rows
    rows: int  # of all matrices of a stack
    cols: int
    weights: int

    @property
    def lines(self) -> int:
        """Numbers of all vectors."""
        return self.vectors * (self.rows + self.cols)

    @property
    def products(self) -> int:
        """Of a gradient that is computed digitally."""
        return self.vectors * self.weights

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Load:
        """Of all jobs of one weight."""
        *lead, rows, cols = jobs[0].matrices[-1].lines
        each = math.prod(lead)
        vectors = sum(job.op.forward.number(job.x) for job in jobs) // each
        return cls(vectors, rows * each, cols * each, rows * cols * each)


class Cost(NamedTuple):
    """What a rule asks for beside the array of the weight."""

    arrays: int  # more of them
    bytes: float  # of digital memory, a weight
    reads: float  # of lines, a vector


class Rule(ABC):
    """How the steps of an optimiser reach the cells."""

    def slots(self) -> tuple[Slot, ...]:
        """The matrices it wants for each weight."""
        return (Slot(),)

    def fabricate(self, shape: tuple[int, ...], matrices: Sequence[Matrix]) -> Any:
        """Digital state and clocks of a weight (..., rows, cols), a NamedTuple of tensors."""
        return None

    def gains(self, leaf: Any) -> tuple[float, ...]:
        """What each matrix counts now, where the digital state says so; the last one 1."""
        return tuple(slot.gain for slot in self.slots())

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

    def reads(self, vectors: int, lines: int) -> float:
        """Lines of its arrays that are read for an update of so many vectors, in the mean."""
        return 0.0

    def cost(self, matrices: Sequence[Matrix], vectors: int = 1) -> Cost:
        """Of a weight on these matrices, with so many vectors a step."""
        lines = matrices[-1].lines
        held = sum(t.numel() * t.element_size() for t in self.fabricate(lines, matrices) or ())
        reads = self.reads(vectors, lines[-2]) / vectors
        return Cost(len(matrices) - 1, held / torch.Size(lines).numel(), reads)

    @abstractmethod
    def update(self, jobs: Sequence[Job], *, streams: Streams) -> None:
        """All jobs of a step at once; what a rule draws itself comes from `streams`."""

    def work(self, load: Load) -> Work:
        """What digital logic does for a step of one weight, for whoever counts it.

        Raises:
            TypeError: a rule that does not say.
        """
        raise TypeError(
            f"{type(self).__name__} does not say what digital logic does for a step (`work`), so "
            "it cannot be counted"
        )

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


class Gathered(NamedTuple):
    """The gradient Σ x δ of a step of one weight, in its matrices' shape."""

    matrices: Sequence[Matrix]
    leaf: Any
    gradient: Tensor  # (..., rows, cols)
    lr: float


def gathered(jobs: Sequence[Job]) -> list[Gathered]:
    """One for each weight, however often it was read."""
    found: dict[Matrix, Gathered] = {}
    for job in jobs:
        array = job.matrices[-1]
        if array not in found:
            found[array] = Gathered(job.matrices, job.leaf, like(array, array.lines), job.lr)
        total = found[array].gradient
        part = job.region.of(total)
        gradient = job.op.outer(job.x.to(total.dtype), job.d.to(total.dtype))
        part += (gradient.mT if job.region.transposed else gradient).reshape(part.shape)
    return list(found.values())


def rounded(n: Tensor, matrix: Matrix) -> Tensor:
    """Whole counts whose mean is n: up with the probability of the fraction."""
    generator = matrix.streams.generator(WRITE, n.device)
    drawn = torch.rand(n.shape, generator=generator, dtype=n.dtype, device=n.device)
    return (n + drawn).floor()


def every_line(matrix: Matrix) -> Tensor:
    """All of a matrix, read one-hot line by line, (..., rows, cols)."""
    lines = torch.arange(matrix.lines[-2], device=matrix.written.w_max.device)
    return matrix.one_hot(lines).movedim(0, -2)


def like(matrix: Matrix, shape: tuple[int, ...]) -> Tensor:
    """Zeros for a digital state beside a matrix."""
    return torch.zeros(shape, dtype=matrix.written.w_max.dtype, device=matrix.written.w_max.device)


def clock(matrix: Matrix) -> Tensor:
    """A count that starts at 0."""
    return torch.zeros((), dtype=torch.int64, device=matrix.written.w_max.device)


def of_columns(scale: Tensor) -> Tensor:
    """A scale () or (..., 1, cols) as () or (..., cols)."""
    return scale if scale.dim() == 0 else scale.squeeze(-2)


def signed(n: Tensor) -> Pulses:
    """Pulses of signed counts."""
    return Pulses(n.clamp(min=0), (-n).clamp(min=0))


def train(n: Tensor, bl: int, dim: int, matrix: Matrix) -> Tensor:
    """Signed counts that come of wanted ones n, whose lines along `dim` share a train.

    It has max|n| slots, at most `bl`; in each a cell is pulsed with the probability |n| over them.
    """
    size = n.abs()
    slots = size.amax(dim, keepdim=True).clamp(max=bl)
    if not bool((slots > 1).any()):  # every train is one slot
        return n.sign()
    slots = slots.expand_as(size)
    some = (size < slots) & (size > 0)  # others are pulsed in every slot, or in none
    generator = matrix.streams.generator(WRITE, n.device)
    drawn = torch.binomial(slots[some], size[some] / slots[some], generator)
    return torch.minimum(size, slots).masked_scatter(some, drawn) * n.sign()
