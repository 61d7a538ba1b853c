"""Events of what digital logic computes: functions of torch's modules, and optimisers.

Backward passes count as their forward, products twice: once for the input and once for the weight,
each where somebody asks for its gradient, and products of two activations ("inner") for both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.carried.owner import Owner, weights

Found = dict[str, float]
"""Numbers of events."""

Count = Callable[[Any, tuple[Any, ...], Any], Found]
"""Events of one forward of a module, given its inputs and its output."""


def _each(event: str) -> Count:
    return lambda module, inputs, output: {event: float(_sizes(output))}


def eager() -> None:
    """Refuse to be traced: what is counted is what runs.

    Raises:
        TypeError: in a region that torch.compile traces, which then runs without it, if it may.
    """
    if torch.compiler.is_compiling() or _hidden():
        raise TypeError(
            "the ledger counts what runs: not in regions that torch.compile traces, nor under "
            "torch.func.vmap, jvp and functionalize, which hide how much that is"
        )


def untraced(f: Any) -> Any:
    """f, which torch.compile runs as it is and does not look into."""
    if "torch._dynamo" not in sys.modules:  # nobody compiles, so far
        return f
    return torch.compiler.disable(f, reason="the ledger counts what runs")


def _hidden() -> bool:
    """Whether a transform is at work whose tensors are others than they seem."""
    transforms = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() != torch._C._functorch.TransformType.Grad for level in transforms)


def tensors(value: Any) -> Iterator[Tensor]:
    """All in tuples and lists, packed sequences among them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def _sizes(t: Any) -> int:
    return sum(part.numel() for part in tensors(t))


def _inputs(event: str) -> Count:
    return lambda module, inputs, output: {event: float(_sizes(inputs[:1]))}


