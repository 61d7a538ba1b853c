"""Which of torch's functions give views of a weight, casts of it, or write it."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer


def _accessor(name: str, verb: str) -> Any:
    return getattr(getattr(Tensor, name), f"__{verb}__")


CASTS: set[Any] = {
    Tensor.float,
    Tensor.double,
    Tensor.half,
    Tensor.bfloat16,
    Tensor.to,
    Tensor.type,
    Tensor.type_as,
    Tensor.cpu,
    Tensor.cuda,
    Tensor.contiguous,
}
"""Copies, where they copy, that stand for the same part of the weight."""

TURNS = {_accessor(name, "get") for name in ("T", "mT", "H", "mH")}
"""The transposes that are attributes: a tracer takes what one gives for an input of its graph."""

VIEWS: set[Any] = CASTS | {
    *TURNS,
    _accessor("data", "get"),
    Tensor.detach,
    torch.detach,
    Tensor.t,
    torch.t,
    Tensor.transpose,
    torch.transpose,
    Tensor.swapaxes,
    torch.swapaxes,
    Tensor.swapdims,
    torch.swapdims,
    Tensor.permute,
    torch.permute,
    Tensor.movedim,
    torch.movedim,
    Tensor.moveaxis,
    torch.moveaxis,
    Tensor.adjoint,
    torch.adjoint,
    Tensor.view,
    Tensor.view_as,
    Tensor.reshape,
    torch.reshape,
    Tensor.flatten,
    torch.flatten,
    Tensor.unflatten,
    torch.unflatten,
    Tensor.ravel,
    torch.ravel,
    Tensor.reshape_as,
    Tensor.broadcast_to,
    torch.broadcast_to,
    torch.atleast_2d,
    torch.atleast_3d,
    Tensor.positive,
    torch.positive,
    Tensor.as_strided,
    torch.as_strided,
    Tensor.diagonal,
    torch.diagonal,
    Tensor.unfold,
    Tensor.squeeze,
    torch.squeeze,
    Tensor.unsqueeze,
    torch.unsqueeze,
    Tensor.expand,
    Tensor.expand_as,
    Tensor.__getitem__,
    Tensor.narrow,
    torch.narrow,
    Tensor.select,
    torch.select,
    Tensor.chunk,
    torch.chunk,
    Tensor.split,
    torch.split,
    Tensor.tensor_split,
    torch.tensor_split,
    Tensor.hsplit,
    torch.hsplit,
    Tensor.vsplit,
    torch.vsplit,
    Tensor.dsplit,
    torch.dsplit,
    Tensor.split_with_sizes,
    torch.split_with_sizes,
    torch.unsafe_chunk,
    Tensor.unsafe_chunk,
    torch.unsafe_split,
    Tensor.unsafe_split,
    torch.unsafe_split_with_sizes,
    Tensor.unsafe_split_with_sizes,
    Tensor.unbind,
    torch.unbind,
    Tensor.__iter__,
}
"""Functions whose result is, or may be, a part of the weight's memory."""

FREES = {Tensor.detach, torch.detach, _accessor("data", "get")}
"""Of these, those that take the numbers out of the graph: what is computed of them is digital."""

GATHERS = {
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "index_select", "roll", "flip"),
    *("fliplr", "flipud", "rot90", "gather", "take_along_dim", "repeat", "tile", "pad"),
    *("column_stack", "row_stack", "dstack", "block_diag", "repeat_interleave", "take"),
    *("constant_pad_nd", "channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "fold"),
    *("pixel_unshuffle", "unfold", "interpolate", "upsample", "index", "diag", "diagflat"),
    *("diag_embed", "cartesian_prod", "combinations", "linalg_diagonal", "scatter", "broadcast"),
    *("select_scatter", "slice_scatter", "diagonal_scatter", "as_strided_scatter", "vander"),
    *("broadcast_tensors", "meshgrid", "to_dense", "masked_scatter"),
}
"""Names of functions that lay numbers of a weight out anew."""


def name_of(func: Any) -> str:
    """A function's own name; "" without one."""
    name: str = getattr(func, "__name__", "")
    return name


name_of._dynamo_marked_constant = True  # type: ignore[attr-defined]  # tracers ask it


def gathers(func: Any) -> bool:
    """Whether a function lays numbers of a weight out anew."""
    name = name_of(func)
    return name in GATHERS or (name.endswith("_copy") and not name.startswith("__"))


MAY_COPY = {
    *(Tensor.reshape, torch.reshape, Tensor.flatten, torch.flatten, Tensor.ravel, torch.ravel),
    Tensor.reshape_as,
}
"""Of these, those that copy where the memory has another order than the result."""


def qualified_name(func: Any) -> str:
    """`namespace::name` of an operator; "" of torch's functions."""
    name = getattr(func, "_qualified_op_name", None) or getattr(func, "_name", None)
    return name.split(".")[0] if isinstance(name, str) and "::" in name else ""


