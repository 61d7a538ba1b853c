"""A converted module against torch's own: outputs, gradients, second gradients, and a step.

Every array is given gains of its own, digital factors of its outputs, and the reference is torch's
module with each weight multiplied by them: a weight that is read twice, never, or as numbers shows.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from _in_situ import PULSES, SEEN, Watched
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import crossbar as xb

MODES: dict[str, xb.Mode] = {
    "hardware-aware": xb.HardwareAware(),
    "in situ": xb.InSitu(rule=Watched()),  # of xb.Expected()
    "programmed": xb.Programmed(),
}
RECURRENT = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
OTHERS = (nn.Bilinear, nn.Embedding, nn.LinearCrossEntropyLoss)
KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.Transformer,
    *RECURRENT,
    *OTHERS,
)
FUNCTIONS = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)


class Case(NamedTuple):
    """One entry of a database: a module, and what its forward is called with."""

    name: str
    build: Callable[[], nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@functools.cache
def internal(name: str) -> Any:
    """A module of torch.testing._internal, five seconds of imports, without its side effects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.import_module(f"torch.testing._internal.{name}")
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return found


def seed_of(name: str) -> int:
    """The same for every run."""
    return sum(ord(letter) * place for place, letter in enumerate(name, 1))


@functools.cache
def modules_of(kind: type, training: bool) -> tuple[Case, ...]:
    """The module database's cases of a class, in float64."""
    torch.manual_seed(seed_of(kind.__name__))
    (info,) = [m for m in internal("common_modules").module_db if m.module_cls is kind]
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
    )
    cases = []
    for number, each in enumerate(inputs):
        made, given = each.constructor_input, each.forward_input

        def build(made: Any = made, number: int = number) -> nn.Module:
            torch.manual_seed(number)
            with quiet():
                module = kind(*made.args, **made.kwargs).double().train(training)
            spread(module)
            return module

        options = ", ".join(f"{k}={v}" for k, v in made.kwargs.items())
        masks = ", ".join(k for k, v in given.kwargs.items() if isinstance(v, Tensor))
        name = f"{number} {each.desc} ({options}) {masks}"
        cases.append(Case(name, build, given.args, given.kwargs))
    return tuple(cases)


def own_attentions() -> tuple[Case, ...]:
    """What the module database leaves out: weights apart, inputs that are one, other outputs."""
    torch.manual_seed(0)
    x, y, narrow = (torch.randn(3, 2, n, dtype=torch.float64) for n in (4, 4, 2))

    def build(**options: Any) -> Callable[[], nn.Module]:
        def made() -> nn.Module:
            torch.manual_seed(1)
            module = nn.MultiheadAttention(4, 2, dtype=torch.float64, **options)
            spread(module)
            return module

        return made

    apart = build(kdim=2, vdim=4)
    return (
        Case("self-attention", build(), (x, x, x), {}),
        Case("self-attention without bias", build(bias=False), (x, x, x), {"need_weights": False}),
        Case("one memory", build(), (x, y, y), {"average_attn_weights": False}),
        Case("weights apart", apart, (x, narrow, y), {"need_weights": False}),
        Case("weights apart, one key each", build(kdim=2, vdim=2), (x, narrow, narrow), {}),
        Case("added keys", build(add_bias_kv=True, add_zero_attn=True), (x, y, y), {}),
    )


TABLES = (nn.Embedding, nn.EmbeddingBag)


def spread(module: nn.Module) -> None:
    """Give the parameters that torch starts at 0 or 1 other values: biases, norms."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)


class OwnLinear(nn.Module):
    """A user's module that owns a weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


@functools.cache
def calling(base: type, function: str) -> type:
    """torch's convolution, called as the database spells its arguments."""

    def forward(self: Any, x: Tensor) -> Tensor:
        called: Tensor = getattr(nn.functional, function)(x, self.weight, self.bias, **self.spelled)
        return called

    return type(f"Own{base.__name__}", (base,), {"forward": forward})


def own_convolution(function: str, weight: Tensor, bias: Tensor | None, spelled: Any) -> nn.Module:
    """torch's layer of a sample's shapes, with its weights."""
    back = "transpose" in function
    base: Any = getattr(nn, f"Conv{'Transpose' if back else ''}{function[-2]}d")
    groups = spelled.get("groups", 1)
    first, second = weight.shape[0], weight.shape[1] * groups
    module: Any = calling(base, function)(
        *((first, second) if back else (second, first)),
        tuple(weight.shape[2:]),
        bias=bias is not None,
        dtype=weight.dtype,
        **spelled,
    )
    module.spelled = spelled
    module.weight.data.copy_(weight)
    if bias is not None:
        module.bias.data.copy_(bias)
    return module


