"""Drop-in layers: torch.nn's own classes, plus `chip`, `mode`, `seed`.

Construction is torch's, then its weights go on arrays; no forward is written again. `convert` gives
torch's layers these classes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from crossbar.carried.kinds import form_of, products_of, tables_of, value_of
from crossbar.carried.owner import DROP_INS, Owner, disown, made, own
from crossbar.chip import Chip
from crossbar.modes import HardwareAware, Mode
from crossbar.regions import Form
from crossbar.streams import Streams, derive
from crossbar.weight import AnalogWeight
from devices._check import instance


class Drop(Owner):
    """A drop-in: the arguments of torch's class, then three of the hardware.

    Args:
        chip: the hardware; None is ideal.
        mode: `HardwareAware()` (default), `InSitu(scheme)` or `Programmed()`; a string is torch's
            argument of that name (of `EmbeddingBag`, which takes it by position too).
        seed: of the layer's random streams; None draws one from torch's default generator.

    Conductances are float64 for float64, float32 otherwise. The bias is digital.

    Raises:
        TypeError: in situ on a device without an update law; an input of another dtype.
        ValueError: weights that are not finite, where they are written; inputs of another width.
    """

    _analog_base: ClassVar[Any]
    _analog_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *args: Any,
        chip: Chip | None = None,
        mode: Mode | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kind: Any = type(self)
        if isinstance(mode, str):  # torch's own argument of that name
            kwargs["mode"], mode = mode, None
        self.__class__ = kind._analog_base
        with torch.inference_mode(False):
            kind._analog_base.__init__(self, *args, **kwargs)
            names = (*(products_of(self) or ()), *tables_of(self))  # type: ignore[arg-type]
            _settle(self, names, chip, mode, seed)
        if not isinstance(self, Owner):  # nothing of its own: its layers have the weights
            self.__class__ = kind


class Whole(nn.Module):
    """A drop-in whose layers hold the weights; see `Drop` for chip, mode and seed."""

    _analog_base: ClassVar[Any]

    def __init__(
        self,
        *args: Any,
        chip: Chip | None = None,
        mode: Mode | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        with torch.inference_mode(False):
            super().__init__(*args, **kwargs)
            _settle(self, (), chip, mode, seed)


def _settle(
    module: Any, own_: tuple[str, ...], chip: Chip | None, mode: Mode | None, seed: int | None
) -> None:
    """The weights of a module and of its layers on arrays, in place."""
    instance("chip", chip, Chip)
    instance("mode", mode, Mode)
    base, chip, mode = Streams(seed).seed, chip or Chip(), mode or HardwareAware()
    for name in own_:
        place(module, name, chip, mode, derive(base, name))
    for path, layer in list(module.named_modules()):
        if path and not isinstance(layer, Owner):
            for name in products_of(layer) or ():
                place(layer, name, chip, mode, derive(base, f"{path}.{name}"))


def place(
    module: nn.Module,
    name: str,
    chip: Chip,
    mode: Mode,
    seed: int,
    label: str | None = None,
    form: Form | None = None,
) -> AnalogWeight:
    """Put a module's weight on arrays, in place."""
    value = value_of(module, name)
    weight = AnalogWeight(
        tuple(value.shape),
        form_of(module, name) if form is None else form,
        chip,
        seed,
        label or f"{type(module).__name__}.{name}",
        value.device,
    )
    weight.train(module.training)
    weight.computed = name not in module._parameters
    weight.check(mode, chip)
    with torch.no_grad():
        chip.mapping.check(weight.form.matrix(value))
    own(module, name, weight, registered=True)
    if not isinstance(mode, HardwareAware) or mode != weight.mode:
        weight.settle(value_of(module, name), mode)
    return weight


def digital(module: Any) -> None:
    """Back to torch's own class, holding what the cells hold, in place."""
    for name in type(module)._analog_names:
        weight: AnalogWeight = module.analog[name]
        parameter = module._parameters.get(name)
        if parameter is not None:
            weight.settle(parameter, HardwareAware())
        elif weight.mode.written:
            raise TypeError(
                f"{weight.name} is computed by its module and cannot hold what its cells hold: "
                "make it permanent (prune.remove, remove_parametrizations) before convert()"
            )
    disown(module)


