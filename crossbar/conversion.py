"""From any model of torch to one whose products are read on arrays."""

from __future__ import annotations

import difflib
import fnmatch
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.carried.analog import is_analog
from crossbar.carried.kinds import form_of, products_of, tables_of, value_of
from crossbar.carried.owner import Owner, held, own, weights
from crossbar.chip import Chip
from crossbar.model import copied
from crossbar.modes import HardwareAware, InSitu, Mode, Programmed
from crossbar.nn import place
from crossbar.receipt import ANALOG, summary
from crossbar.streams import Streams, derive
from crossbar.watching import PRODUCT, Use, candidates, traced
from crossbar.weight import AnalogWeight
from devices._check import instance

Uses = dict[tuple[nn.Module, str], Use]


@torch.inference_mode(False)
def convert(
    model: nn.Module,
    chip: Chip,
    mode: Mode | None = None,
    seed: int | None = None,
    *,
    include: Collection[str] = (),
    exclude: Collection[str] = (),
    rules: Mapping[str, Chip] | None = None,
    example: Any = None,
    strict: float | None = None,
) -> nn.Module:
    """A copy of `model` with the weights of its products on `chip`.

    The weights of torch's own layers, subclasses too, and the Parameters of two dimensions (and
    stacks of such) that other modules own: whatever code multiplies by one reads its array. Tied
    Parameters share one. Hooks, flags and names stay. Tables of rows (`nn.Embedding`) stay digital
    unless they are tied to a product or included. A weight that is analog already moves to the new
    chip: same seed, device state kept where it fits (equal parts in an equal window), faults laid
    on top; a write-only chip makes it programmed. What stays digital and could be
    on arrays is said in one warning, unless `exclude` names it.

    Names are qualified names of modules (and what is in them) or Parameters, or patterns of them
    with `*`, `?` and `[...]`.

    Args:
        model: any module; shared layers stay shared.
        chip: the hardware.
        mode: of all analog weights; None: `HardwareAware()` for digital layers, its own for analog.
        seed: of the whole model, each weight's follows from it and its name; None draws one.
        include: names of tables, or of weights that no product was seen to read, that are to be
            analog all the same.
        exclude: names of what stays digital.
        rules: chips by name, {pattern: chip}; the first pattern that fits a weight's name counts,
            `chip` is that of the others.
        example: what one forward is called with: a tensor, a tuple of arguments, a dictionary of
            named ones. Of classes that are not torch's, the weights that its products read are
            taken, each lying so that its inputs drive the rows.
        strict: the least share of product weights that must be analog, 0 … 1, see `summary`.

    Raises:
        TypeError: chip or mode of another kind, in situ on a write-only device or of a computed
            weight.
        ValueError: no weight to convert, a name that does not exist, or a share below `strict`.
    """
    instance("chip", chip, Chip, optional=False)
    instance("mode", mode, Mode)
    rules = dict(rules or {})
    for pattern, own_chip in rules.items():
        instance(f"rules[{pattern!r}]", own_chip, Chip, optional=False)
    base = Streams(seed).seed
    _exist(model, exclude=exclude, include=include, rules=rules)
    model = copied(model)
    uses = None if example is None else traced(model, example)
    shared: dict[int, AnalogWeight] = {}  # by Parameter
    left: list[str] = []
    found = list(model.named_modules(remove_duplicate=True))
    excluded = {
        id(p)
        for path, module in model.named_modules(remove_duplicate=False)
        for name, p in module._parameters.items()
        if p is not None and within(_full(path, name), exclude)
    }
    for path, module in found:
        chosen = _chosen(module, path, include, uses)
        left += [_full(path, n) for n in _left(module, chosen, uses)]
        for name in chosen:
            full, value = _full(path, name), module._parameters.get(name)
            if within(full, exclude) or (value is not None and id(value) in excluded):
                continue
            on = next((c for pattern, c in rules.items() if within(full, [pattern])), chip)
            form = None if uses is None else _form(module, name, uses)
            _put(module, name, full, on, mode, derive(base, full), shared, form)
    for _, module in found:  # tables that are tied to a weight on arrays
        for name, value in list(module._parameters.items()):
            if value is not None and id(value) in shared and name not in weights(module):
                own(module, name, shared[id(value)], registered=False)
    if not shared and not any(weights(m) for m in model.modules()):
        raise ValueError(
            "model has no layer to convert: it needs a layer of torch.nn that multiplies by a "
            "weight, a two-dimensional Parameter of its own or an analog layer"
        )
    carried = {id(p) for p in model.parameters() if is_analog(p)}
    params = dict(model.named_parameters(remove_duplicate=False))
    left = [n for n in left if not within(n, exclude) and id(params.get(n)) not in carried]
    if left:
        warnings.warn(
            f"these weights stay digital (how products read them is not known): {left}; give "
            "convert(..., example=) a forward to see, or name them in exclude= to say so",
            stacklevel=2,
        )
    if strict is not None:
        _enough(model, example, strict)
    return model


def within(name: str, patterns: Collection[str]) -> bool:
    """Whether a qualified name is one of the patterns, or in a module that is."""
    parts = name.split(".")
    heads = [".".join(parts[: k + 1]) for k in range(len(parts))]
    return any(not p or any(fnmatch.fnmatchcase(head, p) for head in heads) for p in patterns)


