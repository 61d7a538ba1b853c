"""What of a model computes on arrays, and what hardware that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from crossbar.carried.analog import is_analog
from crossbar.carried.kinds import products_of, tables_of
from crossbar.carried.owner import held, weights
from crossbar.spares import physical
from crossbar.watching import (
    DIGITAL,
    PRODUCT,
    TABLE,
    Seen,
    Watch,
    called,
    candidates,
    rehearsed,
)
from crossbar.weight import AnalogWeight

ANALOG, NOT_CALLED, REFUSED = "analog", "not called", "refused"


@dataclass(frozen=True)
class Line:
    """One weight of two or more dimensions.

    Args:
        name: qualified names of its Parameter, the tied ones too.
        shape: torch's.
        state: "analog": a product reads it on arrays; "table": rows are looked up; "digital":
            other functions use its numbers; "not called": the example does not reach it, or
            there is none and its class is not torch's; "refused": no plain floating Parameter.
        functions: that it reaches.
        product: whether it counts as a weight that products read.
        arrays: matrices; tiles: of them, in the chip's size; 0 where it is digital.
        utilisation: part of the cells of those tiles that hold a weight, 0 … 1.
        cells: devices, those of spare lines and reference columns too.
        dacs, adcs: converters of the forward read.
        bytes: of the Parameter, and of the state of the cells where there is one.
    """

    name: str
    shape: tuple[int, ...]
    state: str
    functions: tuple[str, ...] = ()
    product: bool = False
    arrays: int = 0
    tiles: int = 0
    utilisation: float = 0.0
    cells: int = 0
    dacs: int = 0
    adcs: int = 0
    bytes: int = 0

    @property
    def numel(self) -> int:
        """Weights."""
        return math.prod(self.shape)


class Receipt(Sequence[Line]):
    """A line a weight, in the order of the model; `str` gives a table.

    Args:
        lines: of the weights of two or more dimensions.
        vectors: numbers in Parameters of fewer: biases, norms, scales. They are digital.
    """

    def __init__(self, lines: Sequence[Line], vectors: int = 0) -> None:
        self.lines = tuple(lines)
        self.vectors = vectors

    def __getitem__(self, k: Any) -> Any:
        """A line by number, or by a weight's name."""
        if isinstance(k, str):
            return next(line for line in self.lines if k in line.name.split(" = "))
        return self.lines[k]

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    @property
    def share(self) -> float:
        """Of the weights that products read, the part that is read on arrays, 0 … 1."""
        counted = [line for line in self.lines if line.product]
        total = sum(line.numel for line in counted)
        analog = sum(line.numel for line in counted if line.state == ANALOG)
        return analog / total if total else 0.0

    def total(self, what: str) -> int:
        """Sum of a column: arrays, tiles, cells, dacs, adcs, bytes or numel."""
        return sum(getattr(line, what) for line in self.lines)

    def __repr__(self) -> str:
        heads = ("weight", "shape", "state", "by", "tiles", "used", "cells", "DACs", "ADCs")
        rows: list[tuple[str, ...]] = [heads]
        for line in self.lines:
            hardware: tuple[str, ...] = ("",) * 5
            if line.arrays:
                numbers = line.tiles, line.cells, line.dacs, line.adcs
                tiles, *rest = (f"{n:,}" for n in numbers)
                hardware = (tiles, f"{line.utilisation:.0%}", *rest)
            shape = " × ".join(map(str, line.shape))
            rows.append((line.name, shape, line.state, ", ".join(line.functions), *hardware))
        wide = [max(len(row[k]) for row in rows) for k in range(len(heads))]
        text = [
            "  ".join(
                cell.ljust(w) if k < 4 else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(row, wide, strict=True))
            ).rstrip()
            for row in rows
        ]
        cells, size = self.total("cells"), self.total("bytes")
        text.append(f"{self.share:.2%} of the weights that products read are on arrays; ")
        text[-1] += f"{self.total('arrays'):,} arrays, {cells:,} cells, {size:,} bytes"
        text.append(
            f"digital besides: {self.vectors:,} numbers of biases, norms and other vectors; "
            "products of two activations (an attention's), softmax, sums"
        )
        return "\n".join(text)


def summary(model: nn.Module, example: Any = None) -> Receipt:
    """What each weight of a model meets, and the arrays it takes.

    Args:
        model: converted, or to be; on the meta device too.
        example: what one forward is called with: a tensor, a tuple of arguments, a dictionary of
            named ones. None: torch's own classes are known, others are "not called". The forward
            runs in evaluation, without gradients, and leaves no trace.

    Returns:
        A line for every weight of two or more dimensions; `share` of them is analog.
    """
    watch = Watch(model)
    if example is not None:
        with watch:
            called(model, example)
    vectors = (p for p in model.parameters() if not _shapeless(p) and p.dim() < 2)
    lines = list(_lines(model, watch, example is not None))
    return Receipt(lines, sum(p.numel() for p in vectors if not is_analog(p)))


def _shapeless(p: Tensor) -> bool:
    return isinstance(p, nn.parameter.UninitializedParameter)


