"""From δ·xᵀ to pulses: the schemes of the outer-product update.

A coincidence of a row pulse and a column pulse is one device pulse. `rate` is the number of
coincidences wanted per unit of |x_i δ_j| (learning rate over the weight change of one coincidence);
a positive x_i δ_j asks for depression, as gradient descent subtracts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.operations import Operation, Vectors
from crossbar.wires.disturb import Fired
from devices import Pulses
from devices._check import flag, instance, whole


class Scheme(ABC):
    """How inputs x and errors δ become potentiation and depression counts."""

    counts: bool = True
    """Whether the counts are whole numbers."""

    parallel: bool = False
    """Whether they are coincidences of pulses of whole rows and columns, see `driven`."""

    @abstractmethod
    def pulses(
        self,
        op: Operation,
        x: Tensor,  # (..., rows)
        d: Tensor,  # (..., cols)
        rate: float,
        *,
        generator: torch.Generator | None,
    ) -> Pulses:
        """Pulses of one update, counts in the shape of the operation's matrix."""

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """The same pulses, and those of the lines that made them."""
        raise TypeError(f"{type(self).__name__} does not pulse whole rows and columns")

    def turns(
        self, op: Operation, x: Tensor, d: Tensor
    ) -> Iterator[tuple[Operation, Tensor, Tensor]]:
        """What is updated together, in order: everything at once unless the scheme says other."""
        yield op, x, d


class Phases(NamedTuple):
    """Which signs each vector has, (n, ..., 1) bool: a phase needs a row and a column."""

    plus: Tensor
    minus: Tensor
    rise: Tensor  # negative errors, which potentiate where the input is positive
    fall: Tensor


def phases(x: Tensor, d: Tensor) -> Phases:
    """Of vectors (n, ..., rows) and (n, ..., cols)."""
    signs = ((x > 0), (x < 0), (d < 0), (d > 0))
    return Phases(*(sign.any(-1, keepdim=True) for sign in signs))


def fired(x: Tensor, d: Tensor, played: Phases, dtype: torch.dtype) -> Fired:
    """Line pulses of signed counts, of vectors (n, ..., rows) and (n, ..., cols)."""

    def both(a: Tensor, up: Tensor, down: Tensor, dim: int) -> Pulses:
        # lines of one sign rise with `up`; those of the other sign do where these fall
        plus, minus = a.clamp(min=0), (-a).clamp(min=0)
        counts = (
            torch.where(up, plus, 0) + torch.where(down, minus, 0),
            torch.where(down, plus, 0) + torch.where(up, minus, 0),
        )
        return Pulses(*(count.sum(0).to(dtype).unsqueeze(dim) for count in counts))

    return Fired(
        both(x, played.rise, played.fall, -1),
        both(-d, played.plus, played.minus, -2),
    )


