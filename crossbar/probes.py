"""Watching what happens on the arrays of a model, and the calibration that does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.converters import DAC, Digit
from crossbar.matrix import Matrix
from crossbar.model import fed, inputs_of, placed
from crossbar.port import Periphery, Port
from crossbar.probe import Probe
from crossbar.ranges import Calibrated, PerVector
from devices._check import instance


@contextmanager
def observe(model: nn.Module, probe: Probe) -> Iterator[Probe]:
    """Tell `probe` what happens on every array of `model` while the context lasts.

        with xb.observe(model, probe):
            model(x)

    Contexts nest: each probe is told what happens while its own lasts.

    Args:
        model: a model with analog layers or matrices in it, or a matrix of `crossbar.matrix`.
        probe: what is told; see `Probe`.

    Raises:
        TypeError: not a probe. ValueError: no analog layer.
    """
    instance("probe", probe, Probe, optional=False)
    found = matrices(model)
    before = {matrix: matrix.probe for matrix in found}
    for matrix, old in before.items():
        matrix.probe = probe if old is None else _Several(old, probe)
    try:
        yield probe
    finally:
        outer = next(iter(before.values()))
        for matrix in {**before, **dict.fromkeys(matrices(model))}:
            matrix.probe = before.get(matrix, outer)  # a rule or another chip brought others


@contextmanager
def lent(model: nn.Module, copy: nn.Module) -> Iterator[None]:
    """Who watches the model is told of a copy that stands for it, where the probe follows it."""
    told: dict[int, Probe | None] = {}
    with ExitStack() as stack:
        for path, m in model.named_modules():
            if isinstance(m, Matrix) and m.probe is not None:
                if id(m.probe) not in told:
                    told[id(m.probe)] = stack.enter_context(m.probe.follows(model, copy))
                copy.get_submodule(path).probe = told[id(m.probe)]  # type: ignore[assignment]
        yield


class _Several(Probe):
    """Probes of contexts within one another, each told everything."""

    def __init__(self, *probes: Probe) -> None:
        self._probes = probes
        self.currents = any(probe.currents for probe in probes)  # type: ignore[misc]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All of them."""
        with ExitStack() as stack:
            for probe in self._probes:
                stack.enter_context(probe.paused())
            yield

    @contextmanager
    def follows(self, model: Any, copy: Any) -> Iterator[Probe | None]:
        """Those that do."""
        with ExitStack() as stack:
            told = [stack.enter_context(probe.follows(model, copy)) for probe in self._probes]
            some = [probe for probe in told if probe is not None]
            yield _Several(*some) if some else None


def _to_each(name: str) -> Any:
    def told(self: _Several, *happened: Any) -> None:
        for probe in self._probes:
            getattr(probe, name)(*happened)

    return told


for _name in [name for name, verb in vars(Probe).items() if name[0] != "_" and callable(verb)]:
    if _name not in vars(_Several):
        setattr(_Several, _name, _to_each(_name))


def named(model: nn.Module) -> dict[Matrix, tuple[str, int]]:
    """Every matrix of a model: the name of its weight and its number there.

    One that a module reads by itself has that of its module path, a model that is one "matrix".
    """
    found = {
        matrix: (name, k)
        for name, _, _, weight in placed(model)
        for k, (_, matrix) in enumerate(weight.all())
    }
    for path, module in model.named_modules():
        if isinstance(module, Matrix):
            found.setdefault(module, (path or "matrix", 0))
    return found


def matrices(model: nn.Module) -> list[Matrix]:
    """Every matrix of a model.

    Raises:
        TypeError: not a module. ValueError: there is none.
    """
    instance("model", model, nn.Module, optional=False)
    found = list(named(model))
    if not found:
        raise ValueError("model has no analog layers; convert(model, chip) makes them")
    return found


class _Measured(Probe):
    """The quantiles that calibrated ranges hold."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def encoded(
        self, matrix: Any, port: Port, x: Tensor, scale: Tensor | None, digits: Sequence[Digit]
    ) -> None:
        """Quantiles of |x|."""
        if self.stage == "dac" and port.dac_scale is not None and port is matrix.forward_port:
            dac = replace(port.wanted.dac, noise=0.0)
            self._widen(port.dac_scale, dac.range, x, x.abs(), lambda v, f: _decoded(dac, v, f))

    def converted(
        self, matrix: Any, port: Port, tile: int, column: int, i: Tensor, full: Any
    ) -> None:
        """Quantiles of |i|."""
        if self.stage == "adc" and port.adc_scale is not None and port is matrix.forward_port:
            adc = port.wanted.adc
            perfect = partial(adc.convert, leaf=None)
            self._widen(port.adc_scale[tile, column], adc.range, i, adc.needs(i), perfect)

    @staticmethod
    def _widen(scale: Tensor, policy: Any, values: Tensor, size: Tensor, converted: Any) -> None:
        assert isinstance(policy, Calibrated)
        if values.numel():
            found = policy.measured(values, size, converted)
            if not bool(found.isfinite()):
                raise ValueError("batches must give finite inputs and currents to calibrate on")
            scale.copy_(torch.fmax(scale, found))


def _decoded(dac: DAC, v: Tensor, full: Tensor) -> Tensor:
    """What the voltages of inputs v stand for."""
    found = torch.zeros_like(v)
    for digit in dac.digits(v / full):
        found = found + digit.v * digit.weight
    return found * full


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Measure the ranges of every `Calibrated` converter of the forward reads, in place.

    Two passes over the data: the inputs' ranges first, then the currents these give, behind
    perfect converters.

    Args:
        model: a model with analog layers, or a `Matrix`.
        batches: inputs, (inputs, …) tuples as a DataLoader gives, or dictionaries of named ones;
            of a matrix what `@` takes. Walked twice.

    Raises:
        ValueError: no batch, inputs that are not finite, or no analog layer.
    """
    found, inputs = matrices(model), inputs_of(batches)
    ports = [matrix.forward_port for matrix in found]
    for stage in ("dac", "adc"):
        for port in ports:
            scale = port.dac_scale if stage == "dac" else port.adc_scale
            if scale is not None:
                scale.fill_(torch.nan)
            port.settings = _passing(port.wanted, stage)
        try:
            with observe(model, _Measured(stage)):
                for x in inputs:
                    fed(model, x)
        finally:
            for port in ports:
                port.settings, port.ready = port.wanted, False
    for matrix in found:
        adc, scale = matrix.chip.forward.adc, matrix.forward_port.adc_scale
        if adc is not None and scale is not None:
            assert isinstance(adc.range, Calibrated)
            weights = [column.weight for column in matrix.layout.columns]
            scale.copy_(adc.range.settled(scale, weights))
    return model


def _passing(settings: Periphery, stage: str) -> Periphery:
    """Converters that hold no range that is still to be measured."""
    dac, adc = settings.dac, settings.adc
    if stage == "dac" and dac is not None and dac.range.held:
        dac = replace(dac, range=PerVector())
    if adc is not None and adc.range.held:
        adc = None
    return Periphery(dac, adc)
