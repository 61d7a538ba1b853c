"""Drop-in layers: torch.nn's own classes, plus `chip`, `mode`, `seed`.

Construction is torch's, then its weights go on arrays; no forward is written again. `convert` gives
torch's layers these classes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from crossbar.carried.owner import DROP_INS, Owner, disown, made, own
from crossbar.chip import Chip
from crossbar.modes import HardwareAware, Mode
from crossbar.regions import Form
from crossbar.streams import Streams, derive
from crossbar.weight import AnalogWeight
from devices._check import instance


def form_of(module: nn.Module, name: str) -> Form:
    """How a module's weight is a matrix: rows = inputs, fixed by its class."""
    if isinstance(module, nn.modules.conv._ConvNd) and name == "weight":
        area = module.weight[0, 0].numel() if module.weight.numel() else 1
        return Form(module.groups, module.transposed, area)
    return Form()


class Drop(Owner):
    """A drop-in: the arguments of torch's class, then three of the hardware.

    Args:
        chip: the hardware; None is ideal.
        mode: `HardwareAware()` (default), `InSitu(scheme)` or `Programmed()`.
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
        instance("chip", chip, Chip)
        instance("mode", mode, Mode)
        kind = type(self)
        self.__class__ = kind._analog_base
        kind._analog_base.__init__(self, *args, **kwargs)
        base = Streams(seed).seed
        for name in kind._analog_names:
            place(self, name, chip or Chip(), mode or HardwareAware(), derive(base, name))  # type: ignore[arg-type]
        self.__class__ = kind


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


def place(
    module: nn.Module, name: str, chip: Chip, mode: Mode, seed: int, label: str | None = None
) -> AnalogWeight:
    """Put a module's weight on arrays, in place."""
    value = value_of(module, name)
    weight = AnalogWeight(
        tuple(value.shape),
        form_of(module, name),
        chip,
        seed,
        label or f"{type(module).__name__}.{name}",
        value.device,
    )
    weight.train(module.training)
    weight.computed = name not in module._parameters
    weight.check(mode, chip)
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


def _drop_in(base: type, **fields: Any) -> Any:
    space = {**made(base, ("weight",)), "__module__": __name__, "__doc__": fields["doc"]}
    kind = type(f"Analog{base.__name__}", (Drop, base), space)
    DROP_INS[base] = kind
    return kind


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

AnalogLinear: Any = _drop_in(
    nn.Linear,
    doc=_DOC.format(name="Linear", rows="Rows are inputs, columns outputs: y = x Wᵀ + b."),
)
AnalogConv1d: Any = _drop_in(nn.Conv1d, doc=_DOC.format(name="Conv1d", rows=_CONV))
AnalogConv2d: Any = _drop_in(nn.Conv2d, doc=_DOC.format(name="Conv2d", rows=_CONV))
AnalogConv3d: Any = _drop_in(nn.Conv3d, doc=_DOC.format(name="Conv3d", rows=_CONV))
AnalogConvTranspose1d: Any = _drop_in(
    nn.ConvTranspose1d, doc=_DOC.format(name="ConvTranspose1d", rows=_TRANSPOSED)
)
AnalogConvTranspose2d: Any = _drop_in(
    nn.ConvTranspose2d, doc=_DOC.format(name="ConvTranspose2d", rows=_TRANSPOSED)
)
AnalogConvTranspose3d: Any = _drop_in(
    nn.ConvTranspose3d, doc=_DOC.format(name="ConvTranspose3d", rows=_TRANSPOSED)
)