def halves(op: Operation, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Σ max(−x δ, 0) and Σ max(x δ, 0) over vectors, in the matrix's shape."""
    fall, rise = d.clamp(min=0), (-d).clamp(min=0)
    if bool((x >= 0).all()):  # after a ReLU or sigmoid: half the products
        return op.outer(x, rise), op.outer(x, fall)
    plus, minus = x.clamp(min=0), (-x).clamp(min=0)
    up = op.outer(plus, rise) + op.outer(minus, fall)
    return up, op.outer(plus, fall) + op.outer(minus, rise)


@dataclass(frozen=True)
class Expected(Scheme):
    """The mean counts themselves: no fluctuation of counts, no limit of a train's length.

    Cycle-to-cycle noise of the device still applies. What digital SGD would do, on the device.
    """

    counts = False
    parallel = True

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        up, down = halves(op, x, d * rate)
        return Pulses(up, down)

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """By the shortest trains that make the counts: the largest x and δ fire in every slot."""
        xs, ds = op.vectors(x * (rate * op.peak(d)), d * (rate * op.peak(x)))
        pulses = self.pulses(op, x, d, rate, generator=generator)
        return pulses, fired(xs, ds, phases(xs, ds), x.dtype)


@dataclass(frozen=True)
class Deterministic(Scheme):
    """Whole pulses for the net change of the whole (mini-)batch, rounded.

        n = round(rate · Σ x δ), all of one direction (NeuroSim's scheme)

    Args:
        stochastic: round up with the probability of the fraction instead of to the nearest, so
            that changes below half a pulse are not lost.
    """

    stochastic: bool = False

    def __post_init__(self) -> None:
        flag("stochastic", self.stochastic)

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        net = op.outer(x, d * -rate)
        if self.stochastic:
            net = net + torch.rand(
                net.shape, generator=generator, dtype=net.dtype, device=net.device
            ).sub_(0.5)
        whole_net = net.round()
        return Pulses(whole_net.clamp(min=0), (-whole_net).clamp(min=0))


@dataclass(frozen=True)
class _Trains(Scheme):
    """Trains of `bl` bits: p(x) p(δ) coincidences a slot, p from |x|, |δ| and the rate.

    Update management shares the product so that both trains of a vector saturate together; BL
    management shortens a vector's train to the ceil(rate · max|x| · max|δ|) slots it needs. A
    vector that would need more than `bl` is clipped at probability one.
    """

    bl: int = 31
    parallel = True

    def __post_init__(self) -> None:
        whole("bl", self.bl, 1, 1024)

    def _drive(
        self, op: Operation, x: Tensor, d: Tensor, rate: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Clipped x and δ, and the train length of each vector."""
        top_x, top_d = op.peak(x), op.peak(d)
        needed = rate * top_x * top_d
        length = needed.ceil().clamp(1, self.bl)
        if bool((needed > self.bl).any()):
            over = (needed / self.bl).clamp(min=1).sqrt()
            limit_x, limit_d = top_x / over, top_d / over
            x, d = x.clamp(-limit_x, limit_x), d.clamp(-limit_d, limit_d)
        return x, d, length


@dataclass(frozen=True)
class Aggregated(_Trains):
    """Mean and variance of the coincidence counts of a mini-batch, without walking through it.

        mean = rate Σ |x δ|,   variance = mean − Σ_vectors mean_v²/BL_v   (sums of binomials)

    The moments drive the device's closed form; correlations between cells that share a row or a
    column (see `ExactBits`) are left out.

    Args:
        bl: longest bit train, 1 to 1024.
    """

    counts = False

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        return self._moments(op, *self._drive(op, x, d, rate), rate)

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """The mean pulses of the lines; a convolution is unfolded for them."""
        x, d, length = self._drive(op, x, d, rate)
        top_x, top_d = op.peak(x), op.peak(d)
        # length · p(x), p(x) = |x|/max|x| √(rate max|x| max|δ| / length), and likewise for δ
        by_x = (rate * length * torch.where(top_x > 0, top_d / top_x, 0.0)).sqrt()
        by_d = (rate * length * torch.where(top_d > 0, top_x / top_d, 0.0)).sqrt()
        xs, ds = op.vectors(x * by_x, d * by_d)
        return self._moments(op, x, d, length, rate), fired(xs, ds, phases(xs, ds), x.dtype)

    @staticmethod
    def _moments(op: Operation, x: Tensor, d: Tensor, length: Tensor, rate: float) -> Pulses:
        up, down = halves(op, x, d * rate)
        shared_up, shared_down = halves(op, x * x.abs(), d * d.abs() * (rate * rate / length))
        # rounding may leave the difference of two nearly equal sums just below zero
        return Pulses(
            up,
            down,
            torch.sub(up, shared_up).clamp_(min=0),
            torch.sub(down, shared_down).clamp_(min=0),
        )


@dataclass(frozen=True)
class ExactBits(_Trains):
    """Real bit trains: every coincidence of random row and column bits is counted.

    Cells that share a row or a column see the same bits and are correlated accordingly.

    Args:
        bl: longest bit train, 1 to 1024.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016), doi:10.3389/fnins.2016.00333.
    """

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        bits_x, bits_d, xs, _, _ = self._trains(op, x, d, rate, generator)
        return Pulses(*_coincide(bits_x, bits_d, bool((xs >= 0).all()), x.dtype))

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """The bits themselves, counted along the lines too."""
        bits_x, bits_d, xs, ds, slots = self._trains(op, x, d, rate, generator)
        pulses = Pulses(*_coincide(bits_x, bits_d, bool((xs >= 0).all()), x.dtype))
        played = Phases(*(sign.index_select(0, slots) for sign in phases(xs, ds)))
        return pulses, fired(bits_x.movedim(-1, 0), bits_d.movedim(-2, 0), played, x.dtype)

    def _trains(
        self,
        op: Operation,
        x: Tensor,
        d: Tensor,
        rate: float,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Signed bits of rows and columns, the vectors they are of, and the vector of each slot."""
        op, (xs, ds) = Vectors(), op.vectors(x, d)  # (n, ..., rows), (n, ..., cols)
        xs, ds, length = self._drive(op, xs, ds, rate)
        length = length.flatten(1).amax(1).long()  # groups of a convolution share a vector's train
        slots = torch.arange(len(length), device=xs.device).repeat_interleave(length)
        top_x, top_d = op.peak(xs), op.peak(ds)
        per_slot = rate * top_x * top_d / length.view(top_x.shape[:1] + (1,) * (xs.dim() - 1))
        per_slot = per_slot.sqrt_()
        px = xs / torch.where(top_x > 0, top_x, 1) * per_slot
        pd = ds / torch.where(top_d > 0, top_d, 1) * per_slot
        bits_x = _bits(px.movedim(0, -1), slots, -1, generator)  # (..., rows, slots)
        bits_d = _bits(pd.movedim(0, -2), slots, -2, generator)  # (..., slots, cols)
        return bits_x, bits_d, xs, ds, slots


def _bits(p: Tensor, slots: Tensor, along: int, generator: torch.Generator | None) -> Tensor:
    """Signed bits int8, one with probability |p| in each slot of a vector.

    `slots` names the vector of each slot, `along` is the dimension of p that holds vectors. The
    random words have 16 bits; the probability is rounded to them at random, once a vector, so that
    its mean is exact.
    """
    dither = torch.rand(p.shape, generator=generator, dtype=p.dtype, device=p.device)
    threshold = torch.floor((p.abs() * 65536).add_(dither)).clamp_(max=65536)
    sign = (p.sign() * (threshold > 0)).to(torch.int8)
    last = (threshold - 32769).clamp_(min=-32768).to(torch.int16)  # fires up to this word
    last = last.index_select(along, slots)
    words = torch.empty(-(-last.numel() // 4), dtype=torch.int64, device=p.device)
    words.random_(-(2**63), None, generator=generator)
    random = words.view(torch.int16)[: last.numel()].view(last.shape)
    return (random <= last).view(torch.int8).mul_(sign.index_select(along, slots))


def _coincide(
    bits_x: Tensor, bits_d: Tensor, positive: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Potentiation and depression counts of signed bits (..., rows, slots), (..., slots, cols)."""
    if positive:  # after a ReLU or sigmoid
        rise = _count(bits_x, (-bits_d).clamp_(min=0))
        return rise.to(dtype), _count(bits_x, bits_d.clamp(min=0)).to(dtype)
    net, total = _count(bits_x, bits_d), _count(bits_x.abs(), bits_d.abs())
    return ((total - net) // 2).to(dtype), ((total + net) // 2).to(dtype)


def _count(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of int8, exactly."""
    if a.dim() == 2 and a.device.type == "cpu":
        return torch._int_mm(a, b)
    return (a.float() @ b.float()).to(torch.int32)


@dataclass(frozen=True)
class Sequential(Scheme):
    """One vector's pulses after another's, in order: exact in the order of the pulses.

    Args:
        scheme: how each vector's pulses are made.

    Raises:
        TypeError: not a scheme.
    """

    scheme: Scheme = field(default_factory=ExactBits)

    def __post_init__(self) -> None:
        instance("scheme", self.scheme, Scheme, optional=False)

    @property
    def counts(self) -> bool:  # type: ignore[override]
        """As its scheme."""
        return self.scheme.counts

    def pulses(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> Pulses:
        """See the class."""
        return self.scheme.pulses(op, x, d, rate, generator=generator)

    @property
    def parallel(self) -> bool:  # type: ignore[override]
        """As its scheme."""
        return self.scheme.parallel

    def driven(
        self, op: Operation, x: Tensor, d: Tensor, rate: float, *, generator: torch.Generator | None
    ) -> tuple[Pulses, Fired]:
        """As its scheme."""
        return self.scheme.driven(op, x, d, rate, generator=generator)

    def turns(
        self, op: Operation, x: Tensor, d: Tensor
    ) -> Iterator[tuple[Operation, Tensor, Tensor]]:
        """One vector after another."""
        for xv, dv in zip(*op.vectors(x, d), strict=True):
            yield Vectors(), xv.unsqueeze(0), dv.unsqueeze(0)
