"""Events of functions of torch that a module's own forward calls."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from crossbar.carried.analog import is_analog
from crossbar.carried.tables import VIEWS, gathers, name_of
from crossbar.ledger.digital import Found, tensors


def passes_on(module: nn.Module) -> bool:
    """Whether a forward of torch's own only calls other modules."""
    forward = type(module).forward
    if not forward.__module__.startswith("torch.") or forward is _SPLIT:
        return False
    return any(True for _ in module.children()) or isinstance(module, _LISTS)


_SPLIT = nn.AdaptiveLogSoftmaxWithLoss.forward
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def ours() -> bool:
    """Whether the emulator itself calls the function that has just returned: an array at work."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "_call_impl":
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("torch.", "crossbar.ledger.")):
            return bool(name.startswith(("crossbar.", "devices.")))
        frame = frame.f_back  # type: ignore[assignment]
    return False


# by name: what lays numbers out anew or asks about them; a value of the output each; …
_NOTHING = """
    get set repr len dim ndim size shape numel nelement stride data_ptr storage_offset item
    tolist bool int float long index is_floating_point is_complex is_contiguous element_size
    requires_grad device dtype to type type_as double half bfloat16 cpu cuda clone contiguous
    detach copy zeros ones full empty rand randn randint arange linspace eye tensor as_tensor
    scalar_tensor zeros_like ones_like full_like empty_like rand_like randn_like new_zeros
    new_ones new_full new_empty new_tensor zero fill setitem getitem iter cat concat concatenate
    stack hstack vstack dstack split chunk unbind index_select gather take scatter masked_fill
    masked_select masked_scatter where index_put index_fill index_copy roll flip repeat tile
    repeat_interleave expand broadcast_tensors meshgrid tril triu one_hot pad narrow select
    result_type can_cast promote_types broadcast_shapes is_tensor is_nonzero all any isnan isinf
    isfinite equal allclose nonzero retain_grad register_hook numpy array dropout alpha_dropout
    dropout1d dropout2d dropout3d feature_alpha_dropout bernoulli multinomial normal uniform
    view_as_real view_as_complex complex real imag conj resolve_conj pixel_shuffle
    pixel_unshuffle channel_shuffle unfold fold affine_grid diag diagonal diag_embed logical_and
    logical_or logical_not logical_xor and or invert xor bitwise_and bitwise_or bitwise_not
    sym_int sym_float assert_async names grad_fn is_leaf is_sparse is_cuda is_meta layout
    is_nested is_quantized data grad itemsize nbytes mT T H mH is_inference
"""
_VALUES = """
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid tanh hardtanh
    hardsigmoid hardswish logsigmoid log_sigmoid softplus softsign softshrink hardshrink
    tanhshrink threshold softmax softmin log_softmax gumbel_softmax glu exp exp2 expm1 log log2
    log10 log1p sqrt rsqrt erf erfc erfinv sin cos tan asin acos atan atan2 sinh cosh abs
    absolute sign sgn neg negative reciprocal clamp clamp_min clamp_max clip round floor ceil
    trunc frac heaviside eq ne lt le gt ge maximum minimum fmax fmin pow square special_expit
    special_erf logaddexp mod remainder fmod floordiv floor_divide nan_to_num bucketize logit
"""
_ADDED = """
    add sub rsub radd subtract iadd isub
"""
_TIMES = """
    mul multiply div divide true_divide truediv rtruediv rmul rdiv imul itruediv idiv addcmul
    addcdiv lerp ldexp
"""
_SUMMED = """
    sum mean nansum nanmean cumsum trace
"""
_NORMED = """
    layer_norm batch_norm group_norm instance_norm rms_norm local_response_norm normalize var
    std var_mean std_mean weight_norm norm vector_norm linalg_vector_norm
"""
_POOLED = """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d lp_pool1d lp_pool2d max_pool1d_with_indices max_pool2d_with_indices max
    min amax amin argmax argmin topk sort argsort median kthvalue unique cummax
"""
_JUDGED = """
    cross_entropy nll_loss mse_loss l1_loss binary_cross_entropy
    binary_cross_entropy_with_logits smooth_l1_loss huber_loss kl_div logsumexp