def _lines(model: nn.Module, watch: Watch, run: bool) -> Iterator[Line]:
    groups: dict[int, dict[str, Any]] = {}
    for path, module in model.named_modules():
        names = dict.fromkeys([*weights(module), *candidates(module), *_odd(module)])
        for name in names:
            analog, parameter = held(module, name), module._parameters.get(name)
            if isinstance(module, nn.utils.parametrize.ParametrizationList):
                continue
            key = id(analog) if analog is not None else id(parameter)
            if analog is None and parameter is None:
                key = hash((id(module), name))
            group = groups.setdefault(key, {"names": [], "known": False, "table": False})
            group["names"].append(f"{path}.{name}" if path else name)
            group["analog"], group["parameter"] = analog, parameter
            group["known"] |= name in (products_of(module) or ())
            group["table"] |= name in tables_of(module)
    for key, group in groups.items():
        yield _line(group, tuple(watch.seen.get(key, ())), run)


def _odd(module: nn.Module) -> list[str]:
    """Parameters that cannot be analog: without a shape yet, quantised, complex, subclasses."""
    found = []
    for name, p in module._parameters.items():
        if p is None or is_analog(p):
            continue
        if _shapeless(p) or (
            p.dim() > 1 and (type(p) is not nn.Parameter or not p.is_floating_point())
        ):
            found.append(name)
    return found


def _line(group: dict[str, Any], seen: tuple[Seen, ...], run: bool) -> Line:
    name, analog, parameter = " = ".join(group["names"]), group["analog"], group["parameter"]
    if parameter is not None and _shapeless(parameter):
        return Line(name, (), REFUSED, ("no shape yet",), True)
    kinds = {s.kind for s in seen}
    functions = tuple(s.name for s in seen)
    shape = (
        tuple(analog.shape if analog is not None else parameter.shape)
        if (analog is not None or parameter is not None)
        else ()
    )
    product = PRODUCT in kinds or group["known"]
    if analog is None and parameter is not None:
        if type(parameter) is not nn.Parameter or not parameter.is_floating_point():
            return Line(name, shape, REFUSED, (type(parameter).__name__, *functions), True)
    if run:
        state = TABLE if kinds == {TABLE} else DIGITAL
        if not seen:
            state = NOT_CALLED
        if analog is not None and (PRODUCT in kinds or (not seen and group["known"])):
            state = ANALOG if seen else NOT_CALLED
    elif analog is not None:
        state = ANALOG if group["known"] else TABLE if group["table"] else NOT_CALLED
        product = product or not group["table"]
    else:
        state = TABLE if group["table"] else DIGITAL if group["known"] else NOT_CALLED
    size = 0 if parameter is None else parameter.numel() * parameter.element_size()
    if analog is None:
        return Line(name, shape, state, functions, product, bytes=size)
    return Line(name, shape, state, functions, product, **_hardware(analog, size))


def _hardware(weight: AnalogWeight, size: int) -> dict[str, Any]:
    chip, count = weight.chip, len(weight.gains)
    *lead, rows, cols = weight.matrix.lines
    down, across = (len(chip.tiles(weight.matrix.lines, back)) for back in (False, True))
    stack = math.prod(lead) * count
    tiles = stack * down * across
    spares = (None, None) if chip.spares is None else (chip.spares.rows, chip.spares.columns)
    lines = zip(chip.tile or (rows, cols), spares, strict=True)
    high, wide = (physical(n, share) for n, share in lines)
    made = [
        sum(physical(b - a, share) for a, b in chip.tiles(weight.matrix.lines, back))
        for back, share in zip((False, True), spares, strict=True)
    ]
    used = rows * cols / (down * across * high * wide) if rows * cols else 1.0
    adc = chip.forward.adc
    served = 0 if adc is None else -(-cols // adc.shared)
    held_ = (b for b in weight.buffers() if isinstance(b, Tensor))
    return {
        "arrays": stack,
        "tiles": tiles,
        "utilisation": used,
        "cells": stack
        * made[0]
        * (chip.layout.devices * made[1] + across * (chip.line is not None)),
        "dacs": stack * rows * across if chip.forward.dac is not None else 0,
        "adcs": stack * down * len(chip.layout.columns) * served,
        "bytes": size + sum(b.numel() * b.element_size() for b in held_),
    }


@dataclass(frozen=True)
class Sensitivity:
    """How a score changes when one weight is computed digitally."""

    name: str
    score: float
    gain: float  # the score with all on arrays, less this one


def sensitivity(
    model: nn.Module, score: Callable[[nn.Module], float], *, repeats: int = 1
) -> list[Sensitivity]:
    """Which weights are worth keeping digital: the most rewarding first.

    A weight on cells is computed with what the cells hold, so that its gain is that of reads alone
    (converters, noise, wires); hardware-aware, it is that of write errors too. No hardware computes
    so, and an open ledger counts nothing of it.

    Args:
        model: a converted model, in any mode.
        score: of the model, lower is better (a loss, an error rate); it is called once for each
            weight and once for all, `repeats` times each, and the mean counts.
        repeats: >= 1; read noise differs in each.

    Raises:
        ValueError: no analog layer, or repeats < 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    named = _named(model)
    if not named:
        raise ValueError("model has no analog layers; convert(model, chip) makes them")

    def mean() -> float:
        return sum(float(score(model)) for _ in range(repeats)) / repeats

    with rehearsed(model):
        everything, found = mean(), []
        for name, weight in named.items():
            weight.digital = True
            try:
                one = mean()
            finally:
                weight.digital = False
            found.append(Sensitivity(name, one, everything - one))
    return sorted(found, key=lambda s: -s.gain)


def _named(model: nn.Module) -> dict[str, AnalogWeight]:
    found: dict[int, tuple[str, AnalogWeight]] = {}
    for path, module in model.named_modules():
        for name in weights(module):
            weight = held(module, name)
            if weight is not None:
                found.setdefault(id(weight), (f"{path}.{name}" if path else name, weight))
    return dict(found.values())
