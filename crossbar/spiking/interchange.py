"""NIR, the Neuromorphic Intermediate Representation (optional extra: the package `nir`).

from crossbar.spiking.interchange import from_nir, to_nir

nir.write("net.nir", to_nir(net, x, dt=1e-3))
"""

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from crossbar.model import to_digital
from crossbar.spiking.membranes import Exact, Membrane, Norse, SnnTorch, SpikingJelly
from crossbar.spiking.neurons import LIF, Integrator
from crossbar.spiking.resets import To
from crossbar.spiking.sequence import Sequential
from devices._check import instance, positive


def to_nir(net: Sequential, x: Tensor, dt: float) -> Any:
    """The graph of a net: a chain of layers and neurons.

    Weights are those in use: floats of a net without cells, else what its cells hold now, write
    errors and faults included, so that any simulator replays the chip. NIR's neurons are
    continuous, τ dv/dt = v_leak − v + R i with a hard reset; a reader's Euler step of dt is ours,
    whose constants τ = dt/(1 − β) and R follow from the membrane's convention. NIR has no step, so
    readers must be given the same dt.

    Args:
        net: of linear layers, two-dimensional convolutions, `nn.Flatten`, `LIF`, `Integrator`.
        x: an input (T, B, ...), for shapes.
        dt: a time step [s], > 0.

    Raises:
        ValueError: a soft reset, or none, which NIR does not have.
        TypeError: a module or a part without a counterpart (adaptation, refractory time,
            conductances, synaptic currents).
    """
    instance("net", net, Sequential, optional=False)
    positive("dt", dt, "s")
    digital, y = to_digital(net).eval(), x[:1]
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(x.shape[2:])})}
    for name, module in digital.named_children():
        shape = tuple(y.shape[2:])
        with torch.no_grad():
            y, _ = Sequential(module)(y)
        nodes[name] = _node(name, module, shape, dt)
    nodes["output"] = nir.Output({"output": np.array(y.shape[2:])})
    names = list(nodes)
    return nir.NIRGraph(nodes, list(zip(names, names[1:], strict=False)))


def _array(t: Tensor) -> Any:
    return t.detach().cpu().numpy()


def _node(name: str, module: nn.Module, shape: tuple[int, ...], dt: float) -> Any:
    if isinstance(module, nn.Linear):
        if module.bias is None:
            return nir.Linear(_array(module.weight))
        return nir.Affine(_array(module.weight), _array(module.bias))
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
        bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
        sizes = module.stride, module.padding, module.dilation, module.groups
        return nir.Conv2d(shape[1:], _array(module.weight), *sizes, _array(bias))
    if isinstance(module, nn.Flatten):
        # dimensions of a sample: the batch is not one of NIR's
        start, end = module.start_dim - 1, module.end_dim - (module.end_dim > 0)
        return nir.Flatten({"input": np.array(shape)}, start, end)
    if isinstance(module, LIF):
        return _lif(name, module, shape, dt)
    if isinstance(module, Integrator):
        tau, r, leak = _constants(name, module.membrane, dt)
        if tau == math.inf:
            return nir.I(np.full(shape, r / dt))
        return nir.LI(np.full(shape, tau), np.full(shape, r), np.full(shape, leak))
    raise TypeError(f"{name}: NIR has no {type(module).__name__}")


def _constants(name: str, membrane: Membrane, dt: float) -> tuple[float, float, float]:
    """τ [s], R and v_leak whose Euler step of dt is the membrane's; τ = inf: (inf, gain, 0)."""
    if isinstance(membrane, SnnTorch):
        beta = membrane.decay
        return (math.inf, 1.0, 0.0) if beta == 1 else (dt / (1 - beta), 1 / (1 - beta), 0.0)
    if isinstance(membrane, SpikingJelly):
        if membrane.decay == math.inf:
            return math.inf, 1.0, 0.0
        r = 1.0 if membrane.decay_input else membrane.decay
        return membrane.decay * dt, r, membrane.rest_at
    if isinstance(membrane, Norse) and membrane.decay:
        return dt / membrane.decay, 1.0, membrane.leak
    if isinstance(membrane, Exact):
        if abs(membrane.dt / dt - 1) > 1e-9:
            raise ValueError(f"{name}: its step is {membrane.dt!r} s, got dt={dt!r}")
        return dt / (1 - membrane.decay), membrane.r, 0.0
    raise TypeError(f"{name}: NIR export of {membrane!r} is not supported")


