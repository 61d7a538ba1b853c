"""Which weights torch's own classes multiply by, and how they lie on an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from crossbar.regions import Form

Names = Callable[[Any], tuple[str, ...]]


def _weight(module: Any) -> tuple[str, ...]:
    return ("weight",)


def _recurrent(module: Any) -> tuple[str, ...]:
    return tuple(name for name in module._parameters if name.startswith("weight_"))


def _attention(module: Any) -> tuple[str, ...]:
    return ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


PRODUCTS: dict[type, Names] = {
    nn.Linear: _weight,
    nn.Bilinear: _weight,
    nn.modules.conv._ConvNd: _weight,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
}
"""torch's classes, and the weights that their products read."""

TABLES: dict[type, Names] = {nn.Embedding: _weight, nn.EmbeddingBag: _weight}
"""torch's classes that look rows up; they stay digital unless asked for, or tied to a product."""

NO_PRODUCT = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PReLU,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.utils.parametrize.ParametrizationList,
)
"""torch's classes without a product, whatever shape their parameters have."""

ROWS_FIRST = {"transformers.pytorch_utils.Conv1D": ("weight",)}
"""Classes of others, by name, whose inputs are multiplied by the weight as it lies, in × out."""


def _known(table: dict[type, Names], module: nn.Module) -> tuple[str, ...] | None:
    for kind, names in table.items():
        if isinstance(module, kind):
            return tuple(n for n in names(module) if isinstance(value_of(module, n), Tensor))
    return None


def products_of(module: nn.Module) -> tuple[str, ...] | None:
    """Names of the weights that products read; None: a class nobody knows."""
    if qualified(type(module)) in ROWS_FIRST:
        return ROWS_FIRST[qualified(type(module))]
    found = _known(PRODUCTS, module)
    if found is None and isinstance(module, (*TABLES, *NO_PRODUCT)):
        return ()
    return found


def tables_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the tables that it looks rows up in."""
    return _known(TABLES, module) or ()


def qualified(kind: type) -> str:
    """A class by module and name."""
    return f"{kind.__module__}.{kind.__qualname__}"


def form_of(module: nn.Module, name: str) -> Form:
    """How a module's weight is a matrix: rows = inputs, fixed by its class."""
    if isinstance(module, nn.modules.conv._ConvNd) and name == "weight":
        area = module.weight[0, 0].numel() if module.weight.numel() else 1
        return Form(module.groups, module.transposed, area)
    if name in ROWS_FIRST.get(qualified(type(module)), ()):
        return Form(rows_first=True)
    own = products_of(module) is None
    return Form(stack=own and value_of(module, name).dim() > 2)


def value_of(module: nn.Module, name: str) -> Any:
    """A module's Parameter, or what it computes in its place (spectral norms stand still)."""
    if name in module._parameters:
        return module._parameters[name]
    training = [(m, m.training) for m in module.modules()]
    for m, _ in training:
        m.training = False
    try:
        return getattr(module, name, None)
    finally:
        for m, flag in training:
            m.training = flag
