"""A liquid state machine: a random recurrent network of spikes, of which traces are read."""

from __future__ import annotations

import math

import torch
from torch import nn

from crossbar.spiking.membranes import Current, SnnTorch
from crossbar.spiking.neurons import LIF, Integrator, Recurrent
from crossbar.spiking.resets import To
from crossbar.spiking.sequence import Sequential
from devices._check import between, positive, whole
from devices.draw import seeded


def liquid(
    inputs: int,
    size: int = 135,
    *,
    excitatory: float = 0.1,
    inhibitory: float = 0.2,
    input_weight: float = 0.3,
    share: float = 0.2,
    connected: float = 0.1,
    dt: float = 1e-3,
    tau_synapse: float = 3e-3,
    tau_membrane: float = 30e-3,
    tau_trace: float = 30e-3,
    seed: int = 0,
) -> Sequential:
    """Input layer, recurrent neurons, and the traces of their spikes (T, B, size).

    Weights are of exponentially distributed size about the means given, a neuron's outgoing ones of
    one sign; each pair is connected by chance. `convert` puts both layers on arrays. A linear
    `Readout` of the last trace is what is trained.

    Args:
        inputs: lines.
        size: neurons.
        excitatory: mean weight of recurrent synapses of excitatory neurons, > 0.
        inhibitory: size of the mean weight of those of inhibitory ones, > 0.
        input_weight: mean size of input weights, > 0, of either sign.
        share: of inhibitory neurons, in [0, 1].
        connected: probability of a connection, in [0, 1], of recurrent and input synapses.
        dt: a time step [s], > 0.
        tau_synapse: of the currents [s], > 0.
        tau_membrane: [s], > 0.
        tau_trace: of what is read [s], > 0.
        seed: of the weights.

    Source: Maass, Natschläger & Markram, Neural Comput. 14, 2531 (2002),
    doi:10.1162/089976602760407955; without its geometry and dynamic synapses.
    """
    whole("inputs", inputs, 1), whole("size", size, 1)
    for name, value in (
        *(("excitatory", excitatory), ("inhibitory", inhibitory), ("dt", dt)),
        *(("input_weight", input_weight), ("tau_synapse", tau_synapse)),
        *(("tau_membrane", tau_membrane), ("tau_trace", tau_trace)),
    ):
        positive(name, value)
    between("share", share, 0, 1), between("connected", connected, 0, 1)
    draw = seeded(f"{seed}/liquid", torch.device("cpu"))

    def drawn(rows: int, cols: int) -> torch.Tensor:
        weights = -torch.log1p(-torch.rand(rows, cols, generator=draw))
        return weights * (torch.rand(rows, cols, generator=draw) < connected)

    into = drawn(size, inputs) * input_weight
    into *= 2.0 * torch.randint(0, 2, into.shape, generator=draw) - 1
    among = drawn(size, size).fill_diagonal_(0.0)
    inhibits = torch.rand(size, generator=draw) < share
    among *= torch.where(inhibits, -inhibitory, excitatory)
    first, back = nn.Linear(inputs, size, bias=False), nn.Linear(size, size, bias=False)
    with torch.no_grad():
        first.weight.copy_(into), back.weight.copy_(among)
    membrane = Current(SnnTorch(math.exp(-dt / tau_membrane)), math.exp(-dt / tau_synapse))
    neuron = Recurrent(LIF(membrane, reset=To()), back)
    return Sequential(first, neuron, Integrator(SnnTorch(math.exp(-dt / tau_trace))))
