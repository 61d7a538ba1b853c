"""Convolutions with a weight, and transposed ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from crossbar.carried.analog import Analog, product, read
from crossbar.operations import Conv, ConvTranspose
from crossbar.windows import Window


def _sizes(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value) * (n if len(value) == 1 else 1)


def _batched(x: Tensor, n: int, channels: int, name: str) -> Tensor:
    if x.dim() not in (n + 1, n + 2) or x.shape[-n - 1] != channels:
        size = ", ".join("hwd"[:n])
        raise ValueError(
            f"input of {name} must be (n, {channels}, {size}) or ({channels}, {size}), got shape "
            f"{tuple(x.shape)}"
        )
    return x if x.dim() == n + 2 else x.unsqueeze(0)


def _finished(y: Tensor, bias: Tensor | None, x: Tensor, n: int) -> Tensor:
    if bias is not None:
        y = y + bias.to(y.dtype).view(-1, *(1,) * n)
    return y if x.dim() == n + 2 else y.squeeze(0)


def _convolution(n: int) -> Callable[..., Any]:
    def conv(
        input: Tensor,  # noqa: A002
        weight: Any,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        if not isinstance(weight, Analog):
            return NotImplemented
        kernel = tuple(weight.shape[2:])
        spread, cut = _sizes(dilation, n), (0,) * n
        if padding == "same":
            if _sizes(stride, n) != (1,) * n:
                raise ValueError("padding='same' goes with stride 1")
            total = [d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
            # lines without input stay at 0 V, whatever the code of zero: padded after encoding
            padding = tuple(t - t // 2 for t in total)
            cut = tuple(p - t // 2 for p, t in zip(padding, total, strict=True))
        elif padding == "valid":
            padding = 0
        window = Window(kernel, _sizes(stride, n), _sizes(padding, n), spread, groups)
        x = _batched(input, n, weight.shape[1] * groups, f"conv{n}d")
        y = read(x, weight, Conv(window))
        for dim, extra in enumerate(cut):
            if extra:
                y = y.narrow(2 + dim, extra, y.shape[2 + dim] - extra)
        return _finished(y, bias, input, n)

    return conv


def _transposed(n: int) -> Callable[..., Any]:
    def conv(
        input: Tensor,  # noqa: A002
        weight: Any,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        if not isinstance(weight, Analog):
            return NotImplemented
        kernel, step, spread = tuple(weight.shape[2:]), _sizes(stride, n), _sizes(dilation, n)
        cut, extra = _sizes(padding, n), _sizes(output_padding, n)
        if any(o >= max(s, d) for o, s, d in zip(extra, step, spread, strict=True)):
            raise ValueError("output padding must be smaller than either stride or dilation")
        # then the size of the image does not say how many positions there are: cut from a whole one
        whole = any(o >= s for o, s in zip(extra, step, strict=True))
        window = Window(kernel, step, (0,) * n if whole else cut, spread, groups)
        x = _batched(input, n, weight.shape[0], f"conv_transpose{n}d")
        size = tuple(
            (m - 1) * s + d * (k - 1) + 1 + (0 if whole else o - 2 * p)
            for m, s, p, d, k, o in zip(x.shape[2:], step, cut, spread, kernel, extra, strict=True)
        )
        y = read(x, weight, ConvTranspose(window), size)
        if whole:
            ends = reversed(tuple(zip(cut, extra, strict=True)))
            y = F.pad(y, [end for p, o in ends for end in (-p, o - p)])
        return _finished(y, bias, input, n)

    return conv


for _n, _forward, _back in (
    (1, F.conv1d, F.conv_transpose1d),
    (2, F.conv2d, F.conv_transpose2d),
    (3, F.conv3d, F.conv_transpose3d),
):
    product(_forward, f"aten::conv{_n}d")(_convolution(_n))
    product(_back, f"aten::conv_transpose{_n}d")(_transposed(_n))
