"""The shipped contract over every part that importing the package can find."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import devices
from devices import Device, Part, PowerLawDrift, SoftBounds, presets
from devices.testing import check

QUANTILES = (0.2e-6, 0.45e-6, 0.55e-6, 0.8e-6)  # [S]
LOWER = tuple(-q for q in reversed(QUANTILES))
EXAMPLES = {  # a value for each field that has no default, by its name; parts are found by import
    "dg_min": 0.5e-6,
    "sigma": 0.02,
    "nu": 0.05,
    "e_a": 0.6,
    "law": SoftBounds(dg_min=0.5e-6, sigma_c2c=0.3),
    "retention": PowerLawDrift(nu=0.05),
    "nodes": (1e-6, 20e-6, 51e-6),
    "up": ((QUANTILES, QUANTILES, (0.1e-6,) * 4), (QUANTILES,) * 3),
    "down": (((-0.1e-6,) * 4, LOWER, LOWER), (LOWER,) * 3),
}


def found() -> list[type[Part]]:
    """Every part that can be made, from every module of the package."""
    for module in pkgutil.walk_packages(devices.__path__, "devices."):
        importlib.import_module(module.name)
    seen, todo = [], [Part]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if not inspect.isabstract(kind) and kind.__module__.split(".")[0] == "devices":
            seen.append(kind)
    concrete = [kind for kind in seen if not kind.__subclasses__()]
    return sorted(set(concrete), key=lambda kind: kind.__name__)


def example(kind: type[Part]) -> Part:
    fields = {
        field.name: EXAMPLES[field.name]
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return kind(**fields)


def spread(part: Part) -> Part:
    """The same part with every spread and noise it knows."""
    names = [f.name for f in dataclasses.fields(part) if f.name.startswith("sigma")]
    sigmas = {name: 0.005 if name == "sigma_state" else 0.1 for name in names}
    return dataclasses.replace(part, **sigmas)


def named_presets() -> list[str]:
    return [n for n, f in vars(presets).items() if inspect.isfunction(f) and not n.startswith("_")]


def test_enough_is_found():
    assert len(found()) >= 8


@pytest.mark.parametrize("kind", found(), ids=lambda kind: kind.__name__)
def test_every_part_keeps_the_contract(kind):
    check(example(kind))


@pytest.mark.parametrize("kind", found(), ids=lambda kind: kind.__name__)
def test_every_part_keeps_the_contract_with_all_its_spread(kind):
    part = spread(example(kind))
    if part != example(kind):
        check(part)


@pytest.mark.parametrize("name", named_presets())
def test_every_preset_keeps_the_contract(name):
    device = getattr(presets, name)()
    assert isinstance(device, Device)
    check(device)
