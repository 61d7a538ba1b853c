"""The contract is worth something only if it refuses what is broken."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from _laws import Base

from devices import (
    IV,
    ConstantStep,
    Device,
    Draw,
    Endurance,
    Faults,
    GaussianRead,
    Pulses,
    Read,
    Retention,
    Update,
    Window,
    Write,
)
from devices.part import check_verbs
from devices.testing import check


@dataclass(frozen=True)
class Reversed(Base):
    def pulse(self, window, g, p, pulses, draw, at=None):
        return g - self.dg * (pulses.up - pulses.down).to(g.dtype), p


@dataclass(frozen=True)
class InPlace(Base):
    def pulse(self, window, g, p, pulses, draw, at=None):
        return g.add_(self.dg * (pulses.up - pulses.down).to(g.dtype)), p


@dataclass(frozen=True)
class Promoting(Base):
    def pulse(self, window, g, p, pulses, draw, at=None):
        return g.double() + self.dg * (pulses.up - pulses.down), p


@dataclass(frozen=True)
class Unseeded(Base):
    def pulse(self, window, g, p, pulses, draw, at=None):
        count = (pulses.up - pulses.down).to(g.dtype)
        return g + self.dg * (count + count.abs() * torch.randn_like(g)), p


@dataclass(frozen=True)
class NoisyAsOne(Base):
    """Noise of n pulses as large as n times that of one: right only one at a time."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        count = (pulses.up - pulses.down).to(g.dtype)
        return g + self.dg * count * (1 + 0.5 * draw.normal(g.shape)), p


