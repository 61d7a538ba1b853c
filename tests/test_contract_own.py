"""The contract sees cells that do not keep their own: parameters, bounds, counts, noise, age."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from _laws import Base

from devices import Device, Pulses, Read, Retention, Write
from devices.testing import check


class Own(NamedTuple):
    factor: torch.Tensor
    high: torch.Tensor


@dataclass(frozen=True)
class Spread(Base):
    """Right: steps and upper bounds of every cell, random counts as moments."""

    share: float = 1.0

    def fabricate(self, window, shape, draw):
        top = window.g_max - 0.2 * window.span * draw.uniform(shape)
        return Own(draw.factor(shape, 0.3).clamp(min=0.1), top)

    def bounds(self, window, p):
        return window.g_min, p.high

    def pulse(self, window, g, p, pulses, draw, at=None):
        step = self.dg * p.factor
        g = g + step * (pulses.up - pulses.down)
        if pulses.up_var is not None:
            z = draw.normal(g.shape) if pulses.z is None else pulses.z
            g = g + step * (self.share * (pulses.up_var + pulses.down_var)).sqrt() * z
        return g, p


@dataclass(frozen=True)
class Careless(Spread):
    """Pairs whose counts are the same get different ones."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        return super().pulse(window, g, p, pulses._replace(z=None), draw)


@dataclass(frozen=True)
class Unturned(Spread):
    """The device across a pair has the count that the other one has not."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        falls = pulses.z is not None and bool((pulses.down > pulses.up).any())
        given = pulses._replace(z=-pulses.z) if falls else pulses
        return super().pulse(window, g, p, given, draw)


@dataclass(frozen=True)
class Misplaced(Spread):
    """Steps of other cells where some are pulsed alone."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        own = p if at is None else p._replace(factor=p.factor.roll(1))
        return super().pulse(window, g, own, pulses, draw)[0], p


@dataclass(frozen=True)
class Neighbours(Spread):
    """The bounds of other cells."""

    def bounds(self, window, p):
        return window.g_min, p.high.flip(-1)


@dataclass(frozen=True)
class Uncounted(Spread):
    """A leaf that counts pulses, but not of cells that are pulsed alone."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        worn = p if at is not None else p._replace(factor=p.factor * 0.999**pulses.up)
        return super().pulse(window, g, p, pulses, draw)[0], worn


@dataclass(frozen=True)
class AllAtOnce(Spread):
    """One draw for all cells."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        noise = self.dg / 9 * (pulses.up + pulses.down).sqrt() * draw.normal(())
        return super().pulse(window, g, p, pulses, draw)[0] + noise, p


@dataclass(frozen=True)
class EveryOffset(Read):
    """Redraws all cells where some are written."""

    def fabricate(self, window, shape, draw):
        return Own(draw.normal(shape), torch.zeros(()))

    def std(self, window, g, p, age):
        return g.new_zeros(())

    def written(self, window, g, p, mask, draw):
        return p._replace(factor=draw.normal(g.shape))


@dataclass(frozen=True)
class Ageless(Retention):
    """Asks for no ages and goes by them."""

    def advance(self, window, g, p, age, dt, draw, *, temperature):
        return g * ((age + 1) / (age + dt + 1)).to(g.dtype) ** 0.05, p


@dataclass(frozen=True)
class OneError(Write):
    def program(self, window, target, draw):
        return target + 0.1 * window.span * draw.normal(())


@dataclass(frozen=True)
class Upside(Write):
    def program(self, window, target, draw):
        return window.g_min + window.g_max - target


@pytest.mark.parametrize(
    "part,words",
    [
        (Spread(share=0.5), "the std differs from drawn"),
        (Careless(), "counts that devices of a weight share"),
        (Unturned(), "other way from −z"),
        (Misplaced(), "pulsed alone"),
        (Neighbours(), "pulsed alone"),
        (Uncounted(), "same leaf"),
        (AllAtOnce(), "noise for every cell"),
        (EveryOffset(), "that were not written"),
        (Ageless(), "ages = True"),
        (OneError(), "noise for every cell"),
        (Upside(), "high targets lower"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_cells_that_do_not_keep_their_own_are_refused(part, words):
    with pytest.raises(AssertionError, match=words):
        check(part)


def test_a_law_whose_cells_keep_their_own_passes():
    check(Spread())


@pytest.mark.parametrize("high", [30e-6, torch.tensor(30e-6, dtype=torch.float64)])
def test_bounds_of_a_law_may_be_numbers(high):
    """No cell passes either bound, by pulses or by a write, in either precision."""

    @dataclass(frozen=True)
    class Half(Base):
        def bounds(self, window, p):
            return window.g_min, high

    device = Device(1e-6, 51e-6, update=Half())
    for dtype in (torch.float32, torch.float64):
        state = device.fabricate((9,), dtype=dtype)
        state = device.program(state, torch.full((9,), 50e-6, dtype=dtype))
        assert torch.equal(state.g, torch.full((9,), 30e-6, dtype=dtype))
        ends = torch.full((9,), 1e-6, dtype=dtype)
        for up, down, end in ((0, 99, ends), (99, 0, torch.full_like(ends, 30e-6))):
            state = device.pulse(state, Pulses(torch.full((9,), up), torch.full((9,), down)))
            assert torch.equal(state.g, end)
