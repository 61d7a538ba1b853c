"""The shipped contract over every part that importing the package can find."""

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import devices
from devices import Device, Part, PowerLawDrift, Pulses, SoftBounds, Update, presets
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

WINDOWS = {"JART": (20e-6, 500e-6)}  # [S], of laws whose constants say what they reach


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


def checked(part: Part) -> None:
    low, high = WINDOWS.get(type(part).__name__, (1e-6, 51e-6))
    check(part, g_min=low, g_max=high)


def spread(part: Part) -> Part:
    """The same part with every spread and noise it knows."""
    names = [f.name for f in dataclasses.fields(part) if f.name.startswith("sigma")]
    sigmas = {name: 0.005 if name == "sigma_state" else 0.1 for name in names}
    return dataclasses.replace(part, **sigmas)


def named_presets() -> list[str]:
    return [n for n, f in vars(presets).items() if inspect.isfunction(f) and not n.startswith("_")]


def test_enough_is_found():
    assert len(found()) >= 8


def fast(kinds: list[type[Part]], *long: str) -> list[Any]:
    """The kinds, those named among the slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(k, marks=slow) if k.__name__ in long else k for k in kinds]


# integrated pulse by pulse; `test_memristors` has them against SciPy
LONG = ("IonDrift", "JART", "StanfordRRAM", "Yakopcic")


@pytest.mark.parametrize("kind", fast(found(), *LONG), ids=lambda kind: kind.__name__)
def test_every_part_keeps_the_contract(kind):
    checked(example(kind))


# the cases without spread stay among the fast tests, and one of each kind with it
QUICK = {"SoftBounds", "BinarySwitch", "GaussianWrite", "GaussianRead", "StuckAt"}
SPREAD = fast(found(), *({kind.__name__ for kind in found()} - QUICK))


@pytest.mark.parametrize("kind", SPREAD, ids=lambda kind: kind.__name__)
def test_every_part_keeps_the_contract_with_all_its_spread(kind):
    part = spread(example(kind))
    if part != example(kind):
        checked(part)


# of parts whose own contract is among the fast tests
SHOWN = {"ecram_li", "pcm", "reram_sb", "taox_hfox", "fefet"}
PRESETS = [
    name if name in SHOWN else pytest.param(name, marks=pytest.mark.slow)
    for name in named_presets()
]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_keeps_the_contract(name):
    device = getattr(presets, name)()
    assert isinstance(device, Device)
    check(device)


LAWS = [kind for kind in found() if issubclass(kind, Update)]
COUNT = st.one_of(st.just(0), st.integers(0, 12), st.integers(0, 5_000_000))


@pytest.mark.parametrize(
    "kind", fast(LAWS, "JART", "LookupStep", "Yakopcic", "IonDrift"), ids=lambda kind: kind.__name__
)
@settings(max_examples=15, deadline=None)
@given(
    at=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    up=st.lists(COUNT, min_size=4, max_size=4),
    down=st.lists(COUNT, min_size=4, max_size=4),
    noisy=st.booleans(),
)
def test_no_counts_lead_out_of_the_bounds(kind, at, up, down, noisy):
    law = spread(example(kind)) if noisy else example(kind)
    device = Device(*WINDOWS.get(kind.__name__, (1e-6, 51e-6)), update=law)
    generator = torch.Generator().manual_seed(0)
    state = device.fabricate((4,), generator=generator, dtype=torch.float64)
    inside = device.window.span * torch.tensor(at, dtype=torch.float64)
    state = state._replace(g=device.window.g_min + inside)
    low, high = (
        torch.as_tensor(end, dtype=torch.float64) for end in law.bounds(device.window, state.update)
    )
    counts = (torch.tensor(n, dtype=torch.float64) for n in (up, down))
    g = device.pulse(state, Pulses(*counts), generator=generator).g
    assert bool((g >= torch.minimum(low, state.g)).all())
    assert bool((g <= torch.maximum(high, state.g)).all())