@functools.cache
def samples_of(function: str) -> tuple[Case, ...]:
    """The operator database's samples of a function, in float64, each in a module that owns it."""
    torch.manual_seed(seed_of(function))
    ops = internal("common_methods_invocations").op_db
    (info,) = [op for op in ops if op.name == f"nn.functional.{function}"]
    cases = []
    for number, sample in enumerate(info.sample_inputs("cpu", torch.float64, requires_grad=True)):
        weight, bias = (*sample.args, None)[:2]
        bias = sample.kwargs.get("bias", bias)
        spelled = {k: v for k, v in sample.kwargs.items() if k != "bias"}

        def build(w: Any = weight, b: Any = bias, spelled: Any = spelled) -> nn.Module:
            w, b = (None if t is None else t.detach().clone() for t in (w, b))
            if function == "linear":
                return OwnLinear(w, b)
            return own_convolution(function, w, b, spelled)

        shapes = f"{tuple(sample.input.shape)} by {tuple(weight.shape)}"
        cases.append(Case(f"{number} {shapes} {spelled}", build, (sample.input,), {}))
    return tuple(cases)


TALK = (
    *("enable_nested_tensor", "Support for mismatched", "Using padding='same'"),
    "linear_cross_entropy: ``options`` ignored",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch's remarks on its own fast paths and masks."""
    with warnings.catch_warnings():
        for about in TALK:
            warnings.filterwarnings("ignore", f".*{about}.*")
        yield


@contextlib.contextmanager
def slow_path() -> Iterator[None]:
    """torch without the fused attention of its evaluation, which pads differently."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class Pair(NamedTuple):
    """A converted model, and torch's that it must equal."""

    analog: nn.Module
    digital: nn.Module
    factors: dict[str, Tensor]  # of analog weights, in the digital model

    @property
    def analogs(self) -> dict[str, xb.AnalogWeight]:
        """The analog weights by name."""
        return xb.analog_weights(self.analog)


def pair(digital: nn.Module, mode: xb.Mode, gains: bool = True, example: Any = None) -> Pair:
    """Convert, give every output of every array a gain, and torch's weights the same."""
    tables = ["*"] if isinstance(digital, TABLES) else []
    analog = xb.convert(digital, xb.Chip(), mode=mode, seed=0, include=tables, example=example)
    digital = copy.deepcopy(digital)
    for module in digital.modules():
        if isinstance(module, nn.LinearCrossEntropyLoss):
            module.options = None  # torch's chunked path has no second gradient
    factors: dict[str, Tensor] = {}
    weights = xb.analog_weights(analog) if gains else {}
    for number, (name, weight) in enumerate(weights.items()):
        parameter = digital.get_parameter(name)
        layer = digital.get_submodule(name.rpartition(".")[0])
        groups, back = getattr(layer, "groups", 1), getattr(layer, "transposed", False)
        lines, lead = weight.matrix.lines, weight.form.stack
        channels = parameter.shape[1] * groups if back else parameter.shape[0]
        if weight.form.groups is None:
            channels = lines[-1] * (lines[0] if lead else 1)
        # irrational steps: no two outputs of a model have the same
        gain = 0.5 + (0.618034 * number + 0.754878 * torch.arange(channels).double()).frac()
        grouped, ones = gain.view(groups, -1), (1,) * (parameter.dim() - 2)
        plain = weight.form.groups is None
        if plain and weight.form.rows_first:
            factor = gain.view(*parameter.shape[:-2], 1, -1) if lead else gain
        elif plain and parameter.dim() > 2:
            factor = gain.view(*parameter.shape[:-1], 1)
        elif back:
            factor = grouped.repeat_interleave(parameter.shape[0] // groups, 0).unsqueeze(-1)
            factor = factor.view(*parameter.shape[:2], *ones)
            grouped = grouped.repeat_interleave(parameter[0, 0].numel(), 1)
        else:
            factor = gain.view(-1, 1, *ones)
        weight.matrix.column_gain = grouped.reshape(*lines[:-2], lines[-1]).clone()
        with torch.no_grad():
            parameter.mul_(factor)
        factors[name] = factor
    return Pair(analog, digital, factors)


Parts = dict[str, dict[str, Tensor]]


def measured(model: nn.Module, args: Any, kwargs: Any, mode: xb.Mode, evaluate: bool) -> Parts:
    """Outputs and gradients, each by its name."""
    leaves: dict[str, Tensor] = {}
    mine: dict[int, Tensor] = {}  # one input given twice stays one

    def own(name: Any, value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        if id(value) not in mine:
            mine[id(value)] = leaves[str(name)] = value.detach().clone().requires_grad_()
        return mine[id(value)]

    args = [own(k, value) for k, value in enumerate(args)]
    kwargs = {k: own(k, value) for k, value in kwargs.items()}
    found: Parts = {}
    with quiet(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second gradient
        if evaluate:
            with torch.no_grad():
                y = outputs(model(*args, **kwargs))
            found["output without gradients"] = y
        y = outputs(model(*args, **kwargs))
    found["output"] = {name: t.detach() for name, t in y.items()}
    loss = goal(list(y.values()))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    asked = {**leaves, **parameters}
    if isinstance(mode, xb.HardwareAware):
        first = grads(loss, asked, create_graph=True)
        penalty = sum(g.square().sum() for name, g in first.items() if name in leaves and g.numel())
        second = grads(penalty, asked)
    else:
        if loss.requires_grad:
            loss.backward()
        first, second = {name: zero(p.grad, p) for name, p in asked.items()}, {}
    found["gradient of input"] = {k: first[k].detach() for k in leaves}
    found["gradient of"] = {k: first[k].detach() for k in parameters}
    found["second gradient of"] = second
    return found


def outputs(y: Any) -> dict[str, Tensor]:
    """The tensors that a forward gave."""
    given = y if isinstance(y, tuple) else (y,)
    return {str(k): t for k, t in enumerate(given) if isinstance(t, Tensor)}


def goal(ys: Sequence[Tensor]) -> Tensor:
    """A number of the outputs, each entry of which counts on its own and not in proportion."""
    rng = torch.Generator().manual_seed(0)
    weights = [torch.rand(y.shape, generator=rng, dtype=y.dtype) + 0.5 for y in ys]
    total: Tensor = sum((w * (y + y.square() / 2)).sum() for w, y in zip(weights, ys, strict=True))
    return total


def grads(loss: Any, asked: dict[str, Tensor], create_graph: bool = False) -> dict[str, Tensor]:
    """Gradients by name; zero where there is none."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return {name: torch.zeros_like(t) for name, t in asked.items()}
    found = torch.autograd.grad(
        loss, list(asked.values()), create_graph=create_graph, allow_unused=True
    )
    return {name: zero(g, t) for (name, t), g in zip(asked.items(), found, strict=True)}


def zero(g: Tensor | None, like: Tensor) -> Tensor:
    """A gradient, or zeros where there is none."""
    return torch.zeros(like.shape, dtype=like.dtype) if g is None else g


def deviations(both: Pair, args: Any, kwargs: Any, mode: xb.Mode) -> dict[str, float]:
    """Largest errors relative to the largest value of their kind, by what they are errors of."""
    evaluate = not both.digital.training
    with slow_path():
        want = measured(both.digital, args, kwargs, mode, evaluate)
    got = measured(both.analog, args, kwargs, mode, evaluate)
    found = {}
    for part, values in want.items():
        if part in ("gradient of", "second gradient of"):  # d/dW of g W x is g d/d(g W)
            values = {k: v * both.factors.get(k, 1) for k, v in values.items()}
        largest = max((float(v.abs().max()) for v in values.values() if v.numel()), default=0.0)
        for name, value in values.items():
            if part == "gradient of" and isinstance(mode, xb.Programmed) and name in both.analogs:
                assert name not in got[part]
                continue
            error = (got[part][name] - value).abs()
            worst = float(error.max()) if error.numel() else 0.0
            found[f"{part} {name}"] = worst / (largest or 1.0)
    return {**found, **stepped(both.analog)} if isinstance(mode, xb.InSitu) else found


def stepped(model: nn.Module) -> dict[str, float]:
    """How far a step in situ misses that of its gradients, relative to the largest step."""
    named = [(name, p) for name, p in model.named_parameters() if p.numel()]
    trained = {name: p for name, p in named if p.grad is not None}
    before = {name: p.detach().clone() for name, p in trained.items()}
    changes = {name: p.grad.clone() for name, p in trained.items()}
    reach = max((float(g.abs().max()) for g in changes.values()), default=0.0)
    least = min((float(p.abs().max()) for p in before.values() if p.dim() > 1), default=1.0)
    lr = 0.01 * least / (reach or 1.0)
    SEEN.clear()
    xb.InSituSGD(model, lr).step()
    found = {}
    for name, p in trained.items():
        error = (p.detach() - before[name] + lr * changes[name]).abs().max()
        found[f"step of {name}"] = float(error) / (lr * (reach or 1.0))
    # what was kept of the backward pass is what is pulsed, not the numbers of the gradient
    arrays = [name for name in xb.analog_weights(model) if name in trained]  # those with cells
    pulsed = (set(SEEN) == PULSES and len(SEEN) >= len(arrays)) or not arrays
    return {**found, "step by pulses": 0.0 if pulsed or not reach else float("inf")}
