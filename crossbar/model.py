"""Verbs on whole models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crossbar.carried.analog import Analog, is_analog, uncarry
from crossbar.carried.kinds import value_of
from crossbar.carried.owner import Owner, held, weights
from crossbar.complexes import ComplexMatrix
from crossbar.nn import Whole, digital
from crossbar.readable import Readable
from crossbar.states import Writer
from crossbar.streams import Streams, derive
from crossbar.weight import AnalogWeight
from devices._check import at_least, instance, positive


class Placement(NamedTuple):
    """One analog weight of a model."""

    name: str  # qualified name of its first owner's Parameter
    module: nn.Module
    parameter: Any  # torch's Parameter; of a computed weight what its module computes now
    weight: AnalogWeight


def placements(model: nn.Module) -> list[Placement]:
    """Every analog weight once, at its first owner.

    Raises:
        TypeError: not a module. ValueError: a module without analog weights.
    """
    instance("model", model, nn.Module, optional=False)
    found = list(placed(model))
    if not found:
        raise ValueError("model has no analog layers; convert(model, chip) makes them")
    return found


def placed(model: nn.Module) -> Iterator[Placement]:
    """The same; there may be none."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name in weights(module):
            weight = held(module, name)
            if weight is None or id(weight) in seen:
                continue
            seen.add(id(weight))
            full = f"{path}.{name}" if path else name
            yield Placement(full, module, value_of(module, name), weight)


def only(layer: nn.Module) -> Placement:
    """The one analog weight of a layer.

    Raises:
        ValueError: several, or none.
    """
    found = placements(layer)
    if len(found) > 1:
        raise ValueError(f"one analog weight is needed, got {[name for name, *_ in found]}")
    return found[0]


def analog_weights(model: nn.Module) -> dict[str, AnalogWeight]:
    """Every analog weight once, by the qualified name of its first owner's Parameter."""
    return {name: weight for name, _, _, weight in placements(model)}


def copied(model: nn.Module) -> nn.Module:
    """deepcopy, also of modules whose computed weights are no leaves of the graph."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in module.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf and not isinstance(value, Analog):
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


@torch.inference_mode(False)
def to_digital(model: nn.Module) -> nn.Module:
    """A copy of `model` with every analog layer as torch's own, holding what the cells hold now."""
    model = copied(model)
    owners = [m for m in model.modules() if isinstance(m, Owner)]
    for module in owners:
        digital(module)
    for whole in model.modules():
        if isinstance(whole, Whole):
            whole.__class__ = whole._analog_base
    for parameter in model.parameters():
        if is_analog(parameter):
            uncarry(parameter)
    return model


def program(model: nn.Module, writer: Writer | None = None) -> nn.Module:
    """Write every analog weight onto devices, in place; returns the model.

    A hardware-aware weight becomes `InSitu()` if its device has an update law, else
    `Programmed()`, at the scale it was rehearsed at; a weight whose cells are the weight is
    rewritten with what it holds.

    Args:
        model: a model with analog layers.
        writer: how cells are written; None: once, with the device's write error.

    Raises:
        ValueError: weights that are not finite; no analog layer.
    """
    for _, _, parameter, weight in placements(model):
        weight.program(parameter, writer)
    return model


def advance(model: nn.Module, seconds: float, *, temperature: float = 300.0) -> nn.Module:
    """Let time pass for every cell, in place; returns the model.

    Args:
        model: a model with analog layers.
        seconds: duration [s], >= 0.
        temperature: [K], > 0.

    Raises:
        TypeError: hardware-aware weights, which have no cells yet.
        ValueError: a negative duration or temperature; no analog layer.
    """
    at_least("seconds", seconds, 0, "s")
    positive("temperature", temperature, "K")
    found = placements(model)
    floats = [name for name, _, _, weight in found if not weight.mode.written]
    if floats:
        raise TypeError(
            f"time passes for cells, and {floats[0]} is a float weight until program(model) writes "
            "it: call program first"
        )
    for _, _, parameter, weight in found:
        weight.sync(parameter)
        weight.advance(float(seconds), temperature)
        weight.show(parameter)
    return model


def reseed(model: nn.Module, seed: int) -> nn.Module:
    """Move the same weights onto another chip of the same kind, in place; returns the model.

    The same seed is the same chip as `convert(model, chip, seed=seed)` makes, wherever the model
    is wrapped: seeds follow the names the weights were converted by.
    """
    base = Streams(seed).seed
    for _, _, parameter, weight in placements(model):
        weight.sync(parameter)
        weight.reseed(parameter, derive(base, weight.name))
    return model


def replay(model: nn.Module) -> Callable[[], tuple[AbstractContextManager[None], ...]]:
    """`context_fn` for torch's activation checkpointing, so that recomputation sees equal noise.

    checkpoint(f, x, use_reentrant=False, context_fn=replay(model))
    """
    streams = [m.streams for _, _, _, w in placements(model) for _, m in w.all()]

    def contexts() -> tuple[AbstractContextManager[None], ...]:
        saved: list[Tensor] = []

        @contextmanager
        def record() -> Iterator[None]:
            saved.extend(s.state.clone() for s in streams)
            yield

        @contextmanager
        def again() -> Iterator[None]:
            now = [s.state.clone() for s in streams]
            for s, state in zip(streams, saved, strict=True):
                s.state.copy_(state)
            try:
                yield
            finally:
                for s, state in zip(streams, now, strict=True):
                    s.state.copy_(state)

        return record(), again()

    return contexts


def fed(model: nn.Module, x: Any) -> Any:
    """The model of what `inputs_of` gives; of a matrix its product."""
    if isinstance(model, (Readable, ComplexMatrix)):
        return model @ x
    return model(**x) if isinstance(x, Mapping) else model(x)


def inputs_of(batches: Iterable[Any]) -> list[Any]:
    """The inputs of batches: of (inputs, …) tuples, as a DataLoader gives, the first.

    Dictionaries are arguments by name, as they are.

    Raises:
        ValueError: no batch.
    """
    inputs = [b[0] if isinstance(b, (tuple, list)) else b for b in batches]
    if not inputs:
        raise ValueError("batches must hold at least one batch, got none")
    return inputs