def _nothing(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
    return {}


def _on_array(module: Any) -> bool:
    """Whether products with its weights are counted as reads."""
    return isinstance(module, Owner) and bool(weights(module))


def _linear(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
    found = {} if _on_array(module) else {"digital_mac": float(output.numel() * module.in_features)}
    return _biased(module, output, found)


def _looked_up(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
    return {} if _on_array(module) else {"table": float(output.numel())}


def _convolution(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
    area = math.prod(module.kernel_size)
    positions, fan = output, module.in_channels // module.groups
    if module.transposed:
        positions, fan = inputs[0], module.out_channels // module.groups
    found = {} if _on_array(module) else {"digital_mac": float(positions.numel() * fan * area)}
    return _biased(module, output, found)


def _biased(module: Any, output: Any, found: Found) -> Found:
    if getattr(module, "bias", None) is not None:
        found["add"] = float(_sizes(output))
    return found


def _recurrent(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
    """Gates of every layer, direction and step, their products, those of weights if digital."""
    cell = not isinstance(module, nn.RNNBase)
    x = next(tensors(inputs))  # of a packed sequence its data
    steps = x.numel() // x.shape[-1]
    layers = 1 if cell else module.num_layers * (2 if module.bidirectional else 1)
    hidden = steps * layers * module.hidden_size
    gates, products = {"LSTM": (4, 3), "GRU": (3, 3), "RNN": (1, 0)}[_family(module)]
    outer = 1 if _family(module) == "LSTM" else 0  # tanh of the cell
    own = 0.0
    if not _on_array(module):
        own = steps * sum(p.numel() for p in module.parameters() if p.dim() > 1)
    return {
        "activation": float(hidden * (gates + outer)),
        "add": float(hidden * gates * (3 if module.bias else 1)),
        "digital_mac": own,
        "inner": float(hidden * products),
    }


def _family(module: Any) -> str:
    return next(f for f in ("LSTM", "GRU", "RNN") if any(f in c.__name__ for c in _bases(module)))


def _bases(module: Any) -> Iterable[type]:
    return (c for c in type(module).__mro__ if c.__module__.startswith("torch."))


def _attention(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
    """Queries by keys, shares by values, the softmax between; digital projections."""
    query, key = inputs[0], inputs[1] if len(inputs) > 1 else inputs[0]
    axis = 1 if module.batch_first else 0
    length, other = (t.shape[axis if t.dim() == 3 else 0] for t in (query, key))
    batch = query.numel() // (length * module.embed_dim)
    shares = batch * length * other
    own = 0.0
    if not _on_array(module):
        own = float(batch * (length + other) * 2 * module.embed_dim**2)
    found = {
        "digital_mac": own,
        "inner": 2.0 * shares * module.embed_dim,
        "activation": float(shares * module.num_heads),
    }
    bias = module.in_proj_bias is not None
    added = 2.0 * batch * (length + other) * module.embed_dim
    return {**found, "add": added} if bias else found


def _between(adds: int) -> Count:
    """What a layer of a transformer does between its modules: its activation, and residuals."""

    def count(module: Any, inputs: tuple[Any, ...], output: Any) -> Found:
        found = {"add": float(adds * output.numel())}
        if not isinstance(module.activation, nn.Module):  # one is counted as such
            wide = module.linear1.out_features
            found["activation"] = float(output.numel() // output.shape[-1] * wide)
        return found

    return count


_ELEMENTWISE = (
    *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU"),
    *("Mish", "Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Hardswish", "LogSigmoid", "Softplus"),
    *("Softsign", "Softshrink", "Hardshrink", "Tanhshrink", "Threshold", "Softmax", "Softmin"),
    *("LogSoftmax", "Softmax2d", "GLU"),
)
_NORMS = (
    *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "RMSNorm"),
    *("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LocalResponseNorm"),
)
_POOLS = [f"{k}Pool{n}d" for k in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg") for n in (1, 2, 3)]
_LOSSES = (
    *("CrossEntropyLoss", "NLLLoss", "MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss"),
    *("HuberLoss", "SmoothL1Loss", "KLDivLoss"),
)
_STILL = (
    *("Identity", "Flatten", "Unflatten", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"),
    *("AlphaDropout", "FeatureAlphaDropout", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"),
    *("ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "PixelShuffle", "PixelUnshuffle"),
    *("Upsample", "ChannelShuffle", "ReflectionPad1d", "ReflectionPad2d", "ReplicationPad2d"),
    *("NonDynamicallyQuantizableLinear",),
)
_CONVOLUTIONS = [f"Conv{t}{n}d" for t in ("", "Transpose") for n in (1, 2, 3)]
_RECURRENT = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")


def _table(names: Iterable[str], count: Count) -> dict[type, Count]:
    return {getattr(nn, name): count for name in names if hasattr(nn, name)}


COUNTS: dict[type, Count] = {
    **_table(_ELEMENTWISE, _each("activation")),
    **_table(_NORMS, _each("norm")),
    **_table(_POOLS, _inputs("pool")),
    **_table(_LOSSES, _inputs("activation")),
    **_table(_STILL, _nothing),
    **_table(_CONVOLUTIONS, _convolution),
    **_table(_RECURRENT, _recurrent),
    **_table(("Embedding", "EmbeddingBag"), _looked_up),
    nn.Linear: _linear,
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _between(2),
    nn.TransformerDecoderLayer: _between(3),
}
"""Of torch's modules; what is not here, and computes, is refused by name."""


def count_of(module: nn.Module, own: dict[type, Count]) -> Count | None:
    """How a module's digital work is counted; None: nobody says.

    A class may say it itself: `events(inputs, output)`.
    """
    for base in type(module).__mro__:
        if base in own:
            return own[base]
        if "events" in vars(base):
            return lambda module, inputs, output: module.events(inputs, output)
        if base in COUNTS:
            return COUNTS[base]
    return None


# operations and bytes a weight of 4 bytes: what is read and written of weights and their state
OPTIMISERS: dict[type, tuple[float, float]] = {
    torch.optim.Adam: (12.0, 24.0),
    torch.optim.AdamW: (14.0, 24.0),
}


def stepped(optimiser: Any, group: dict[str, Any]) -> tuple[float, float]:
    """Operations and bytes of one weight in a step of torch's optimisers.

    SGD reads and writes the weight, with momentum also the velocity, Adam both moments.

    Raises:
        TypeError: another optimiser.
    """
    if isinstance(optimiser, torch.optim.SGD) or getattr(optimiser, "pulses", False):
        more = 2.0 if group["weight_decay"] else 0.0
        return (4.0 + more, 16.0) if group["momentum"] else (2.0 + more, 8.0)
    found = OPTIMISERS.get(type(optimiser))
    if found is None:
        raise TypeError(
            f"the ledger does not know what a step of {type(optimiser).__name__} costs: use SGD, "
            "Adam, AdamW or InSituSGD, or give ledger(model, optimisers={...: (ops, bytes)})"
        )
    return found
