"""Verbs on whole models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.array import Writer
from crossbar.chip import Chip, Mode
from crossbar.layer import AnalogLayer
from crossbar.nn import AnalogConv2d, AnalogLinear
from crossbar.streams import Streams, derive
from devices._check import at_least, instance, positive

ANALOG: dict[type[nn.Module], Any] = {nn.Linear: AnalogLinear, nn.Conv2d: AnalogConv2d}


def convert(
    model: nn.Module,
    chip: Chip,
    mode: Mode | None = None,
    seed: int | None = None,
    *,
    exclude: Collection[str] = (),
) -> nn.Module:
    """A copy of `model` with its linear layers on `chip`.

    Every `nn.Linear` and `nn.Conv2d` (not their subclasses) becomes analog. A layer that is analog
    already moves to the new chip: same seed, device state kept where it fits (equal parts in an
    equal window), faults laid on top; a write-only chip makes it programmed.

    Args:
        model: any module; shared layers stay shared.
        chip: the hardware.
        mode: of all analog layers; None: `HardwareAware()` for digital layers, its own for analog.
        seed: of the whole model, each layer's follows from it and its name; None draws one.
        exclude: qualified names of layers that stay as they are.

    Raises:
        TypeError: chip or mode of another kind, in situ on a write-only device.
        ValueError: no layer to convert, or an excluded name that does not exist.
    """
    instance("chip", chip, Chip, optional=False)
    instance("mode", mode, Mode)
    base = Streams(seed).seed
    model = copy.deepcopy(model)
    names = {name for name, _ in model.named_modules(remove_duplicate=False)}
    unknown = sorted(set(exclude) - names)
    if unknown:
        raise ValueError(f"exclude names no layer {unknown[0]!r}; layers are {sorted(names)}")
    made: dict[int, nn.Module] = {}

    def analog(name: str, layer: nn.Module) -> nn.Module:
        if name in exclude:
            return layer
        if id(layer) not in made:
            if isinstance(layer, AnalogLayer):
                layer.rechip(chip, mode)
                made[id(layer)] = layer
            elif type(layer) in ANALOG:
                made[id(layer)] = ANALOG[type(layer)].from_digital(
                    layer, chip, mode, derive(base, name)
                )
        return made.get(id(layer), layer)

    found = list(model.named_modules(remove_duplicate=False))
    root = analog("", model)
    for name, layer in found:
        parent, _, attribute = name.rpartition(".")
        if name:
            new = analog(name, layer)
            if new is not layer:
                setattr(model.get_submodule(parent), attribute, new)
    if not made:
        raise ValueError(
            "model has no layer to convert: it needs an nn.Linear, nn.Conv2d or an analog layer"
        )
    return root


def to_digital(model: nn.Module) -> nn.Module:
    """A copy of `model` with every analog layer as torch's own, holding what the cells hold now."""
    model = copy.deepcopy(model)
    if isinstance(model, (AnalogLinear, AnalogConv2d)):
        return model.to_digital()
    made: dict[int, nn.Module] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if isinstance(layer, (AnalogLinear, AnalogConv2d)):
            parent, _, attribute = name.rpartition(".")
            new = made.setdefault(id(layer), layer.to_digital())
            setattr(model.get_submodule(parent), attribute, new)
    return model


def analog_layers(model: nn.Module) -> list[AnalogLayer]:
    """Every analog layer once.

    Raises:
        TypeError: not a module. ValueError: a module without analog layers.
    """
    instance("model", model, nn.Module, optional=False)
    layers = [m for m in model.modules() if isinstance(m, AnalogLayer)]
    if not layers:
        raise ValueError("model has no analog layers; convert(model, chip) makes them")
    return layers


def program(model: nn.Module, writer: Writer | None = None) -> nn.Module:
    """Write every analog layer's weight onto devices, in place; returns the model.

    A hardware-aware layer becomes `InSitu()` if its device has an update law, else `Programmed()`;
    a layer whose cells are the weights is rewritten with what it holds.

    Args:
        model: a model with analog layers.
        writer: how cells are written; None: once, with the device's write error.

    Raises:
        ValueError: weights that are not finite; no analog layer.
    """
    for layer in analog_layers(model):
        layer.program(writer)
    return model


def advance(model: nn.Module, seconds: float, *, temperature: float = 300.0) -> nn.Module:
    """Let time pass for every cell, in place; returns the model.

    Args:
        model: a model with analog layers (hardware-aware ones have no cells yet).
        seconds: duration [s], >= 0.
        temperature: [K], > 0.

    Raises:
        ValueError: a negative duration or temperature; no analog layer.
    """
    at_least("seconds", seconds, 0, "s")
    positive("temperature", temperature, "K")
    for layer in analog_layers(model):
        layer.advance(float(seconds), temperature)
    return model


def reseed(model: nn.Module, seed: int) -> nn.Module:
    """Move the same weights onto another chip of the same kind, in place; returns the model."""
    base = Streams(seed).seed
    analog_layers(model)
    for name, layer in model.named_modules():
        if isinstance(layer, AnalogLayer):
            layer.reseed(derive(base, name))
    return model


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Measure the ranges of every `Calibrated` converter of the forward reads, in place.

    Two passes over the data: the inputs' ranges first, then the currents these give.

    Args:
        model: a model with analog layers.
        batches: inputs, or (inputs, …) tuples as a DataLoader gives; walked twice.

    Raises:
        ValueError: no batch, or no analog layer.
    """
    ports = [layer.forward_port for layer in analog_layers(model)]
    inputs: list[Tensor] = [b[0] if isinstance(b, (tuple, list)) else b for b in batches]
    if not inputs:
        raise ValueError("batches must hold at least one batch, got none")
    try:
        for stage in ("dac", "adc"):
            for port in ports:
                port.observing = stage
                scale = port.dac_scale if stage == "dac" else port.adc_scale
                if scale is not None:
                    scale.fill_(torch.nan)
            for x in inputs:
                model(x)
    finally:
        for port in ports:
            port.observing = None
    return model


def replay(model: nn.Module) -> Callable[[], tuple[AbstractContextManager[None], ...]]:
    """`context_fn` for torch's activation checkpointing, so that recomputation sees equal noise.

    checkpoint(f, x, use_reentrant=False, context_fn=replay(model))
    """
    streams = [layer.streams for layer in analog_layers(model)]

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
