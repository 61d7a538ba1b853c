"""NeuroBench's algorithm metrics of a spiking network: modelled, not measured on a chip."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossbar.model import to_digital
from crossbar.spiking.delays import Delay, Synapses
from crossbar.spiking.neurons import Integrator, Recurrent, Temporal

MODELLED = "modelled"
SPIKELESS = Integrator, Delay, Synapses, Recurrent
"""What remembers and does not fire itself."""


class Metrics(NamedTuple):
    """Per sample of a batch, all time steps together.

    `origin` says that they are modelled: counted from what the emulation did.
    """

    footprint: int  # [bytes] of parameters and buffers of the network in digital form
    activation_sparsity: float  # share of silent neuron steps
    dense: float  # synaptic operations if every weight met every input
    effective_macs: float  # of inputs that are not 0 or ±1, with weights that are not 0
    effective_acs: float  # of inputs ±1, with weights that are not 0
    origin: str = MODELLED


def metrics(net: nn.Module, x: Tensor) -> Metrics:
    """Metrics of one call of a net on x (T, B, ...), in evaluation, without gradients.

    Linear and convolutional layers and the neurons of this room are counted.

    Raises:
        ValueError: a net without neurons.

    Source: Yik et al., Nat. Commun. 16:1545 (2025), arXiv:2304.04640 (NeuroBench).
    """
    digital, hooks = to_digital(net).eval(), []
    spikes, silent, dense, macs, acs = 0, 0.0, 0.0, 0.0, 0.0

    def layer(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        nonlocal dense, macs, acs
        (given,) = args
        ones = torch.ones_like(given)
        dense += _products(module, ones, torch.ones_like(module.weight))  # type: ignore[arg-type]
        there = (module.weight != 0).to(given.dtype)  # type: ignore[union-attr]
        spiking = bool(((given == 0) | (given.abs() == 1)).all())
        found = _products(module, (given != 0).to(given.dtype), there)
        if spiking:
            acs += found
        else:
            macs += found

    def neuron(module: nn.Module, args: tuple[Any, ...], out: tuple[Tensor, Any]) -> None:
        nonlocal spikes, silent
        spikes += out[0].numel()
        silent += float((out[0] == 0).sum())

    for module in digital.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            hooks.append(module.register_forward_hook(layer))
        elif isinstance(module, Temporal) and not isinstance(module, SPIKELESS):
            hooks.append(module.register_forward_hook(neuron))
    with torch.no_grad():
        digital(x)
    for hook in hooks:
        hook.remove()
    if not spikes:
        raise ValueError("the net has no neurons of crossbar.spiking")
    held = [*digital.parameters(), *digital.buffers()]
    size = sum(t.numel() * t.element_size() for t in held)
    batch = x.shape[1]
    return Metrics(size, silent / spikes, dense / batch, macs / batch, acs / batch)


def _products(layer: nn.Module, x: Tensor, w: Tensor) -> float:
    """Σ of the products of ones and zeros."""
    if isinstance(layer, nn.Linear):
        return float(F.linear(x.double(), w.double()).sum())
    found: Tensor = layer._conv_forward(x.double(), w.double(), None)  # type: ignore[operator]
    return float(found.sum())
