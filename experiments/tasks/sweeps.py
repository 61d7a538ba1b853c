"""Declared sweeps: fields of a chip by dotted path, varied alone or together, with common seeds.

The same seeds give the same images in the same order, the same first weights and chips whose draws
differ only where the field does, so that differences are those of the field.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

import crossbar as xb
from devices import Device
from experiments.lab import paths
from experiments.lab.run import Run
from experiments.tasks.data import DataSet
from experiments.tasks.families import PULSES, chip, families
from experiments.tasks.networks import Network
from experiments.tasks.runs import Evaluate, Train
from experiments.tasks.training import Recipe

MOST = 100_000
"""Points of a sweep."""


@dataclass(frozen=True)
class Axis:
    """One field, or several that change together, and the values that they take.

    `numbers` are what is drawn on an axis and where a specification is looked for; None for values
    that are no numbers. `log`: whether they were spaced evenly in their logarithm.
    """

    fields: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]  # one entry a field
    names: tuple[str, ...]
    title: str
    numbers: tuple[float, ...] | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not self.fields or not all(isinstance(f, str) and f for f in self.fields):
            raise ValueError(f"fields must be dotted paths, got {list(self.fields)}")
        for k, value in enumerate(self.values):
            if any(value == other and type(value) is type(other) for other in self.values[:k]):
                raise ValueError(f"the value {self.names[k]} stands there twice")


def axis(
    field: str, values: Sequence[Any], title: str = "", numbers: Sequence[float] | None = None
) -> Axis:
    """An axis of one field."""
    if numbers is None and all(isinstance(v, int | float) for v in values):
        numbers = [float(v) for v in values]
    names = tuple(f"{n:g}" for n in numbers) if numbers else tuple(map(paths.short, values))
    if len(set(names)) < len(names):  # apart by more digits than six
        names = tuple(map(paths.short, values))
    told = None if numbers is None else tuple(numbers)
    return Axis((field,), tuple((v,) for v in values), names, title or field, told)


@dataclass(frozen=True)
class Point:
    """One setting of a sweep."""

    names: tuple[str, ...]
    chip: xb.Chip
    mode: xb.Mode
    after: float


@dataclass(frozen=True)
class Sweep:
    """A base, and axes that are all combined; each point is trained and read for every seed.

    `field` "after" is the time [s] between the last write and the read, "mode.…" a field of the
    mode. A base without a mode is trained digitally and written onto each point's chip.
    """

    name: str
    data: DataSet
    network: Network
    recipe: Recipe
    chip: xb.Chip
    mode: xb.Mode | None
    axes: tuple[Axis, ...]
    seeds: int
    after: float = 1.0

    def __post_init__(self) -> None:
        count = math.prod(len(one.values) for one in self.axes)
        if count > MOST:
            raise ValueError(f"the axes combine to {count} points; {MOST} are the most")
        varied: list[str] = []
        for field in itertools.chain.from_iterable(one.fields for one in self.axes):
            for earlier in varied:
                if f"{earlier}.".startswith(f"{field}."):
                    raise ValueError(f"{field} would overwrite what {earlier} set before it")
            varied.append(field)

    def points(self) -> list[Point]:
        """Every combination; raises ValueError for a path or value that cannot be."""
        combined = itertools.product(*(range(len(a.values)) for a in self.axes))
        return [self.of_indices(indices) for indices in combined]

    def of_indices(self, indices: Sequence[int]) -> Point:
        """The point of one value of each axis, by their places."""
        picked = list(zip(self.axes, indices, strict=True))
        return self.of_values([a.values[k] for a, k in picked], [a.names[k] for a, k in picked])

    def of_values(self, values: Sequence[Sequence[Any]], names: Sequence[str]) -> Point:
        """The point of any values of the axes' fields, declared or not."""
        made, mode, after = self.chip, self.mode, self.after
        for one, own in zip(self.axes, values, strict=True):
            for field, value in zip(one.fields, own, strict=True):
                if field == "after":
                    after = _time(value)
                elif field.startswith("mode."):
                    if mode is None:
                        raise ValueError(f"{field}: trained digitally, there is no mode")
                    mode = paths.replace(mode, field.removeprefix("mode."), value)
                else:
                    made = paths.replace(made, field, value)
        return Point(tuple(names), made, mode or xb.HardwareAware(), after)

    def digital(self, seed: int) -> Train:
        """The same training without a chip."""
        return Train(self.data, self.network, self.recipe, seed=seed)

    def read(self, point: Point, seed: int) -> Evaluate:
        """The network of a point, read on its chip."""
        of = self.digital(seed)
        if self.mode is not None:
            of = replace(of, chip=point.chip, mode=point.mode)
        return Evaluate(of, point.chip, (point.after,), seed)

    def runs(self) -> list[Run]:
        """Every run."""
        seeds = range(self.seeds)
        digital: list[Run] = [self.digital(seed) for seed in seeds]
        return digital + [self.read(point, seed) for point in self.points() for seed in seeds]


def _time(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ValueError(f"after must be a time >= 0 s, got {value!r}")
    return float(value)


def possible(chip: xb.Chip, mode: xb.Mode) -> None:
    """Put one small layer onto a chip; raises ValueError or TypeError where that cannot be."""
    layer = xb.convert(nn.Linear(2, 2), chip, mode=mode, seed=0)
    if isinstance(mode, xb.HardwareAware):
        xb.program(layer)


def chosen_chip(text: str) -> xb.Chip:
    """The chip of a family or preset, or of a constructor call of a Device or a Chip."""
    if not isinstance(text, str):
        raise TypeError(f"must be text, a name or a constructor call, got {text!r}")
    known = families()
    if text in known:
        return known[text].chip
    if text.isidentifier():
        text = f"presets.{text}()"
    made = paths.parse(text)
    if isinstance(made, Device):
        return chip(made)
    if isinstance(made, xb.Chip):
        return made
    raise ValueError(
        f"--chip must be one of {', '.join(known)}, a preset, or make a Device or a Chip; "
        f"got {text!r}"
    )


def chosen_mode(text: str | None, base: xb.Chip) -> xb.Mode:
    """The mode of a text; pulses where the cell has an update law and none is given."""
    if text is None:
        return PULSES if base.device.update is not None else xb.HardwareAware()
    if not isinstance(text, str):
        raise TypeError(f"must be text, a constructor call, got {text!r}")
    made = paths.parse(text)
    if not isinstance(made, xb.InSitu | xb.HardwareAware):
        raise ValueError(f"--mode must be InSitu(...) or HardwareAware(), got {text!r}")
    return made
