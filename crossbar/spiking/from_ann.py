"""A trained ReLU network as a spiking one: rates of integrate-and-fire neurons for activations."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.model import inputs_of
from crossbar.spiking.membranes import SpikingJelly
from crossbar.spiking.neurons import LIF, Integrator, Temporal
from crossbar.spiking.sequence import Sequential
from devices._check import between, instance

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
PASSED = (nn.Flatten, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout)
"""Layers without weights that commute with a rate."""


def to_spiking(net: nn.Sequential, batches: Iterable[Any], percentile: float = 99.9) -> Sequential:
    """The spiking network of a trained `nn.Sequential` of layers and ReLUs.

        v ← v + y;   S = H(v − θ),  v ← v − θ S,  v(0) = θ/2

    With Θ_l the percentile of the l-th ReLU's positive outputs over the data, a neuron's rate is
    its activation over Θ_l: biases become b_l/Θ_(l−1), thresholds θ_l = Θ_l/Θ_(l−1). The first
    layer sees constant currents (`encode.constant`), the last feeds an integrator without leak,
    whose membrane, over T, stands for the output over Θ. Rates are right within 1/T.

    Args:
        net: `nn.Linear`, convolutions, `nn.ReLU`, average pools, `nn.Flatten`; trained.
        batches: inputs, or (inputs, …) tuples, to measure Θ on: training data.
        percentile: in (0, 100]; below 100 rare large activations saturate.

    Raises:
        TypeError: another layer.

    Source: Rueckauer et al., Front. Neurosci. 11:682 (2017), doi:10.3389/fnins.2017.00682;
    v(0) = θ/2, Bu et al., ICLR 2022, arXiv:2303.04347.
    """
    instance("net", net, nn.Sequential, optional=False)
    between("percentile", percentile, 1e-6, 100)
    layers = [copy.deepcopy(m) for m in net if not isinstance(m, (nn.Dropout, nn.Identity))]
    for layer in layers:
        if not isinstance(layer, (*WEIGHTED, *PASSED, nn.ReLU)):
            raise TypeError(
                f"{type(layer).__name__} has no spiking counterpart here: train with ReLU and "
                "average pools, and fuse batch norms (torch.nn.utils.fusion) before"
            )
    data, scale, made = inputs_of(batches), 1.0, list[nn.Module]()
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                data = [torch.relu(a) for a in data]
                top = _top(data, percentile)
                made.append(_neuron(top / scale))
                scale = top
                continue
            data = [layer(a) for a in data]
            if isinstance(layer, WEIGHTED) and layer.bias is not None:
                layer.bias /= scale
            made.append(layer)
    return Sequential(*made, Integrator(SpikingJelly(math.inf, decay_input=False)))


def balance(
    net: Sequential,
    batches: Iterable[Any],
    percentile: float = 99.9,
    *,
    like: Sequential | None = None,
) -> Sequential:
    """Thresholds anew, in place, of what the layers compute now; returns the net.

    Layer by layer the percentile of its positive outputs is measured, its inputs being the rates
    that the layers before give: after programming, drift or a gain error the neurons fire as often
    as before. Biases are digital and do not fade with the cells: given the net as it was before,
    each layer's gain against it, Σ z z₀/Σ z₀² of outputs without bias, scales its biases too.

    Args:
        net: of `to_spiking`, converted to arrays or not.
        batches: inputs to measure on.
        percentile: as `to_spiking` was given.
        like: what `to_spiking` gave, not converted; None: biases stay.

    Raises:
        TypeError: a net with other neurons. ValueError: `like` is of other layers.
    """
    instance("net", net, Sequential, optional=False)
    instance("like", like, Sequential)
    if like is not None and [_shape(m) for m in like] != [_shape(m) for m in net]:
        raise ValueError("like must have the layers of net: give it what to_spiking gave")
    data, before = inputs_of(batches), list(net if like is None else like)
    with torch.no_grad():
        for module, was in zip(net, before, strict=True):
            if isinstance(module, LIF):
                if not isinstance(module.threshold, Tensor) or module.membrane.decay != math.inf:
                    raise TypeError("balance() takes the integrate-and-fire neurons of to_spiking")
                top = _top([torch.relu(a) for a in data], percentile)
                module.threshold.fill_(top)
                module.start = top / 2
                data = [(a / top).clamp(0, 1) for a in data]
            elif not isinstance(module, Temporal):
                bias = getattr(was, "bias", None)
                if like is not None and bias is not None:
                    module.get_parameter("bias").copy_(_gain(module, was, data) * bias)
                data = [module(a) for a in data]
    return net


def _shape(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(p.shape) for p in module.parameters())


def _gain(module: nn.Module, was: nn.Module, data: list[Tensor]) -> float:
    """Of a layer's outputs without bias, against what they were."""
    product, power = 0.0, 0.0
    for a in data:
        now, then = (m(a) - m(torch.zeros_like(a)) for m in (module, was))
        product, power = product + float((now * then).sum()), power + float(then.square().sum())
    return product / power if power else 1.0


def _neuron(theta: float) -> LIF:
    membrane = SpikingJelly(math.inf, decay_input=False)
    return LIF(membrane, torch.tensor(theta), start=theta / 2)


def _top(data: list[Tensor], percentile: float) -> float:
    """The percentile of the positive values."""
    values = torch.cat([a.flatten() for a in data])
    values = values[values > 0]
    if not len(values):
        raise ValueError("a ReLU of the net gives nothing but zeros: nothing to normalise by")
    rank = max(1, round(percentile / 100 * len(values)))
    return float(values.kthvalue(rank).values)