def _lif(name: str, neuron: LIF, shape: tuple[int, ...], dt: float) -> Any:
    if not isinstance(neuron.reset, To):
        raise ValueError(
            f"{name}: NIR neurons are reset to a value, got reset={neuron.reset!r}: train with "
            "reset=To(0.0)"
        )
    if neuron.adaptation is not None or neuron.refractory or neuron.start is not None:
        raise TypeError(f"{name}: NIR has no adaptation, refractory time or start of a membrane")
    if isinstance(neuron.membrane, SnnTorch) and neuron.reset.value:
        raise ValueError(f"{name}: snnTorch's membrane is reset to 0, got {neuron.reset!r}")
    membrane = neuron.membrane
    if neuron.decay is not None:  # a learned one
        value = float(membrane.within(neuron.decay).detach())
        membrane = type(membrane)(**{**vars(membrane), "decay": value})
    theta = np.broadcast_to(_array(torch.as_tensor(neuron.threshold)), shape).astype(np.float64)
    tau, r, leak = _constants(name, membrane, dt)
    back = np.full(shape, neuron.reset.value)
    if tau == math.inf:
        return nir.IF(np.full(shape, r / dt), theta, back)
    return nir.LIF(np.full(shape, tau), np.full(shape, r), np.full(shape, leak), theta, back)


def from_nir(graph: Any, dt: float) -> Sequential:
    """The net of a graph that is a chain; give it to `crossbar.convert` for arrays.

    Neurons take `SpikingJelly`'s step (Euler; at >= threshold, as NIR says nothing of ties).

    Args:
        graph: `nir.NIRGraph`.
        dt: a time step [s], > 0.

    Raises:
        ValueError: a graph that branches. TypeError: a node without a counterpart.
    """
    positive("dt", dt, "s")
    after = dict(graph.edges)
    if len(after) != len(graph.edges) or len(set(after.values())) != len(after):
        raise ValueError("from_nir takes chains, and this graph branches")
    name = next(k for k, node in graph.nodes.items() if isinstance(node, nir.Input))
    modules: list[nn.Module] = []
    while (name := after[name]) and not isinstance(graph.nodes[name], nir.Output):
        modules.append(_module(name, graph.nodes[name], dt))
    return Sequential(*modules)


def _one(name: str, field: str, values: Any) -> float:
    first = float(np.ravel(values)[0])
    if not np.allclose(values, first, rtol=1e-12, atol=0):
        raise TypeError(f"{name}: {field} differs from neuron to neuron, which is not supported")
    return first


def _module(name: str, node: Any, dt: float) -> nn.Module:
    if isinstance(node, (nir.Affine, nir.Linear)):
        w = torch.from_numpy(np.array(node.weight, dtype=np.float32))
        bias = getattr(node, "bias", None)
        layer = nn.Linear(w.shape[1], w.shape[0], bias=bias is not None)
        with torch.no_grad():
            layer.weight.copy_(w)
            if bias is not None:
                layer.bias.copy_(torch.from_numpy(np.array(bias, dtype=np.float32)))
        return layer
    if isinstance(node, nir.Conv2d):
        w = torch.from_numpy(np.array(node.weight, dtype=np.float32))
        sizes: Any = (node.stride, node.padding, node.dilation, node.groups)
        kernel = (w.shape[2], w.shape[3])
        conv = nn.Conv2d(w.shape[1] * node.groups, w.shape[0], kernel, *sizes)
        with torch.no_grad():
            conv.weight.copy_(w)
            assert conv.bias is not None
            conv.bias.copy_(torch.from_numpy(np.array(node.bias, dtype=np.float32)))
        return conv
    if isinstance(node, nir.Flatten):
        return nn.Flatten(node.start_dim + 1, node.end_dim + (node.end_dim >= 0))
    if isinstance(node, (nir.LIF, nir.LI)):
        tau, r = _one(name, "tau", node.tau) / dt, _one(name, "r", node.r)
        leak, own = _one(name, "v_leak", node.v_leak), abs(r - tau) < 1e-9 * tau
        if not own and abs(r - 1) > 1e-9:
            raise TypeError(f"{name}: r must be 1 or tau/dt = {tau:g}, got {r:g}")
        membrane = SpikingJelly(tau, decay_input=not own, rest_at=leak)
    elif isinstance(node, (nir.IF, nir.I)):
        r = _one(name, "r", node.r) * dt
        if abs(r - 1) > 1e-9:
            raise TypeError(f"{name}: r must be 1/dt, got {r / dt:g}")
        membrane = SpikingJelly(math.inf, decay_input=False)
    else:
        raise TypeError(f"{name}: {type(node).__name__} has no counterpart here")
    if isinstance(node, (nir.LI, nir.I)):
        return Integrator(membrane)
    back = np.zeros(1) if node.v_reset is None else node.v_reset
    theta = torch.from_numpy(np.array(node.v_threshold, dtype=np.float32))
    return LIF(membrane, theta, reset=To(_one(name, "v_reset", back)))
