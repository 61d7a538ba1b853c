"""How a weight uses its matrices."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field
from typing import Any

from crossbar.chip import Chip
from crossbar.compact import pairs
from crossbar.mappings.base import HEADROOM
from crossbar.modifiers import Modifier
from crossbar.pulses import Aggregated, ExactBits, Scheme
from crossbar.rules import Pulsed, Rule, Slot
from devices._check import at_least, flag, instance


class Mode(ABC):
    """How a weight uses its matrices."""

    written: bool = True
    """Whether the cells are the weight."""
    headroom: float = 1.0
    """The window over the largest weight, where the mapping leaves w_max open."""
    compact: bool = False
    """Whether cells are kept in fewer bytes, see `crossbar.compact`."""

    def slots(self) -> tuple[Slot, ...]:
        """The matrices a weight has in this mode."""
        return (Slot(),)

    def check(self, chip: Chip) -> None:
        """Refuse a chip that the mode cannot work on; most work on all."""
        return


@dataclass(frozen=True)
class HardwareAware(Mode):
    """A float weight seen through the noisy forward read; any torch optimiser trains it.

    Each forward reads the weight at the scale its programming will use, with the device's write
    error and read noise drawn anew. Gradients are those of the matrix used, without converters
    or noise. There is no device state until `program`.

    Args:
        headroom: the window over the largest weight, >= 1, which `program` keeps: more leaves room
            to go on in situ, at the price of noise and resolution.
        modifiers: what is done to the weight of a training model at every read, one after another.
        strength: of all of them, >= 0, as a factor; what `NoiseSchedule` moves.

    Raises:
        TypeError, ValueError: no modifiers; headroom or strength out of range.
    """

    written = False
    headroom: float = 1.0
    modifiers: tuple[Modifier, ...] = ()
    strength: float = 1.0
    scaled: tuple[Modifier, ...] = field(init=False, repr=False, compare=False)
    """The modifiers at this strength."""

    def __post_init__(self) -> None:
        at_least("headroom", self.headroom, 1)
        if isinstance(self.modifiers, (Modifier, type)):
            raise TypeError(f"modifiers must be a list of them, got {self.modifiers!r}")
        object.__setattr__(self, "modifiers", tuple(self.modifiers))
        for modifier in self.modifiers:
            instance("modifiers", modifier, Modifier, optional=False)
        strength = at_least("strength", self.strength, 0)
        scaled = self.modifiers if strength else ()
        if strength not in (0, 1):
            scaled = tuple(modifier.scaled(strength) for modifier in scaled)
        object.__setattr__(self, "scaled", scaled)


@dataclass(frozen=True, init=False)
class InSitu(Mode):
    """The conductances are the weights: forward, backward and update happen on the array.

    Args:
        scheme: how `InSituSGD` turns δ·xᵀ into pulses: short for rule=Pulsed(scheme).
        rule: what a step does to the matrices; None: `Pulsed(Aggregated(bl=31))`.
        gradient: whether backward fills `.grad` with the true gradient of the weight. False saves
            its product and 4 bytes a weight; what needs `.grad` (clipping, penalties, GradScaler,
            `zero_grad` of other parents than the optimiser) then cannot see the weight.
        headroom: the window over the largest weight at the start, >= 1. Weights cannot leave it,
            on an ideal chip either: where they start small give more, or a mapping with w_max.
        compact: whether cells are kept in 10 bytes a weight and less, as the weight itself and a
            code of what its pair has in common, see `crossbar.compact`.

    Raises:
        TypeError: compact on a chip whose cells are no pairs, see `crossbar.compact`.
    """

    rule: Rule
    gradient: bool
    headroom: float
    compact: bool

    def __init__(
        self,
        scheme: Scheme | None = None,
        *,
        rule: Rule | None = None,
        gradient: bool = True,
        headroom: float = HEADROOM,
        compact: bool = False,
    ) -> None:
        instance("scheme", scheme, Scheme)
        instance("rule", rule, Rule)
        if scheme is not None and rule is not None:
            raise TypeError("give InSitu a scheme or a rule, not both")
        flag("gradient", gradient)
        set_ = object.__setattr__
        set_(self, "rule", rule or Pulsed(scheme or Aggregated(bl=31)))
        set_(self, "gradient", gradient)
        set_(self, "headroom", at_least("headroom", headroom, 1))
        flag("compact", compact)
        set_(self, "compact", compact)

    @property
    def scheme(self) -> Any:
        """The scheme of a pulsed rule; None of others."""
        return getattr(self.rule, "scheme", None)

    def slots(self) -> tuple[Slot, ...]:
        """As its rule wants."""
        return self.rule.slots()

    def check(self, chip: Chip) -> None:
        """As its rule says, of every matrix."""
        for slot in self.slots():
            self.rule.check(slot.chip or chip)
            if self.compact:
                pairs(slot.chip or chip, trained=True)


@dataclass(frozen=True)
class Programmed(Mode):
    """The conductances are written once and read; training is refused.

    Args:
        compact: whether cells are kept in 6 bytes a weight, as the weight itself and a code of
            what its pair has in common, see `crossbar.compact`.

    Raises:
        TypeError: compact on a chip whose cells are no pairs, see `crossbar.compact`.
    """

    compact: bool = False

    def __post_init__(self) -> None:
        flag("compact", self.compact)

    def check(self, chip: Chip) -> None:
        """Refuse compact cells that are no pairs."""
        if self.compact:
            pairs(chip, trained=False)


def after(chip: Chip, computed: bool) -> Mode:
    """The mode that `program` ends in: in situ where pulses can go on training the cells."""
    update = chip.device.update
    if update is None or chip.mapping.untrainable() or computed:
        return Programmed()
    return InSitu(ExactBits(bl=31)) if update.whole else InSitu()
