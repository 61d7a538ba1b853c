"""Multi-head attention: torch's own body, its projections read on arrays."""

from __future__ import annotations

import types
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from crossbar.carried.analog import Analog, parts, product
from crossbar.carried.products import MATMUL, _linear
from crossbar.regions import Region


def linear(input: Tensor, weight: Any, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    """F.linear, of an analog weight too (dispatch is off inside a handler)."""
    found: Any = _linear(input, weight, bias)
    return F.linear(input, weight, bias) if found is NotImplemented else found


def _packed(q: Tensor, k: Tensor, v: Tensor, w: Any, b: Tensor | None = None) -> Any:
    """Projections of q, k and v by one packed weight; those of one input are one read."""
    e = q.size(-1)
    if q is k and k is v:
        return tuple(t.contiguous() for t in linear(q, w, b).chunk(3, -1))
    if k is v:
        kv = (t.contiguous() for t in _slice(k, w, b, e, 3 * e).chunk(2, -1))
        return _slice(q, w, b, 0, e), *kv
    return tuple(_slice(t, w, b, n * e, (n + 1) * e) for n, t in enumerate((q, k, v)))


def _slice(x: Tensor, w: Any, b: Tensor | None, first: int, last: int) -> Tensor:
    bias = None if b is None else b[first:last]
    if not isinstance(w, Analog):
        return F.linear(x, w[first:last], bias)
    analog, root, _ = parts(w)
    region = Region(cols=slice(first, last))
    y = analog.read(x, w[first:last], root, region, MATMUL)
    return y if bias is None else y + bias.to(y.dtype)


def bound(function: Any, **names: Any) -> Any:
    """A function of torch's with other things under some of its global names."""
    return types.FunctionType(
        function.__code__,
        # a tracer takes globals from the module of this name, but for those of named tuples
        {**function.__globals__, **names, "__name__": "namedtuple_of_crossbar"},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


_body = bound(
    F.multi_head_attention_forward,
    has_torch_function=lambda _: False,
    linear=linear,
    _in_projection_packed=_packed,
    _in_projection=bound(getattr(F, "_in_projection"), linear=linear),  # noqa: B009
)


@product(F.multi_head_attention_forward)
def _attention(*args: Any, **kwargs: Any) -> Any:
    return _body(*args, **kwargs)
