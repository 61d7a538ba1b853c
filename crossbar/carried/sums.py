"""Functions that a product is a part of: bags of rows, bilinear forms, losses of outputs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crossbar.carried.analog import Analog, is_copy, part, parts, product, unread
from crossbar.carried.attention import bound, linear
from crossbar.carried.experts import stacked
from crossbar.carried.products import MATMUL, _embedding, digital


def _all_rows(x: Tensor, w: Any) -> Tensor:
    """x (n, in) by a handle (..., in) of any dimensions: (n, rows of all of them)."""
    analog, root, cells = parts(w)
    if w.dim() > 2 and analog.form.stack:
        return stacked(x, w, left=True).movedim(0, 1).flatten(1)
    flat, own = (w, cells) if w.dim() == 2 else (w.flatten(0, -2), cells.flatten(0, -2))
    return analog.read(x, flat, root, part(w, own, MATMUL), MATMUL)


@product(F.bilinear, torch.bilinear, "aten::bilinear")
def _bilinear(input1: Any, input2: Any, weight: Any, bias: Tensor | None = None) -> Any:
    """One read of input2; the product with input1 is digital."""
    if not isinstance(weight, Analog) or is_copy(weight):
        raise unread("bilinear of an input that is an analog weight")
    first, second = digital(input1), digital(input2)
    if first.shape[:-1] != second.shape[:-1]:
        raise ValueError(
            f"bilinear: inputs must have the same leading dimensions, got {tuple(first.shape)} "
            f"and {tuple(second.shape)}"
        )
    y = _all_rows(second.reshape(-1, second.shape[-1]), weight)
    y = y.unflatten(-1, tuple(weight.shape[:2])) @ first.reshape(-1, first.shape[-1], 1)
    y = y.squeeze(-1).reshape(*first.shape[:-1], weight.shape[0])
    return y if bias is None else y + bias.to(y.dtype)


@product(F.embedding_bag)
def _embedding_bag(
    input: Tensor,  # noqa: A002
    weight: Any,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """torch's own bags, of rows that were read."""
    if not isinstance(weight, Analog):
        return NotImplemented
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    rows = _embedding(input, weight, None, max_norm, norm_type, scale_grad_by_freq, sparse)
    ids = torch.arange(input.numel(), device=input.device).view(input.shape)
    table = rows.flatten(0, -2)
    if padding_idx is not None:  # a row of its own for what a bag leaves out
        ids = torch.where(input == padding_idx, input.numel(), ids)
        table = torch.cat([table, table.new_zeros(1, table.shape[-1])])
    return F.embedding_bag(
        ids,
        table,
        offsets if offsets is None else offsets.to(ids.dtype),
        mode=mode,
        per_sample_weights=per_sample_weights,
        include_last_offset=include_last_offset,
        padding_idx=None if padding_idx is None else input.numel(),
    )


def _declined(*_: Any) -> bool:
    return False


_loss: Any = getattr(F, "linear_cross_entropy", None)
_body: Any = _loss and bound(_loss, has_torch_function_variadic=_declined, linear=linear)


@product(_loss)
def _linear_cross_entropy(
    input: Any,  # noqa: A002
    linear_weight: Any,
    target: Tensor,
    *,
    options: Any = None,
    **others: Any,
) -> Any:
    """torch's own body; its chunked path, which saves memory, would use the numbers."""
    if not isinstance(linear_weight, Analog):
        return NotImplemented
    body = _body
    if linear_weight.dim() > 2:  # which torch lays out flat

        def flat(x: Tensor, w: Any, b: Tensor | None = None) -> Tensor:
            y = _all_rows(x, linear_weight)
            return y if b is None else y + b

        body = bound(_loss, has_torch_function_variadic=_declined, linear=flat)
    return body(digital(input), linear_weight, target, options=None, **others)