qualified_name._dynamo_marked_constant = True  # type: ignore[attr-defined]  # tracers ask it


_IN_PLACE = {
    Tensor.__setitem__,
    _accessor("data", "set"),
    Tensor.set_,
    Tensor.__iadd__,
    Tensor.__isub__,
    Tensor.__imul__,
    Tensor.__itruediv__,
    Tensor.__ipow__,
}
_NO_WRITE = {"requires_grad_", "retain_grad_", "share_memory_", "__", "rename_"}


def writes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function writes into one of its arguments."""
    if func in _IN_PLACE or kwargs.get("out") is not None:
        return True
    name = name_of(func)
    if name.startswith(("_fused_", "_foreach_")):
        return name.startswith("_fused_") or name.endswith("_")
    return name.endswith("_") and not name.endswith("__") and name not in _NO_WRITE


def optimiser() -> Optimizer | None:
    """The optimiser that is stepping now, further up the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        step = frame.f_locals.get("self")
        if isinstance(step, Optimizer) and frame.f_code.co_name != "zero_grad":
            return step
        frame = frame.f_back  # type: ignore[assignment]
    return None


UNREAD = {
    F.scaled_dot_product_attention,
    F.cosine_similarity,
    torch.cosine_similarity,
    torch.cdist,
    torch.kron,
    torch.embedding,
    torch.embedding_bag,
    torch.convolution,
    torch.conv_tbc,
    torch.addr,
    torch.affine_grid_generator,
    F.affine_grid,
    torch.linalg.vecdot,
}
"""Products that no handler reads: an analog weight that reaches one is refused by name."""

UNREAD_NAMES = {
    *("addr", "ger", "outer", "kron", "smm", "hspmm", "hsmm", "saddmm", "sspaddmm"),
    *("spmm", "dsmm"),  # equal to torch.mm and read as it, but not by compilers
    "cholesky_solve",
    *("lu_solve", "triangular_solve", "linalg_solve", "linalg_solve_ex", "linalg_lu_solve"),
    *("linalg_solve_triangular", "linalg_ldl_solve", "linalg_lstsq", "linalg_tensorsolve", "ormqr"),
    *("linalg_householder_product", "miopen_convolution", "miopen_convolution_transpose"),
    *("miopen_convolution_relu", "miopen_convolution_add_relu", "miopen_depthwise_convolution"),
    *("miopen_rnn", "fbgemm_linear_fp16_weight", "fbgemm_linear_fp16_weight_fp32_activation"),
    *("fbgemm_linear_int8_weight", "fbgemm_linear_int8_weight_fp32_activation"),
    *("fbgemm_linear_quantize_weight", "fbgemm_pack_gemm_matrix_fp16", "quantized_gru_cell"),
    *("fbgemm_pack_quantized_matrix", "_wrapped_linear_prepack", "quantized_lstm_cell"),
    *("_wrapped_quantized_linear_prepacked", "quantized_rnn_relu_cell", "quantized_rnn_tanh_cell"),
    *("_convolution", "_convolution_mode"),
    *(f"to_{layout}" for layout in ("sparse", "sparse_coo", "sparse_csr", "sparse_csc")),
    *("to_sparse_bsr", "to_sparse_bsc", "to_mkldnn", "to_padded_tensor"),
}
"""The same by name, whichever of torch's functions has it."""


def unreadable(func: Any) -> bool:
    """Whether a function is, or may be, a product that no handler reads.

    Of operators, those of torch that are no product and give no view are known.
    """
    space, _, name = qualified_name(func).partition("::")
    if not space:
        return func in UNREAD or name_of(func) in UNREAD_NAMES
    if space in ("crossbar", "prim", "prims", "inductor"):
        return False
    if space != "aten" or name in UNREAD_NAMES or name in _OPERATORS:
        return True
    overload = getattr(func, "default", func)
    return bool(getattr(overload, "is_view", False))


_OPERATORS = {
    *("tensordot", "convolution", "convolution_overrideable", "embedding", "embedding_bag"),
    *("_embedding_bag", "_embedding_bag_forward_only", "cdist", "_cdist_forward", "conv_tbc"),
    *("scaled_dot_product_attention", "_native_multi_head_attention", "mkldnn_rnn_layer"),
    *("_transformer_encoder_layer_fwd", "mkldnn_convolution", "_addmm_activation", "_trilinear"),
    *("_scaled_mm", "_int_mm", "slow_conv3d", "slow_conv_transpose2d", "thnn_conv2d"),
    *("linear_cross_entropy", "cosine_similarity", "linalg_vecdot", "sumproduct_pair"),
    *("linalg_multi_dot", "chain_matmul", "mkldnn_linear", "_thnn_fused_lstm_cell"),
}
"""torch's operators, by name, that are products nobody reads under that name."""