class Shared(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


@dataclass(frozen=True)
class SharedStorage(Base):
    def fabricate(self, window, shape, draw):
        ones = torch.ones(shape, dtype=draw.dtype)
        return Shared(ones, ones)


@dataclass(frozen=True)
class Forgetful(Retention):
    """Two short periods forget less than the long one."""

    def advance(self, window, g, p, age, dt, draw, *, temperature):
        return g * (1 - 1e-9 * dt**2) ** 2 if dt < 1e3 else g * 0.5, p


@dataclass(frozen=True)
class Rectifying(IV):
    def current(self, g, v):
        return g * v.abs()


@dataclass(frozen=True)
class Breaking(Write):
    def program(self, window, target, draw):
        return target / (target - window.g_min)


@dataclass(frozen=True)
class Moved(Base):
    def pulse(self, *given, **named):
        return super().pulse(*given, **named)[0]


@dataclass(frozen=True)
class Linear(Base):
    def pulse(self, window, g, p, pulses, draw, at=None):
        return g + self.dg * (window.g_max - g) / window.span * pulses.up, p


@pytest.mark.parametrize(
    "part,words",
    [
        (Reversed(), "lowered g by 1 up pulses"),
        (InPlace(), "must not write into its inputs"),
        (Promoting(), "changed torch.float32 to torch.float64"),
        (Unseeded(), "must repeat itself under the same generator"),
        (NoisyAsOne(), "stds differ"),
        (SharedStorage(), "must not share storage"),
        (Forgetful(), "differ"),
        (Rectifying(), "must increase with v"),
        (Breaking(), "non-finite conductance"),
        (7, "exactly one kind of part"),
        (Base, "exactly one kind of part .*, made"),
        (Moved(), "pulse must return g and p, both"),
        (Linear(), r"12 up and 0 down at once \(see devices.update.flow\) .* means differ"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_broken_parts_are_refused_in_words(part, words):
    with pytest.raises(AssertionError, match=words):
        check(part)


def test_a_repr_that_does_not_evaluate_back_is_refused():
    @dataclass(frozen=True)
    class Local(Base):
        pass

    with pytest.raises(AssertionError, match="rebuilt by its repr"):
        check(Local())


def old_laws():
    """A class for every verb, each with the signature that verb had in 0.1."""

    def pulse(self, window, g, p, pulses, *, generator):
        return g, p

    def drive(self, window, g, p, v, dt, *, generator):
        return g, p

    def fabricate(self, window, shape, *, generator, dtype, device):
        return Shared(*torch.randn(2, *shape, generator=generator, dtype=dtype, device=device))

    def written(self, window, g, p, mask, *, generator):
        return p

    def step(self, window, p, dt, *, generator: torch.Generator | None) -> tuple:
        return p

    def advance(self, window, g, p, age, dt, *, temperature, generator):
        return g, p

    def program(self, window, target, generator=None):
        return target

    update = [pulse, drive, fabricate, written]
    kinds = [(Update, v) for v in update] + [(Read, step), (Retention, advance), (Write, program)]
    return [*kinds, (ConstantStep, pulse), (Faults, fabricate)]


@pytest.mark.parametrize("kind,verb", old_laws(), ids=lambda x: x.__name__)
def test_a_law_written_for_0_1_is_told_what_changed(kind, verb):
    name = verb.__name__
    words = {
        "pulse": "pulse(window, g, p, pulses, draw, at=None)",
        "drive": "drive(window, g, p, v, dt, draw)",
        "fabricate": "fabricate(window, shape, draw)",
        "written": "written(window, g, p, mask, draw)",
        "step": "step(window, p, dt, draw)",
        "advance": "advance(window, g, p, age, dt, draw, *, temperature)",
        "program": "program(window, target, draw)",
    }
    with pytest.raises(TypeError) as refused:
        check_verbs(type("MyLaw", (kind,), {name: verb}))
    said = str(refused.value)
    assert said.startswith(f"MyLaw.{name} has the signature of 0.1, {name}(window, ")
    assert said.endswith(f"; since 0.2 it is {words[name]}, see devices.Draw")


def test_a_law_that_could_not_be_called_is_refused_where_a_device_takes_it():
    class NoPlace(Base):
        def pulse(self, window, g, p, pulses, draw):
            return g, p

    class Heir(NoPlace):
        pass

    words = r"NoPlace.pulse cannot be called as a device does, pulse.*; it must be pulse\(.*at=None"
    for law in (NoPlace(), Heir()):
        with pytest.raises(TypeError, match=words):
            Device(1e-6, 50e-6, update=law)
        with pytest.raises(TypeError, match=words):
            Endurance(law, pulses=10.0)
        with pytest.raises(AssertionError, match=words):
            check(law)

    class Loose(Base):
        def pulse(self, *given, **named):
            return super().pulse(*given, **named)

    g = torch.zeros(3)
    moved, _ = Loose().pulse(Window(0.0, 1.0), g, None, Pulses(g + 1, g), Draw.like(g))
    assert moved.tolist() == pytest.approx([0.5e-6] * 3)


def test_a_window_of_ones_own():
    check(ConstantStep(dg_min=1e-9), g_min=0.0, g_max=1e-7)
    check(GaussianRead(0.1), g_min=1e-3, g_max=1.0)


@dataclass(frozen=True)
class Backwards(Base):
    """Right for exact counts; counts with a variance move it the other way."""

    def pulse(self, window, g, p, pulses, draw, at=None):
        net = (pulses.up - pulses.down).to(g.dtype)
        return g + self.dg * (net if pulses.up_var is None else -net), p


@dataclass(frozen=True)
class Calm(Base):
    """Forgets that random counts scatter."""

    dg: float = 2e-6


@dataclass(frozen=True)
class Boasting(Base):
    def step(self, window):
        return 10 * self.dg


@dataclass(frozen=True)
class CoarseCumulant(Base):
    """The second cumulant of the count, which turns around beyond 0.86 of the way to the bound."""

    dg: float = 22e-6

    def pulse(self, window, g, p, pulses, draw, at=None):
        b = torch.tensor(-2 * self.dg / window.span, dtype=g.dtype)
        up, down = (n.to(g.dtype) for n in (pulses.up, pulses.down))
        if pulses.up_var is not None:
            up, down = (n * (1 + torch.log1p(b) / 2) for n in (up, down))
        total = up + down
        rest = window.g_min + window.span * up / total.clamp(min=1e-9)
        return torch.where(total > 0, rest + (g - rest) * (1 + b) ** total, g), p


@pytest.mark.parametrize(
    "law,words",
    [
        (Backwards(), "the mean differs from drawn"),
        (Calm(), "the std differs from drawn"),
        (Boasting(), "step is 5e-06 S, but single pulses change g by"),
        (CoarseCumulant(), "differs from drawn|lowered g"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_law_wrong_under_random_counts_or_in_its_step_is_refused(law, words):
    with pytest.raises(AssertionError, match=words):
        check(law)


def test_counts_targets_and_masks_have_the_shape_of_the_cells():
    """What cells would have to be copied for, or what does not fit, is refused; rows serve."""
    device = Device(1e-6, 51e-6, update=Base())
    state = device.fabricate((4, 5))
    for shape in ((5, 4), (3, 4, 5), (4,)):
        one, none = torch.ones(shape), torch.zeros(4, 5)
        for call, words in (
            (lambda one=one, none=none: device.pulse(state, Pulses(one, none)), "up must be"),
            (lambda one=one, none=none: device.pulse(state, Pulses(none, one)), "down must be"),
            (lambda one=one: device.program(state, 1e-5 * one), "target must be"),
            (lambda one=one: device.program(state, state.g, mask=one > 0), "mask must be"),
        ):
            with pytest.raises(ValueError, match=words):
                call()
    row = device.pulse(state, Pulses(torch.ones(5), torch.zeros(())))
    assert row.g.shape == (4, 5) and (row.g > state.g).all()
