"""Verbs on whole models."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from crossbar.carried.analog import Analog, is_analog, uncarry
from crossbar.carried.kinds import products_of, value_of
from crossbar.carried.owner import Owner, held, own, weights
from crossbar.chip import Chip
from crossbar.modes import HardwareAware, InSitu, Mode, Programmed
from crossbar.nn import Whole, digital, place
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
    found, seen = [], set()
    for path, module in model.named_modules():
        for name in weights(module):
            weight = held(module, name)
            if weight is None or id(weight) in seen:
                continue
            seen.add(id(weight))
            full = f"{path}.{name}" if path else name
            found.append(Placement(full, module, value_of(module, name), weight))
    if not found:
        raise ValueError("model has no analog layers; convert(model, chip) makes them")
    return found


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


def convert(
    model: nn.Module,
    chip: Chip,
    mode: Mode | None = None,
    seed: int | None = None,
    *,
    exclude: Collection[str] = (),
) -> nn.Module:
    """A copy of `model` with the weights of its products on `chip`.

    Every `nn.Linear`, convolution and attention, subclasses too, and the two-dimensional Parameters
    that other modules own: whatever code multiplies by such a weight reads its array. Tied
    Parameters share one. Hooks, flags and names stay. A weight that is analog already moves to the
    new chip: same seed, device state kept where it fits (equal parts in an equal window), faults
    laid on top; a write-only chip makes it programmed. What stays digital is said in one warning.

    Args:
        model: any module; shared layers stay shared.
        chip: the hardware.
        mode: of all analog weights; None: `HardwareAware()` for digital layers, its own for analog.
        seed: of the whole model, each weight's follows from it and its name; None draws one.
        exclude: qualified names of modules (and what is in them) or Parameters that stay digital.

    Raises:
        TypeError: chip or mode of another kind, in situ on a write-only device or of a computed
            weight.
        ValueError: no weight to convert, or an excluded name that does not exist.
    """
    instance("chip", chip, Chip, optional=False)
    instance("mode", mode, Mode)
    base = Streams(seed).seed
    names = {name for name, _ in model.named_modules(remove_duplicate=False)}
    names |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    unknown = sorted(set(exclude) - names)
    if unknown:
        raise ValueError(f"exclude names no layer {unknown[0]!r}; layers are {sorted(names)}")
    model = _copied(model)
    shared: dict[int, AnalogWeight] = {}  # by Parameter
    left: list[str] = []
    found = list(model.named_modules(remove_duplicate=True))
    excluded = {
        id(p)
        for path, module in model.named_modules(remove_duplicate=False)
        for name, p in module._parameters.items()
        if p is not None and _within(f"{path}.{name}" if path else name, exclude)
    }
    for path, module in found:
        taken, digital_ = _products(module)
        for name in taken:
            full = f"{path}.{name}" if path else name
            value = module._parameters.get(name)
            if _within(full, exclude) or (value is not None and id(value) in excluded):
                continue
            _put(module, name, full, chip, mode, derive(base, full), shared)
        left += [f"{path}.{n}" if path else n for n in digital_]
    for _, module in found:  # tables that are tied to a weight on arrays
        for name, value in list(module._parameters.items()):
            if value is not None and id(value) in shared and name not in weights(module):
                own(module, name, shared[id(value)], registered=False)
    tied = [n for n in left if not _within(n, exclude)]
    if not shared and not any(weights(m) for m in model.modules()):
        raise ValueError(
            "model has no layer to convert: it needs an nn.Linear, a convolution, an attention, a "
            "two-dimensional Parameter of its own or an analog layer"
        )
    carried = {id(p) for p in model.parameters() if is_analog(p)}
    params = dict(model.named_parameters(remove_duplicate=False))
    tied = [n for n in tied if id(params.get(n)) not in carried]
    if tied:
        warnings.warn(
            f"these weights stay digital (their products are not read on arrays yet): {tied}; "
            "name them in exclude= to say so",
            stacklevel=2,
        )
    return model


def _within(name: str, exclude: Collection[str]) -> bool:
    return any(not e or name == e or name.startswith(f"{e}.") for e in exclude)


def _products(module: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the weights a module multiplies by, and of those that cannot be read yet."""
    if isinstance(module, Owner):
        return list(weights(module)), []
    known = products_of(module)
    if known is not None:
        for name in known:
            _usable(module, name)
        return list(known), []
    own_ = {n: p for n, p in module._parameters.items() if p is not None and p.dim() >= 2}
    if type(module).__module__.startswith("torch.nn."):
        return [], list(own_)
    flat = [n for n, p in own_.items() if p.is_floating_point() and (p.dim() == 2 or _experts(p))]
    return flat, [n for n in own_ if n not in flat]


def _experts(parameter: Tensor) -> bool:
    """Whether a Parameter of a class nobody knows looks like a stack of matrices."""
    return parameter.dim() == 3 and min(parameter.shape) > 1


def _usable(module: nn.Module, name: str) -> None:
    value = value_of(module, name)
    if isinstance(value, nn.parameter.UninitializedParameter):
        raise TypeError(
            f"{type(module).__name__}.{name} has no shape yet: run one batch through the model "
            "first"
        )
    if not value.is_floating_point():
        raise TypeError(f"{type(module).__name__}.{name} is {value.dtype}: exclude it")


def _put(
    module: nn.Module,
    name: str,
    full: str,
    chip: Chip,
    mode: Mode | None,
    seed: int,
    shared: dict[int, AnalogWeight],
) -> None:
    parameter = module._parameters.get(name)
    weight = held(module, name)
    if weight is not None:
        if id(weight) not in {id(w) for w in shared.values()}:
            value = value_of(module, name)
            weight.settle(value, _moved(weight, chip, mode), chip)
        if parameter is not None:
            shared[id(parameter)] = weight
        return
    if parameter is not None and id(parameter) in shared:
        own(module, name, shared[id(parameter)], registered=False)
        return
    made = place(module, name, chip, mode or HardwareAware(), seed, full)
    if parameter is not None:
        shared[id(parameter)] = made


def _moved(weight: AnalogWeight, chip: Chip, mode: Mode | None) -> Mode:
    """The mode of a weight on another chip: its own, but a write-only chip makes it programmed."""
    from_own = mode is None or isinstance(mode, InSitu)
    wanted = mode or weight.mode
    if from_own and isinstance(wanted, InSitu) and weight.mode.written:
        if chip.device.update is None:
            return Programmed()
    return wanted


def _copied(model: nn.Module) -> nn.Module:
    """deepcopy, also of modules whose computed weights are no leaves of the graph."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in module.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf and not isinstance(value, Analog):
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def to_digital(model: nn.Module) -> nn.Module:
    """A copy of `model` with every analog layer as torch's own, holding what the cells hold now."""
    model = _copied(model)
    owners = [m for m in model.modules() if isinstance(m, Owner)]
    for module in owners:
        digital(module)
    for module in model.modules():
        if isinstance(module, Whole):
            module.__class__ = module._analog_base
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


def inputs_of(batches: Iterable[Any]) -> list[Tensor]:
    """The inputs of batches, or of (inputs, …) tuples as a DataLoader gives.

    Raises:
        ValueError: no batch.
    """
    inputs = [b[0] if isinstance(b, (tuple, list)) else b for b in batches]
    if not inputs:
        raise ValueError("batches must hold at least one batch, got none")
    return inputs