"""
_KINDS: dict[str, str] = {}
for _names, _kind in (
    *((_NOTHING, ""), (_VALUES, "activation"), (_ADDED, "add"), (_TIMES, "times")),
    *((_SUMMED, "sum"), (_NORMED, "norm"), (_POOLED, "pool"), (_JUDGED, "loss")),
    ("embedding embedding_bag", "table"),
):
    for _name in _names.split():
        _KINDS.setdefault(_name, _kind)


def _of_matrices(args: Any, kwargs: Any, out: Tensor) -> float:
    a = (*args, *kwargs.values())[0]
    return float(out.numel() * a.shape[-1])


def _of_sums(args: Any, kwargs: Any, out: Tensor) -> float:
    """addmm(c, a, b)."""
    a = (*args, *kwargs.values())[1]
    return float(out.numel() * a.shape[-1])


def _convolved(args: Any, kwargs: Any, out: Tensor) -> float:
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    return float(out.numel() * weight[0].numel())


def _transposed(args: Any, kwargs: Any, out: Tensor) -> float:
    x, weight = args[0], args[1] if len(args) > 1 else kwargs["weight"]
    return float(x.numel() * weight[0].numel())


def _attended(args: Any, kwargs: Any, out: Tensor) -> float:
    q, k, v = (args + tuple(kwargs[n] for n in ("query", "key", "value") if n in kwargs))[:3]
    shares = q.numel() // q.shape[-1] * k.shape[-2]
    return float(shares * (q.shape[-1] + v.shape[-1]))


def _summed_over(args: Any, kwargs: Any, out: Tensor) -> float:
    """An einsum of two: every index once."""
    equation, *operands = args
    operands = operands[0] if isinstance(operands[0], (tuple, list)) else operands
    if not isinstance(equation, str) or "..." in equation or len(operands) > 2:
        raise TypeError
    sizes: dict[str, int] = {}
    terms = equation.replace(" ", "").split("->")[0].split(",")
    for term, t in zip(terms, operands, strict=True):
        sizes.update(zip(term, t.shape, strict=True))
    return float(math.prod(sizes.values()))


_PRODUCTS: dict[str, Callable[[Any, Any, Tensor], float]] = {
    **dict.fromkeys(
        ("matmul", "mm", "bmm", "mv", "linear", "dot", "vdot", "rmatmul"), _of_matrices
    ),
    **dict.fromkeys(("addmm", "baddbmm", "addmv", "addbmm"), _of_sums),
    **{f"conv{n}d": _convolved for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    "einsum": _summed_over,
    "scaled_dot_product_attention": _attended,
    "bilinear": lambda args, kwargs, out: float(out.numel() * args[2][0].numel()),
}
_BIASED = {
    "linear": 2,
    "bilinear": 3,
    **{f"conv{t}{n}d": 2 for t in ("", "_transpose") for n in (1, 2, 3)},
}
"""Where the bias is among the arguments."""


def events(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, where: str
) -> tuple[Found, Found]:
    """Of one call, and of its backward pass.

    Raises:
        TypeError: a function that is in none of the lists.
    """
    name = name_of(func).strip("_")
    given = list(tensors([*args, *kwargs.values()]))
    if func in VIEWS or gathers(func):
        return {}, {}
    asks = sum(t.requires_grad and t.is_floating_point() for t in given)
    if name in _PRODUCTS:
        found: Found = {}
        if not any(is_analog(t) for t in given):
            try:
                found["digital_mac"] = _PRODUCTS[name](args, kwargs, out)
            except TypeError:
                raise _unknown(f"{name} of these arguments", where) from None
        if name == "scaled_dot_product_attention":
            q, k = given[:2]
            found["activation"] = float(q.numel() // q.shape[-1] * k.shape[-2])
            asks = min(asks, 2)  # of two products, each by both
        at = _BIASED.get(name, len(args))
        if (args[at] if at < len(args) else kwargs.get("bias")) is not None:
            found["add"] = float(out.numel())
            asks -= 1
        macs = found.get("digital_mac", 0.0)
        return found, {**found, "digital_mac": macs * asks}
    if not any(t.is_floating_point() or t.is_complex() for t in given):
        return {}, {}  # numbers of places, masks
    kind = _KINDS.get(name)
    if kind is None:
        raise _unknown(name, where)
    if not kind:
        return {}, {}
    outs, first = sum(t.numel() for t in tensors(out)), given[0].numel()
    if kind == "times":
        return {"digital_mac": float(outs)}, {"digital_mac": float(outs * asks)}
    found = {
        "activation": {"activation": float(outs)},
        "loss": {"activation": float(first)},
        "add": {"add": float(outs)},
        "sum": {"add": float(first)},
        "norm": {"norm": float(first)},
        "pool": {"pool": float(first)},
        "table": {"table": float(outs)},
    }[kind]
    return found, found


def _unknown(name: str, where: str) -> TypeError:
    return TypeError(
        f"the ledger cannot count {name}, which {where} calls: give ledger(model, "
        "count={its class: f}), f(module, inputs, output) -> {event: number}, the class a method "
        "events(inputs, output), or its path in left_out"
    )
