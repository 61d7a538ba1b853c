"""Biases as one more row of an array, and digital scales of its outputs.

net = xb.bias_rows(net)                    # before convert: the weight has a row for the bias
net = xb.output_scales(net)                # outputs times a Parameter of their own
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossbar.carried.owner import Owner, weights
from devices._check import positive


class Extended:
    """What a linear layer or a convolution has more than torch's."""

    drive: float | None = None
    """Input of the row that holds the bias; None: there is none."""

    output_scale: nn.Parameter | None
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """scale · (product with the extended weight) + what bias is digital."""
        if self.drive is not None:
            x = self._extended(x, self.drive)
        y = self._product(x)
        lines = (-1, *(1,) * (self.weight.dim() - 2))
        if self.output_scale is not None:
            y = y * self.output_scale.view(lines)
        bias: Tensor | None = self.bias  # type: ignore[attr-defined]
        return y if bias is None else y + bias.view(lines)

    def events(self, inputs: tuple[Any, ...], output: Tensor) -> dict[str, float]:
        """Scales, what bias is digital, and the product where no array computes it."""
        on_array = isinstance(self, Owner) and bool(weights(self))
        product = 0 if on_array else output.numel() * self.weight[0].numel()
        return {
            "digital_mac": float(product),
            "inner": float(output.numel() * (self.output_scale is not None)),
            "add": float(output.numel() * (self.bias is not None)),  # type: ignore[attr-defined]
        }

    def _extended(self, x: Tensor, drive: float) -> Tensor:
        raise NotImplementedError

    def _product(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class ExtendedLinear(Extended, nn.Linear):
    """`nn.Linear`, extended."""

    def _extended(self, x: Tensor, drive: float) -> Tensor:
        return F.pad(x, (0, 1), value=drive)

    def _product(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class ExtendedConv(Extended):
    """A convolution, extended: each group has a channel more, that is constant."""

    def _extended(self, x: Tensor, drive: float) -> Tensor:
        size: int = len(self.kernel_size)  # type: ignore[attr-defined]
        groups: int = self.groups  # type: ignore[attr-defined]
        split = x.unflatten(-size - 1, (groups, -1))
        flat = (0, 0) * size
        return F.pad(split, (*flat, 0, 1), value=drive).flatten(-size - 2, -size - 1)

    def _product(self, x: Tensor) -> Tensor:
        found: Tensor = self._conv_forward(x, self.weight, None)  # type: ignore[attr-defined]
        return found


class ExtendedConv1d(ExtendedConv, nn.Conv1d):
    """`nn.Conv1d`, extended."""


class ExtendedConv2d(ExtendedConv, nn.Conv2d):
    """`nn.Conv2d`, extended."""


class ExtendedConv3d(ExtendedConv, nn.Conv3d):
    """`nn.Conv3d`, extended."""


KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: ExtendedLinear,
    nn.Conv1d: ExtendedConv1d,
    nn.Conv2d: ExtendedConv2d,
    nn.Conv3d: ExtendedConv3d,
}
KINDS |= {kind: kind for kind in tuple(KINDS.values())}


def bias_rows(
    model: nn.Module, names: Iterable[str] | None = None, *, drive: float = 1.0
) -> nn.Module:
    """A copy whose linear layers and convolutions hold their bias in one more row of the weight.

    The row is driven with the constant `drive` and the cells hold b/drive, so that the bias is
    read, trained by pulses and drifts as all cells do. A convolution gets a constant channel; of
    its taps the one is used that no padding reaches.

    Args:
        model: not yet converted.
        names: of the modules; None: all linear layers and convolutions that have a bias.
        drive: the input of the row, > 0: not far above the others, which share its range.

    Raises:
        TypeError: a named module of another class, whose product is out of reach.
        ValueError: no bias, drive not positive, or a padding that reaches every tap.
    """
    positive("drive", drive)
    model = copy.deepcopy(model)
    for name, module in _chosen(model, names, lambda module: module.bias is not None):
        bias = module.bias
        if bias is None:
            raise ValueError(f"{name!r} has no bias, or has it in a row already")
        with torch.no_grad():
            column = bias / drive
            if module.output_scale is not None:
                column = column / module.output_scale
            weight = module.weight
            shape = list(weight.shape)
            shape[1] = 1
            row = weight.new_zeros(shape)
            row[(slice(None), 0, *_tap(name, module))] = column
            module.weight = nn.Parameter(torch.cat([weight, row], 1), weight.requires_grad)
        module.drive = drive
        module.register_parameter("bias", None)
        if isinstance(module, nn.Linear):
            module.in_features += 1
        else:
            module.in_channels += module.groups
    return model


def output_scales(
    model: nn.Module, names: Iterable[str] | None = None, *, learned: bool = True
) -> nn.Module:
    """A copy whose linear layers and convolutions scale each output digitally.

    `output_scale`, a Parameter (out,), starts such that every output's largest weight fills the
    window: W_j/s_j on the cells, s_j = max|W_j|/max|W|. Any optimiser trains it.

    Args:
        model: not yet converted.
        names: of the modules; None: all linear layers and convolutions.
        learned: whether it asks for a gradient.

    Raises:
        TypeError: a named module of another class. ValueError: it is scaled already.
    """
    model = copy.deepcopy(model)
    for name, module in _chosen(model, names, lambda module: True):
        if module.output_scale is not None:
            raise ValueError(f"the outputs of {name!r} are scaled already")
        with torch.no_grad():
            size = module.weight.abs().flatten(1).amax(1)
            scale = torch.where(size > 0, size / size.amax(), 1.0)
            lines = (-1, *(1,) * (module.weight.dim() - 1))
            module.weight.copy_(module.weight / scale.view(lines))
        module.output_scale = nn.Parameter(scale, learned)
    return model


def _chosen(
    model: nn.Module, names: Iterable[str] | None, wanted: Callable[[Any], bool]
) -> list[tuple[str, Any]]:
    """Modules to be changed, already of their extended class."""
    found = dict(model.named_modules())
    if any(isinstance(module, Owner) for module in found.values()):
        raise ValueError("the model is on arrays already: extend it before convert")
    if names is None:
        names = [name for name, m in found.items() if type(m) in KINDS and wanted(m)]
    chosen = []
    for name in names:
        if name not in found:
            raise ValueError(f"model has no module {name!r}")
        module = found[name]
        if type(module) not in KINDS:
            raise TypeError(
                f"{name!r} is a {type(module).__name__}: only linear layers and convolutions can "
                "be extended"
            )
        if not isinstance(module, Extended):
            module.__class__ = KINDS[type(module)]
            module.register_parameter("output_scale", None)
        chosen.append((name, module))
    return chosen


def _tap(name: str, module: Any) -> tuple[int, ...]:
    """Of a convolution's taps one that never lies in the padding."""
    if isinstance(module, nn.Linear):
        return ()
    found = []
    for k, size in enumerate(module.kernel_size):
        step = module.dilation[k]
        if module.padding_mode != "zeros":
            before = after = 0  # a constant goes on as it is
        elif isinstance(module.padding, str):
            total = step * (size - 1) if module.padding == "same" else 0
            before, after = total // 2, total - total // 2
        else:
            before = after = module.padding[k]
        first, last = math.ceil(before / step), size - 1 - math.ceil(after / step)
        if first > last:
            raise ValueError(
                f"{name!r}: its padding reaches every tap of the kernel, so that no constant is "
                "always read: leave its bias digital"
            )
        found.append((first + last) // 2)
    return tuple(found)
