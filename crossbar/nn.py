"""Drop-in layers: torch.nn's signatures and state conventions, plus `chip`, `mode`, `seed`."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossbar.chip import Chip, Mode
from crossbar.layer import AnalogLayer
from crossbar.operations import Conv, Matmul


class AnalogLinear(AnalogLayer, nn.Linear):
    """`torch.nn.Linear` on a crossbar: y = x Wᵀ + b, the bias digital.

    Args:
        in_features: wordlines.
        out_features: bitlines.
        bias: whether there is a digital bias.
        device, dtype: as in torch; conductances are float64 for float64, float32 otherwise.
        chip: the hardware; None is ideal.
        mode: `HardwareAware()` (default), `InSitu(scheme)` or `Programmed()`.
        seed: of the layer's random streams; None draws one from torch's default generator.

    Shapes: input (..., in_features), output (..., out_features).

    Raises:
        TypeError: in situ on a device without an update law; an input of another dtype.
        ValueError: NaN or infinite weights or inputs, an input of another width.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        chip: Chip | None = None,
        mode: Mode | None = None,
        seed: int | None = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device, dtype)
        self._make_analog(Matmul(), chip, mode, seed)

    @classmethod
    def from_digital(cls, layer: nn.Linear, chip: Chip, mode: Mode | None, seed: int) -> Self:
        """The analog layer with a digital layer's parameters (not copied)."""
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.in_features, new.out_features = layer.in_features, layer.out_features
        new.weight, new.bias = layer.weight, layer.bias
        new.training = layer.training
        new._make_analog(Matmul(), chip, mode, seed)
        return new

    def to_digital(self) -> nn.Linear:
        """A `torch.nn.Linear` holding what the cells hold now."""
        bias = self.bias is not None
        new = nn.Linear(
            self.in_features, self.out_features, bias, self.weight.device, self.weight.dtype
        )
        return _digital(self, new)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """See the class."""
        if input.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"input must have {self.in_features} features in its last dimension, "
                f"got shape {tuple(input.shape)}"
            )
        y = self._read(input)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class AnalogConv2d(AnalogLayer, nn.Conv2d):
    """`torch.nn.Conv2d` on a crossbar: receptive fields meet kernels unrolled on the wordlines.

    Each group has its own array of (in/groups · kh · kw) × (out/groups) pairs. By default inputs
    are ranged per image, so nothing is unfolded in the forward read; the backward read unfolds
    only where its ADC or read noise acts on each receptive field.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
        padding_mode, device, dtype: as in `torch.nn.Conv2d`.
        chip: the hardware; None is ideal.
        mode: `HardwareAware()` (default), `InSitu(scheme)` or `Programmed()`.
        seed: of the layer's random streams; None draws one from torch's default generator.

    Shapes: input (n, in, h, w) or (in, h, w), output (n, out, oh, ow) or (out, oh, ow).

    Raises:
        TypeError, ValueError: as `AnalogLinear`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        chip: Chip | None = None,
        mode: Mode | None = None,
        seed: int | None = None,
    ) -> None:
        nn.Conv2d.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,  # type: ignore[arg-type]
            device,
            dtype,
        )
        self._make_analog(self._operation(), chip, mode, seed)

    @classmethod
    def from_digital(cls, layer: nn.Conv2d, chip: Chip, mode: Mode | None, seed: int) -> Self:
        """The analog layer with a digital layer's parameters (not copied)."""
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        settings = {k: v for k, v in layer.__dict__.items() if k in _CONV_FIELDS}
        new.__dict__.update(settings)
        new.weight, new.bias = layer.weight, layer.bias
        new.training = layer.training
        new._make_analog(new._operation(), chip, mode, seed)
        return new

    def to_digital(self) -> nn.Conv2d:
        """A `torch.nn.Conv2d` holding what the cells hold now."""
        new = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,  # type: ignore[arg-type]
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            self.groups,
            self.bias is not None,
            self.padding_mode,
            self.weight.device,
            self.weight.dtype,
        )
        return _digital(self, new)

    def _operation(self) -> Conv:
        padded_apart = self.padding_mode != "zeros" or isinstance(self.padding, str)
        padding = (0, 0) if padded_apart else self.padding
        return Conv(
            self.kernel_size,  # type: ignore[arg-type]
            self.stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            self.groups,
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """See the class."""
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise ValueError(
                f"input must be (n, {self.in_channels}, h, w) or ({self.in_channels}, h, w), "
                f"got shape {tuple(input.shape)}"
            )
        x = input if input.dim() == 4 else input.unsqueeze(0)
        if self.padding_mode != "zeros":
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        elif isinstance(self.padding, str):
            x = F.pad(x, self._reversed_padding_repeated_twice)
        y = self._read(x)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype).view(-1, 1, 1)
        return y if input.dim() == 4 else y.squeeze(0)


L = TypeVar("L", nn.Linear, nn.Conv2d)

_CONV_FIELDS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "transposed",
    "output_padding",
    "groups",
    "padding_mode",
    "_reversed_padding_repeated_twice",
)


def _digital(layer: AnalogLayer, new: L) -> L:
    with torch.no_grad():
        new.weight.copy_(layer.weight)
        if layer.bias is not None and new.bias is not None:
            new.bias.copy_(layer.bias)
    new.train(layer.training)
    return new