def _full(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _exist(model: nn.Module, **named: Collection[str]) -> None:
    if not any(named.values()):
        return
    names = {name for name, _ in model.named_modules(remove_duplicate=False)}
    names |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    names |= {
        _full(path, name)
        for path, module in model.named_modules()
        for name in (*weights(module), *candidates(module))
    }
    for argument, patterns in named.items():
        for pattern in patterns:
            if pattern and not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                near = difflib.get_close_matches(pattern, names, 3, 0.5)
                meant = f"did you mean {near}? " if near else ""
                raise ValueError(
                    f"{argument} names no layer {pattern!r}; {meant}Layers are {sorted(names)}"
                )


def _chosen(module: nn.Module, path: str, include: Collection[str], uses: Uses | None) -> list[str]:
    """Names of the weights of a module that are to be analog."""
    if isinstance(module, Owner):
        return list(weights(module))
    known = products_of(module)
    for name in known or ():
        _usable(module, name)
    found = list(known or ())
    if known is None and uses is None:
        found = [n for n, p in _own(module) if p.is_floating_point() and _multiplied(p)]
    elif known is None or uses is not None:
        seen = (n for n in candidates(module) if _read(uses, module, n))
        found += [n for n in seen if n not in found]
    more = (*tables_of(module), *candidates(module)) if include else ()
    asked = (n for n in dict.fromkeys(more) if within(_full(path, n), include))
    return found + [n for n in asked if n not in found]


def _read(uses: Uses | None, module: nn.Module, name: str) -> bool:
    use = (uses or {}).get((module, name))
    return use is not None and any(s.kind == PRODUCT for s in use.seen)


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, p in module._parameters.items():
        if p is not None and not isinstance(p, nn.parameter.UninitializedParameter):
            if p.dim() >= 2 and not type(module).__module__.startswith("torch.nn."):
                yield name, p


def _multiplied(parameter: Tensor) -> bool:
    """Whether a Parameter of a class nobody knows looks like a matrix, or a stack of some."""
    return parameter.dim() == 2 or (parameter.dim() == 3 and min(parameter.shape) > 1)


def _left(module: nn.Module, chosen: list[str], uses: Uses | None) -> list[str]:
    """Weights that may be read by products, and are not analog."""
    if isinstance(module, Owner) or products_of(module) is not None or uses is not None:
        return []
    return [n for n, p in module._parameters.items() if _counts(p) and n not in chosen]


def _counts(p: Any) -> bool:
    return isinstance(p, Tensor) and not _lazy(p) and p.dim() >= 2


def _lazy(p: Any) -> bool:
    return isinstance(p, nn.parameter.UninitializedParameter)


def _form(module: nn.Module, name: str, uses: Uses) -> Any:
    """As the example's products want it, where the class does not say."""
    if products_of(module) is not None and name in (products_of(module) or ()):
        return form_of(module, name)
    use = uses.get((module, name))
    return None if use is None else use.form


def _usable(module: nn.Module, name: str) -> None:
    value = value_of(module, name)
    if _lazy(value):
        raise TypeError(
            f"{type(module).__name__}.{name} has no shape yet: run one batch through the model "
            "first"
        )
    if not value.is_floating_point():
        raise TypeError(f"{type(module).__name__}.{name} is {value.dtype}: exclude it")


def _put(
    module: nn.Module,
    name: str,
    full: str,
    chip: Chip,
    mode: Mode | None,
    seed: int,
    shared: dict[int, AnalogWeight],
    form: Any,
) -> None:
    parameter = module._parameters.get(name)
    weight = held(module, name)
    if weight is not None:
        if id(weight) not in {id(w) for w in shared.values()}:
            value = value_of(module, name)
            weight.settle(value, _moved(weight, chip, mode), chip)
        if parameter is not None:
            shared[id(parameter)] = weight
        return
    if parameter is not None and id(parameter) in shared:
        own(module, name, shared[id(parameter)], registered=False)
        return
    made = place(module, name, chip, mode or HardwareAware(), seed, full, form)
    if parameter is not None:
        shared[id(parameter)] = made


def _moved(weight: AnalogWeight, chip: Chip, mode: Mode | None) -> Mode:
    """The mode of a weight on another chip: its own, but a write-only chip makes it programmed."""
    from_own = mode is None or isinstance(mode, InSitu)
    wanted = mode or weight.mode
    if from_own and isinstance(wanted, InSitu) and weight.mode.written:
        if chip.device.update is None:
            return Programmed()
    return wanted


def _enough(model: nn.Module, example: Any, strict: float) -> None:
    receipt = summary(model, example)
    if receipt.share >= strict:
        return
    missing = [line for line in receipt if line.product and line.state != ANALOG]
    text = "\n".join(
        f"  {line.name} {line.shape}: {line.state}"
        + (f" by {', '.join(line.functions)}" if line.functions else "")
        for line in missing
    )
    hint = "" if example is not None else "; give example= for classes that are not torch's"
    raise ValueError(
        f"{receipt.share:.2%} of the weights that products read are analog, strict={strict} asks "
        f"for more{hint}:\n{text}"
    )