_DOC = """`torch.nn.{name}` on a crossbar; see `Drop` for chip, mode and seed.

{rows}

Shapes, arguments and state are those of `torch.nn.{name}`.
"""
_CONV = (
    "Receptive fields meet kernels unrolled on the wordlines; each group has its own array of "
    "(in/groups · kernel) rows × (out/groups) columns. Inputs are ranged per image."
)
_TRANSPOSED = (
    "Channels drive (in/groups) rows; (out/groups · kernel) columns are sensed at every position "
    "and added up on the image."
)
_RECURRENT = (
    "All inputs of a sequence meet the array of W_ih, then at every step the state meets that of "
    "W_hh (and of W_hr). Gates and biases are digital."
)
_TABLE = "Entries are columns, read one by one by the transposed periphery."
_LAYERS = "Its layers are drop-ins; what lies between them is digital."


def _drop_in(base: type, rows: str) -> Any:
    names: tuple[str, ...] = ("weight",)
    if issubclass(base, (nn.RNNBase, nn.MultiheadAttention)):
        names = ()  # as many as an instance has
    elif issubclass(base, nn.RNNCellBase):
        names = ("weight_ih", "weight_hh")
    doc = _DOC.format(name=base.__name__, rows=rows)
    space = {**made(base, names), "__module__": __name__, "__doc__": doc}
    kind = type(f"Analog{base.__name__}", (Drop, base), space)
    DROP_INS[base] = kind
    return kind


def _whole(base: type) -> Any:
    doc = _DOC.format(name=base.__name__, rows=_LAYERS)
    space = {"_analog_base": base, "__module__": __name__, "__doc__": doc}
    return type(f"Analog{base.__name__}", (Whole, base), space)


AnalogLinear: Any = _drop_in(nn.Linear, "Rows are inputs, columns outputs: y = x Wᵀ + b.")
AnalogBilinear: Any = _drop_in(
    nn.Bilinear,
    "The second input meets (out · in1) columns; the product with the first is digital.",
)
AnalogConv1d: Any = _drop_in(nn.Conv1d, _CONV)
AnalogConv2d: Any = _drop_in(nn.Conv2d, _CONV)
AnalogConv3d: Any = _drop_in(nn.Conv3d, _CONV)
AnalogConvTranspose1d: Any = _drop_in(nn.ConvTranspose1d, _TRANSPOSED)
AnalogConvTranspose2d: Any = _drop_in(nn.ConvTranspose2d, _TRANSPOSED)
AnalogConvTranspose3d: Any = _drop_in(nn.ConvTranspose3d, _TRANSPOSED)
AnalogEmbedding: Any = _drop_in(nn.Embedding, _TABLE)
AnalogEmbeddingBag: Any = _drop_in(nn.EmbeddingBag, _TABLE)
AnalogRNN: Any = _drop_in(nn.RNN, _RECURRENT)
AnalogLSTM: Any = _drop_in(nn.LSTM, _RECURRENT)
AnalogGRU: Any = _drop_in(nn.GRU, _RECURRENT)
AnalogRNNCell: Any = _drop_in(nn.RNNCell, _RECURRENT)
AnalogLSTMCell: Any = _drop_in(nn.LSTMCell, _RECURRENT)
AnalogGRUCell: Any = _drop_in(nn.GRUCell, _RECURRENT)
AnalogMultiheadAttention: Any = _drop_in(
    nn.MultiheadAttention, "Queries, keys and values meet their columns; out_proj is a layer."
)
AnalogTransformerEncoderLayer: Any = _whole(nn.TransformerEncoderLayer)
AnalogTransformerDecoderLayer: Any = _whole(nn.TransformerDecoderLayer)
AnalogTransformerEncoder: Any = _whole(nn.TransformerEncoder)
AnalogTransformerDecoder: Any = _whole(nn.TransformerDecoder)
AnalogTransformer: Any = _whole(nn.Transformer)
AnalogAdaptiveLogSoftmaxWithLoss: Any = _whole(nn.AdaptiveLogSoftmaxWithLoss)
AnalogLinearCrossEntropyLoss: Any = _whole(nn.LinearCrossEntropyLoss)
